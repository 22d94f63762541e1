"""The first page of a report: the questions that a reader comes with, and what the numbers answer."""

from dataclasses import dataclass

from stroke_hub.errors import pluralise
from stroke_hub.report.formatting import (
    BASELINES,
    POINT_TITLES,
    name_value,
    say_interval,
    show_digits,
    show_interval,
    show_percent,
)
from stroke_hub.report.methods import SIMPLE
from stroke_hub.report.sentences import POINTING_MAPS, describe_localisation, describe_trainings
from stroke_hub.runs.report import Baseline, Bin, Interval, Part, Report, Subgroup

__all__ = ["Answer", "answer"]

MIDDLE = (0.1, 0.9)  # probabilities between which a reader has to rely on what is stated
ROUNDING = 1e-9


@dataclass(frozen=True)
class Answer:
    """A question of a reader and its answer.

    question : as a reader would ask.
    short : the answer in a word or two.
    sentences : what it rests on, each made from numbers of the report; commands stand in backticks.
    section : the section of the page that has the rest.
    """

    question: str
    short: str
    sentences: list[str]
    section: str


def answer(report: Report) -> list[Answer]:
    """Answer what a reader of a report wants to know first; every sentence is made from its numbers."""
    return [
        _answer_good_enough(report),
        _answer_whom(report),
        _answer_simple_rules(report),
        _answer_errors(report),
        _answer_threshold(report),
        _answer_probability(report),
        _answer_maps(report),
        _answer_trainings(report),
    ]


def _answer_good_enough(report: Report) -> Answer:
    """Say why a model may not be used on patients: there is always a reason."""
    reasons = [f"The figures are of: {report.data.note}."] if report.data.note else []
    reasons += report.warnings
    short = "No" if reasons else "Not shown"
    overall = report.test["overall"]
    found = overall.patients.any_slice.sensitivity if overall.patients else None
    if found and found.low is not None:
        reasons.append(
            f"At the lower limit of the interval {100 * found.low:.0f} of 100 patients with stroke are found."
        )
    same = report.training is not None
    reasons.append(
        "The test slices come from the dataset of the training. Other hospitals and scanners were not tested."
        if same
        else "One dataset was measured. Other hospitals and scanners may give other figures."
    )
    return Answer("Is it good enough to use on patients?", short, reasons, "limits")


def _answer_whom(report: Report) -> Answer:
    overall, data, model = report.test["overall"], report.data, report.model
    names = [name_value("modality", part) for part in ("BT", "MR") if report.test[part].n]
    kind = f"{' and '.join(names)} " if names else ""
    groups = "patients" if overall.groups < overall.n else "groups"
    strokes = f", {overall.patients.n_stroke:,} of them with stroke" if overall.patients else ""
    tested = f"{overall.n:,} {kind}slices of {overall.groups:,} {groups}{strokes}"
    words = [f"A CNN ({model.cnn}) beside a transformer ({model.vit}), joined in one classifier."]
    if report.training and data.slices and data.groups:
        train = data.slices["train"]
        words.append(
            f"It learned from {train.normal + train.stroke:,} slices of {data.groups['train']:,} other {groups}; "
            f"{data.groups['val']:,} more set its threshold and calibration."
        )
    elif report.trained_on:
        own = report.trained_on
        words.append(f"It was trained on {own.name}{': ' * bool(own.note)}{own.note}.")
    elif not report.training:
        words.append("It was trained elsewhere, on slices of which nothing is known here.")
    return Answer("What was tested, on whom?", tested, words, "participants" if data.participants else "again")


def _answer_simple_rules(report: Report) -> Answer:
    """Compare with rules that see no lesion, with a probe on the same features, and with each branch alone."""
    question, section = "Is it better than simple rules?", "honesty"
    known = {row.name: row for row in report.baselines if row.auroc and row.difference}
    simple = [row for name, row in known.items() if name in SIMPLE]
    words = [words for name in ("probe", "cnn_alone", "vit_alone") for words in _compare(known.get(name), report)]
    best = max(simple, key=_read_auroc, default=None)
    if best is None or best.auroc is None or best.difference is None:
        return Answer(
            question,
            "Not measured",
            ["They are fitted on training slices, which were not at hand.", *words],
            section,
        )
    own, gap = report.test["overall"].intervals["auroc"], best.difference.auroc
    shown = gap.low is not None and gap.low > 0
    first = (
        f"The best of them ({BASELINES[best.name]}) reaches an AUROC of {say_interval(best.auroc)}, the model "
        f"{say_interval(own)}; the difference is {show_interval(gap, sign=True)}."
    )
    return Answer(question, "Yes" if shown else "Not shown", [first, *words], section)


def _read_auroc(row: Baseline) -> float:
    return row.auroc.value if row.auroc and row.auroc.value is not None else -1.0


def _compare(row: Baseline | None, report: Report) -> list[str]:
    """Say whether a probe on the features, or a branch alone, does as well as the model."""
    if row is None or row.auroc is None or row.accuracy is None or row.difference is None:
        return []
    if row.name == "probe":
        return _tell_probe(row, report.test["overall"])
    gap = row.difference.auroc
    part = "ViT" if row.name == "cnn_alone" else "CNN"
    helps = "helps" if gap.low is not None and gap.low > 0 else "is not shown to help"
    return [f"The {part} {helps}: without it the AUROC is {say_interval(row.auroc)}."]


def _tell_probe(row: Baseline, overall: Part) -> list[str]:
    """Say where a linear probe on the same features does as well as the model; nothing where it does worse."""
    words = []
    for name, title in (("accuracy", "an accuracy"), ("auroc", "an AUROC")):
        gap, reached = getattr(row.difference, name), getattr(row, name)
        if gap.value is not None and gap.value <= 0:
            words.append(f"{title} of {say_interval(reached)}, the model {say_interval(overall.intervals[name])}")
    return [f"A linear probe on the model's own features reaches {'; and '.join(words)}."] if words else []


def _answer_errors(report: Report) -> Answer:
    overall = report.test["overall"]
    wrong = overall.confusion
    short = f"{wrong.fn + wrong.fp:,} of {overall.n:,} slices"
    words = [_count_errors(overall)]
    parts = [(name_value("modality", name), report.test[name]) for name in ("BT", "MR") if report.test[name].n]
    if len(parts) > 1:
        words += [
            f"{name}: {part.confusion.fn:,} missed, {part.confusion.fp:,} false alarms." for name, part in parts
        ]
    patients = overall.patients
    if patients and patients.false_calls.value:
        words.append(f"A scan of a patient without stroke has {say_interval(patients.false_calls)} false calls.")
    words += [
        f"The lowest {rate} of a subgroup: {say_interval(getattr(row, rate))}, {row.column} "
        f"{name_value(row.column, row.value)}, {row.n:,} slices."
        for rate in ("sensitivity", "specificity")
        for row in _find_lowest(report, rate)
    ]
    if report.novelty and report.novelty.unusual:
        unusual = pluralise(report.novelty.unusual, "slice")
        words.append(f"Unlike those that it was trained on: {unusual}.")
    return Answer("When is it wrong?", short, words, "errors")


def _count_errors(part: Part) -> str:
    wrong = part.confusion
    return (
        f"{wrong.fn:,} of {part.n_stroke:,} Stroke slices are missed, {wrong.fp:,} of {part.n - part.n_stroke:,} "
        "Normal slices are called Stroke."
    )


def _find_lowest(report: Report, rate: str) -> list[Subgroup]:
    """Find the subgroup with the lowest rate, of columns that divide the slices, but for the modality."""
    columns = [row.column for row in report.subgroups]
    known = [
        (getattr(row, rate).value, place)
        for place, row in enumerate(report.subgroups)
        if row.column != "modality" and columns.count(row.column) > 1 and getattr(row, rate).low is not None
    ]
    whole = report.test["overall"].intervals[rate].value
    lowest = [place for value, place in sorted(known)[:1] if whole is not None and value < whole]
    return [report.subgroups[place] for place in lowest]


def _answer_threshold(report: Report) -> Answer:
    name, threshold = report.model.operating_point, report.test["overall"].threshold
    short = f"{show_digits(threshold)}, and above is Stroke"
    point = report.operating_points.get(name) if name else None
    if point is None or name is None:
        words = ["It came with the model; how it was chosen is not recorded."]
    elif point.chosen_on == "fixed":
        words = [f"{POINT_TITLES.get(name, name)}: no slice chose it."]
    else:
        words = [f"{POINT_TITLES.get(name, name)}: {point.words}. No test slice chose it."]
        if point.val_sensitivity is not None and point.val_specificity is not None:
            words.append(
                f"On the validation slices it gave a sensitivity of {point.val_sensitivity:.3f} and a specificity "
                f"of {point.val_specificity:.3f}."
            )
    return Answer("Which threshold, and why?", short, words, "points")


def _answer_probability(report: Report) -> Answer:
    question, section = "Can a stated probability be believed?", "calibration"
    after = report.test["overall"].calibration.after
    if after.ece is None:
        return Answer(question, "Not measured", ["That needs slices of both classes."], section)
    found = after.recalibration
    floor = found.floor.high if found else None
    short = "Not known" if floor is None else "Not quite" if after.ece > floor else "Not shown to be off"
    error = say_interval(found.ece) if found else f"{after.ece:.3f}"
    words = [f"Probabilities are off by {error} on average (expected calibration error)."]
    if found and floor is not None and found.floor.mean is not None:
        words[0] = (
            f"{words[0][:-1]}; chance alone would show {found.floor.mean:.3f}, and in 5 of 100 tests more than "
            f"{floor:.3f}."
        )
    return Answer(question, short, [*words, _tell_middle(after.bins)], section)


def _tell_middle(bins: list[Bin]) -> str:
    """Say what probabilities that are neither high nor low were worth: most slices lie beside them."""
    low, high = MIDDLE
    middle = [one for one in bins if one.low >= low - ROUNDING and one.high <= high + ROUNDING]
    between = f"between {show_percent(low)} and {show_percent(high)}"
    count = sum(one.n for one in middle)
    if not count:
        return f"No slice has a probability {between}."
    stated = sum(one.n * one.mean_probability for one in middle) / count
    strokes = round(sum(one.n * one.stroke_share for one in middle))
    return (
        f"Stated {between}: {pluralise(count, 'slice')}, {strokes:,} of them Stroke; the mean stated is "
        f"{100 * stated:.0f} %."
    )


def _answer_maps(report: Report) -> Answer:
    """Say how often a map's strongest pixel meets the lesion, and whether more often than without a model."""
    question, section = "Do the heatmaps show the lesion?", "explanations"
    found = report.localisation
    if not found:
        missing = "No stroke slice has a lesion mask. A dataset with masks measures it."
        return Answer(question, "Not measured", [missing], section)
    maps = found.measures["pointing"]
    control = maps["control"]
    better = [title for name, title in POINTING_MAPS.items() if _lies_above(maps[name], control)]
    short = f"Better than without a model: {', '.join(better)}" if better else "Not shown"
    return Answer(question, short, describe_localisation(report), section)


def _lies_above(one: Interval, other: Interval) -> bool:
    """Tell whether a whole interval lies above another."""
    return one.low is not None and other.high is not None and one.low > other.high


def _answer_trainings(report: Report) -> Answer:
    question, section = "Would another training say the same?", "performance"
    if report.trainings:
        spread = describe_trainings(report)
        return Answer(question, f"{len(report.trainings.seeds)} trainings", spread[1:], section)
    once = "It was trained once; `stroke-hub train --seeds 3` measures the spread."
    return Answer(question, "Not known", [once if report.training else "It was not trained here."], section)
