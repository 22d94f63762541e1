"""Which of several series is the scan: the one that suits a model of axial head slices, and why."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stroke_hub.errors import UnreadableImage, pluralise, printable
from stroke_hub.io.dicom import MODALITIES
from stroke_hub.io.geometry import find_view
from stroke_hub.io.nifti import VolumeHeader
from stroke_hub.io.windowing import Modality
from stroke_hub.scan.grid import Grid
from stroke_hub.scan.headers import Header

__all__ = ["CHOOSE", "Series", "choose_series", "describe_dicom", "describe_volume", "is_sharp"]

THICKNESS = (2.5, 6.0)  # mm: what heads are read in, and what slices of datasets are
FEWEST = 4  # slices of a scan: fewer are a plan, a watch for the contrast agent, a picture of a report
SHOWN = 6  # series that a sentence lists
CHOOSE = "To choose another, give its number, name or UID as series."
SHARP_NAMES = frozenset({"BONE", "BONEPLUS", "EDGE", "LUNG", "ULTRA", "SHARP", "DETAIL", "D", "YD", "YE", "E", "L"})
SHARP_SIEMENS = 50  # the number in a kernel's name: H30 to H45 are soft, H60 to H90 are bone
SHARP_CANON = (range(30, 40), range(50, 60), range(80, 90))  # FC30 and others; FC20 to FC29, FC64 to FC69 are brain
LABELS = re.compile(r"(?:^|[\W_])(?:mask|msk|seg|segmentation|label|lesion|roi|brainmask)s?(?=$|[\W_])", re.I)


@dataclass(frozen=True, eq=False)
class Series:
    """What may be a scan: a DICOM series, a volume, a file of pages, or single pictures.

    files : of what was given, by number, in the order in which they are wanted.
    name : the description or the file's name, fit to print. number, uid : of a DICOM series.
    modality : what the header says, as DICOM writes it; "" where it does not.
    count : slices. thickness : of a slice in mm; None where nobody says.
    plane : "axial", "oblique" or another plane; None where nobody says.
    size : columns and rows of pages and pictures. remarks : what is odd, if it is taken.
    header, grid, volume : what was read of a DICOM series, and of a volume.
    """

    kind: Literal["DICOM", "volume", "pages", "pictures"]
    files: tuple[int, ...]
    name: str
    count: int
    number: int | None = None
    uid: str = ""
    modality: str = ""
    plane: str | None = None
    thickness: float | None = None
    is_localizer: bool = False
    is_derived: bool = False
    has_contrast: bool = False
    kernel: str = ""
    size: tuple[int, int] = (0, 0)
    remarks: tuple[str, ...] = ()
    header: Header | None = None
    grid: Grid | None = None
    volume: VolumeHeader | None = None

    def __str__(self) -> str:
        number = "" if self.number is None else f"{self.number} "
        return f'{number}"{self.name}"' if self.name else number.strip() or printable(self.uid) or "one"

    def find_faults(self, modality: Modality | None) -> tuple[str, ...]:
        """What speaks against it, "" for nothing, the weightiest first."""
        is_thin = self.thickness is not None and self.thickness < THICKNESS[0] - 0.01
        is_thick = self.thickness is not None and self.thickness > THICKNESS[1] + 0.01
        known = MODALITIES.get(self.modality)
        return (
            f"is {self.modality}" if modality and self.modality and known != modality else "",
            "is neither CT nor MR" if self.modality and known is None else "",
            "is a localizer" if self.is_localizer else "",
            f"is {self.plane}" if self.plane not in (None, "axial") else "",
            "holds pictures, not measured values" if self.kind in ("pages", "pictures") else "",
            f"has {pluralise(self.count, 'slice')}" if self.count < FEWEST else "",
            "was computed from others" if self.is_derived else "",
            "was taken with contrast" if self.has_contrast else "",
            "has a sharp kernel" if is_sharp(self.kernel) else "",
            f"has slices of {self.thickness:.3g} mm" if is_thin or is_thick else "",
        )


def choose_series(
    all_: Sequence[Series], wanted: int | str | None, modality: Modality | None
) -> tuple[Series, list[str]]:
    """Choose the series that suits, and say which and why.

    Parameters
    ----------
    all_ : at least one.
    wanted : a number, a description, a part of one or a UID; None leaves the choice to the rules.
    modality : that was asked for.

    Raises
    ------
    UnreadableImage : no series is `wanted`; without the name of the source.
    """
    ranked = sorted(all_, key=lambda one: _rank(one, modality))
    remarks = []
    if wanted is not None:
        matching = _match(ranked, wanted)
        if not matching:
            raise UnreadableImage(f"has no series {printable(str(wanted))}; choose one of: {_list(all_)}.")
        if len(matching) > 1:
            remarks.append(f"{len(matching)} series are named so; the one that suits best was taken.")
        taken = matching[0]
    else:
        taken = ranked[0]
        if len(all_) > 1:
            remarks += _explain(ranked, modality)
    weighty = ("neither", "localizer", "computed", "contrast", "kernel")
    faults = [fault for fault in taken.find_faults(None) if any(word in fault for word in weighty)]
    if faults:
        remarks.append(f"The series {' and '.join(faults)}.")
    return taken, remarks


def _rank(series: Series, modality: Modality | None) -> tuple[object, ...]:
    faults = tuple(bool(fault) for fault in series.find_faults(modality))
    number = series.number if series.number is not None else 1 << 31
    return faults, -series.count, number, series.name, series.uid


def _match(ranked: Sequence[Series], wanted: int | str) -> list[Series]:
    """The series of this UID, or else of this number, of this name, or of a name that holds it."""
    text = str(wanted).strip().casefold()
    tests = (
        lambda one: one.uid == text,
        lambda one: one.number is not None and str(one.number) == text,
        lambda one: one.name.casefold() == printable(text),
        lambda one: bool(text) and not isinstance(wanted, int) and text in one.name.casefold(),
    )
    return next((found for test in tests if (found := [one for one in ranked if test(one)])), [])


def _explain(ranked: Sequence[Series], modality: Modality | None) -> list[str]:
    """Which series was taken, and what spoke against each other one."""
    taken, *others = ranked
    mine = taken.find_faults(modality)
    against = []
    for other in others[:SHOWN]:
        theirs = other.find_faults(modality)
        fault = next((its for its, my in zip(theirs, mine, strict=True) if its and not my), "")
        if not fault:
            fault = "has fewer slices" if other.count < taken.count else "suits as well"
        against.append(f"{other} {fault}")
    if more := len(others) - len(against):
        against.append(f"and {more} more")
    remarks = [
        f"Of {len(ranked)} series, {taken} was taken ({pluralise(taken.count, 'slice')}), because it suits best: "
        f"{'; '.join(against)}.",
        CHOOSE,
    ]
    if len(found := {one.modality for one in ranked if one.modality}) > 1:
        remarks.append(f"The files are of several modalities: {', '.join(sorted(map(printable, found)))}.")
    headers = [one.header for one in ranked if one.header]
    if (patients := len({header.patient for header in headers})) > 1:
        remarks.append(f"The files are of {patients} patients; the series is of one of them.")
    elif (studies := len({header.study for header in headers})) > 1:
        remarks.append(f"The files are of {studies} studies; the series is of one of them.")
    return remarks


def _list(all_: Sequence[Series]) -> str:
    often = Counter(str(one) for one in all_)
    names = [f"{one} of UID {printable(one.uid, limit=64)}" if often[str(one)] > 1 else str(one) for one in all_]
    shown = [f"{name} ({pluralise(one.count, 'slice')})" for name, one in zip(names, all_, strict=True)][
        : 4 * SHOWN
    ]
    return ", ".join(shown) + (f" and {len(all_) - len(shown)} more" if len(all_) > len(shown) else "")


def is_sharp(kernel: str) -> bool:
    """Tell whether a convolution kernel of CT is for bone, in which brain is noise; unknown ones count as soft."""
    name = re.split(r"[\\\s^]", kernel.strip().upper())[0]
    if name in SHARP_NAMES:
        return True
    if canon := re.fullmatch(r"FC(\d\d)", name):
        return any(int(canon[1]) in numbers for numbers in SHARP_CANON)
    siemens = re.match(r"[A-Z]{1,2}(\d\d)", name)
    return siemens is not None and int(siemens[1]) >= SHARP_SIEMENS


def describe_dicom(files: tuple[int, ...], header: Header, grid: Grid) -> Series:
    """Describe a DICOM series whose frames were arranged."""
    view = find_view(grid.frames[0].directions)
    thickness = header.thickness
    if thickness is None and len(grid.positions) > 1 and grid.frames[0].corner:
        thickness = float(abs(grid.positions[-1] - grid.positions[0])) / (len(grid.positions) - 1)
    return Series(
        kind="DICOM",
        files=files,
        name=header.description,
        count=len(grid.frames),
        number=header.number,
        uid=header.series,
        modality=header.modality,
        plane=("oblique" if view.is_oblique else view.plane) if view else None,
        thickness=thickness,
        is_localizer=header.is_localizer,
        is_derived=header.is_derived,
        has_contrast=header.has_contrast,
        kernel=header.kernel,
        header=header,
        grid=grid,
    )


def describe_volume(file: int, name: str, header: VolumeHeader) -> Series:
    """Describe a NIfTI file; a name such as lesion_mask.nii.gz says that it holds labels."""
    count = header.shape[header.axis]
    return Series(
        kind="volume",
        files=(file,),
        name=name,
        count=count,
        plane="axial",
        thickness=abs(float(header.affine[:3, header.axis] @ header.affine[:3, header.axis]) ** 0.5),
        is_derived=LABELS.search(name) is not None,
        volume=header,
    )
