"""Measure every claim of docs/benchmarks.md in one run, each benchmark in a process of its own."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from benchmarks.machine import describe_machine
from benchmarks.timing import Row, meets_bar

from stroke_hub.errors import RunError
from stroke_hub.files import write_text
from stroke_hub.progress import say

PROGRAM = Path(__file__).parent.parent / "benchmark.py"
TABLE_FILE, NUMBERS_FILE = "benchmarks.md", "benchmarks.json"

Name = Literal["explain", "load", "report", "runtime", "scale", "scan", "space", "train", "volumes"]
# what docs/benchmarks.md measured is measured again: where it gives options, with those
OPTIONS: dict[str, tuple[str, ...]] = {
    "machine": (),
    "report": (),
    "load": (),
    "explain": (),
    "runtime": ("--threads", "1"),
    "train": (),
    "space": (),
    "scan": (),
    "scale": (),
    "volumes": (),
}
PREFACE = """# Benchmarks

The claims of docs/benchmarks.md, measured in one run of `python scripts/benchmark.py all`: every benchmark in
a process of its own, one after another; what is compared runs in turns within one process. Stated is the middle
round, with the extremes in brackets. Models have random weights, pictures are simulated or noise: these are
times, not results.

The **floor** is what the row would be if its time were that of its floating-point operations at the rate of one
large matrix product, or of its bytes at the rate of reading a file that is in memory already (the page cache; no
disk is asked): where less is better nothing can be below it, where more is better nothing above. Rates are
measured anew by each benchmark, with the clock of the row. The rates under `machine` are of one core by its CPU
time, of all by the clock on the wall.

Not in here: `recipe`, which trains for hours; a GPU's figures, which the same command measures where there is
one; the training of the quickstart and the audit of real slices, which were timed by hand.
"""


def benchmark_all(
    *,
    only: tuple[Name, ...] = (),
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
) -> list[Row]:
    """Measure every claim of docs/benchmarks.md in half an hour, but for `recipe`, which takes many.

    A benchmark that fails, or lacks a package, is a row with its error, and the others go on.

    Args:
        only: these benchmarks; the machine's own rates are always measured.
        out: a folder for benchmarks.md and benchmarks.json, written again after each benchmark.
    """
    if out:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"--out {out}: is no folder and cannot be made one ({error.strerror}).") from error
    machine, rows = describe_machine(), []
    for name in [name for name in OPTIONS if name == "machine" or name in only or not only]:
        say(f"--- {name}")
        rows += run_benchmark(name)
        if out:
            document = make_document("all", machine, rows)
            write_text(out / NUMBERS_FILE, json.dumps(document, indent=1) + "\n")
            write_text(out / TABLE_FILE, write_table(document))
    return rows


def run_benchmark(name: str) -> list[Row]:
    """The rows that a benchmark prints in a process of its own, each with the benchmark's name; or its error."""
    command = [sys.executable, str(PROGRAM), name, *OPTIONS[name]]
    start = time.monotonic()
    with subprocess.Popen(  # noqa: S603  ours
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None  # noqa: S101  for the types
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip())
            if not line.startswith("{"):
                say(lines[-1])
    further = {"benchmark": name, "minutes": round((time.monotonic() - start) / 60, 1)}
    return [further | row for row in read_rows(lines, process.returncode)]


def read_rows(lines: list[str], status: int) -> list[Row]:
    """The rows of what a benchmark printed, with the load that it met; one row with an error where it failed.

    Parameters
    ----------
    lines : its output and its messages; its document is the last line that is one.
    status : its exit status.
    """
    for line in reversed(lines if status == 0 else []):
        try:
            document = json.loads(line)
            return [{"load": document["machine"]["load"]} | row for row in document["rows"]]
        except (ValueError, TypeError, KeyError):
            continue  # what a library says at the end of a process
    said = [line for line in lines if line.strip()] or ["not a word"]
    return [{"row": "failed", "error": f"exit status {status}: {said[-1]}", "bar": "none"}]


def make_document(name: str, machine: dict[str, Any], rows: list[Row]) -> dict[str, Any]:
    """What a benchmark ends with: its rows, the machine, and every value under its row's own name too."""
    values = {
        f"{row['benchmark']}.{row['row']}" if "benchmark" in row else row["row"]: row["value"]
        for row in rows
        if "value" in row
    }
    judged = [row | {"met": meets_bar(row["value"], row["bar"])} if "value" in row else row for row in rows]
    return values | {"benchmark": name, "machine": machine, "rows": judged}


def describe_row(row: Row) -> tuple[str, str, str, str, str]:
    """A row in words: the claim, what was measured, the bar, whether it is met, the floor."""
    claim = row["row"].replace("_", " ")
    if "error" in row:
        return claim, row["error"], "", "", ""
    measured = format_number(row["value"])
    if "low" in row:
        measured += f" [{format_number(row['low'])}, {format_number(row['high'])}]"
    met = {True: "yes", False: "**no**", None: ""}[meets_bar(row["value"], row["bar"])]
    bar = "" if row["bar"] == "none" else row["bar"]
    return claim, measured, bar, met, format_number(row["floor"]) if "floor" in row else ""


def format_number(value: float) -> str:
    """Three digits; large numbers whole."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def write_table(document: dict[str, Any]) -> str:
    """The document as Markdown."""
    machine = {name: value for name, value in document["machine"].items() if value not in (None, [])}
    lines = [PREFACE, "The machine:", ""]
    for name, value in machine.items():
        lines.append(f"- {name.replace('_', ' ')}: {', '.join(value) if isinstance(value, list) else value}")
    for benchmark in dict.fromkeys(row["benchmark"] for row in document["rows"]):
        rows = [row for row in document["rows"] if row["benchmark"] == benchmark]
        command = " ".join(["python scripts/benchmark.py", benchmark, *OPTIONS[benchmark]])
        load = f", load average {rows[0]['load']} when it began" if "load" in rows[0] else ""
        lines += ["", f"## {benchmark}", "", f"`{command}`: {rows[0]['minutes']} minutes{load}.", ""]
        lines += ["| claim | measured | bar | met? | floor |", "|---|---|---|---|---|"]
        for row in rows:
            words = [word.replace("|", "\\|") for word in describe_row(row)]
            lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines) + "\n"
