"""The command stroke-hub: find the module of a command and run it."""

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

from stroke_hub._version import __version__

__all__ = ["COMMANDS", "main"]

# By name, the module, its function and what it does. tyro's own subcommands would import every module of this
# room, torch included, before the list could be shown.
COMMANDS = {
    "train": ("train", "train_and_push", "train a model on a dataset, evaluate it and publish it"),
    "audit": ("audit", "audit_folder", "look for leaks in a dataset"),
    "evaluate": ("evaluate", "evaluate_model", "measure a model on labelled slices"),
    "predict": ("predict", "predict_files", "predict files, folders and archives into a table"),
    "scan": ("scan", "answer_scans", "answer for whole scans, with evidence and a page"),
    "explain": ("explain", "explain_folder", "explain every slice of a dataset on one page"),
    "report": ("report", "report_runs", "write a run's report again, or compare two runs"),
    "info": ("info", "show_model", "show what a model is and how good it is"),
    "export": ("export", "export_model", "write a model as ONNX, for use without PyTorch"),
    "push": ("push", "push_run", "publish a finished run on the Hub"),
    "push-space": ("space", "publish_space", "put the demo of a published model into a Space"),
    "sample": ("sample", "write_sample_dataset", "write the simulated sample dataset"),
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
    module, function, _ = COMMANDS[name]
    try:
        command = getattr(import_module(f"stroke_hub.cli.{module}"), function)
        command(words[1:], prog=f"stroke-hub {name}")
    except KeyboardInterrupt:  # while the command is imported; a command has words of its own
        sys.exit(130)


def _list_commands() -> str:
    lines = [f"  {name:<12}{what}" for name, (_, _, what) in COMMANDS.items()]
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
