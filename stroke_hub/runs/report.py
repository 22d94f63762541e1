"""report.json as a tree of typed records, read from a run folder or from the Hub."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.dataclasses import dataclass

from stroke_hub.errors import HubError, ModelFormatError, RunError, printable
from stroke_hub.models.download import download
from stroke_hub.models.sample import locate_model

__all__ = [
    "PARTS",
    "REPORT_FILE",
    "SCHEMA_VERSION",
    "Baseline",
    "Bin",
    "CalibrationErrors",
    "Confusion",
    "Curve",
    "DeLong",
    "Interval",
    "Localisation",
    "NetBenefit",
    "NoiseFloor",
    "Part",
    "Participants",
    "Patient",
    "Patients",
    "Recalibration",
    "Report",
    "Spread",
    "Subgroup",
    "Trainings",
    "find_report",
    "read_report",
]

REPORT_FILE = "report.json"
PARTS = ("overall", "BT", "MR")
SCHEMA_VERSION = 2
STRICT = ConfigDict(strict=True, allow_inf_nan=False)  # no text for a number, no NaN
AGAIN = "evaluate the run again"


def _require(*names: str) -> AfterValidator:
    """Refuse a dictionary by name that lacks one of these names."""

    def check(found: dict[str, Any]) -> dict[str, Any]:
        if missing := [name for name in names if name not in found]:
            raise ValueError(f"lacks {', '.join(missing)}")
        return found

    return AfterValidator(check)


class _Record:
    """What all records share: keys that may be missing are written only where they hold something."""

    def _list_missing(self) -> set[str]:
        """List the keys that are not written."""
        return {key for key in ("undefined",) if getattr(self, key, None) is None}

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        missing = self._list_missing()
        return {key: value for key, value in write(self).items() if key not in missing}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Interval(_Record):
    """A figure with its 95 % interval over whole groups (`stroke_hub/metrics/intervals.py`).

    value : the figure, on the slices as they are.
    low, high : the limits of the interval.
    method : how the interval was made.
    groups : how many groups bear on the figure.
    replicates : how many resamples define it; 0 where the method does not resample.
    left_out : how many do not, because a class is missing.
    undefined : why there is no value or no interval.
    """

    value: float | None
    low: float | None
    high: float | None
    method: str
    groups: int
    replicates: int
    left_out: int
    undefined: str | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DeLong(_Record):
    """DeLong's interval of the AUROC, which takes slices for independent: a check on the bootstrap.

    value : the AUROC.
    low, high : the limits of the interval.
    method : "DeLong, logit".
    undefined : why there is no interval.
    """

    value: float | None
    low: float | None
    high: float | None
    method: str
    undefined: str | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClassCounts(_Record):
    """How many slices of each class a part has.

    normal, stroke : slices.
    """

    normal: int
    stroke: int


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PatientCounts(_Record):
    """How many slices and patients a part has.

    slices, stroke_slices : all, and those with stroke.
    patients, stroke_patients : all, and those with a stroke slice.
    mixed_patients : those who have slices of both classes.
    """

    slices: int
    stroke_slices: int
    patients: int
    stroke_patients: int
    mixed_patients: int


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LeftOut(_Record):
    """What was left out of a dataset for one reason.

    reason : the reason in words.
    slices : how many slices, or files that were taken for none.
    patients : of how many patients no slice is left.
    """

    reason: str
    slices: int
    patients: int


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Participants(_Record):
    """The flow of participants, from what was found to the parts; a patient is a group.

    slices, patients : what was found; `null` where `left_out` is.
    left_out : what was left out, in order; `null` where the run folder does not say.
    parts : what each part (`train`, `val`, `test`) has in the end; of a model from elsewhere, the measured one.
    """

    slices: int | None
    patients: int | None
    left_out: list[LeftOut] | None
    parts: dict[str, PatientCounts]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data(_Record):
    """The dataset that was measured on.

    name : what the dataset is called.
    note : what the data stand for: "simulated slices, not patients".
    sha256 : of every row and byte that was trained and measured on.
    split : which part of the dataset was measured.
    notes : sentences on the dataset.
    options : as they were given: of a run `--drop-leaks` and `--split-file`, and those that make slices of scans.
    slices : of a run, the slices of each part (`train`, `val`, `test`).
    groups : of a run, how many groups each part has.
    measured_sha256 : of the slices measured alone: path, label, modality, bytes.
    participants : from what was found to what was measured; missing in reports written before it was counted.
    """

    name: str
    note: str
    sha256: str | None
    split: str
    notes: list[str]
    options: list[str] | None = None
    slices: Annotated[dict[str, ClassCounts], _require("train", "val", "test")] | None = None
    groups: dict[str, int] | None = None
    measured_sha256: str | None = None
    participants: Participants | None = None

    def _list_missing(self) -> set[str]:
        keys = ("options", "slices", "groups", "measured_sha256", "participants")
        return {key for key in keys if getattr(self, key) is None}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Model(_Record):
    """The model that was measured.

    source : the folder or the Hub repository of a model that came from elsewhere.
    revision : its commit on the Hub.
    weights_sha256 : of the weights, as float32.
    cnn, vit : the architectures of the two branches, as timm names them.
    image_size : pixels a side of the square that the model sees.
    resize : how a slice becomes that square: "pad" or "stretch".
    parameters : how many the model has.
    temperature : divides the log-odds.
    threshold : the probability from which a slice is called Stroke.
    operating_point : which operating point that threshold is.
    """

    source: str | None
    revision: str | None
    weights_sha256: str | None
    cnn: str
    vit: str
    image_size: int
    resize: str
    parameters: int
    temperature: float
    threshold: float
    operating_point: str | None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Epoch(_Record):
    """An epoch of the training.

    epoch : from 1.
    train_loss, val_loss : mean cross-entropy on the training and the validation slices.
    val_accuracy, val_auroc : on the validation slices.
    """

    epoch: int
    train_loss: float | None
    val_loss: float | None
    val_accuracy: float | None
    val_auroc: float | None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Source(_Record):
    """The data that a model from elsewhere was trained on, as its own report has them.

    name, note, sha256 : as in `data`.
    """

    name: str
    note: str
    sha256: str | None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Finding(_Record):
    """A finding of the leakage audit.

    level : "error", "warning" or "note".
    sentence : what was found.
    counts : the numbers of the sentence.
    """

    level: str
    sentence: str
    counts: dict[str, float | int]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Audit(_Record):
    """The leakage audit of the run folder: audit.json, as `stroke_hub/audit/findings.py` writes it.

    version : of audit.json.
    dataset : what was looked at.
    counts : slices and groups, by part.
    calibration : how the threshold of near-duplicates was set.
    duplicates : pairs, by the parts that they lie in.
    leaks : what stands on both sides of the split.
    scans : counts of whole scans by what is wrong with them; missing where the dataset names none.
    findings : the findings, worst first.
    """

    version: int
    dataset: dict[str, Any]
    counts: dict[str, Any]
    calibration: dict[str, Any]
    duplicates: dict[str, Any]
    leaks: dict[str, Any]
    scans: dict[str, int] | None = None
    findings: list[Finding]

    def _list_missing(self) -> set[str]:
        return {key for key in ("scans",) if self.scans is None}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Calibration(_Record):
    """What the validation slices decided of the probabilities.

    method : "platt", "temperature" or "none".
    temperature : divides the log-odds.
    shift : in log-odds, folded into the bias of the head.
    fitted_on : "val".
    n, n_stroke, groups : how many slices, stroke slices and groups it was fitted on.
    """

    method: str | None
    temperature: float
    shift: float
    fitted_on: str
    n: int
    n_stroke: int
    groups: int


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OperatingPoint(_Record):
    """A threshold, and the rule that chose it.

    threshold : a probability; `null` where no probability serves.
    chosen_on : "fixed" or "val".
    words : the rule in words.
    val_sensitivity, val_specificity : what it gave on the validation slices; missing where there were none.
    undefined : why there is no threshold.
    """

    threshold: float | None
    chosen_on: str
    words: str
    val_sensitivity: float | None = None
    val_specificity: float | None = None
    undefined: str | None = None

    def _list_missing(self) -> set[str]:
        keys = ("val_sensitivity", "val_specificity", "undefined")
        return {key for key in keys if getattr(self, key) is None}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Confusion(_Record):
    """Slices by truth and call at the model's threshold.

    tp, tn, fp, fn : true and false positives and negatives.
    """

    tp: int
    tn: int
    fp: int
    fn: int


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClassScores(_Record):
    """The figures of one class.

    precision : how many of the slices called so are so.
    recall : how many of the slices that are so are called so.
    f1_score : the harmonic mean of both; its interval is `intervals.f1`, of the class Normal `intervals.f1_normal`.
    support : how many slices are so.
    """

    precision: float | None
    recall: float | None
    f1_score: float | None = Field(validation_alias="f1-score", serialization_alias="f1-score")
    support: int


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PredictiveValues(_Record):
    """PPV and NPV at a prevalence, by Bayes' theorem from the intervals of sensitivity and specificity.

    ppv, npv : intervals.
    """

    ppv: Interval
    npv: Interval


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MeasuredPoint(_Record):
    """An operating point, measured on a part.

    threshold : a probability.
    sensitivity, specificity, ppv, npv : intervals at that threshold.
    at_prevalence : of slices; in reports written before patients were measured.
    """

    threshold: float
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    npv: Interval
    at_prevalence: dict[str, PredictiveValues] | None = None

    def _list_missing(self) -> set[str]:
        return {"at_prevalence"} if self.at_prevalence is None else set()


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Brier(_Record):
    """The Brier score and what it is made of.

    score : the mean squared error of the probabilities.
    reliability, resolution, uncertainty : Murphy's parts (1973).
    within_bin_variance, within_bin_covariance : what binning loses (Stephenson, Coelho and Jolliffe, 2008).
    """

    score: float | None
    reliability: float | None
    resolution: float | None
    uncertainty: float | None
    within_bin_variance: float | None
    within_bin_covariance: float | None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Bin(_Record):
    """A bin of the reliability diagram that is not empty.

    low, high : its edges.
    n : slices in it.
    mean_probability : their mean probability of Stroke.
    stroke_share : their share of strokes.
    share_low, share_high : its 95 % interval over groups; `null` where too few groups bound nothing.
    groups : how many groups have a slice in it; missing in older reports, whose intervals took slices for
        independent.
    """

    low: float
    high: float
    n: int
    mean_probability: float
    stroke_share: float
    share_low: float | None
    share_high: float | None
    groups: int | None = None

    def _list_missing(self) -> set[str]:
        return super()._list_missing() | ({"groups"} if self.groups is None else set())


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NoiseFloor(_Record):
    """The calibration error that a perfectly calibrated model with the same probabilities would show.

    mean, high : its mean and its 95 % point over draws of the labels, each slice for itself.
    draws : how many.
    """

    mean: float | None
    high: float | None
    draws: int


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recalibration(_Record):
    """Calibration error, slope and intercept with intervals, and the noise floor of the error.

    ece : the expected calibration error of 10 bins.
    slope : of logistic recalibration (Cox, 1958): 1 is right, less is overconfident.
    intercept : in log-odds, with the slope held at 1: 0 is right, more is that strokes are more frequent than
        stated.
    floor : of the calibration error.
    """

    ece: Interval
    slope: Interval
    intercept: Interval
    floor: NoiseFloor


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CalibrationError(_Record):
    """How far stated probabilities are from the share of strokes, in 10 bins.

    ece : the expected calibration error.
    log_loss : the mean cross-entropy; `null` where a wrong answer was given as certain.
    brier : the Brier score and its parts.
    bins : the bins that are not empty.
    recalibration : error, slope and intercept with intervals; missing in reports written before there was one.
    """

    ece: float | None
    log_loss: float | None
    brier: Brier
    bins: list[Bin]
    recalibration: Recalibration | None = None

    def _list_missing(self) -> set[str]:
        return super()._list_missing() | ({"recalibration"} if self.recalibration is None else set())


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CalibrationErrors(_Record):
    """Calibration without and with temperature and shift.

    before, after : as trained, and as the model answers.
    """

    before: CalibrationError
    after: CalibrationError


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NetBenefit(_Record):
    """The decision curve (Vickers and Elkin, 2006).

    threshold : probabilities that somebody would choose, 0.05 to 0.50; in older reports 0.01 to 0.99.
    model, treat_all : the net benefit of the model and of acting on every slice, at each threshold.
    low, high : the 95 % interval of the model's, at each threshold; empty in older reports.
    gain, gain_low, gain_high : the model's less that of acting on every slice or on none, whichever is more.
    """

    threshold: list[float]
    model: list[float]
    treat_all: list[float]
    low: list[float | None] = Field(default_factory=list)
    high: list[float | None] = Field(default_factory=list)
    gain: list[float] = Field(default_factory=list)
    gain_low: list[float | None] = Field(default_factory=list)
    gain_high: list[float | None] = Field(default_factory=list)

    def _list_missing(self) -> set[str]:
        keys = ("low", "high", "gain", "gain_low", "gain_high")
        return super()._list_missing() | (set() if self.gain else set(keys))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PatientPoint(_Record):
    """An operating point, measured by patient: positive is of whom any slice is called Stroke.

    threshold : a probability.
    sensitivity, specificity : exact intervals over patients.
    at_prevalence : by prevalence of patients with stroke ("0.05", "0.2", "0.5").
    """

    threshold: float
    sensitivity: Interval
    specificity: Interval
    at_prevalence: dict[str, PredictiveValues]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScanRule(_Record):
    """A rule from slices to a scan, measured on scans.

    name : of the rule (`maximum`, `highest3`; `own`: how the model answers for a scan).
    words : what it judges a scan by.
    auroc : of scans, with its interval over patients.
    """

    name: str
    words: str
    auroc: Interval


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Within(_Record):
    """How slices of patients with both classes are told apart.

    slices, stroke_slices : of these patients.
    pooled : the AUROC of all these slices together.
    mean : the mean over these patients of the AUROC among the slices of each.
    """

    slices: int
    stroke_slices: int
    pooled: Interval
    mean: Interval


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Patients(_Record):
    """The figures of a part by patient and by scan; a patient is a group.

    n, n_stroke : how many patients, and how many with a stroke slice.
    n_mixed : how many have slices of both classes.
    scans, stroke_scans : how many scans, and how many with a stroke slice; a patient without scans is one.
    missed : patients with stroke of whom no stroke slice is found, at the model's threshold.
    missed_called : those of them of whom another slice is called Stroke.
    false_called : patients without stroke who have a false call.
    any_slice : calls of patients at the model's threshold.
    mean_sensitivity : the mean over patients with stroke of the share of their stroke slices found.
    false_calls : false calls for each scan of patients without stroke.
    operating_points : by name, those that have a threshold.
    rules : from slices to a scan.
    within : of patients with both classes; `null` where there are none.
    """

    n: int
    n_stroke: int
    n_mixed: int
    scans: int
    stroke_scans: int
    missed: int
    missed_called: int
    false_called: int
    any_slice: PatientPoint
    mean_sensitivity: Interval
    false_calls: Interval
    operating_points: dict[str, PatientPoint]
    rules: list[ScanRule]
    within: Within | None


EMPTY: dict[str, Any] = {  # the keys that a part without slices lacks, and what its readers get
    "auroc": None,
    "average_precision": None,
    "confusion": {"tp": 0, "tn": 0, "fp": 0, "fn": 0},
    "classes": {},
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Part(_Record):
    """The figures of all test slices, or of one modality's; without a slice, `auroc` to `classes` are missing.

    n, n_stroke : how many slices, and how many with stroke.
    threshold : the probability from which a slice was called Stroke.
    accuracy, auroc, average_precision : the figures.
    confusion : slices by truth and call.
    classes : by class ("Normal", "Stroke").
    undefined : why something here is `null`.
    groups : how many groups.
    intervals : of `accuracy`, `sensitivity`, `specificity`, `ppv`, `npv`, `auroc`, `average_precision`, `brier`, at
        `threshold`; `f1` and `f1_normal`, of the two classes, are missing in older reports.
    delong : another interval of the AUROC.
    operating_points : by name, those that have a threshold.
    calibration : of the probabilities, before and after.
    net_benefit : the decision curve.
    patients : the figures by patient and by scan; missing in reports written before they were measured.
    """

    n: int
    n_stroke: int
    threshold: float
    accuracy: float | None
    auroc: float | None
    average_precision: float | None
    confusion: Confusion
    classes: dict[str, ClassScores]
    undefined: str | None = None
    groups: int
    intervals: Annotated[
        dict[str, Interval],
        _require("accuracy", "sensitivity", "specificity", "ppv", "npv", "auroc", "average_precision", "brier"),
    ]
    delong: DeLong
    operating_points: dict[str, MeasuredPoint]
    calibration: CalibrationErrors
    net_benefit: NetBenefit
    patients: Patients | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, found: Any) -> Any:
        return EMPTY | found if isinstance(found, dict) and found.get("n") == 0 else found

    def _list_missing(self) -> set[str]:
        missing = {"patients"} if self.patients is None else set()
        return super()._list_missing() | missing | (set() if self.n else EMPTY.keys())


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Subgroup(_Record):
    """The slices with one value in one column, at the model's threshold.

    column, value : what they share.
    n, n_stroke, groups : how many slices, stroke slices and groups.
    auroc, sensitivity, specificity : intervals.
    """

    column: str
    value: str
    n: int
    n_stroke: int
    groups: int
    auroc: Interval
    sensitivity: Interval
    specificity: Interval


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Misclassified(_Record):
    """A misclassified slice.

    path, group, modality : which slice it is.
    truth, predicted : "Normal" or "Stroke".
    probability : of Stroke.
    confidence : the probability of what was predicted.
    """

    path: str
    group: str
    modality: str | None
    truth: str
    predicted: str
    probability: float
    confidence: float


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Patient(_Record):
    """A patient of the test: what was found of it at the model's threshold.

    patient : the group.
    slices, stroke_slices : how many it has.
    found : how many of the stroke slices are called Stroke.
    false_calls : how many of the others are.
    probability : the highest of its slices.
    path : the slice that has it.
    """

    patient: str
    slices: int
    stroke_slices: int
    found: int
    false_calls: int
    probability: float
    path: str


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Curve(_Record):
    """The ROC and the precision-recall curve of a part; empty where one class is missing.

    fpr, tpr : false and true positive rates.
    precision, recall : the other curve.
    """

    fpr: list[float]
    tpr: list[float]
    precision: list[float]
    recall: list[float]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Difference(_Record):
    """The model's figures minus a baseline's, over the same resamples.

    auroc, accuracy : intervals.
    """

    auroc: Interval
    accuracy: Interval


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScanDifference(_Record):
    """A baseline by scan, and the model's figure minus that, over the same resamples.

    name : of the rule from slices to a scan.
    auroc, difference : intervals over patients.
    """

    name: str
    auroc: Interval
    difference: Interval


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Baseline(_Record):
    """What a simple rule, or a branch alone, reaches on the same slices.

    name : of the baseline.
    words : what it is.
    auroc, accuracy : intervals.
    difference : the model's figures minus these.
    net_benefit : at the thresholds of `test.overall.net_benefit`; missing in older reports.
    undefined : why there are none.
    scans : the same by scan, a rule each; missing in reports written before they were measured.
    within : of patients with both classes; missing where there are none.
    """

    name: str
    words: str
    auroc: Interval | None
    accuracy: Interval | None
    difference: Difference | None
    net_benefit: list[float] | None = None
    undefined: str | None = None
    scans: list[ScanDifference] | None = None
    within: Within | None = None

    def _list_missing(self) -> set[str]:
        keys = ("undefined", "net_benefit", "scans", "within")
        return {key for key in keys if getattr(self, key) is None}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RandomLabels(_Record):
    """The control: a probe on random labels, which must know nothing.

    shuffles : how often labels were drawn.
    aurocs : of each draw.
    mean : of these.
    low, high : the 95 % interval of that mean.
    true_labels : the AUROC of the same probe on the true labels.
    words : the control in words.
    """

    shuffles: int
    aurocs: list[float]
    mean: float | None
    low: float | None
    high: float | None
    true_labels: float | None
    words: str


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Half(_Record):
    """What storing the weights as float16 changes on the test slices.

    max_probability_change : the largest change of a probability.
    """

    max_probability_change: float


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Novelty(_Record):
    """How many test slices the model calls unlike those it was trained on.

    limit : the model's, of the distance to the training slices.
    median : the median distance.
    unusual : how many slices lie beyond the limit, or are blank.
    share : their share.
    """

    limit: float
    median: float
    unusual: int
    share: float


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Spread(_Record):
    """A figure in several trainings that differ in their seed alone.

    values : of each training, in the order of the seeds; `null` where it is undefined.
    mean, lowest, highest : of those that are defined.
    """

    values: list[float | None]
    mean: float | None
    lowest: float | None
    highest: float | None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Trainings(_Record):
    """Several trainings of one configuration on the same slices; the first of them is the model of this report.

    seeds : of each training; a seed decides the validation split, the first weights, the order, the augmentation.
    weights_sha256 : of the weights of each.
    test : by part that has slices, and by the names of `intervals`; rates are at each model's own threshold.
    """

    seeds: list[int]
    weights_sha256: list[str]
    test: dict[str, dict[str, Spread]]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Localisation(_Record):
    """How well maps show where a lesion is, on the stroke slices that have a lesion mask.

    n_stroke : stroke slices that were measured on.
    n, groups : those with a mask, and their groups; of more than 500, 500 were taken evenly.
    controls : by measure, which map that knows no model reaches most.
    measures : by measure (`pointing`, `pointing_inside`, `mass`, `rank`, `dice`), the means of the maps (`cnn`,
        `vit`, `fused`) and of that control (`control`), in [0, 1], more is better.
    """

    n_stroke: int
    n: int
    groups: int
    controls: dict[str, str]
    measures: Annotated[
        dict[str, Annotated[dict[str, Interval], _require("cnn", "vit", "fused", "control")]], _require("pointing")
    ]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Report(_Record):
    """The whole of report.json.

    schema_version : the version of this page.
    stroke_hub : the version of the package.
    data : what was measured on.
    model : what was measured.
    training : the resolved configuration by option, `best_epoch` and `best_val_auroc`; `null` where the model came
        from elsewhere.
    history : an epoch each.
    trained_on : of a model from elsewhere that has a report.
    audit : of the run folder.
    calibration : of the probabilities.
    unit : "slice".
    operating_points : by name (`half`, `youden`, `sensitivity95`, `specificity95`).
    test : by part: `overall`, `BT`, `MR`.
    subgroups : by column and value.
    errors : misclassified slices, most confident first.
    curves : by part.
    baselines : simple rules and single branches.
    random_labels : the control.
    half : what float16 changes.
    novelty : unusual slices; `null` where the model has no limit; missing in reports written before there was one.
    localisation : how well maps show where a lesion is; missing where no stroke slice has a lesion mask.
    trainings : the spread between trainings; missing where there was one alone.
    words : the report in plain sentences, each made from the numbers above.
    warnings : sentences that a reader must not miss.
    headline : what was found by patient, in a sentence; missing in reports written before it was there.
    patients : a line each: first those with stroke, least found first, then those with most false calls; missing in
        reports written before it was there.
    software : the version of Python and of each package that computes, by name; missing in reports written before
        it was there.
    """

    schema_version: Literal[2]
    stroke_hub: str
    data: Data
    model: Model
    training: dict[str, Any] | None
    history: list[Epoch] | None
    trained_on: Source | None
    audit: Audit | None
    calibration: Calibration | None
    unit: str
    operating_points: dict[str, OperatingPoint]
    test: Annotated[dict[str, Part], _require(*PARTS)]
    subgroups: list[Subgroup]
    errors: list[Misclassified]
    curves: Annotated[dict[str, Curve], _require(*PARTS)]
    baselines: list[Baseline]
    random_labels: RandomLabels | None
    half: Half
    novelty: Novelty | None = None
    localisation: Localisation | None = None
    trainings: Trainings | None = None
    words: list[str]
    warnings: list[str]
    headline: str | None = None
    patients: list[Patient] | None = None
    software: dict[str, str] | None = None

    def _list_missing(self) -> set[str]:
        keys = ("localisation", "trainings", "headline", "patients", "software")
        return {key for key in keys if getattr(self, key) is None}

    @classmethod
    def from_json(cls, text: str | bytes) -> "Report":
        """Read the text of report.json.

        Raises
        ------
        RunError : a key is missing or of a wrong type, or the schema version is another.
        """
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise RunError(f"{REPORT_FILE}: is not JSON; {AGAIN}.")
        key = printable(".".join(str(name) for name in first["loc"]))
        if key == "schema_version":
            raise RunError(f"{REPORT_FILE}: is not of schema version {SCHEMA_VERSION}; delete it and {AGAIN}.")
        wrong = "is missing" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
        raise RunError(f"{REPORT_FILE}: is not whole ({key or 'all of it'}: {wrong}); {AGAIN}.")

    def to_json(self) -> str:
        """Write the text of report.json: the same report gives the same bytes."""
        found = TypeAdapter(Report).dump_python(self, by_alias=True)
        return json.dumps(found, indent=2, allow_nan=False) + "\n"


def read_report(run_dir: str | Path) -> Report:
    """Read the report of an evaluated folder.

    Raises
    ------
    RunError : there is none, or it is damaged or of another schema version.
    """
    file = Path(run_dir) / REPORT_FILE
    try:
        return Report.from_json(file.read_bytes())
    except FileNotFoundError:
        raise RunError(
            f"{run_dir}: has no {REPORT_FILE}, so it is not an evaluated run; evaluate it first."
        ) from None
    except OSError:
        raise RunError(f"{file}: cannot be read; {AGAIN}.") from None
    except RunError as error:
        raise RunError(f"{run_dir}/{error}") from None


def find_report(model: str | Path, revision: str | None = None) -> Report | None:
    """Find the report that a run folder, a Hub repository or "sample" has of its model.

    None where it has none of this schema version.
    """
    name = locate_model(model)
    try:
        if Path(name).is_dir():
            return read_report(name)
        return read_report(download(name, REPORT_FILE, revision, {}).parent)
    except (HubError, ModelFormatError, RunError):
        return None
