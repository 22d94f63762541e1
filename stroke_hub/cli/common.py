"""What the commands share: options from a signature, errors in a sentence, datasets found, figures told."""

import functools
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import tyro

from stroke_hub.datasets.slice_rules import SliceRules
from stroke_hub.errors import DatasetError, StrokeHubError, printable
from stroke_hub.progress import say

if TYPE_CHECKING:
    from stroke_hub.audit.leaks import Audit
    from stroke_hub.data.records import Records
    from stroke_hub.runs.report import Report

__all__ = [
    "SAMPLE_FOLDER",
    "check_data",
    "find_data",
    "name_dataset",
    "note_simulated",
    "program",
    "read_noted",
    "tell_export",
    "tell_figures",
    "tell_findings",
    "tell_notes",
]


class Command(Protocol):
    """A function that takes the words of a command line; by default those that the process was started with."""

    def __call__(self, arguments: Sequence[str] | None = None, *, prog: str | None = None) -> None:
        """Run the command, or exit with one sentence."""


SAMPLE_FOLDER = Path("data/sample")
SAMPLE_NOTE = "simulated slices, not patients"
KAGGLE_NOTE = "Kaggle Multimodal Stroke Image Dataset"


def program(function: Callable[..., None]) -> Command:
    """Make a command of a function: options from its signature, one sentence for a user's mistake."""

    @functools.wraps(function)
    def run(arguments: Sequence[str] | None = None, *, prog: str | None = None) -> None:
        logging.getLogger("huggingface_hub").setLevel("ERROR")  # a sentence of ours follows where it gives up
        try:
            config = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
            tyro.cli(function, args=arguments, prog=prog, config=config)
        except StrokeHubError as error:
            sys.exit(f"error: {error}")
        except BrokenPipeError:  # the reader, such as head, has seen enough
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  else closing it fails once more
            sys.exit(141)
        except OSError as error:
            sys.exit(
                f"error: {error.filename or 'a file'}: {error.strerror or error}; check the path and the room."
            )
        except KeyboardInterrupt:
            say("\nstopped; a training goes on from its last checkpoint when the same command is given again.")
            sys.exit(130)

    del run.__wrapped__  # tools must see a program without arguments
    return run


def check_data(data: str | None) -> None:
    """Refuse a --data that is neither a dataset of ours nor one on the Hub, before anything is asked for."""
    from stroke_hub.datasets.hub_dataset import is_hub_address

    if data not in (None, "sample", "kaggle") and not is_hub_address(data):
        raise DatasetError(f"--data {printable(data)}: is unknown; give sample, kaggle or hf://owner/name.")


def find_data(data: str | None, data_dir: Path | None, note: str, rules: SliceRules) -> tuple["Records", str, str]:
    """The records, a short name for the dataset and the words that its figures carry."""
    from stroke_hub.data.records import read_records  # brings pandas, which no help needs
    from stroke_hub.datasets.hub_dataset import fetch_hub_dataset, is_hub_address, name_hub_dataset
    from stroke_hub.datasets.open_dataset import open_dataset

    check_data(data)
    if data in ("sample", "kaggle") and (options := rules.to_options()):
        raise DatasetError(
            f"--data {data}: is a dataset of pictures, so {' '.join(options)} means nothing; leave it out."
        )
    if data is not None and is_hub_address(data):
        if data_dir is not None:
            raise DatasetError(f"--data {printable(data)}: has a folder of its own; leave --data-dir out.")
        records = open_dataset(fetch_hub_dataset(data), rules)
        return records, name_hub_dataset(data), note
    if data == "sample":
        from stroke_hub.data.simulated import write_sample

        return read_records(write_sample(data_dir or SAMPLE_FOLDER)), "sample", note or SAMPLE_NOTE
    if data is None and data_dir is not None:
        records = open_dataset(data_dir, rules)
        return records, name_dataset(records), note or note_simulated(records)
    from stroke_hub.data.kaggle import check_counts, download_kaggle

    records = read_records(data_dir or download_kaggle())
    difference = check_counts(records.table)
    if difference:
        say(f"warning: {difference}")
    return records, "kaggle", note or KAGGLE_NOTE


def read_noted(data_dir: Path, rules: SliceRules = SliceRules()) -> "Records":  # noqa: B008  frozen
    """Read a dataset and say its notes."""
    from stroke_hub.datasets.open_dataset import open_dataset

    records = open_dataset(data_dir, rules)
    tell_notes(records)
    return records


def note_simulated(records: "Records") -> str:
    """The words for simulated slices, which say in their names what they are."""
    simulated = all(path.rpartition("/")[2].endswith("_simulated.png") for path in records.table["path"])
    return SAMPLE_NOTE if simulated else ""


def name_dataset(records: "Records") -> str:
    """The name of the folder that the dataset lies in."""
    return records.root.parent.name if records.root.name == "deep" else records.root.name


def tell_notes(records: "Records") -> None:
    """Say what whoever uses the dataset should know."""
    for sentence in records.notes:
        say(f"note: {sentence}")


def tell_findings(found: "Audit") -> None:
    """Say what an audit found, worst first."""
    for finding in found.summary["findings"]:
        say(f"{finding['level']}: {finding['sentence']}")


def tell_figures(report: "Report", split: str = "test") -> None:
    """Say the main figures of a report, overall and by modality."""
    from stroke_hub.report.formatting import say_interval
    from stroke_hub.report.sentences import describe_localisation

    for part, figures in report.test.items():
        if figures.n:
            accuracy, auroc = (say_interval(figures.intervals[name]) for name in ("accuracy", "auroc"))
            n = f"{figures.n} slices of {figures.groups} groups"
            say(f"{split} {part}: {n}, accuracy {accuracy}, AUROC {auroc}")
    for sentence in describe_localisation(report):
        say(sentence)


def tell_export(record: dict[str, Any], folder: Path) -> None:
    """Say what an export wrote, and how far it is from the model."""
    measured = record["measured"]
    for precision, size in record["bytes"].items():
        change, auroc = measured[precision]["probability"], measured[precision]["auroc"]
        words = f"largest change of a probability {change:.2g}"
        words += "" if auroc is None else f", of the AUROC {auroc:+.2g}"
        say(f"{precision}: {size:,} bytes; {words} ({measured['n']} {measured['on']})")
    say(f"export: {folder}")
