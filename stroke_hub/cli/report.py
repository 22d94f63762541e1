"""The command report: write a report again, or compare two."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from stroke_hub.cli.common import program
from stroke_hub.errors import RunError
from stroke_hub.progress import say

if TYPE_CHECKING:
    from stroke_hub.evaluation.comparison import Comparison
    from stroke_hub.evaluation.patients import Compared

__all__ = ["report_runs"]


@program
def report_runs(
    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")] = None,
    *,
    compare: Annotated[tuple[Path, Path] | None, tyro.conf.arg(metavar="FOLDER FOLDER")] = None,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
) -> None:
    """Write report.html of an evaluated run again from its report.json, or compare two runs on the same slices.

    Args:
        run: an evaluated run folder.
        compare: two evaluated folders; the first minus the second, with intervals of the differences.
        out: with --compare, a folder for comparison.json and a figure of the differences.
    """
    from stroke_hub.evaluation.comparison import compare as compare_runs
    from stroke_hub.evaluation.comparison import write_comparison
    from stroke_hub.report.html import write_page
    from stroke_hub.runs.report import read_report

    if (run is None) == (compare is None):
        raise RunError("Give either a run folder, or --compare with two of them.")
    if run is not None:
        say(f"report: {write_page(read_report(run), run / 'figures', run / 'report.html')}")
    if compare is not None:
        result = compare_runs(*compare)
        print(_tabulate_comparison(result))
        if out:
            write_comparison(result, out)
            say(f"comparison: {out}")


def _tabulate_comparison(result: "Comparison") -> str:
    """A line a metric: both values and the difference, with intervals."""
    from stroke_hub.report.formatting import METRIC_TITLES, PATIENT_TITLES

    a, b = result["a"]["folder"], result["b"]["folder"]
    counts = f"{result['n']} slices in both, {result['n_stroke']} strokes, {result['groups']} patients or groups"
    lines = [f"a: {a}", f"b: {b}", counts, "95 % intervals over patients; a minus b over the same resamples", ""]
    lines.append(f"{'':25}{'a':24}{'b':24}a - b")
    lines += [_tabulate_row(METRIC_TITLES[name], cell) for name, cell in result["metrics"].items()]
    lines += ["", f"by patient: {result['groups']} patients or groups, {result['groups_stroke']} with stroke"]
    lines += [_tabulate_row(PATIENT_TITLES.get(name, name), cell) for name, cell in result["by_patient"].items()]
    notes = {result["a"]["note"], result["b"]["note"]} - {""}
    return "\n".join([*lines, *(f"Every figure is of: {note}." for note in sorted(notes))])


def _tabulate_row(title: str, cell: "Compared") -> str:
    from stroke_hub.report.formatting import format_interval

    sides = (cell["a"], cell["b"], cell["difference"])
    a, b, gap = (format_interval(one["value"], one["low"], one["high"]) for one in sides)
    return f"{title:25}{a:24}{b:24}{gap}"
