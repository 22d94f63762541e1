"""The contact sheet as a Secondary Capture: a picture that every viewer shows."""

from typing import TYPE_CHECKING

import numpy as np

from stroke_hub.dicom.equipment import Equipment
from stroke_hub.dicom.sources import Source
from stroke_hub.inference.scan_answer import SHOWN_SLICES, ScanExplanation

if TYPE_CHECKING:
    from highdicom.sc import SCImage

__all__ = ["make_secondary_capture"]


def make_secondary_capture(explained: ScanExplanation, sources: list[Source], equipment: Equipment) -> "SCImage":
    """Make a Secondary Capture of the contact sheet, which refers to the slices that it shows."""
    from highdicom.sc import SCImage
    from pydicom.dataset import Dataset
    from pydicom.uid import ExplicitVRLittleEndian

    made = SCImage.from_ref_dataset(
        sources[0].dataset,
        np.asarray(explained.contact_sheet()),
        "RGB",
        8,
        "PATIENT",
        patient_orientation=("L", "P"),  # of each slice on the sheet
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set=sources[0].dataset.get("SpecificCharacterSet"),
        **equipment.begin_series(9001, "Stroke: contact sheet, research only"),
    )
    made.BodyPartExamined = "HEAD"
    made.BurnedInAnnotation = "NO"  # its text is the answer; nothing in it identifies a patient
    made.SourceImageSequence = []
    for index in explained.prediction.counted[:SHOWN_SLICES]:
        reference = Dataset()
        reference.ReferencedSOPClassUID = sources[index].dataset.SOPClassUID
        reference.ReferencedSOPInstanceUID = sources[index].dataset.SOPInstanceUID
        if sources[index].frame:
            reference.ReferencedFrameNumber = sources[index].frame
        made.SourceImageSequence.append(reference)
    return made
