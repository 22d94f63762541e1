"""The gallery: a page of every slice of a folder with its maps, worst errors first."""

from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from PIL import Image

from stroke_hub.data.contents import load_first
from stroke_hub.data.records import list_modalities
from stroke_hub.files import write_text
from stroke_hub.inference.explain import explain
from stroke_hub.inference.predictor import Predictor
from stroke_hub.inference.results import Explanation, Layer, to_squares
from stroke_hub.metrics.patients import count_patients
from stroke_hub.models.presets import CLASSES
from stroke_hub.progress import track
from stroke_hub.report.patients import say_missed
from stroke_hub.report.templating import make_environment

__all__ = ["write_gallery"]

LAYERS: tuple[Layer, ...] = ("cnn", "vit", "fused")


def write_gallery(
    predictor: Predictor,
    table: pd.DataFrame,
    root: str | Path,
    out: str | Path,
    *,
    note: str = "",
    batch_size: int = 32,
) -> Path:
    """Explain every slice of a table into a new folder, for Stroke.

    Writes maps/*.npz (float32 cnn_map, vit_map, cnn_evidence, vit_evidence, (S, S) each), pictures/*.png,
    explanations.csv (a row a slice: path, patient, truth, label, probability, contributions in log-odds, picture,
    maps) and, last, index.html.

    Parameters
    ----------
    table : path (relative to `root`), label (1 Stroke, 0 Normal), and modality and group (patient) where there are
        such columns.
    note : words that the page carries, for example what the data stand for.

    Returns
    -------
    The page's path.

    Raises
    ------
    DatasetError : a slice cannot be read.
    """
    out = Path(out)
    table = table.reset_index(drop=True)
    for folder in ("maps", "pictures"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for start in track(range(0, len(table), batch_size), "explaining"):
        part = table.iloc[start : start + batch_size]
        files = zip(part["path"], list_modalities(part), strict=True)
        slices = [load_first(Path(root) / path, modality=modality)[0] for path, modality in files]
        explained = cast(list[Explanation], explain(predictor, to_squares(predictor, slices).squares))
        for (i, record), e in zip(part.iterrows(), explained, strict=True):
            told = {"path": str(record["path"]), "patient": str(record.get("group", record["path"]))}
            rows.append(told | _write_slice(out, f"{i:05d}", CLASSES[int(record["label"])], e))
    results = pd.DataFrame(rows)
    results["error"] = (results["probability"] - (results["truth"] == "Stroke")).abs()
    results = results.sort_values(["error", "path"], ascending=[False, True], ignore_index=True)
    write_text(out / "explanations.csv", results.to_csv(index=False))
    write_text(out / "index.html", _lay_out(results, note))
    return out / "index.html"


def _write_slice(out: Path, name: str, truth: str, e: Explanation) -> dict[str, object]:
    panels = [Image.fromarray(e.picture).convert("RGB"), *(e.overlay(layer) for layer in LAYERS)]
    strip = Image.fromarray(np.hstack([np.asarray(panel) for panel in panels]))
    strip.save(out / "pictures" / f"{name}.png")
    np.savez_compressed(
        out / "maps" / f"{name}.npz",
        cnn_map=e.cnn_map,
        vit_map=e.vit_map,
        cnn_evidence=e.cnn_evidence,
        vit_evidence=e.vit_evidence,
    )
    return {
        "truth": truth,
        "label": e.label,
        "probability": e.probability,
        **e.contributions,
        "compared with": e.baseline,
        "remarks": "; ".join(e.remarks),
        "picture": f"pictures/{name}.png",
        "maps": f"maps/{name}.npz",
        "width": strip.width,
        "height": strip.height,
    }


def _lay_out(results: pd.DataFrame, note: str) -> str:
    wrong = int((results["truth"] != results["label"]).sum())
    truth, called = ((results[name] == "Stroke").to_numpy().astype(np.int64) for name in ("truth", "label"))
    patient = results["patient"].to_numpy(str)
    headline = say_missed(count_patients(truth, called.astype(np.float64), patient, patient, threshold=0.5))
    page = make_environment().get_template("gallery.html")
    return page.render(rows=results.to_dict("records"), wrong=wrong, note=note, headline=headline, target="Stroke")
