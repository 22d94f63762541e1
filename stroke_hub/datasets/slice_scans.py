"""A table of scans becomes the table of slices that training, evaluation and audit take."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stroke_hub.data.layout import Row, show_path
from stroke_hub.data.records import LeftOut, Records, make_records
from stroke_hub.datasets.draw_test import draw_test
from stroke_hub.datasets.scan_table import ScanRecord, ScanTable
from stroke_hub.datasets.slice_rules import SliceRules
from stroke_hub.datasets.survey import SliceSource, list_sources, measure_lesions, trim_ends
from stroke_hub.errors import DatasetError, UnreadableImage, pluralise
from stroke_hub.progress import track

__all__ = ["slice_scans"]

BY_SCAN = (
    "Without masks or labels of slices, each slice has the label of its whole scan, so that many Stroke slices may "
    "show no lesion. Read the figures by patient."
)
AS_ASKED = (
    "Each slice has the label of its whole scan, as --label-by scan asks. Many Stroke slices show no lesion; "
    "read the figures by patient."
)


def slice_scans(table: ScanTable, rules: SliceRules, *, whole: bool = False) -> Records:
    """Choose and label the slices of a dataset of scans.

    Parameters
    ----------
    whole : whether everything is one test part, to measure a model of other data on; else the dataset's own split
        is kept, and where it has no test part, a fifth of its patients are drawn, always the same.

    Returns
    -------
    Records whose paths are pictures, DICOM files, or addresses of slices in volumes (`scan.addresses`). Further
    columns are scan, slice (number from foot to head), sequence, mask ("" where a slice has no lesion) and
    lesion_mm2.

    Raises
    ------
    DatasetError : something is in the way (`ScanTable.problems`), a file cannot be read, or a class is missing.
    """
    stops = [problem.sentence for problem in table.problems if problem.stops]
    if stops:
        more = f" {pluralise(len(stops) - 1, 'further problem')}: see stroke-hub data." if len(stops) > 1 else ""
        raise DatasetError(f"{show_path(table.root)}: {stops[0]}{more}")
    table = _choose_sequence(table, rules.sequence)
    rows: list[Row] = []
    left_out: Counter[str] = Counter()
    for record in track(table.records, "choosing slices"):
        try:
            rows += _slice_scan(table.root, record, rules, left_out)
        except UnreadableImage as error:
            raise DatasetError(f"{show_path(record.scan)}: {error}") from error
    if not rows:
        raise DatasetError(f"{show_path(table.root)}: no slice is left by these rules; loosen them.")
    notes = [*_describe(table, rules, left_out)]
    if whole:
        for row in rows:
            row["split"] = "test"
    else:
        notes += _divide(rows)
    records = make_records(table.root, rows, notes, {}, whole=whole)
    return replace(
        records, left_out=tuple(LeftOut(reason, count, 0) for reason, count in left_out.items() if count)
    )


def _choose_sequence(table: ScanTable, wanted: str) -> ScanTable:
    if not wanted:
        return table
    chosen = [record for record in table.records if record.sequence == wanted.lower()]
    if not chosen:
        names = ", ".join(sorted({record.sequence for record in table.records if record.sequence})) or "none"
        raise DatasetError(f"--sequence {show_path(wanted)}: this dataset has {names}; choose one of these.")
    return replace(table, records=chosen)


def _slice_scan(root: Path, record: ScanRecord, rules: SliceRules, left_out: Counter[str]) -> list[Row]:
    """The rows of one scan."""
    sources = list_sources(record)
    areas = measure_lesions(record)
    labels = _label(sources, areas, rules)
    if rules.label_by == "scan":
        labels = [_label_scan(labels)] * len(labels)
    taken: list[SliceSource] = []
    for source in sources:
        if source.number % rules.every:
            left_out["slices between every n-th"] += 1
        elif isinstance(found := labels[source.number], str):
            left_out[found] += 1
        else:
            taken.append(source)
    if not rules.any_slice:
        trimmed = trim_ends(record, taken)
        left_out["slices below or above the head"] += len(taken) - len(trimmed)
        taken = trimmed
    rows = []
    for source in taken:
        area = None if areas is None else float(areas[source.number])
        has_mask = source.mask is not None and labels[source.number] == 1 and bool(area)
        rows.append(
            Row(
                path=_relate(source.file, root),
                label=labels[source.number],
                modality=record.modality,
                group=record.patient,
                split=record.split,
                scan=record.scan,
                slice=f"{source.number}",
                sequence=record.sequence,
                mask=_relate(source.mask, root) if has_mask and source.mask else "",
                lesion_mm2="" if area is None or area == float("inf") else f"{area:.1f}",
            )
        )
    return rows


def _label(sources: list[SliceSource], areas: NDArray[np.float64] | None, rules: SliceRules) -> list[int | str]:
    """The label of each slice, or the reason why it is left out."""
    measured = None if areas is None else areas.tolist()
    labels: list[int | str] = []
    for source in sources:
        if source.label is not None:
            labels.append(source.label)
        elif measured is None:
            labels.append("slices without a label")
        elif measured[source.number] > 0 and measured[source.number] >= rules.min_lesion_mm2:
            labels.append(1)
        elif measured[source.number] > 0:
            labels.append(0 if rules.small_lesions == "normal" else "slices with a lesion below the least area")
        else:
            reach = range(source.number - rules.beside_lesion, source.number + rules.beside_lesion + 1)
            near = any(0 <= other < len(measured) and measured[other] > 0 for other in reach)
            labels.append("slices beside a lesion" if near else 0)
    return labels


def _label_scan(labels: list[int | str]) -> int | str:
    """The label of a whole scan, or the reason why it is left out."""
    if 1 in labels:
        return 1
    return next((reason for reason in labels if isinstance(reason, str)), 0)


def _relate(file: Path, root: Path) -> str:
    return Path(os.path.relpath(file, root)).as_posix()


def _divide(rows: list[Row]) -> Iterator[str]:
    """Give each row a split, and say where it comes from."""
    own = {row["split"] for row in rows}
    if "test" in own:
        yield "The dataset's own split is kept."
        for row in rows:
            row["split"] = row["split"] or "train"
        return
    strokes: dict[str, bool] = defaultdict(bool)
    for row in rows:
        if row["split"] != "val":
            strokes[str(row["group"])] |= row["label"] == 1
    test = draw_test(strokes)
    for row in rows:
        row["split"] = "test" if row["group"] in test else row["split"] or "train"
    yield (
        f"The dataset has no test part of its own: {len(test):,} of {len(strokes):,} patients were drawn for it by "
        "a hash of their names. They are always the same."
    )


def _describe(table: ScanTable, rules: SliceRules, left_out: Counter[str]) -> Iterator[str]:
    """Say what the dataset is, how slices were made of it, and what was in the way."""
    facts = [table.name or table.root.name, *([f"release {table.release}"] if table.release else [])]
    facts.append(f"licence {table.licence}" if table.licence else "licence not stated in its files")
    yield f"Dataset: {', '.join(map(show_path, facts))}; read as {table.layout}."
    yield from table.notes
    by_mask = [record for record in table.records if record.mask is not None and record.label in (None, 1)]
    if rules.label_by == "scan":
        yield AS_ASKED
    elif any(record.label == 1 and record.mask is None for record in table.records):
        yield BY_SCAN
    if rules.label_by == "slice" and any(isinstance(record.label, tuple) for record in table.records):
        yield "The dataset labels single slices; these labels are kept, also where there is a mask."
    if any(isinstance(record.mask, Path) for record in by_mask):
        if rules.label_by == "scan":
            yield f"A scan is Stroke where the lesion mask of a slice covers at least {rules.min_lesion_mm2:g} mm²."
        else:
            yield f"A slice is Stroke where its lesion mask covers at least {rules.min_lesion_mm2:g} mm²."
    if any(isinstance(record.mask, tuple) for record in by_mask):
        yield f"Masks of pictures know no millimetres: there any lesion makes a {rules.label_by} Stroke."
    for reason, count in left_out.items():
        if count:
            yield f"Left out: {count:,} {reason}."
    for problem in table.problems:
        yield problem.sentence
