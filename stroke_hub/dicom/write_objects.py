"""write_objects(): the answer for a scan as DICOM files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from stroke_hub.dicom.equipment import Equipment
from stroke_hub.dicom.key_objects import make_key_objects
from stroke_hub.dicom.parametric_map import make_parametric_map
from stroke_hub.dicom.secondary_capture import make_secondary_capture
from stroke_hub.dicom.sources import Source, check_places, read_sources
from stroke_hub.dicom.structured_report import make_structured_report
from stroke_hub.errors import RunError, StrokeHubError, UnreadableImage, printable
from stroke_hub.extras import name_extras
from stroke_hub.files import atomic_write
from stroke_hub.inference.scan_answer import ScanExplanation
from stroke_hub.io.quiet import silence
from stroke_hub.progress import track
from stroke_hub.scan.scan import Scan

if TYPE_CHECKING:
    from highdicom.base import SOPClass
    from pydicom.dataset import Dataset

__all__ = ["FILES", "FOLDER", "Kind", "choose_kinds", "prepare_sources", "write_objects"]

Kind = Literal["sc", "sr", "pm", "ko"]
FOLDER = "dicom"  # of an answer's files, in which they lie
FILES: dict[Kind, str] = {
    "sc": "secondary-capture.dcm",
    "sr": "structured-report.dcm",
    "pm": "parametric-map.dcm",
    "ko": "key-objects.dcm",
}


def choose_kinds(words: str) -> tuple[Kind, ...]:
    """Choose kinds of objects by a list with commas, as "sc,sr,pm,ko".

    Raises
    ------
    RunError : one of them is none.
    """
    kinds = [word.strip().lower() for word in words.split(",") if word.strip()]
    unknown = [kind for kind in kinds if kind not in get_args(Kind)]
    if unknown or not kinds:
        raise RunError(f"dicom is {printable(words)!r}; give some of {', '.join(get_args(Kind))}, with commas.")
    return tuple(cast(Kind, kind) for kind in dict.fromkeys(kinds))


def prepare_sources(scan: Scan, kinds: Sequence[Kind], *, patient: bool) -> list[Source]:
    """Read what the objects say of the scan's own instances, and check that each kind can be made.

    Parameters
    ----------
    patient : whether the objects repeat the fields of patient and study, so that a PACS files them beside the scan.
        Where it is False these fields are never read and stay empty, and the objects are a study of their own.
        References by UID are kept in both cases.

    Raises
    ------
    MissingExtra : highdicom is missing.
    UnreadableImage : the scan is not DICOM or lacks UIDs, or a parametric map is asked for and the files do not
        say where the slices lie.
    """
    with name_extras("Writing DICOM objects"):
        import highdicom  # noqa: F401  what needs it is imported where it is used
    sources = read_sources(scan, patient=patient)
    if "pm" in kinds:
        check_places(scan, sources)
    return sources


def write_objects(
    scan: Scan,
    explained: ScanExplanation,
    folder: Path,
    *,
    kinds: Sequence[Kind],
    model: Mapping[str, Any],
    patient: bool,
    sources: list[Source] | None = None,
) -> list[Path]:
    """Write the answer for a scan as DICOM objects into a folder that is there.

    Parameters
    ----------
    kinds : "sc" Secondary Capture (the contact sheet), "sr" Structured Report (the answer in numbers), "pm"
        Parametric Map (the evidence), "ko" Key Object Selection (the slices to look at). `FILES` has their names.
    model : what the objects say of the model: "name", "commit", "weights_sha256".
    patient, sources : as `prepare_sources` takes and gives them; it is called where they are None.

    Returns
    -------
    The files, in the order of `kinds`.

    Raises
    ------
    MissingExtra, UnreadableImage : as `prepare_sources`.
    """
    sources = prepare_sources(scan, kinds, patient=patient) if sources is None else sources
    equipment = Equipment(str(model["name"]), str(model.get("commit") or model["weights_sha256"]))
    answer = explained.prediction
    # what the scan's own remarks quote may be the words of its files
    remarks = [one for one in answer.remarks if patient or one not in scan.remarks]
    makers: dict[Kind, Callable[[], SOPClass]] = {
        "sc": lambda: make_secondary_capture(explained, sources, equipment),
        "sr": lambda: make_structured_report(answer, sources, equipment, remarks=remarks),
        "pm": lambda: make_parametric_map(explained, sources, equipment),
        "ko": lambda: make_key_objects(answer, sources, equipment),
    }
    written = []
    study = None
    for kind in track(kinds, "writing DICOM objects"):
        made = _make(scan, kind, makers[kind], sources[0])
        if not patient:
            study = _detach(made, study)
        with atomic_write(folder / FILES[kind]) as partial:
            made.save_as(partial, enforce_file_format=True)
        written.append(folder / FILES[kind])
    return written


def _make(scan: Scan, kind: Kind, make: Callable[[], "SOPClass"], source: Source) -> "Dataset":
    """Make an object while libraries say nothing: they complain of a patient's fields by repeating them."""
    with silence():
        try:
            made = make()
            made.copy_patient_and_study_information(source.dataset)  # not all classes of highdicom copy all of it
            return made
        except StrokeHubError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError):
            pass  # refused below, so that no text of the file hangs on it as a context
    raise UnreadableImage(f"{scan.source}: its headers do not allow the DICOM object {kind}; leave {kind} out.")


def _detach(made: "Dataset", study: str | None) -> str:
    """Make an object part of a study of its own, as it is of nobody; its references keep the study they are in."""
    from highdicom import UID
    from pydicom.dataset import Dataset

    if "ReferencedSeriesSequence" in made:  # these are in the object's own study, and this one is not
        other = Dataset()
        other.StudyInstanceUID = made.StudyInstanceUID
        other.ReferencedSeriesSequence = made.ReferencedSeriesSequence
        del made.ReferencedSeriesSequence
        made.StudiesContainingOtherReferencedInstancesSequence = [other]
    del made.StudyInstanceUID  # the element is the source's own, and setting its value would change both
    made.StudyInstanceUID = study or str(UID())
    return str(made.StudyInstanceUID)
