"""Every training slice is held out once, with its whole patient, and predicted by the run that never saw it."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from stroke_hub import Records, ResNetViT, RunError, TrainConfig, predict
from stroke_hub.audit.label_quality import find_doubts
from stroke_hub.data.splits import apply_split
from stroke_hub.runs.run_folder import read_split
from stroke_hub.training.cross_validation import cross_validate
from stroke_hub.training.fit import fit
from tests.conftest import load_rows

CONFIG = TrainConfig(preset="tiny", image_size=64, epochs=1, batch_size=16)


def test_every_slice_is_held_out_once_by_a_run_that_never_saw_its_patient(sample: Records, tmp_path: Path) -> None:
    result = cross_validate(CONFIG, sample, tmp_path, folds=2)
    table = pd.read_csv(tmp_path / "out_of_fold.csv")
    assert sorted(table["path"]) == sorted(sample.part("train")["path"])
    for fold in range(2):
        split = read_split(tmp_path / f"fold-{fold}")
        held = table[table["fold"] == fold]
        assert set(split[split["split"] == "val"]["path"]) == set(held["path"])
        assert not set(split[split["split"] == "train"]["group"]) & set(held["group"])
        model = ResNetViT.from_pretrained(tmp_path / f"fold-{fold}")
        slices = load_rows(sample.root, held.merge(sample.table[["path", "modality"]]))
        assert held["stroke_probability"].tolist() == pytest.approx(predict(model, slices).probability, abs=1e-6)
        assert result["folds"][fold]["n"] == len(held)
    assert result["pooled"]["n"] == len(table)
    assert find_doubts(sample, tmp_path / "out_of_fold.csv").summary["trained_on"] == 0
    assert json.loads((tmp_path / "cross_validation.json").read_text()) == result
    before = (tmp_path / "fold-1" / "model.safetensors").stat().st_mtime_ns
    assert cross_validate(CONFIG, sample, tmp_path, folds=2) == result
    assert (tmp_path / "fold-1" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(RunError, match="other settings"):
        cross_validate(replace(CONFIG, epochs=2), sample, tmp_path, folds=2)


def test_a_written_split_gives_the_same_training(sample: Records, tmp_path: Path) -> None:
    run = fit(replace(CONFIG, seed=3), sample, tmp_path / "first")
    again = fit(replace(CONFIG, seed=4), apply_split(sample, run / "split.csv"), tmp_path / "second")
    assert read_split(again).equals(read_split(run))
