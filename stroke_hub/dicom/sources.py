"""The instances that an answer is about: what a DICOM object must repeat of them to be found beside them.

Here alone fields of a patient are read, and only where the caller asks for them. They go into the objects and
nowhere else.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stroke_hub.errors import UnreadableImage
from stroke_hub.io.dicom import SPACINGS
from stroke_hub.io.elements import LAYOUT_TAGS, describe_frame, read_first, read_layout, read_number, read_sides
from stroke_hub.io.limits import SCAN_LIMITS
from stroke_hub.io.quiet import silence
from stroke_hub.progress import track
from stroke_hub.scan.headers import GROUPS, read_file_elements
from stroke_hub.scan.scan import Scan

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Source", "check_places", "read_sources"]

CHARACTERS = 0x00080005  # the character set, without which no name can be read
PATIENT_TAGS = (
    *(0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00100040),  # name, ID, its issuer, date of birth, sex
    *(0x00080020, 0x00080030, 0x00080050, 0x00080090, 0x00081030, 0x00200010),  # the study
)
REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
KEPT = ("FrameOfReferenceUID", "PositionReferenceIndicator", "Rows", "Columns")
KEPT_TAGS = (
    *(0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00200052, 0x00201040),  # class, UIDs, frame of reference
    *(0x00180050, 0x00181164, 0x00182010, 0x00200032, 0x00200037, 0x00280030),  # thickness, place, spacing
    *(0x52009229, 0x52009230),  # the same of the frames of enhanced files
)
EMPTY = (  # must be there, and may be empty
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
ALIKE = 1e-3  # of the cosines of two directions: 0.15 mm at the edge of a head
NOT_DICOM = "is no DICOM study, so there is nothing that DICOM objects could refer to; leave dicom out."
NO_UIDS = "does not say to which study, series and instance each slice belongs; leave dicom out."
DAMAGED = "has a header that cannot be repeated in DICOM objects; leave dicom out."


class Source(NamedTuple):
    """A slice as DICOM objects refer to it.

    dataset : of its plane alone, without pixels: UIDs, patient and study (empty where not asked for), size and,
        where the file says, position, orientation, spacing and thickness.
    frame : its number in the instance, from 1; None of an instance of one frame.
    """

    dataset: "Dataset"
    frame: int | None


def read_sources(scan: Scan, *, patient: bool) -> list[Source]:
    """Read what objects must say of the slices of a scan, a source for each slice.

    Parameters
    ----------
    patient : whether the fields of patient and study are read; otherwise they are empty.

    Raises
    ------
    UnreadableImage : the scan is not DICOM, or lacks UIDs; the message names the scan.
    """
    if not scan.origins or not all(origin.uid for origin in scan.origins):
        raise UnreadableImage(f"{scan.source}: {NOT_DICOM if not any(o.uid for o in scan.origins) else NO_UIDS}")
    tags = (CHARACTERS, *LAYOUT_TAGS, *KEPT_TAGS, *(PATIENT_TAGS if patient else ()))
    read: dict[int, tuple[Dataset, int]] = {}
    found = []
    with silence():
        try:
            for origin in track(scan.origins, "reading headers"):
                key = id(origin.source)
                if key not in read:
                    ds = read_file_elements(origin.source, tags).ds
                    if not all(ds.get(name) for name in REQUIRED):
                        raise UnreadableImage(NO_UIDS)
                    read[key] = ds, read_layout(ds, SCAN_LIMITS).frames
                ds, frames = read[key]
                number = origin.frame if frames > 1 else None
                found.append(Source(_describe(ds, (number or 1) - 1, patient), number))
        except UnreadableImage as refusal:
            raise UnreadableImage(f"{scan.source}: {refusal}") from None
        except Exception:  # its words may hold those of a patient
            raise UnreadableImage(f"{scan.source}: {DAMAGED}") from None
    files = {key: str(ds.SOPInstanceUID) for key, (ds, _) in read.items()}
    if len(set(files.values())) < len(files):
        raise UnreadableImage(f"{scan.source}: several files have one instance UID; leave dicom out.")
    return found


def check_places(scan: Scan, sources: list[Source]) -> None:
    """Check that a parametric map can lie where the slices lie.

    Raises
    ------
    UnreadableImage : the files do not say where a slice lies, or two lie in one place, or they are not parallel.
    """
    needed = ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    if any(name not in source.dataset for source in sources for name in needed):
        raise UnreadableImage(
            f"{scan.source}: the files do not say where each slice lies (position, orientation, spacing, frame of "
            "reference), so no parametric map can lie over it; leave pm out."
        )
    places = {tuple(source.dataset.ImagePositionPatient) for source in sources}
    if len(places) < len(sources):  # as of a mosaic, whose tiles have one position together
        raise UnreadableImage(
            f"{scan.source}: several slices have one position, so no parametric map can lie over it; leave pm out."
        )
    first = sources[0].dataset.ImageOrientationPatient
    if any(not np.allclose(one.dataset.ImageOrientationPatient, first, atol=ALIKE) for one in sources):
        raise UnreadableImage(
            f"{scan.source}: the slices are not parallel, as those of a parametric map are; leave pm out."
        )


def _is_sound(name: str, value: str) -> bool:
    """Tell whether a value is what the standard allows; one that is not is left empty."""
    from pydicom.valuerep import DA, TM

    try:
        kind = {"StudyDate": DA, "PatientBirthDate": DA, "StudyTime": TM}.get(name)
        return kind is None or not value or kind(value) is not None
    except ValueError:
        return False


def _describe(ds: "Dataset", frame: int, patient: bool) -> "Dataset":
    """The plane of one frame as a dataset of its own, in which nothing else of the file is left."""
    from pydicom.dataset import Dataset
    from pydicom.valuerep import format_number_as_ds

    one = Dataset()
    if patient:
        one.SpecificCharacterSet = "ISO_IR 192"  # UTF-8: highdicom does not take all that files have
    for name in EMPTY:
        setattr(one, name, "")
    for tag in PATIENT_TAGS if patient else ():
        if tag in ds and _is_sound(ds[tag].keyword, str(ds[tag].value)):
            setattr(one, ds[tag].keyword, str(ds[tag].value))
    for name in (*REQUIRED, *KEPT):
        if ds.get(name) is not None:
            setattr(one, name, ds.get(name))
    if one.PatientSex not in ("", "F", "M", "O"):
        one.PatientSex = ""
    about = describe_frame(ds, frame, GROUPS)
    places = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6}
    for name, count in places.items():
        numbers = read_first(about, name, count)
        if numbers and all(map(math.isfinite, numbers)):
            setattr(one, name, [format_number_as_ds(number) for number in numbers])
    if spacing := read_sides(about, *SPACINGS):
        one.PixelSpacing = [format_number_as_ds(side) for side in spacing]
    if (thickness := read_number(about, "SliceThickness")) is not None and thickness > 0:
        one.SliceThickness = format_number_as_ds(thickness)
    return one
