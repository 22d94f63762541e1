"""The slices to look at first, as a Key Object Selection."""

from typing import TYPE_CHECKING

from stroke_hub.dicom.equipment import MANUFACTURER, NOTICE, Equipment
from stroke_hub.dicom.sources import Source
from stroke_hub.inference.scan_answer import ScanPrediction

if TYPE_CHECKING:
    from highdicom.ko import KeyObjectSelectionDocument

__all__ = ["find_key_slices", "make_key_objects"]

CALLED = "Slices that the model calls Stroke, the highest probability first."
HIGHEST = "The model calls no slice Stroke; these have the highest probability, the highest first."


def find_key_slices(answer: ScanPrediction) -> tuple[list[int], str]:
    """Find the slices called Stroke, the highest first, or else those that count; and say in a sentence which."""
    called = [index for index in answer.ranked if answer.slices.label[index] == "Stroke"]
    return (called, CALLED) if called else (answer.counted, HIGHEST)


def make_key_objects(
    answer: ScanPrediction, sources: list[Source], equipment: Equipment
) -> "KeyObjectSelectionDocument":
    """Make a Key Object Selection of the slices that are called Stroke, or else of the highest."""
    from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
    from pydicom.sr.codedict import codes

    indices, words = find_key_slices(answer)
    about = equipment.begin_series(9004, "Stroke: key slices, research only")
    device = DeviceObserverIdentifyingAttributes(
        uid=about["sop_instance_uid"], name=MANUFACTURER, manufacturer_name=MANUFACTURER, model_name=equipment.label
    )
    found = {(sources[i].dataset.SOPInstanceUID, sources[i].frame): sources[i] for i in indices}  # a mosaic is one
    content = KeyObjectSelection(
        document_title=codes.DCM.OfInterest,
        referenced_objects=[source.dataset for source in found.values()],
        observer_device_context=ObserverContext(codes.DCM.Device, device),
        description=f"{words} {NOTICE}",
    )
    for item, source in zip(content.get_references(), found.values(), strict=True):
        if source.frame:
            item.ReferencedSOPSequence[0].ReferencedFrameNumber = source.frame
    return KeyObjectSelectionDocument(
        evidence=[source.dataset for source in found.values()], content=content, **about
    )
