"""What every layout is read into: a table of scans, what is known of the dataset, and what is in the way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from stroke_hub.io.windowing import Modality

__all__ = ["Label", "Problem", "ScanRecord", "ScanTable", "Split"]

Split: TypeAlias = Literal["train", "val", "test"]
Label: TypeAlias = int | tuple[int | None, ...] | None


class Problem(NamedTuple):
    """Tell in one sentence what is in the way of a dataset, and whether that stops a training."""

    sentence: str
    stops: bool = False


@dataclass(frozen=True)
class ScanRecord:
    """One scan of a dataset.

    Parameters
    ----------
    scan : its name, one in the dataset.
    patient : who was scanned; scans of one patient never stand on two sides of a split.
    split : that the dataset itself gives it; None where it gives none.
    image : the file of a volume, or the files of single slices, pictures or DICOM, in their order.
    mask : of the lesion: a volume on the grid of the image, or a picture for each slice, None where there is none.
    label : 1 stroke, 0 normal, of the whole scan; or one of each slice, in the order in which the file or `image`
        holds them; None where a mask says it, or nobody.
    modality : "BT" or "MR"; None where nobody says.
    sequence : as the dataset names it, such as dwi or ncct; "" where nobody says.
    """

    scan: str
    patient: str
    split: Split | None
    image: Path | tuple[Path, ...]
    mask: Path | tuple[Path | None, ...] | None = None
    label: Label = None
    modality: Modality | None = None
    sequence: str = ""


@dataclass(frozen=True)
class ScanTable:
    """A dataset of scans.

    Parameters
    ----------
    root : the folder that was given; all files lie below it.
    layout : the layout's name, for a sentence.
    records : the scans, in the order of their names.
    problems : what is in the way.
    name, release, licence : of the dataset where they are known; else "".
    notes : sentences on what the labels mean.
    """

    root: Path
    layout: str
    records: Sequence[ScanRecord]
    problems: tuple[Problem, ...] = ()
    name: str = ""
    release: str = ""
    licence: str = ""
    notes: tuple[str, ...] = field(default=())
