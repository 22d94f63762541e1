"""The command report: write a report again, or compare two."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from stroke_hub.cli.common import program
from stroke_hub.errors import RunError
from stroke_hub.progress import say

if TYPE_CHECKING:
    pass

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


def _tabulate_comparison(result: dict[str, Any]) -> str:
    """A line a metric: both values and the difference, with intervals."""
    from stroke_hub.report.formatting import METRIC_TITLES, format_interval

    a, b = (result[side]["folder"] for side in "ab")
    counts = f"{result['n']} slices in both, {result['n_stroke']} strokes, {result['groups']} patients or groups"
    lines = [f"a: {a}", f"b: {b}", counts, "95 % intervals over patients; a minus b over the same resamples", ""]
    lines.append(f"{'':25}{'a':24}{'b':24}a - b")
    for name, cell in result["metrics"].items():
        words = [
            format_interval(*(cell[side][key] for key in ("value", "low", "high")))
            for side in ("a", "b", "difference")
        ]
        lines.append(f"{METRIC_TITLES[name]:25}{words[0]:24}{words[1]:24}{words[2]}")
    notes = {result[side]["note"] for side in "ab"} - {""}
    return "\n".join([*lines, *(f"Every figure is of: {note}." for note in sorted(notes))])
