"""How intervals were made, and what calibration and decision curves say, in plain sentences."""

from collections.abc import Iterator

from stroke_hub.report.formatting import BASELINES, say_interval
from stroke_hub.runs.report import Interval, NetBenefit, Part, Recalibration, Report

__all__ = ["SIMPLE", "describe_decisions", "describe_intervals", "describe_recalibration", "list_rules"]

SIMPLE = tuple(BASELINES)[:5]  # rules that see no stroke
# as docs/read-the-report.md has it, design by design
COVERAGE = (
    "In simulations (`scripts/benchmark.py coverage`) the intervals of AUROC and sensitivity held the truth in "
    "94.8 to 99.9 % of 1,000 draws of each design. In all, they missed it as often above as below. With about 10 "
    "patients of a class they are wider than need be. Resampled intervals were not measured so."
)
DRAWN = ("trivial_logistic", "trivial_boosted")  # of these, whose decision curves are drawn


def describe_intervals(report: Report) -> list[str]:
    """Say what the brackets are: unit, method, replicates, what they cover and how often they hold the truth."""
    overall = report.test["overall"]
    found = [interval for interval in _walk(report) if interval.low is not None]
    words = [
        "Brackets are 95 % intervals. Their unit is the group, which is a patient where patients are known: slices "
        f"of a group are not taken for independent. Here are {overall.groups:,} groups."
    ]
    if any(interval.method.startswith("score") for interval in found):
        words += [
            "Shares, AUROC, average precision, F1 and Brier scores have Wilson's score interval. Its number of "
            "trials is the effective number of patients, from leaving out each patient in turn (jackknife). Its "
            "quantile is Student's. This method resamples nothing.",
            "A figure of exactly 0 or 1 has the exact limit of Clopper and Pearson over the effective patients.",
            "Slope and intercept of calibration have the jackknife's interval over patients.",
        ]
    resampled = [interval for interval in found if "bootstrap" in interval.method]
    if resampled:
        counts = sorted({interval.replicates + interval.left_out for interval in resampled})
        method = "; ".join(sorted({interval.method for interval in resampled}))
        figures = "Differences, calibration error and net benefit" if words[1:] else "Figures"
        words.append(
            f"{figures} are resampled: whole groups are drawn with replacement, "
            f"{' or '.join(f'{count:,}' for count in counts)} times ({method})."
        )
    if any(interval.method.startswith("score") for interval in found):
        words.append(COVERAGE)
    words.append(
        "The intervals cover the chance of drawing these patients. They do not cover another training, scanner or "
        "hospital."
    )
    return words


def describe_recalibration(found: Recalibration) -> list[str]:
    """Say how far calibration is from what chance alone would show, and which way it is off."""
    floor, words = found.floor, []
    if found.ece.value is not None and floor.mean is not None and floor.high is not None:
        beyond = "more than" if found.ece.value > floor.high else "not more than"
        words.append(
            f"The calibration error with its interval is {say_interval(found.ece)}. A perfectly calibrated model "
            f"with these probabilities would show {floor.mean:.3f} on average, and {floor.high:.3f} at its 95 % "
            f"point, if slices were independent: the error is {beyond} chance explains."
        )
    if found.slope.value is not None:
        side = _say_side(found.slope, 1, "probabilities are too extreme", "probabilities are too cautious")
        words.append(f"The calibration slope, of which 1 is right, is {say_interval(found.slope)}: {side}.")
    if found.intercept.value is not None:
        side = _say_side(found.intercept, 0, "Stroke is overstated", "Stroke is understated")
        words.append(
            f"The calibration intercept in log-odds, of which 0 is right, is {say_interval(found.intercept)}: "
            f"{side}."
        )
    return words


def _say_side(interval: Interval, right: float, low: str, high: str) -> str:
    """Say on which side of what is right a whole interval lies."""
    if interval.low is None or interval.high is None:
        return "its interval is not defined"
    if interval.low <= right <= interval.high:
        return "not shown to be off"
    return high if interval.low > right else low


def describe_decisions(report: Report) -> list[str]:
    """Say at how many thresholds acting on the model is worth more than the rules beside it."""
    benefit = report.test["overall"].net_benefit
    if not benefit.threshold:
        return []
    count = len(benefit.threshold)
    gains = [model - max(every, 0) for model, every in zip(benefit.model, benefit.treat_all, strict=True)]
    words = [
        "Net benefit weighs Stroke slices found against false alarms, at the odds of the threshold at which one "
        f"would act. At {sum(gain > 0 for gain in gains)} of {count} thresholds from {benefit.threshold[0]:.2f} to "
        f"{benefit.threshold[-1]:.2f}, acting on the model is worth more than acting on every slice or on none"
    ]
    if benefit.gain:
        shown = sum(low is not None and low > 0 for low in benefit.gain_low)
        words[0] += f"; at {shown} of {count} the 95 % interval of the gain lies above 0"
    words[0] += "."
    for name, curve in list_rules(report).items():
        better = sum(model > rule for model, rule in zip(benefit.model, curve, strict=True))
        words.append(f"It is worth more than acting on the rule “{BASELINES[name]}” at {better} of {count}.")
    return words


def list_rules(report: Report) -> dict[str, list[float]]:
    """List the decision curves of simple rules, by name, to stand beside the model's."""
    benefit: NetBenefit = report.test["overall"].net_benefit
    curves = {row.name: row.net_benefit for row in report.baselines if row.name in DRAWN}
    return {name: curve for name, curve in curves.items() if curve and len(curve) == len(benefit.threshold)}


def _walk(report: Report) -> Iterator[Interval]:
    """Walk the intervals of a report that are shown in its tables."""
    for part in report.test.values():
        yield from part.intervals.values()
        yield from _walk_recalibration(part)
    for row in report.baselines:
        if row.difference:
            yield from (row.difference.auroc, row.difference.accuracy)


def _walk_recalibration(part: Part) -> Iterator[Interval]:
    for found in (part.calibration.before.recalibration, part.calibration.after.recalibration):
        if found:
            yield from (found.ece, found.slope, found.intercept)
