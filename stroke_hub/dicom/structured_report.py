"""The answer in numbers as a Structured Report: a Measurement Report, template TID 1500 of DICOM PS3.16."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stroke_hub.dicom.equipment import MANUFACTURER, NOTICE, SCHEME, Equipment, make_code
from stroke_hub.dicom.key_objects import find_key_slices
from stroke_hub.dicom.sources import Source
from stroke_hub.inference.scan_answer import ScanPrediction

if TYPE_CHECKING:
    from highdicom.sr import Comprehensive3DSR, MeasurementsAndQualitativeEvaluations

__all__ = ["make_structured_report"]


def make_structured_report(
    answer: ScanPrediction, sources: list[Source], equipment: Equipment, *, remarks: Sequence[str]
) -> "Comprehensive3DSR":
    """Make a report of the scan's probability and of the probability of each key slice, with references to them.

    The algorithm is the model by name and revision; the scan's has the rule as its parameter.

    Parameters
    ----------
    remarks : become comments, and so does that this is no medical device.
    """
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import (
        Comprehensive3DSR,
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
        RelationshipTypeValues,
        TextContentItem,
    )
    from pydicom.sr.codedict import codes

    about = equipment.begin_series(9002, "Stroke: report, research only")
    device = DeviceObserverIdentifyingAttributes(
        uid=about["sop_instance_uid"], name=MANUFACTURER, manufacturer_name=MANUFACTURER, model_name=equipment.label
    )
    whole = [sources[index] for index in answer.counted]
    groups = [_measure("Scan", answer.probability, answer.label, whole, equipment, answer.rule)]
    for index in find_key_slices(answer)[0]:
        name = f"Slice {index + 1} of {len(sources)}, counted from the foot"
        probability, label = float(answer.slices.probability[index]), answer.slices.label[index]
        groups.append(_measure(name, probability, label, [sources[index]], equipment))
    report = MeasurementReport(
        observation_context=ObservationContext(ObserverContext(codes.DCM.Device, device)),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
    )
    for words in (NOTICE, *remarks):
        report[0].ContentSequence.append(
            TextContentItem(codes.DCM.Comment, words, relationship_type=RelationshipTypeValues.CONTAINS)
        )
    return Comprehensive3DSR(
        evidence=[source.dataset for source in sources],
        content=report,
        is_complete=True,
        coding_schemes=[CodingSchemeIdentificationItem(SCHEME, name=MANUFACTURER)],
        **about,
    )


def _measure(
    name: str, probability: float, label: str, sources: list[Source], equipment: Equipment, rule: str = ""
) -> "MeasurementsAndQualitativeEvaluations":
    """One probability with its label, the slices it is of and the algorithm: a group of TID 1501."""
    from highdicom import UID
    from highdicom.sr import (
        AlgorithmIdentification,
        CodedConcept,
        FindingSite,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes

    algorithm = AlgorithmIdentification(
        name=equipment.label,
        version=equipment.revision,
        parameters=[f"Scan judged by {rule}"] if rule else None,
    )
    classes = {"Stroke": CodedConcept("230690007", "SCT", "Stroke"), "Normal": codes.SCT.Normal}
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(UID(), name),
        algorithm_id=algorithm,
        finding_sites=[FindingSite(codes.SCT.Brain)],
        # No finding is coded: a viewer might show it as found, however low the probability.
        measurements=[
            Measurement(make_code("probability", "Probability of stroke"), probability, codes.UCUM.NoUnits)
        ],
        qualitative_evaluations=[
            QualitativeEvaluation(make_code("class", "Class by the model's threshold"), classes[label])
        ],
        source_images=[
            SourceImageForMeasurementGroup(
                source.dataset.SOPClassUID,
                source.dataset.SOPInstanceUID,
                [source.frame] if source.frame else None,
            )
            for source in sources
        ],
    )
