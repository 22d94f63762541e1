"""Every slice of a table explained: pictures, maps, a table and pages to leaf through, errors first."""

from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from PIL import Image

from stroke_hub.data.contents import load_first
from stroke_hub.data.records import list_modalities
from stroke_hub.files import write_text
from stroke_hub.gallery.pages import find_places, write_pages
from stroke_hub.gallery.selection import name_outcome
from stroke_hub.inference.explain import explain
from stroke_hub.inference.predictor import Predictor
from stroke_hub.inference.results import Explanation, Layer, to_squares
from stroke_hub.metrics.patients import count_patients
from stroke_hub.models.presets import CLASSES
from stroke_hub.progress import track
from stroke_hub.report.patients import say_missed
from stroke_hub.runs.run_folder import EXPLANATIONS_FILE

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
    explanations.csv (a row a slice, in the order that is shown: path, patient, modality, truth, label, outcome,
    probability, contributions in log-odds, picture, maps, page) and the pages, last index.html. Misclassified
    slices come first, of equals those whose probability is farthest from the truth.

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
        modalities = list_modalities(part)
        files = zip(part["path"], modalities, strict=True)
        slices = [load_first(Path(root) / path, modality=modality)[0] for path, modality in files]
        explained = cast(list[Explanation], explain(predictor, to_squares(predictor, slices).squares))
        for (i, record), modality, e in zip(part.iterrows(), modalities, explained, strict=True):
            told = {"path": str(record["path"]), "patient": str(record.get("group", record["path"]))}
            told["modality"] = modality or "unknown"
            rows.append(told | _write_slice(out, f"{i:05d}", CLASSES[int(record["label"])], e))
    results = _put_in_order(pd.DataFrame(rows))
    write_text(out / EXPLANATIONS_FILE, results.to_csv(index=False))
    return write_pages(results, out, headline=_say_headline(results), note=note)


def _put_in_order(results: pd.DataFrame) -> pd.DataFrame:
    """Put errors first, and of errors and the rest those first whose probability is farthest from the truth."""
    wrong = results["truth"] != results["label"]
    error = (results["probability"] - (results["truth"] == "Stroke")).abs()
    order = results.assign(wrong=wrong, error=error)
    order = order.sort_values(["wrong", "error", "path"], ascending=[False, False, True], ignore_index=True)
    return order.drop(columns="wrong").assign(page=find_places(order))


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
        "name": f"s{name}",
        "truth": truth,
        "label": e.label,
        "outcome": name_outcome(truth, e.label),
        "novelty": "unusual" if e.unusual else "usual",
        "probability": e.probability,
        **e.contributions,
        "compared with": e.baseline,
        "remarks": " ".join(f"{remark[:1].upper()}{remark[1:]}." for remark in e.remarks),
        "picture": f"pictures/{name}.png",
        "maps": f"maps/{name}.npz",
        "width": strip.width,
        "height": strip.height,
    }


def _say_headline(results: pd.DataFrame) -> str:
    """Say how many patients were missed, and how many were called by mistake."""
    truth, called = ((results[name] == "Stroke").to_numpy().astype(np.int64) for name in ("truth", "label"))
    patient = results["patient"].to_numpy(str)
    return say_missed(count_patients(truth, called.astype(np.float64), patient, patient, threshold=0.5))
