"""How slices are made of scans: which are taken, and which label each has."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

import tyro

from stroke_hub.errors import DatasetError

__all__ = ["SliceRules"]


@dataclass(frozen=True)
class SliceRules:
    """Which slices of scans are taken, and which label a mask gives them. For NIfTI and DICOM datasets alone."""

    label_by: Literal["slice", "scan"] = "slice"
    """What has a label: each slice by its own lesion, or all slices of a scan by whether one of them is Stroke."""
    min_lesion_mm2: Annotated[float, tyro.conf.arg(metavar="MM2")] = 10.0
    """A slice is Stroke where its lesion mask covers at least this area."""
    small_lesions: Literal["out", "normal"] = "out"
    """What becomes of slices with a smaller lesion: left out, or Normal."""
    beside_lesion: Annotated[int, tyro.conf.arg(metavar="INT")] = 0
    """Leave out this many slices without a lesion on either side of a lesion, where readers may disagree."""
    every: Annotated[int, tyro.conf.arg(metavar="INT")] = 1
    """Take every n-th slice of a scan only."""
    any_slice: bool = False
    """Take slices below and above the head too; else these are left out, unless they are labelled Stroke."""
    sequence: Annotated[str, tyro.conf.arg(metavar="WORD")] = ""
    """Take the scans of one sequence only, such as dwi."""

    def __post_init__(self) -> None:
        wrong = [
            name
            for name, least in (("min_lesion_mm2", 0), ("beside_lesion", 0), ("every", 1))
            if not getattr(self, name) >= least
        ]
        if wrong:
            option = "--" + wrong[0].replace("_", "-")
            raise DatasetError(
                f"{option} is {getattr(self, wrong[0])}; give {'1 or more' if wrong == ['every'] else '0 or more'}."
            )

        if self.label_by == "scan" and self.beside_lesion:
            raise DatasetError(
                "--label-by scan labels all slices alike, so --beside-lesion means nothing; leave out one."
            )

    def to_options(self) -> list[str]:
        """Write the rules as options of a command; none where all are as usual."""
        words: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                words += [f"--{field.name.replace('_', '-')}", *([] if value is True else [f"{value}"])]
        return words
