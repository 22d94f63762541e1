"""The gallery shows every slice, worst errors first, and lets no file name speak HTML."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from stroke_hub import Predictor, Records, ResNetViT, explain, load_slices
from stroke_hub.evaluation.gallery import _lay_out, write_gallery
from stroke_hub.report.patients import say_headline
from stroke_hub.runs.report import read_report


def test_every_slice_is_there_and_the_worst_come_first(
    trained: ResNetViT, sample: Records, run_dir: Path, tmp_path: Path
) -> None:
    table = sample.part("test")
    page = write_gallery(Predictor(trained), table, sample.root, tmp_path, note="simulated slices, not patients")
    results = pd.read_csv(tmp_path / "explanations.csv")
    assert sorted(results["path"]) == sorted(table["path"])
    assert results["error"].is_monotonic_decreasing
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"<code>(.*?)</code>", text) == results["path"].tolist()
    assert "simulated slices, not patients" in text
    assert "not a medical device" in text
    assert say_headline(read_report(run_dir)) in text
    assert "://" not in text  # nothing is fetched from elsewhere
    assert all((tmp_path / picture).is_file() for picture in re.findall(r'src="(.*?)"', text))


def test_maps_and_numbers_are_explains(trained: ResNetViT, sample: Records, tmp_path: Path) -> None:
    table = sample.part("test").head(3)
    write_gallery(Predictor(trained), table, sample.root, tmp_path)
    for row in pd.read_csv(tmp_path / "explanations.csv").itertuples():
        e = explain(trained, load_slices(sample.root / row.path)[0])
        assert abs(e.probability - row.probability) < 1e-5
        assert abs(row.cnn + row.vit + row.baseline - e.log_odds) < 1e-4
        with np.load(tmp_path / row.maps) as maps:
            np.testing.assert_allclose(maps["cnn_map"], e.cnn_map, atol=1e-5)
            np.testing.assert_allclose(maps["vit_evidence"], e.vit_evidence, atol=1e-6)


def test_file_names_are_text() -> None:
    row = {
        "path": "<script>alert(1)</script>.png", "patient": "<s>", "truth": "Stroke", "label": "Normal",
        "probability": 0.2,
        "cnn": 0.1, "vit": 0.1, "baseline": 0.1, "remarks": "<b>", "picture": "p.png", "width": 4, "height": 1,
    }  # fmt: skip
    page = _lay_out(pd.DataFrame([row]), "<i>")
    for markup in ("<script>", "<b>", "<i>", "<s>"):
        assert markup not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.png" in page
    assert 'class="wrong"' in page
