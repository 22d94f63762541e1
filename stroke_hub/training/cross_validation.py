"""Grouped cross-validation: every training slice is predicted by a model that never saw its patient."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stroke_hub.data.loader import decode_squares
from stroke_hub.data.records import Records
from stroke_hub.data.splits import assign_folds, select_fold, write_split
from stroke_hub.files import write_text
from stroke_hub.inference.predict import predict
from stroke_hub.metrics.classification import measure
from stroke_hub.metrics.intervals import bootstrap_intervals
from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.progress import say
from stroke_hub.runs.run_folder import read_split
from stroke_hub.runs.train_config import TrainConfig
from stroke_hub.training.fit import fit

__all__ = ["cross_validate"]

PREDICTIONS_FILE = "out_of_fold.csv"
RESULT_FILE = "cross_validation.json"


def cross_validate(config: TrainConfig, records: Records, run_dir: str | Path, *, folds: int) -> dict[str, Any]:
    """Train a run for each fold, and measure each on the slices that it held out.

    The held-out slices also choose the epoch (of a probe, there is one) and the calibration of their run, so that
    these figures are a little too good. Nothing of the test slices is used or measured here. Interrupted, it goes
    on.

    Parameters
    ----------
    folds : how many, at least 2; whole groups, stratified by label and modality.

    Returns
    -------
    "folds" (each with its figures), "pooled" (all held-out slices together, with intervals over groups) and "note".
    The run folder has fold-0 ... fold-K (run folders), split.csv (with the column fold), out_of_fold.csv (path,
    label, modality, group, fold, stroke_probability) and cross_validation.json.

    Raises
    ------
    DatasetError : some fold could not have both classes, or a slice cannot be read.
    RunError : a folder holds a run of other settings or data.
    """
    run_dir = Path(run_dir)
    divided = replace(records, table=assign_folds(records.table, folds=folds, seed=config.seed))
    held_out = []
    for fold in range(folds):
        say(f"fold {fold + 1} of {folds}")
        part = replace(divided, table=select_fold(divided.table, fold))
        run = fit(config, part, run_dir / f"fold-{fold}")
        val = read_split(run).query("split == 'val'")
        model = ResNetViT.from_pretrained(run)
        prediction = predict(model, decode_squares(model, records.root, val))
        rows = val[["path", "label", "modality", "group"]].assign(fold=fold)
        held_out.append(rows.assign(stroke_probability=prediction.probability))
    table = pd.concat(held_out).sort_values("path", ignore_index=True)
    chosen = "calibration" if config.resolve().recipe == "probe" else "epoch and the calibration"
    result = {
        "folds": [_measure(part) for _, part in table.groupby("fold")],
        "pooled": _measure(table),
        "note": f"the slices held out chose the {chosen} of their run",
    }
    write_split(divided, run_dir / "split.csv")
    write_text(run_dir / PREDICTIONS_FILE, table.to_csv(index=False))
    write_text(run_dir / RESULT_FILE, json.dumps(result, indent=2, allow_nan=False) + "\n")
    return result


def _measure(table: pd.DataFrame) -> dict[str, Any]:
    label, score = table["label"].to_numpy(np.int64), table["stroke_probability"].to_numpy()
    group = table["group"].to_numpy(str)
    return measure(label, score, threshold=0.5) | {
        "groups": len(set(group.tolist())),
        "intervals": bootstrap_intervals(label, score, group, threshold=0.5),
    }
