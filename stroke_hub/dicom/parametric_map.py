"""The evidence as a Parametric Map: a frame for each slice, in log-odds, exactly where the slice lies."""

from typing import TYPE_CHECKING

import numpy as np

from stroke_hub.dicom.equipment import Equipment
from stroke_hub.dicom.sources import Source
from stroke_hub.inference.scan_answer import ScanExplanation

if TYPE_CHECKING:
    from highdicom.pm import ParametricMap
    from pydicom.dataset import Dataset

__all__ = ["make_parametric_map"]

PLANE = "1.2.840.10008.5.1.4.1.1.2"  # CT Image Storage: the class of one plane, as which all are described


def make_parametric_map(explained: ScanExplanation, sources: list[Source], equipment: Equipment) -> "ParametricMap":
    """Make a Parametric Map of the evidence, float32, each frame in the geometry of its own slice.

    Parameters
    ----------
    sources : that `check_places` accepts.
    """
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from pydicom.sr.codedict import codes
    from pydicom.valuerep import format_number_as_ds

    pixels = np.ascontiguousarray(explained.evidence.transpose(2, 1, 0))  # slices, rows, columns as stored
    strongest = float(np.abs(pixels).max()) or 1.0
    mapping = RealWorldValueMapping(
        lut_label="log-odds",
        lut_explanation="Evidence for Stroke, log-odds per voxel",
        unit=codes.UCUM.NoUnits,
        value_range=(-strongest, strongest),
        quantity_definition=codes.DCM.Saliency,
    )
    planes = [_describe_plane(source.dataset, sources[0].dataset) for source in sources]
    window = VOILUTTransformation(
        window_center=0,
        window_width=float(format_number_as_ds(2 * strongest)),
        voi_lut_function="LINEAR_EXACT",  # LINEAR has no width below 1
    )
    made = ParametricMap(
        planes,
        pixels,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[window],
        content_label="STROKE_EVIDENCE",
        content_description="Evidence for Stroke in log-odds, research only",
        **equipment.begin_series(9003, "Stroke: evidence, research only"),
    )
    made.BodyPartExamined, made.ContentCreatorName = "HEAD", ""
    made.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_name_brain()]
    _order(made)
    _refer(made, {str(plane.SOPInstanceUID): source for plane, source in zip(planes, sources, strict=True)})
    return made


def _describe_plane(ds: "Dataset", first: "Dataset") -> "Dataset":
    """A slice as an image of one frame with its own UID: highdicom takes one file of frames, or many of one."""
    from copy import deepcopy

    from highdicom import UID

    plane = deepcopy(ds)  # a shallow copy would share its elements
    plane.SOPClassUID, plane.SOPInstanceUID = PLANE, UID()
    plane.ImageOrientationPatient = first.ImageOrientationPatient  # equal but for their last digits
    return plane


def _order(made: "ParametricMap") -> None:
    """Let the frames follow the normal of the slices. highdicom turns them the other way, and dcmqi, by which
    3D Slicer reads maps, takes them as they come: it would show the evidence of the foot at the head.
    """
    frames = list(made.PerFrameFunctionalGroupsSequence)
    directions = np.reshape(
        made.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0][0x00200037].value, (2, 3)
    )
    ends = [frames[place].PlanePositionSequence[0].ImagePositionPatient for place in (0, -1)]
    if np.cross(*directions) @ np.subtract(ends[1], ends[0]) >= 0:
        return
    for number, frame in enumerate(reversed(frames), start=1):
        frame.FrameContentSequence[0].DimensionIndexValues = [number]
    made.PerFrameFunctionalGroupsSequence = frames[::-1]
    pixels = np.frombuffer(made.FloatPixelData, "<f4").reshape(len(frames), -1)
    made.FloatPixelData = np.ascontiguousarray(pixels[::-1]).tobytes()


def _name_brain() -> "Dataset":
    """The frame anatomy, without which some readers fail."""
    from highdicom.sr import CodedConcept
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes

    anatomy = Dataset()
    anatomy.FrameLaterality = "U"  # not one of a pair
    anatomy.AnatomicRegionSequence = [CodedConcept.from_code(codes.SCT.Brain)]
    return anatomy


def _refer(made: "ParametricMap", sources: dict[str, Source]) -> None:
    """Refer to the instances and frames themselves, in place of the planes that stood for them."""
    from pydicom.dataset import Dataset

    instances: dict[str, Dataset] = {}
    for source in sources.values():
        one = Dataset()
        one.ReferencedSOPClassUID = source.dataset.SOPClassUID
        one.ReferencedSOPInstanceUID = source.dataset.SOPInstanceUID
        instances[str(one.ReferencedSOPInstanceUID)] = one
    made.SourceImageSequence = list(instances.values())
    made.ReferencedSeriesSequence[0].ReferencedInstanceSequence = list(instances.values())
    for frame in made.PerFrameFunctionalGroupsSequence:
        item = frame.DerivationImageSequence[0].SourceImageSequence[0]
        source = sources[str(item.ReferencedSOPInstanceUID)]
        item.ReferencedSOPClassUID = source.dataset.SOPClassUID
        item.ReferencedSOPInstanceUID = source.dataset.SOPInstanceUID
        if source.frame:
            item.ReferencedFrameNumber = source.frame
