"""What a dataset's figures would owe to leaks: one picture twice, one patient on both sides, uneven classes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stroke_hub.audit.duplicates import (
    ThresholdCalibration,
    align,
    calibrate_threshold,
    collect_sketches,
    compare_candidates,
    propose_pairs,
    sketch,
)
from stroke_hub.audit.findings import NAMES, select_leaks, summarise
from stroke_hub.audit.scans import SCAN_COLUMNS, list_scans
from stroke_hub.data.contents import load_first
from stroke_hub.data.records import LeftOut, Records, hash_records
from stroke_hub.errors import DatasetError, pluralise
from stroke_hub.files import write_text
from stroke_hub.progress import track

if TYPE_CHECKING:
    from matplotlib.figure import Figure
from stroke_hub.runs.run_folder import AUDIT_FILE, PAIRS_FILE

__all__ = ["Audit", "assign_groups", "audit", "drop_leaks", "read_audit", "write_audit"]

COLUMNS = ("path", "split", "label", "modality", "group")
SCANS_FILE = "audit_scans.csv"
DRAWN = 8  # pairs in a picture
TITLES = {
    "duplicates": "Pairs taken for one picture, worst first",
    "doubtful_pairs": "Taken for one picture: the least alike of these",
    "closest_pairs": "Not taken for one picture: the most alike of these",
}


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found in a dataset.

    Parameters
    ----------
    pairs : one row per pair of files that show one picture, worst first: leaks between splits, then contradicting
        labels, then the most alike. Columns: kind ("file": the same bytes, "pixels": the same grey levels, "near":
        the same picture after re-encoding, resizing, mirroring, turning, cropping or a change of brightness),
        similarity (1 for the first two kinds), and path, split, label, modality and group of either file with
        the endings _a and _b; of a pair that holds a test file, that is b. Of many equal files, each is paired
        with one: a test file if there is one.
    closest : the most alike pairs that were *not* taken for one picture, in the same columns, to judge by eye.
    scans : one row per scan, as `scans.list_scans` has them; none where the dataset does not name its scans.
    summary : what audit.json holds, see `write_audit`.
    paths : the files that were looked at.
    pictures : by path, of the files in pairs to be drawn: the picture stretched to (128, 128) uint8, and its height
        over its width. They spare `write_audit` another reading; empty where the audit was read from its files.
    """

    pairs: pd.DataFrame
    closest: pd.DataFrame
    scans: pd.DataFrame
    summary: dict[str, Any]
    paths: frozenset[str]
    pictures: dict[str, tuple[NDArray[np.uint8], float]] = field(default_factory=dict)


def audit(records: Records) -> Audit:
    """Look for leaks and imbalance in a dataset; nothing is written.

    Files are compared by SHA-256, decoded pictures by SHA-256, and the rest by `duplicates`, where that could
    matter: across groups and across splits. Of a file with several pages the first is looked at, as in training.
    How alike two pictures must be is calibrated on the dataset: the bulk of the slices has no copy in another
    group, so their most alike slices of other groups are other pictures. Where no patient is known, a file is
    its own group, and slices of one patient belong to that bulk too: then only copies are found, not siblings. With
    thin slices, whose neighbours are nearly copies, the limit rises until it finds little else.

    Raises
    ------
    DatasetError : a slice cannot be read; it is named.
    """
    table = records.table.sort_values("path", ignore_index=True)
    files, pictures, squares, shapes = _read(records.root, table["path"].tolist())
    exact, exact_kinds = _pair_equals(table, files, pictures)
    sketches = collect_sketches(squares)
    candidates = propose_pairs(
        sketches,
        part=_encode(table["split"] + table["label"].astype(str)),
        apart=_encode(table["split"] + "/" + table["group"]),
        picture=_encode(pictures),
    )
    similarity = compare_candidates(sketches, candidates)
    calibration = _calibrate(table, candidates, similarity)
    near = similarity >= calibration.threshold
    pairs = _tabulate(
        table,
        np.concatenate([exact, candidates[near]]),
        exact_kinds + ["near"] * int(near.sum()),
        np.concatenate([np.ones(len(exact)), similarity[near]]),
    )
    below = np.argsort(-similarity[~near], kind="stable")[:DRAWN]
    others = _tabulate(table, candidates[~near][below], ["apart"] * len(below), similarity[~near][below])
    scans = list_scans(table, pairs)
    summary = summarise(records, pairs, others, scans, calibration, len(candidates))
    drawn = {path for rows in _list_drawn(pairs, others).values() for path in (*rows["path_a"], *rows["path_b"])}
    shown = {path: (squares[row], shapes[row]) for row, path in enumerate(table["path"]) if path in drawn}
    return Audit(pairs, others, scans, summary, frozenset(table["path"]), shown)


def drop_leaks(records: Records, found: Audit) -> Records:
    """Return the dataset without the training images that stand in test too; test images are never dropped.

    How many were left out is said in its notes. Patients on both sides are another matter: their slices stay.

    Raises
    ------
    DatasetError : the audit is of another dataset, or a class would be lost from the training images.
    """
    _check_fit(records, found)
    leaking = records.table["path"].isin(select_leaks(found.pairs)["path_a"])
    if not leaking.any():
        return records
    kept = records.leave_out(leaking, "training images that stand in test too (--drop-leaks)")
    if set(kept.part("train")["label"]) != set(NAMES):
        raise DatasetError(
            "Without the images that stand in test too, training would lack a class; add other training images."
        )
    note = f"Left out of training, for test shows them too: {pluralise(int(leaking.sum()), 'image')}."
    return replace(kept, notes=(*records.notes, note))


def assign_groups(records: Records, found: Audit) -> Records:
    """Return the dataset with one group for all that shows one picture, so that no split can divide it.

    Where no patient is known, and a file is a group of its own, such clusters stand in for patients, and a
    note says how far. Of slices 5 mm apart that is not far: of 1,694 such CT slices, none was taken for one picture
    with another of the same patient, so copies alone would be kept together. Slices 1 mm apart are. Known patients
    who share a picture become one group too.

    Raises
    ------
    DatasetError : the audit is of another dataset.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _check_fit(records, found)
    names, codes = np.unique(records.table["group"].to_numpy(str), return_inverse=True)
    group_of = dict(zip(records.table["path"], codes, strict=True))
    ends = found.pairs[["path_a", "path_b"]].map(group_of.get).dropna().to_numpy(int).T  # without what was dropped
    links = coo_array((np.ones(ends.shape[1]), ends), shape=(len(names), len(names)))
    _, cluster = connected_components(links, directed=False)
    first = dict(zip(cluster[::-1], names[::-1], strict=True))  # the smallest name
    group = pd.Series([first[code] for code in cluster[codes]], index=records.table.index, dtype=object)
    unknown = records.table["group"] == records.table["path"]
    if not (unknown.any() or (group != records.table["group"]).any()):
        return records
    alike = group[unknown & (group.map(group.value_counts()) > 1)]
    notes = records.notes
    if unknown.any():
        notes += (
            f"Of the {pluralise(int(unknown.sum()), 'image')} without a patient id, {len(alike):,} now share "
            f"{pluralise(alike.nunique(), 'group')} with images that look alike: a proxy for patients, blind to "
            "slices of one patient that look different.",
        )
    if joined := len(set(records.table.loc[~unknown, "group"])) - len(set(group[~unknown])):
        notes += (f"Joined with others who share a picture with them: {pluralise(joined, 'patient')}.",)
    left_out = records.left_out
    if fewer := len(names) - group.nunique():
        left_out += (LeftOut("counted with another patient, whose picture they share", 0, fewer),)
    return replace(records, table=records.table.assign(group=group), notes=notes, left_out=left_out)


def write_audit(found: Audit, records: Records, out: Path) -> None:
    """Write audit.json, audit.csv and, where there are scans or pairs to show, lists and pictures of them.

    figures/duplicates shows the worst pairs, figures/doubtful_pairs the least alike of them where there are more,
    figures/closest_pairs the most alike that were not taken for one picture. audit_scans.csv is `Audit.scans`.
    audit.json holds, and is the same byte for byte when the same dataset is audited again:

    - version: 1. dataset: sha256 (see `hash_records`), slices, groups, without_patient.
    - counts: by split; slices, groups, and by modality ("BT", "MR", "unknown") normal and stroke slices.
    - calibration: slices it rests on, compared pairs, median similarity, highest below the threshold, threshold,
      expected false_alarm_rate (share of slices without a copy that are taken for one; null where unknown),
      patients_known.
    - duplicates: by splits ("train-train", "train-test", ...); pairs of each kind (file, pixels, near) and, of
      these pairs, contradicting_labels.
    - leaks: train_slices that stand in test too, test_slices that they show, groups_on_both_sides, and slices
      of these in train and in test.
    - scans: scans, those with missing_slices and with doubled_slices, and these slices; twice, how many stand there
      under two names, and twice_on_both_sides; missing where the dataset does not name its scans.
    - findings: worst first; level ("error", "warning", "note"), sentence, counts.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / PAIRS_FILE, found.pairs.to_csv(index=False))
    if len(found.scans):
        write_text(out / SCANS_FILE, found.scans.to_csv(index=False))
    for name, pairs in _list_drawn(found.pairs, found.closest).items():
        if len(pairs):
            from stroke_hub.report.plots import save_figure

            save_figure(_draw_pairs(pairs, found.pictures, TITLES[name]), out / "figures" / name)
    write_text(out / AUDIT_FILE, json.dumps(found.summary, indent=2, allow_nan=False) + "\n")


def read_audit(folder: Path, records: Records) -> Audit | None:
    """The audit that `write_audit` put into a folder, without its closest pairs and its scans; None where there is
    none of this dataset, whose every byte counts.
    """
    try:
        summary = json.loads((folder / AUDIT_FILE).read_text())
        pairs = pd.read_csv(folder / PAIRS_FILE, keep_default_na=False)
        if summary["dataset"]["sha256"] != hash_records(records):
            return None
    except (OSError, ValueError, LookupError, TypeError):
        return None
    scans = pd.DataFrame(columns=list(SCAN_COLUMNS))
    return Audit(pairs, pairs[:0], scans, summary, frozenset(records.table["path"]))


# --- what stands where --------------------------------------------------------------------------------------


def _read(root: Path, paths: list[str]) -> tuple[pd.Series, pd.Series, NDArray[np.uint8], list[float]]:
    """SHA-256 of each file and of its picture, the picture's sketch, and its height over its width."""
    files, pictures, squares, shapes = [], [], [], []
    for path in track(paths, "reading slices"):
        first, found = load_first(root / path)
        pixels = first.pixels
        files.append(found)
        shape = f"{pixels.shape}".encode()
        pictures.append(hashlib.sha256(shape + np.ascontiguousarray(pixels).tobytes()).hexdigest())
        squares.append(sketch(pixels))
        shapes.append(pixels.shape[0] / pixels.shape[1])
    return pd.Series(files), pd.Series(pictures), np.array(squares), shapes


def _encode(values: pd.Series) -> NDArray[np.int64]:
    return np.unique(values.to_numpy(str), return_inverse=True)[1].astype(np.int64)


def _pair_equals(table: pd.DataFrame, files: pd.Series, pictures: pd.Series) -> tuple[NDArray[np.int64], list[str]]:
    """Pairs of equal pictures, (M, 2), and their kinds: each with the first of it, where test files come first."""
    firsts: dict[str, int] = {}
    pairs, kinds = [np.empty((0, 2), np.int64)], []
    for row in np.argsort(_rank(table))[::-1].tolist():
        first = firsts.setdefault(pictures[row], row)
        if first != row:
            pairs.append(np.array([[first, row]]))
            kinds.append("file" if files[first] == files[row] else "pixels")
    return np.concatenate(pairs), kinds


def _rank(table: pd.DataFrame) -> NDArray[np.int64]:
    """Each row's place when training files come before test files, by path each."""
    order = np.lexsort((table["path"].to_numpy(str), table["split"] == "test"))
    rank = np.empty(len(table), np.int64)
    rank[order] = np.arange(len(table))
    return rank


def _calibrate(
    table: pd.DataFrame, candidates: NDArray[np.int64], similarity: NDArray[np.float64]
) -> ThresholdCalibration:
    """A threshold from what each slice's most alike slice of another group looks like."""
    groups = table["group"].to_numpy(str)
    across = groups[candidates[:, 0]] != groups[candidates[:, 1]]
    nearest = np.full(len(table), -np.inf)
    for end in (0, 1):
        np.maximum.at(nearest, candidates[across, end], similarity[across])
    return calibrate_threshold(nearest[np.isfinite(nearest)])


def _tabulate(
    table: pd.DataFrame, pairs: NDArray[np.int64], kinds: list[str], similarity: NDArray[np.float64]
) -> pd.DataFrame:
    """Pairs of rows as the table that `Audit` describes."""
    pairs = np.take_along_axis(pairs, np.argsort(_rank(table)[pairs], axis=1), axis=1)
    found: dict[str, Any] = {"kind": np.array(kinds, object), "similarity": similarity.round(4)}
    for end, rows in zip("ab", pairs.T, strict=True):
        found |= {f"{name}_{end}": table[name].to_numpy()[rows] for name in COLUMNS}
    rows = pd.DataFrame(found)
    rows["one_split"] = rows["split_a"] == rows["split_b"]
    rows["one_label"] = rows["label_a"] == rows["label_b"]
    worst = ["one_split", "one_label", "similarity", "path_a", "path_b"]
    rows = rows.sort_values(worst, ascending=[True, True, False, True, True], ignore_index=True)
    return rows.drop(columns=["one_split", "one_label"])


def _check_fit(records: Records, found: Audit) -> None:
    if not set(records.table["path"]) <= found.paths:
        raise DatasetError("The audit is of another dataset; audit this one.")


# --- in pictures --------------------------------------------------------------------------------------------


def _list_drawn(pairs: pd.DataFrame, closest: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The pairs of each figure, by its name."""
    near = pairs[pairs["kind"] == "near"].sort_values("similarity", kind="stable")
    doubtful = near if len(near) > DRAWN else near[:0]
    return {name: rows.head(DRAWN) for name, rows in zip(TITLES, (pairs, doubtful, closest), strict=True)}


def _draw_pairs(
    pairs: pd.DataFrame, pictures: Mapping[str, tuple[NDArray[np.uint8], float]], title: str
) -> "Figure":
    """A row a pair: both pictures, both heads aligned, and what is left of one after the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 1.75 * len(pairs) + 0.9), layout="constrained")
    grid = figure.subplots(len(pairs), 5, squeeze=False)
    for axes, (_, pair) in zip(grid, pairs.iterrows(), strict=True):
        (left, tall_left), (right, tall_right) = (pictures[pair[f"path_{end}"]] for end in "ab")
        _, first, second = align(collect_sketches([left, right]), 0, 1)
        gain, offset = np.polyfit(second.ravel(), first.ravel(), 1) if np.ptp(second) else (0.0, first.mean())
        shown = ((left, tall_left), (right, tall_right), (first, 1.0), (second, 1.0))
        for place, (picture, tall) in zip(axes, shown, strict=False):
            place.imshow(picture, cmap="gray", vmin=0, vmax=255, aspect=tall)
        axes[4].imshow(first - (gain * second + offset), cmap="RdBu_r", vmin=-96, vmax=96)
        for place in axes:
            place.set(xticks=[], yticks=[])
            place.spines[:].set_visible(False)
        for place, end in zip(axes, "ab", strict=False):
            words = f"{pair[f'split_{end}']}, {NAMES[pair[f'label_{end}']]}"
            place.set_xlabel(f"{words}\n{_shorten(pair[f'path_{end}'])}", fontsize=7)
        axes[2].set_xlabel(f"{pair['kind']}\nsimilarity {pair['similarity']:.3f}", fontsize=7)
    for place, name in zip(grid[0], ("A", "B", "A's head", "B laid onto A", "A - B"), strict=True):
        place.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=10, fontweight="bold")
    figure.supxlabel("A - B: after brightness and contrast are matched; white is no difference", fontsize=7)
    return figure


def _shorten(path: str) -> str:
    """The end of a path, as much as stands below a picture."""
    name = path.rpartition("/")[2]
    return name if len(name) <= 26 else f"{name[:12]}…{name[-13:]}"
