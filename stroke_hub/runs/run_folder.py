"""The files of a run folder by name, its split and its best epoch."""

from pathlib import Path

import pandas as pd

from stroke_hub.models.weights import CONFIG_FILE, WEIGHTS_FILE

__all__ = [
    "AUDIT_FILE",
    "CALIBRATION_FILE",
    "EXPLANATIONS_FILE",
    "GALLERY_FOLDER",
    "LEFT_OUT_FILE",
    "PAIRS_FILE",
    "PATIENTS_FILE",
    "RESULTS_FILE",
    "SCAN_RULE_FILE",
    "SPLIT_FILE",
    "SUMMARY_FILE",
    "TRAIN_CONFIG_FILE",
    "find_best_epoch",
    "find_gallery",
    "is_trained",
    "read_split",
]

CALIBRATION_FILE = "calibration.json"
SCAN_RULE_FILE = "scan_rule.json"
TRAIN_CONFIG_FILE = "train_config.json"


def read_split(run_dir: Path) -> pd.DataFrame:
    """Read the table that the run was trained on: path, label, modality, group, split (train, val, test)."""
    table = pd.read_csv(run_dir / "split.csv", dtype=str, keep_default_na=False).astype({"label": "int64"})
    return table.assign(modality=table["modality"].where(table["modality"] != "", None).astype(object))


def find_best_epoch(history: pd.DataFrame) -> int:
    """Find the epoch (from 1) of the highest validation AUROC in a history; of equals, that of the lowest loss.

    On easy data many epochs reach an AUROC of 1, the first of them with probabilities that are still poor.
    """
    return int(history.sort_values(["val_auroc", "val_loss"], ascending=[False, True])["epoch"].iloc[0])


def is_trained(run_dir: Path) -> bool:
    """Tell whether training in this run folder came to its end."""
    return (run_dir / WEIGHTS_FILE).is_file() and (run_dir / CONFIG_FILE).is_file()


def find_gallery(run_dir: Path) -> dict[str, str]:
    """Find where each slice stands in the gallery of a run, by the slice's path; empty where there is no gallery.

    A place is an address with an anchor, from the run folder: "gallery/index.html#s00012".
    """
    file = run_dir / GALLERY_FOLDER / EXPLANATIONS_FILE
    try:
        table = pd.read_csv(file, usecols=["path", "page"], dtype=str, keep_default_na=False)
    except (OSError, ValueError):  # none, or one of an earlier version, which has no places
        return {}
    places = dict(zip(table["path"].tolist(), table["page"].tolist(), strict=True))
    files = {place: place.partition("#")[0] for place in places.values()}
    there = {name for name in set(files.values()) if (run_dir / GALLERY_FOLDER / name).is_file()}
    return {path: f"{GALLERY_FOLDER}/{place}" for path, place in places.items() if files[place] in there}


AUDIT_FILE = "audit.json"
GALLERY_FOLDER = "gallery"
EXPLANATIONS_FILE = "explanations.csv"
LEFT_OUT_FILE = "left_out.json"
PAIRS_FILE = "audit.csv"

PATIENTS_FILE = "patients.csv"
RESULTS_FILE = "stroke_classification_results.csv"
SPLIT_FILE = "split.csv"
SUMMARY_FILE = "summary_statistics.csv"
