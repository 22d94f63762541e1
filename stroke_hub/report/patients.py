"""What was found by patient and by scan, in plain sentences."""

from stroke_hub.metrics.patients import PatientCounts
from stroke_hub.report.formatting import say_interval
from stroke_hub.runs.report import Patients, Report

__all__ = ["describe_patients", "say_headline", "say_missed", "warn_of_contrast"]


def say_headline(report: Report) -> str | None:
    """Say in a sentence how many patients were missed, and how many were called by mistake."""
    patients = report.test["overall"].patients
    if patients is None or not patients.n:
        return None
    alone = " Each patient has one slice here." if patients.n == report.test["overall"].n else ""
    normal = patients.n - patients.n_stroke
    return _say(patients.n_stroke, patients.missed, patients.missed_called, normal, patients.false_called) + alone


def say_missed(counts: PatientCounts) -> str:
    """Say how many patients with stroke have no slice found, and how many of the others have a false call."""
    positive, missed, called = counts.positive, counts.missed, counts.called
    masks = (positive, missed, missed & called, ~positive, ~positive & called)
    return _say(*(int(mask.sum()) for mask in masks))


def _say(strokes: int, missed: int, missed_called: int, normals: int, false_called: int) -> str:
    words = []
    if strokes:
        words.append(f"{_count(missed, strokes)} with stroke {_have(missed)} no slice found")
    if missed_called:
        words[-1] += f" (of {missed_called} of them another slice is called Stroke)"
    if normals:
        who = "without" if words else "without stroke"
        words.append(f"{_count(false_called, normals)} {who} {_have(false_called)} a false call")
    return f"{'; '.join(words)}."


def _count(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} patient{'s' * (whole != 1)}"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def describe_patients(report: Report) -> list[str]:
    """Say what a report found by patient and by scan, each sentence made from its numbers."""
    patients = report.test["overall"].patients
    if patients is None or not patients.n:
        return []
    return [
        *_describe_calls(patients),
        *_describe_prevalence(patients),
        *_describe_scans(patients),
        *_describe_within(patients),
    ]


def _describe_calls(patients: Patients) -> list[str]:
    point, normal = patients.any_slice, patients.n - patients.n_stroke
    rates = []
    if patients.n_stroke:
        rates.append(f"sensitivity {say_interval(point.sensitivity)} of {patients.n_stroke} patients")
    if normal:
        rates.append(f"specificity {say_interval(point.specificity)} of {normal}")
    sentences = [f"A patient of whom any slice is called Stroke counts as called: {', '.join(rates)}."]
    if patients.mean_sensitivity.value is not None:
        sentences.append(
            f"Averaged over patients with stroke, {100 * patients.mean_sensitivity.value:.0f} of 100 of their "
            f"stroke slices are found ({say_interval(patients.mean_sensitivity)})."
        )
    if patients.false_calls.value is not None:
        sentences.append(
            f"A scan of a patient without stroke has {say_interval(patients.false_calls)} false calls."
        )
    return sentences


def _describe_prevalence(patients: Patients) -> list[str]:
    words = [
        f"{say_interval(values.ppv)} where {100 * float(prevalence):.0f} % are"
        for prevalence, values in patients.any_slice.at_prevalence.items()
        if values.ppv.low is not None
    ]
    if not words:
        return []
    return [
        "How far a called patient can be trusted depends on the share of patients with stroke "
        f"({100 * patients.n_stroke / patients.n:.0f} % here): the share of called patients who have one is "
        f"{', '.join(words)}."
    ]


def _describe_scans(patients: Patients) -> list[str]:
    known = [rule for rule in patients.rules if rule.auroc.value is not None]
    if not known:
        return []
    unit = f"{patients.scans} scans" if patients.scans != patients.n else f"{patients.n} patients"
    rules = "; ".join(f"by {rule.words} {say_interval(rule.auroc)}" for rule in known)
    return [f"AUROC of {unit}: {rules}."]


def _describe_within(patients: Patients) -> list[str]:
    within = patients.within
    if within is None:
        return []
    return [
        f"{patients.n_mixed} patients have slices of both classes: among these slices the AUROC is "
        f"{say_interval(within.pooled)}, and {say_interval(within.mean)} on average within one patient."
    ]


def warn_of_contrast(report: Report) -> list[str]:
    """Say where no patient has slices of both classes, so that what differs between patients may give the class."""
    patients = report.test["overall"].patients
    if patients is None or patients.n_mixed or not 0 < patients.n_stroke < patients.n:
        return []
    return [
        "No patient here has slices of both classes: the slice's height, the scanner or the number of slices may "
        "give the class away. That the model tells a lesion from the rest of the same brain was not tested."
    ]
