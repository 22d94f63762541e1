"""Marks of pictures that tell the class without the brain: place in the scan, burnt-in text, borders, file kind.

Each mark is measured in every slice without a network. A small decision tree then learns the class from the mark
alone, in five grouped folds, so that the direction is never chosen on the patients that it is judged on. The more
marks are judged, the more certain each has to be (Holm, 1979).
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from stroke_hub.audit.findings import Finding, state
from stroke_hub.data.contents import load_first
from stroke_hub.data.records import Records, name_scans, read_slice_numbers
from stroke_hub.errors import pluralise
from stroke_hub.files import write_text
from stroke_hub.io.framing import find_head_mask
from stroke_hub.io.images import find_decoder
from stroke_hub.io.windowing import Grey
from stroke_hub.metrics.intervals import bound_figure, compare_with_chance
from stroke_hub.progress import track
from stroke_hub.scan.addresses import split_address

__all__ = [
    "Shortcut",
    "describe_shortcuts",
    "judge_mark",
    "measure_shortcuts",
    "tabulate_shortcuts",
    "write_shortcuts",
]

SHORTCUTS_FILE = "shortcuts.csv"
FOLDS = 5
FEWEST = FOLDS  # patients of each class below which a mark is not judged: one for each fold
USEFUL = 0.6  # AUROC from which a mark is worth a sentence
SURE = 0.05  # the corrected p-value below which a mark is worth a sentence
LEAVES = 8  # of the tree: enough for a mark that is high or low in one class
BRIGHT = 0.5  # of the brightest pixel: text is white
FRAME = 0.1  # of each side: the margin of a picture without a head
GAP = 3  # pixels of a copy of 128, kept from the head: a scalp's rim is no text


class Shortcut(NamedTuple):
    """How well one mark tells the class.

    Parameters
    ----------
    mark : its name, a key of `MARKS`.
    modality : of the slices ("BT", "MR", or "unknown").
    slices, patients : how many were judged.
    auroc : of the class by the mark alone, out of five grouped folds; None where it could not be measured.
    low, high : 95 % interval over patients, of this mark alone; None where there is none.
    p : of an AUROC that chance gives, two-sided, corrected for all marks of the dataset; None where there is none.
    stroke, normal : what is typical of each class: the median, or the most common kind.
    """

    mark: str
    modality: str
    slices: int
    patients: int
    auroc: float | None
    low: float | None
    high: float | None
    p: float | None
    stroke: str
    normal: str

    @property
    def tells(self) -> bool:
        """Whether the class could be told by it: p is below 0.05, and the AUROC is 0.6 or more."""
        return self.auroc is not None and self.p is not None and self.p < SURE and self.auroc >= USEFUL


class Judged(NamedTuple):
    """Say how well a mark tells the class: as `Shortcut`, p not corrected."""

    auroc: float | None
    low: float | None
    high: float | None
    p: float | None


class Mark(NamedTuple):
    """What is measured of a picture under one name.

    Parameters
    ----------
    columns : of the table of `measure_marks`.
    words : for a sentence.
    advice : what to do about it.
    """

    columns: tuple[str, ...]
    words: str
    advice: str


CROP = "training crops to the head, but not where --framing whole is given"
SAME = "write the pictures of both classes in one way"
POSITION = "take slices of both classes from the same levels, and compare a model with this figure"
MARKS: Mapping[str, Mark] = {
    "slice_number": Mark(("slice_number",), "the number of the slice", POSITION),
    "place_in_scan": Mark(("place_in_scan",), "the place of the slice in its scan", POSITION),
    "text": Mark(("text",), "bright pixels outside the head, as burnt-in text has", "blank them in all pictures"),
    "margin_width": Mark(("margin_width",), "the width of the uniform margin", CROP),
    "margin_grey": Mark(("margin_grey",), "the grey level of the margin", CROP),
    "picture_size": Mark(("height", "width", "aspect"), "the size of the picture", SAME),
    "file_kind": Mark(("extension", "pixel_kind"), "the kind of the file and of its pixels", SAME),
}


def measure_shortcuts(records: Records) -> list[Shortcut]:
    """Measure in a dataset how well each mark tells the class, by modality; nothing is written.

    A modality is judged where at least five patients have slices of each class. A mark that is the same in all
    slices, or unknown, is left out.

    Raises
    ------
    DatasetError : a slice cannot be read; it is named.
    """
    table = records.table.reset_index(drop=True)
    marks = measure_marks(records)
    found = []
    for modality, rows in table.groupby(table["modality"].fillna("unknown")):
        label, group = rows["label"].to_numpy(np.int64), rows["group"].to_numpy(str)
        if min(len(set(group[label == one])) for one in (0, 1)) < FEWEST:
            continue
        for name, mark in MARKS.items():
            values = marks.loc[rows.index, list(mark.columns)]
            if values.nunique(dropna=False).max() < 2:
                continue
            judged = judge_mark(values, label, group)
            typical = (_name_typical(values[label == one]) for one in (1, 0))
            found.append(Shortcut(name, str(modality), len(rows), len(set(group)), *judged, *typical))
    corrected = correct_by_holm([one.p for one in found])
    return [one._replace(p=p) for one, p in zip(found, corrected, strict=True)]


def correct_by_holm(p: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for their number: by chance one of all is below 0.05 in 5 % of datasets (Holm, 1979).

    Returns
    -------
    In the same order, at most 1; None, which counts as no test, stays None.
    """
    known = sorted((value, number) for number, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, number) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        corrected[number] = largest
    return corrected


def measure_marks(records: Records) -> pd.DataFrame:
    """Measure the marks of each slice: the columns of `MARKS`, a row for each row of the dataset's table.

    Raises
    ------
    DatasetError : a slice cannot be read; it is named.
    """
    table = records.table.reset_index(drop=True)
    rows = [_measure_picture(records.root, path) for path in track(table["path"].tolist(), "measuring pictures")]
    number = pd.Series(read_slice_numbers(table))
    scans = number.groupby(name_scans(table).to_numpy())
    first, last = scans.transform("min"), scans.transform("max")
    place = ((number - first) / (last - first).where(last > first)).astype(np.float64)
    return pd.DataFrame(rows).assign(slice_number=number, place_in_scan=place)


def judge_mark(values: pd.DataFrame, label: NDArray[np.int64], group: NDArray[np.str_]) -> Judged:
    """Compute how well a mark tells the class: AUROC out of five grouped folds, with its interval over patients.

    Parameters
    ----------
    values : (N, columns), numbers (NaN where unknown) or words.
    label : (N,), 0 or 1.
    group : (N,), the patient of each slice.

    Returns
    -------
    Fields are None where a fold would lack a class, or there is no interval.
    """
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.tree import DecisionTreeClassifier

    features = pd.get_dummies(values, dtype=float).to_numpy(np.float64)
    score = np.zeros(len(label))
    splitter = StratifiedGroupKFold(n_splits=FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few members in a class: the sets are checked below
        divisions = list(splitter.split(features, label, group))
    for learnt, held in divisions:
        if len(set(label[learnt])) < 2 or len(held) == 0:
            return Judged(None, None, None, None)
        tree = DecisionTreeClassifier(
            max_leaf_nodes=LEAVES, min_samples_leaf=max(5, len(learnt) // 50), random_state=0
        )
        learned = tree.fit(features[learnt], label[learnt]).predict_proba(features[held])[:, 1]
        score[held] = learned - label[learnt].mean()  # else shares of stroke, which differ by fold, would be ranked
    found, p = _bound_auroc(label, score, group)
    return Judged(found["value"], found["low"], found["high"], p)


def tabulate_shortcuts(shortcuts: list[Shortcut]) -> list[dict[str, Any]]:
    """Make the rows that audit.json holds as "shortcuts": the fields of `Shortcut`, and tells."""
    return [
        {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in (*one._asdict().items(), ("tells", one.tells))
        }
        for one in shortcuts
    ]


def describe_shortcuts(shortcuts: list[Shortcut]) -> list[Finding]:
    """Make a finding of each mark by which the class could be told; none of the others."""
    found = []
    for one in sorted(shortcuts, key=lambda shortcut: -(shortcut.auroc or 0)):
        if not one.tells or one.auroc is None or one.low is None or one.high is None or one.p is None:
            continue
        mark = MARKS[one.mark]
        words = f"In {one.modality} slices the class can be told by {mark.words}: AUROC {one.auroc:.2f} "
        certain = "p < 0.001" if one.p < 0.001 else f"p = {one.p:.3f}"
        certain += f", corrected for {pluralise(len(shortcuts), 'mark')}"
        words += f"[{one.low:.2f}, {one.high:.2f}] over {one.patients:,} patients, without the brain ({certain}); "
        words += f"{mark.advice}."
        counts = {"auroc": one.auroc, "low": one.low, "high": one.high, "p": one.p}
        found.append(state("warning", words, **{name: round(value, 4) for name, value in counts.items()}))
    return found


def write_shortcuts(shortcuts: list[Shortcut], out: Path) -> None:
    """Write shortcuts.csv into a folder: a row for each mark and modality, in the order of `measure_shortcuts`."""
    columns = [*Shortcut._fields, "tells"]
    rows = pd.DataFrame(tabulate_shortcuts(shortcuts), columns=columns)
    write_text(out / SHORTCUTS_FILE, rows.to_csv(index=False))


# --- one picture --------------------------------------------------------------------------------------------


def _measure_picture(root: Path, path: str) -> dict[str, Any]:
    pixels = load_first(root / path)[0].pixels
    height, width = pixels.shape
    share, grey = _measure_margin(pixels)
    extension, kind = _read_kind(root / path)
    return {
        "text": _measure_text(pixels),
        "margin_width": share,
        "margin_grey": grey,
        "height": height,
        "width": width,
        "aspect": round(width / height, 3),
        "extension": extension,
        "pixel_kind": kind,
    }


def _measure_text(pixels: Grey) -> float:
    """The share of bright pixels among those outside the head; of the outer tenth where there is no head."""
    mask = find_head_mask(pixels)
    outside = np.ones(pixels.shape, bool)
    if mask is None:
        rows, columns = (max(1, round(FRAME * side)) for side in pixels.shape)
        outside[rows:-rows, columns:-columns] = False
    else:
        near = np.asarray(ndimage.binary_dilation(mask, iterations=GAP))
        factor = -(-pixels.shape[0] // near.shape[0])
        large = near.repeat(factor, axis=0).repeat(factor, axis=1)
        outside = ~large[: pixels.shape[0], : pixels.shape[1]]
    bright = pixels > max(BRIGHT * float(pixels.max()), 1.0)
    return float(bright[outside].mean()) if outside.any() else 0.0


def _measure_margin(pixels: Grey) -> tuple[float, float]:
    """The share of the picture that its uniform margin takes, and the grey level of the corners."""
    corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
    grey = float(np.median(corners))
    other = pixels != round(grey)
    rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
    if not len(rows):
        return 1.0, grey
    inner = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    return float(1 - inner / pixels.size), grey


def _read_kind(file: Path) -> tuple[str, str]:
    """The extension, and the pixels of a picture as Pillow names them: "L" (8 bits), "RGB", "I;16"; else ""."""
    volume, number = split_address(file)
    suffix = volume.suffix.lower()
    suffix = ".jpg" if suffix == ".jpeg" else suffix
    if number is not None:
        return suffix, ""
    with open(file, "rb") as stream:
        decoder = find_decoder(stream.read(16))
        stream.seek(0)
        return suffix, decoder(stream).mode if decoder else ""


# --- figures ------------------------------------------------------------------------------------------------


def _bound_auroc(
    label: NDArray[np.int64], score: NDArray[np.float64], group: NDArray[np.str_]
) -> tuple[dict[str, Any], float | None]:
    """The interval of an AUROC as `bootstrap_intervals` gives it, from ranks, and the p-value of 0.5."""
    names, index = np.unique(group, return_inverse=True)
    stroke = label == 1
    ranked = _count_wins(score[stroke], score[~stroke])
    beaten = len(score[stroke]) - _count_wins(score[~stroke], score[stroke])
    strokes, normals = (np.bincount(index[rows], minlength=len(names)).astype(float) for rows in (stroke, ~stroke))
    lost = np.bincount(index[stroke], ranked, len(names)) + np.bincount(index[~stroke], beaten, len(names))
    for one in np.flatnonzero((strokes > 0) & (normals > 0)):  # its own pairs are taken away twice
        rows = index == one
        lost[one] -= _count_wins(score[rows & stroke], score[rows & ~stroke]).sum()
    pairs = (strokes.sum() - strokes) * (normals.sum() - normals)
    left = np.divide(ranked.sum() - lost, pairs, out=np.full(len(names), np.nan), where=pairs > 0)
    value = float(ranked.sum() / (strokes.sum() * normals.sum()))
    groups = min(int((n > 0).sum()) for n in (strokes, normals))
    sizes = [strokes, normals]
    return bound_figure(value, left, sizes, groups), compare_with_chance(value, left, sizes, 0.5)


def _count_wins(high: NDArray[np.float64], low: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each of `high`, how many of `low` lie below it, a tie counting half."""
    ordered = np.sort(low)
    return (np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")) / 2


def _name_typical(values: pd.DataFrame) -> str:
    """What is typical of a mark in one class: medians of numbers, and the most common words."""
    words = []
    for _, column in values.items():
        if pd.api.types.is_numeric_dtype(column):
            middle = column.median()
            words.append("" if pd.isna(middle) else f"{middle:.4g}")
        else:
            words.append(str(column.mode().iloc[0]))
    return " ".join(filter(None, words))
