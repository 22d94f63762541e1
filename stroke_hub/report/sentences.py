"""report.json in plain sentences: what was found, how well it is known, and what a reader must not miss."""

from stroke_hub.report.formatting import BASELINES, METRIC_TITLES, name_value, say_interval, show_hundred
from stroke_hub.report.methods import SIMPLE, describe_recalibration
from stroke_hub.report.patients import describe_patients, warn_of_contrast
from stroke_hub.runs.report import Baseline, Part, Report

__all__ = ["POINTING_MAPS", "describe", "describe_localisation", "describe_trainings", "warn"]

FEW_GROUPS = 20  # of a class: below, no interval's limits are exact (intervals.py's table)
HIGHEST = 19.9  # the temperature at its limit of 20
STRANGE = 0.1  # share of unusual slices: ten times what the limit is set for
SUSPICIOUS = 0.99  # accuracy: slices that were seen in training give such figures, honest models seldom
MAIN = ("auroc", "sensitivity", "specificity")  # of which the spread between trainings is said
POINTING_MAPS = {"cnn": "CNN", "vit": "ViT", "fused": "fused"}
RATES = {"sensitivity": "slices of class Stroke", "specificity": "slices of class Normal"}


def describe(report: Report) -> list[str]:
    """Say what a report found, each sentence made from its numbers."""
    overall = report.test["overall"]
    sentences = [_describe_data(report), *_describe_rates(overall), *_describe_ranking(overall)]
    sentences += describe_patients(report)
    sentences += _describe_modalities(report.test)
    sentences += [*_describe_calibration(report), *_describe_baselines(report), *_describe_novelty(report)]
    return sentences + describe_localisation(report) + describe_trainings(report)


def warn(report: Report) -> list[str]:
    """Say what a reader of a report must not miss."""
    overall, warnings = report.test["overall"], []
    if overall.accuracy is not None and overall.accuracy >= SUSPICIOUS:
        warnings.append(
            f"An accuracy of {overall.accuracy:.1%} is more often a leak than a discovery: look for slices of "
            "one patient, or copies, on both sides of the split (`stroke-hub audit`) before believing it."
        )
    if overall.groups == overall.n and overall.n:
        warnings.append(
            "No slice is known to share a patient with another: every slice was taken for a patient of its own. "
            "If that is not so, the intervals are too narrow and the split may leak."
        )
    few = {of: overall.intervals[name].groups for name, of in RATES.items() if overall.intervals[name].groups}
    few = {of: groups for of, groups in few.items() if groups < FEW_GROUPS}
    if few:
        words = " and ".join(f"{of} come from {groups} patients" for of, groups in few.items())
        warnings.append(f"The {words} only: do not trust the exact limits of any interval here.")
    warnings += warn_of_contrast(report)
    warnings += _suspect_leaks(report) + _suspect_calibration(report) + _suspect_training(report)
    novelty = report.novelty
    if novelty and novelty.share > STRANGE:
        warnings.append(
            f"{novelty.share:.0%} of the slices are unlike those that the model was trained on: the figures "
            "here are of another kind of picture."
        )
    for missing, called in (("Normal", ("tn", "fn")), ("Stroke", ("tp", "fp"))):
        if overall.n and not sum(getattr(overall.confusion, cell) for cell in called):
            warnings.append(f"No slice is called {missing}: at this threshold the model says one thing always.")
    unbeaten = [BASELINES[row.name] for row in _find_unbeaten(report.baselines)]
    if unbeaten:
        warnings.append(f"The model's AUROC is not shown to be higher than that of: {'; '.join(unbeaten)}.")
    return warnings


def _suspect_leaks(report: Report) -> list[str]:
    """Say what the audit and the model's own report hold against the split."""
    audit, own = report.audit, report.trained_on
    found = [finding.sentence for finding in audit.findings if finding.level == "error"] if audit else []
    if own and own.sha256 == report.data.sha256 and report.data.split == "train":
        found.append("The model was trained on these very slices: no figure here says how it does on others.")
    return found


def _suspect_calibration(report: Report) -> list[str]:
    """Say where the calibration did harm, or had nothing to go by."""
    fitted, calibration = report.calibration, report.test["overall"].calibration
    before, after = calibration.before.log_loss, calibration.after.log_loss
    warnings = []
    if fitted and fitted.temperature >= HIGHEST:
        warnings.append(
            "On the validation slices the model's scores said next to nothing of the label, so calibration made "
            "all probabilities nearly equal."
        )
    if fitted and before is not None and after is not None and after > before:
        warnings.append(
            f"The calibration made the probabilities worse on the test slices (log loss {before:.3f} before, "
            f"{after:.3f} after)."
        )
    return warnings


def _describe_data(report: Report) -> str:
    overall, data, own = report.test["overall"], report.data, report.trained_on
    name = f" of {data.name}" if data.name else ""
    unseen = "; this run did not use them for its training, its choice of epoch or its calibration"
    trained = f" The model was trained on {own.name}{': ' * bool(own.note)}{own.note}." if own else ""
    return (
        f"Measured on {overall.n} slices{name}, {overall.n_stroke} of them of class Stroke, of "
        f"{overall.groups} patients or groups{unseen if report.training else ''}.{trained}"
    )


def _describe_rates(part: Part) -> list[str]:
    sentences = []
    counts = {"sensitivity": part.n_stroke, "specificity": part.n - part.n_stroke}
    for name, of in RATES.items():
        interval = part.intervals[name]
        if interval.value is not None and interval.low is not None and interval.high is not None:
            spread = 100 * (interval.high - interval.low) / 2
            found = "found" if name == "sensitivity" else "left alone"
            sentences.append(
                f"Of 100 {of}, {show_hundred(interval.value)} are {found} ({name} {say_interval(interval)}); with "
                f"{counts[name]} {of} of {interval.groups} patients that is known to about ±{spread:.0f} points."
            )
    return sentences


def _describe_ranking(part: Part) -> list[str]:
    if part.auroc is None:
        return [f"The AUROC is not defined: {part.undefined or 'one class only'}."]
    return [
        f"In {100 * part.auroc:.0f} of 100 pairs of slices of both classes, that of class Stroke has the higher "
        f"probability (AUROC {say_interval(part.intervals['auroc'])})."
    ]


def _describe_modalities(parts: dict[str, Part]) -> list[str]:
    titles = {name: name_value("modality", name) for name in ("BT", "MR")}
    known = [(title, parts[name]) for name, title in titles.items() if parts[name].n]
    found = [
        f"{name} {say_interval(part.intervals['auroc'])} on {part.n} slices"
        for name, part in known
        if part.auroc is not None
    ]
    unknown = parts["overall"].n - sum(part.n for _, part in known)
    missing = [title for name, title in titles.items() if not parts[name].n] if not unknown else []
    sentences = [f"AUROC by modality: {'; '.join(found)}."] if found else []
    sentences += [f"The modality of {unknown} slices is unknown."] if unknown else []
    return sentences + [f"There were no {name} slices: nothing is known of {name} here." for name in missing]


def _describe_calibration(report: Report) -> list[str]:
    fitted, after = report.calibration, report.test["overall"].calibration.after
    before = report.test["overall"].calibration.before.ece
    if after.ece is None or before is None:
        return []
    words = f"Stated probabilities are off by {100 * after.ece:.1f} points on average (expected calibration error)"
    if fitted:
        words += (
            f"; before the calibration (temperature {fitted.temperature:.2f}, shift {fitted.shift:+.2f} in "
            f"log-odds, from {fitted.n} validation slices) by {100 * before:.1f}"
        )
    found = report.test["overall"].calibration.after.recalibration
    return [f"{words}.", *(describe_recalibration(found) if found else [])]


def _describe_baselines(report: Report) -> list[str]:
    simple = [
        (row.auroc.value, row.name, row.auroc, row.difference.auroc)
        for row in report.baselines
        if row.name in SIMPLE and row.difference and row.auroc and row.auroc.value is not None
    ]
    if not simple or report.test["overall"].auroc is None:
        return []
    _, name, auroc, gap = max(simple, key=lambda row: row[0])
    return [
        f"The best simple rule ({BASELINES[name]}) reaches an AUROC of {say_interval(auroc)}; the model's minus "
        f"that is {say_interval(gap)}."
    ]


def _describe_novelty(report: Report) -> list[str]:
    novelty = report.novelty
    if not novelty:
        return []
    return [
        f"{novelty.unusual} slices ({novelty.share:.1%}) are called unlike the training slices, of which at "
        "most 1 % lie as far out; they are part of all figures."
    ]


def describe_localisation(report: Report) -> list[str]:
    """Say how often maps point at the lesion; nothing where no slice has a mask."""
    found = report.localisation
    if not found:
        return []
    pointing = found.measures["pointing"]
    each = ", ".join(f"{title} {say_interval(pointing[name])}" for name, title in POINTING_MAPS.items())
    return [
        f"On {found.n} stroke slices with a lesion mask, of {found.groups} patients, of the maps this share has "
        f"its strongest pixel in or just beside the lesion: {each}.",
        f"A map that knows no model ({found.controls['pointing']}) reaches {say_interval(pointing['control'])}.",
    ]


def describe_trainings(report: Report) -> list[str]:
    """Say how far the figures of several trainings lie apart; nothing of a single one."""
    found = report.trainings
    if not found:
        return []
    seeds = f"{', '.join(map(str, found.seeds[:-1]))} and {found.seeds[-1]}"
    sentences = [
        f"Trained {len(found.seeds)} times, with the seeds {seeds}: this is the model of the first seed, which no "
        "figure chose."
    ]
    figures = [
        f"{METRIC_TITLES[name]} {spread.mean:.3f}, from {spread.lowest:.3f} to {spread.highest:.3f}"
        for name, spread in ((name, found.test["overall"][name]) for name in MAIN)
        if spread.mean is not None
    ]
    if figures:
        sentences.append(
            f"Over these trainings, the mean and the range: {'; '.join(figures)}. The intervals are over patients "
            "and do not hold this spread."
        )
    return sentences


def _suspect_training(report: Report) -> list[str]:
    """Warn where another training lies outside the interval of this one."""
    if not report.trainings:
        return []
    outside = []
    for name in MAIN:
        own, values = report.test["overall"].intervals[name], report.trainings.test["overall"][name].values
        if own.low is None or own.high is None:
            continue
        low, high = own.low, own.high
        beyond = [value for value in values if value is not None and not low <= value <= high]
        if beyond:
            listed = ", ".join(f"{value:.3f}" for value in beyond)
            outside.append(f"{METRIC_TITLES[name]} {listed} (interval {low:.3f} to {high:.3f})")
    if not outside:
        return []
    return [
        f"Other trainings of the same configuration lie outside the interval of this one: {'; '.join(outside)}. "
        "Believe no figure of a single training."
    ]


def _find_unbeaten(baselines: list[Baseline]) -> list[Baseline]:
    """List the simple rules whose AUROC the model's does not clearly exceed."""
    differences = [(row, row.difference.auroc) for row in baselines if row.difference and row.name in SIMPLE]
    return [row for row, gap in differences if gap.value is not None and (gap.low is None or gap.low <= 0)]
