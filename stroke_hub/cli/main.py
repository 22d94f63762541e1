"""The command stroke-hub: find the module of a command and run it."""

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from stroke_hub._version import __version__
from stroke_hub.errors import MissingExtra
from stroke_hub.extras import name_extras

__all__ = ["COMMANDS", "main"]


class Command(NamedTuple):
    """Where a command is, and what its optional packages are."""

    module: str
    function: str
    what: str  # it does
    extra: str | None = None  # without which it does nothing


# tyro's own subcommands would import every module of this room, torch included, before the list could be shown
COMMANDS = {
    "train": Command("train", "train_and_push", "train a model on a dataset, evaluate it and publish it", "train"),
    "data": Command(
        "data", "show_dataset", "show what a dataset is understood as, and what is in the way", "train"
    ),
    "audit": Command("audit", "audit_folder", "look for leaks in a dataset", "train"),
    "evaluate": Command("evaluate", "evaluate_model", "measure a model on labelled slices", "train"),
    "predict": Command("predict", "predict_files", "predict files, folders and archives into a table"),
    "scan": Command("scan", "answer_scans", "answer for whole scans, with evidence and a page"),
    "explain": Command("explain", "explain_folder", "explain every slice of a dataset on one page"),
    "report": Command("report", "report_runs", "write a run's report again, or compare two runs", "train"),
    "info": Command("info", "show_model", "show what a model is and how good it is"),
    "export": Command("export", "export_model", "write a model as ONNX, for use without PyTorch", "export"),
    "push": Command("push", "push_run", "publish a finished run on the Hub", "train"),
    "push-space": Command("space", "publish_space", "put the demo of a published model into a Space"),
    "sample": Command("sample", "write_sample_dataset", "write the simulated sample dataset", "train"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command of the command line.

    Parameters
    ----------
    arguments : the words after ``stroke-hub``; by default those that the process was started with. Without any,
        the commands are listed.

    Raises
    ------
    SystemExit : with status 0 after a list or a help, 1 where a command fails, 2 for words that it does not know.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words[0] if words else "--help"
    if name in ("-h", "--help"):
        print(_list_commands())
        return
    if name == "--version":
        print(__version__)
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "run stroke-hub to see all commands."
        print(f"error: there is no command {name!a}; {hint}", file=sys.stderr)
        sys.exit(2)
    found = COMMANDS[name]
    try:
        with name_extras(f"stroke-hub {name}", found.extra):
            command = getattr(import_module(f"stroke_hub.cli.{found.module}"), found.function)
            command(words[1:], prog=f"stroke-hub {name}")
    except MissingExtra as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:  # while the command is imported; a command has words of its own
        sys.exit(130)


def _list_commands() -> str:
    lines = [f"  {name:<12}{command.what}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "Classify brain CT and MR slices as stroke or normal, and show why.",
            "Research software, not a medical device.",
            "",
            "usage: stroke-hub COMMAND [OPTIONS]",
            "",
            *lines,
            "",
            "stroke-hub COMMAND --help shows the options of a command; stroke-hub --version the version.",
        ]
    )
