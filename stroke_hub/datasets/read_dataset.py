"""A folder becomes a table of scans, by the first layout that recognises what lies in it."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from stroke_hub.data.layout import show_path
from stroke_hub.datasets.grids import read_grid
from stroke_hub.datasets.layouts.bids import read_bids, recognises_bids
from stroke_hub.datasets.layouts.cq500 import read_cq500, recognises_cq500
from stroke_hub.datasets.layouts.csv_table import read_csv_table, recognises_csv_table
from stroke_hub.datasets.layouts.ct_ich import read_ct_ich, recognises_ct_ich
from stroke_hub.datasets.layouts.files import describe_lost
from stroke_hub.datasets.layouts.nnunet import read_nnunet, recognises_nnunet
from stroke_hub.datasets.layouts.rsna import read_rsna, recognises_rsna
from stroke_hub.datasets.scan_table import Problem, ScanRecord, ScanTable
from stroke_hub.errors import DatasetError, UnreadableImage
from stroke_hub.progress import track

__all__ = ["KNOWN", "is_scan_dataset", "read_dataset"]

KNOWN = "BIDS, RSNA 2019, nnU-Net, CT-ICH, CQ500, a CSV with the columns image and label or mask"

# The narrow ones first: a BIDS dataset may hold a CSV of somebody's own, which is then given by its path.
LAYOUTS: tuple[tuple[Callable[[Path], bool], Callable[[Path], ScanTable]], ...] = (
    (recognises_rsna, read_rsna),
    (recognises_cq500, read_cq500),
    (recognises_ct_ich, read_ct_ich),
    (recognises_nnunet, read_nnunet),
    (recognises_bids, read_bids),
    (recognises_csv_table, read_csv_table),
)


def _list_roots(folder: Path) -> list[Path]:
    """The folder, and its only visible sub-folder: archives unpack to one."""
    if not folder.is_dir():
        return [folder]
    inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]
    return [folder, *inside] if len(inside) == 1 else [folder]


def _find_layout(folder: Path) -> tuple[Path, Callable[[Path], ScanTable]] | None:
    for root in _list_roots(folder):
        for recognises, read in LAYOUTS:
            if recognises(root):
                return root, read
    return None


def is_scan_dataset(folder: str | Path) -> bool:
    """Tell whether a folder, or a CSV, is a dataset of scans in a layout that is known here."""
    given = Path(folder).expanduser().resolve()
    try:
        return given.exists() and _find_layout(given) is not None
    except OSError:
        return False


def read_dataset(folder: str | Path) -> ScanTable:
    """Read a dataset of scans in any known layout; no voxel is read.

    Parameters
    ----------
    folder : of the dataset, or one above it; or a CSV with the columns image and label or mask.

    Returns
    -------
    The scans. A mask that does not lie on its image's grid is taken away; where nothing else gives a label, that
    is a problem that stops. So is a patient on two sides of the dataset's own split.

    Raises
    ------
    DatasetError : the layout is not known, or its tables cannot be understood.
    """
    given = Path(folder).expanduser().resolve()
    found = _find_layout(given) if given.exists() else None
    if found is None:
        raise DatasetError(
            f"{show_path(given)}: is in no layout that is known ({KNOWN}); docs/datasets.md shows them."
        )
    table = found[1](found[0])
    records, problems = _check_masks(table.records)
    unknown = [record.scan for record in records if record.mask is None and record.label is None]
    problems += describe_lost(unknown, "scan", "{have} neither a mask nor a label and {are} left out")
    records = [record for record in records if record.mask is not None or record.label is not None]
    problems += _check_splits(records)
    if not records and not any(problem.stops for problem in (*table.problems, *problems)):
        problems.append(Problem("There is no scan with a mask or a label here.", stops=True))
    return replace(table, records=records, problems=(*table.problems, *problems))


def _check_masks(records: Sequence[ScanRecord]) -> tuple[list[ScanRecord], list[Problem]]:
    kept: list[ScanRecord] = []
    problems: list[Problem] = []
    useless: list[str] = []
    for record in track(records, "comparing grids"):
        if not isinstance(record.mask, Path) or not isinstance(record.image, Path):
            kept.append(record)
            continue
        try:
            fits = read_grid(record.mask).matches(read_grid(record.image))
        except UnreadableImage as error:
            problems.append(Problem(f"{show_path(record.scan)} is left out: {error}", stops=record.label is None))
            continue
        if fits or record.label is not None:
            kept.append(record if fits else replace(record, mask=None))
            useless += [] if fits else [record.scan]
            continue
        problems.append(
            Problem(
                f"{show_path(record.scan)}: its mask lies on another grid than its image; resample the mask to the "
                "image.",
                stops=True,
            )
        )
    if useless:
        words = "1 mask lies" if len(useless) == 1 else f"{len(useless):,} masks lie"
        problems.append(
            Problem(
                f"{words} on another grid than the image and is not used, for example of {show_path(useless[0])}."
            )
        )
    return kept, problems


def _check_splits(records: list[ScanRecord]) -> Iterator[Problem]:
    """A patient on two sides, which may be two patients under one id."""
    sides: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.split:
            sides[record.patient].add(record.split)
    both = sorted(patient for patient, splits in sides.items() if len(splits) > 1)
    if both:
        more = f" and {len(both) - 1:,} more" if len(both) > 1 else ""
        yield Problem(
            f"{show_path(both[0])}{more}: stands in two splits; is it two patients of one id, or one patient on "
            "both sides? Correct the table.",
            stops=True,
        )
