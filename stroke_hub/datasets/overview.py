"""What is known of a dataset before anything is trained: counts, scanners, spacings, in lines for a terminal."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stroke_hub.data.layout import CLASSES
from stroke_hub.data.records import Records
from stroke_hub.datasets.grids import read_grid
from stroke_hub.datasets.layouts.files import VOLUME, read_json
from stroke_hub.datasets.scan_table import ScanRecord, ScanTable
from stroke_hub.errors import UnreadableImage, pluralise, printable
from stroke_hub.io.elements import import_pydicom
from stroke_hub.io.quiet import silence
from stroke_hub.progress import track

__all__ = ["describe_records", "describe_scans"]

LOOKED_AT = 200  # scans whose headers tell the scanner and the spacing: of more, every k-th
MAKER_TAGS = ("Manufacturer", "ManufacturerModelName", "MagneticFieldStrength", "PixelSpacing", "SliceThickness")
SIDECAR = ("Manufacturer", "ManufacturersModelName", "MagneticFieldStrength")
SHOWN = 6  # kinds in a line

Item = TypeVar("Item")


def describe_scans(table: ScanTable) -> Iterator[str]:
    """Describe a dataset of scans by its table and its headers, a line for each matter; no voxel is read."""
    records = table.records
    patients = len({record.patient for record in records})
    yield f"layout: {table.layout}; {pluralise(len(records), 'scan')} of {pluralise(patients, 'patient')}"
    release = f", release {table.release}" if table.release else ""
    yield f"dataset: {printable(table.name or table.root.name, limit=100)}{release}"
    yield f"licence: {printable(table.licence, limit=100) or 'not stated in its files'}"
    yield f"scans by modality and sequence: {_count(_name_kind(record) for record in records)}"
    yield f"labels: {_count(map(_name_label, records))}"
    yield f"splits: {_count(record.split or 'none of its own' for record in records)}"
    seen = [_look(record) for record in track(_thin(records, LOOKED_AT), "reading headers")]
    some = f" (of {len(seen)} scans)" if len(seen) < len(records) else ""
    yield f"scanner{some}: {_count(maker or 'not said' for maker, _ in seen)}"
    spacings = np.array([spacing for _, spacing in seen if spacing is not None])
    if len(spacings):
        plane, between = (_span(spacings[:, column]) for column in (0, 1))
        yield f"spacing{some}: {plane} mm in the plane, {between} mm between slices"
    else:
        yield "spacing: not said"


def describe_records(records: Records) -> Iterator[str]:
    """Describe the table of slices: a line for each split, label and modality, and one for masks."""
    table = records.table
    keys = [table["split"], table["modality"].fillna("modality unknown"), table["label"]]
    for (split, modality, label), part in sorted(table.groupby(keys), key=lambda pair: str(pair[0])):
        groups = pluralise(part["group"].nunique(), "patient")
        yield f"{split}, {modality}, {CLASSES[int(str(label))]}: {pluralise(len(part), 'slice')} of {groups}"
    masks = int(table["mask"].map(bool).sum()) if "mask" in table else 0
    strokes = pluralise(int((table["label"] == 1).sum()), "stroke slice")
    yield f"masks: {masks:,} of {strokes} {'has' if masks == 1 else 'have'} a lesion mask"
    if "lesion_mm2" in table:
        areas = pd.to_numeric(table.loc[table["label"] == 1, "lesion_mm2"], errors="coerce").dropna()
        if len(areas):
            low, middle, high = areas.quantile([0.05, 0.5, 0.95])
            yield f"lesions: median {middle:,.0f} mm², 5 % to 95 %: {low:,.0f} to {high:,.0f} mm²"


def _thin(items: Sequence[Item], count: int) -> Sequence[Item]:
    return items[:: max(1, -(-len(items) // count))]


def _count(words: Iterator[str]) -> str:
    counts = Counter(words).most_common()
    parts = [f"{word} {count:,}" for word, count in counts[:SHOWN]]
    return ", ".join([*parts, *([f"{len(counts) - SHOWN} more"] if len(counts) > SHOWN else [])]) or "none"


def _name_kind(record: ScanRecord) -> str:
    return f"{record.modality or 'unknown'}{f' {record.sequence}' if record.sequence else ''}"


def _name_label(record: ScanRecord) -> str:
    if isinstance(record.label, tuple):
        return "of each slice"
    if record.mask is not None and record.label != 0:
        return "by mask"
    return "of the scan alone" if record.label is not None else "none"


def _span(values: NDArray[np.float64]) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.3g}" if high - low < 0.005 else f"{low:.3g} to {high:.3g}"


def _look(record: ScanRecord) -> tuple[str, tuple[float, float] | None]:
    """The scanner of a scan, and its spacing in the plane and between slices, as far as headers say."""
    if isinstance(record.image, Path):
        said = read_json(record.image.with_name(f"{VOLUME.sub('', record.image.name)}.json"))
        maker = _join(said.get(name) for name in SIDECAR)
        try:
            sides = read_grid(record.image).sides
        except UnreadableImage:
            return maker, None
        return maker, (float(sides[0]), float(sides[2]))
    return _look_at_dicom(record.image[0]) if record.image else ("", None)


def _look_at_dicom(file: Path) -> tuple[str, tuple[float, float] | None]:
    import_pydicom()
    import pydicom

    with silence():
        try:
            ds = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(MAKER_TAGS))
        except Exception:  # a picture, or damaged
            return "", None
        maker = _join(ds.get(name) for name in MAKER_TAGS[:3])
        try:
            return maker, (float(ds.PixelSpacing[0]), float(ds.SliceThickness))
        except (AttributeError, TypeError, ValueError, IndexError):
            return maker, None


def _join(words: "Iterator[object]") -> str:
    maker, model, field = (str(word).strip() if word else "" for word in words)
    return printable(" ".join(filter(None, (maker, model, f"{field} T" if field else ""))))
