"""Several trainings of one configuration: the figures of each seed, and the spread that no interval holds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stroke_hub.errors import RunError
from stroke_hub.files import write_text
from stroke_hub.report.html import write_page
from stroke_hub.report.sentences import describe, warn
from stroke_hub.runs.report import REPORT_FILE, Report, Spread, Trainings, read_report

__all__ = ["measure_trainings", "record_trainings"]


def record_trainings(runs: Sequence[Path]) -> Report:
    """Record the spread between trainings in the report of the first run, and write its page again.

    Parameters
    ----------
    runs : evaluated run folders of one configuration, each of another seed. The first is the model that stands for
        all: it comes first in the order of the seeds, so no figure chooses it.

    Returns
    -------
    The report of the first run, with `trainings`.

    Raises
    ------
    RunError : a run is not evaluated, or was measured on other slices.
    """
    reports = [read_report(run) for run in runs]
    found = measure_trainings(reports)
    report = replace(reports[0], trainings=found)
    if report != reports[0]:
        report = replace(report, words=describe(report), warnings=warn(report))
        write_page(report, runs[0] / "figures", runs[0] / "report.html")
        write_text(runs[0] / REPORT_FILE, report.to_json())
    return report


def measure_trainings(reports: Sequence[Report]) -> Trainings:
    """Measure how far the test figures of several trainings lie apart, part by part and figure by figure.

    Raises
    ------
    RunError : a report is of other test slices than the first, or of no training.
    """
    first = reports[0]
    if any(
        report.training is None or report.data.measured_sha256 != first.data.measured_sha256 for report in reports
    ):
        raise RunError("The trainings were not measured on the same test slices; choose another --run-dir.")
    return Trainings(
        seeds=[int((report.training or {})["seed"]) for report in reports],
        weights_sha256=[report.model.weights_sha256 or "" for report in reports],
        test={
            name: {
                metric: _spread([report.test[name].intervals[metric].value for report in reports])
                for metric in part.intervals
                if all(metric in report.test[name].intervals for report in reports)
            }
            for name, part in first.test.items()
            if part.n
        },
    )


def _spread(values: list[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    if not known:
        return Spread(values=values, mean=None, lowest=None, highest=None)
    return Spread(values=values, mean=sum(known) / len(known), lowest=min(known), highest=max(known))
