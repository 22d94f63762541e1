"""How a trained model judges scans is chosen on those of the validation slices."""

import numpy as np
import pandas as pd

from stroke_hub.data.records import name_scans, read_slice_numbers
from stroke_hub.errors import pluralise
from stroke_hub.metrics.calibration import Calibration, OperatingPoint
from stroke_hub.metrics.classification import Floats, Labels
from stroke_hub.metrics.scan_rule import FEWEST_SCANS, FittedRule, fit_highest_mean
from stroke_hub.progress import say

__all__ = ["fit_scan_rule"]


def fit_scan_rule(
    table: pd.DataFrame,
    log_odds: Floats,
    label: Labels,
    *,
    method: Calibration,
    operating_point: OperatingPoint,
) -> FittedRule | None:
    """Choose how scans are judged, by the slices of a table.

    A scan is what a patient (the group) has of one modality, and of one scan where a column names it. It is in the
    order of the slices' numbers, and positive where one slice is. A patient with one slice is no scan.

    Parameters
    ----------
    table : N rows of path, group and modality. log_odds, label : (N,), calibrated, and what was learned.

    Returns
    -------
    None where there are fewer than 10 scans of either class; a note says so, unless there is no scan at all.
    """
    order = np.lexsort((table["path"].to_numpy(str), read_slice_numbers(table)))  # those without a number last
    modality = table["modality"].fillna("").astype(str) if "modality" in table else ""
    names = (name_scans(table) + " " + modality).to_numpy(str)[order]
    z, stroke = log_odds[order], np.asarray(label)[order]
    rows = [np.flatnonzero(names == name) for name in np.unique(names)]
    scans = [one for one in rows if len(one) > 1]
    positive = np.array([stroke[one].max() for one in scans], np.int64)
    fitted = fit_highest_mean([z[one] for one in scans], positive, method=method, operating_point=operating_point)
    if fitted is None and scans:
        told = f"{int(positive.sum()):,} of {pluralise(len(scans), 'validation scan')} have a stroke"
        say(f"note: {told}; a rule for scans takes {FEWEST_SCANS} of each class, so the model stores none.")
    return fitted
