"""The commands behind scripts/ and the installed `stroke-hub-*` programs: arguments in, modules called."""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

from stroke_hub.errors import RunError, StrokeHubError
from stroke_hub.files import making, write_text
from stroke_hub.processes import Tracker, first_goes_first
from stroke_hub.progress import is_first, say
from stroke_hub.records import Records, hash_records, read_records
from stroke_hub.train import TrainConfig, describe_variant, fit

__all__ = [
    "evaluate_model",
    "explain_folder",
    "predict_files",
    "train_and_push",
    "write_sample_dataset",
]

SAMPLE_FOLDER = Path("data/sample")
SAMPLE_NOTE = "simulated slices, not patients"
KAGGLE_NOTE = "Kaggle Multimodal Stroke Image Dataset"


def _command(function: Callable[..., None]) -> Callable[[], None]:
    """A program of a function: arguments from its signature, one sentence for a user's mistake."""

    @functools.wraps(function)
    def run() -> None:
        try:
            tyro.cli(function, config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff))
        except StrokeHubError as error:
            sys.exit(f"error: {error}")
        except OSError as error:
            sys.exit(
                f"error: {error.filename or 'a file'}: {error.strerror or error}; check the path and the room."
            )
        except KeyboardInterrupt:
            say("\nstopped; a training goes on from its last checkpoint when the same command is given again.")
            sys.exit(130)

    del run.__wrapped__  # tools must see a program without arguments
    return run


@_command
def train_and_push(
    *,
    config: TrainConfig = TrainConfig(),  # noqa: B008  frozen
    data: Literal["sample", "kaggle"] | None = None,
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    data_note: Annotated[str, tyro.conf.arg(metavar="WORDS")] = "",
    run_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    push_to: Annotated[str | None, tyro.conf.arg(metavar="OWNER/NAME")] = None,
    tracker: Annotated[Tracker | None, tyro.conf.arg(metavar="trackio|tensorboard|wandb")] = None,
    checkpoint_minutes: float = 10.0,
) -> None:
    """Train on a dataset, measure on its test slices once, explain, and push to the Hub if asked to.

    A finished run is not trained again; an interrupted one goes on.

    Args:
        config: what decides the training.
        data: sample: simulated slices, made on the spot; kaggle: the Multimodal Stroke Image Dataset, downloaded
            where no --data-dir is given. Without both, kaggle is meant.
        data_dir: a dataset folder in the Kaggle layout, or where the sample dataset goes.
        data_note: words that every figure and report of this run carries, for example what the data stand for.
        run_dir: the run folder; by default runs/<dataset>-<preset>-<recipe>-seed<seed> and what sets it apart.
        push_to: a Hub repository, as owner/name; the token is checked before the training.
        tracker: passes the figures of every epoch on; nothing leaves the machine unless its own settings say so.
        checkpoint_minutes: how much work a crash may cost; there is a checkpoint after every epoch too.
    """
    if push_to:
        from stroke_hub.hub import check_access

        check_access(push_to)
    with first_goes_first():
        records, name, note = _find_data(data, data_dir, data_note)
    _tell_notes(records)
    variant = describe_variant(config)
    run_dir = run_dir or Path("runs") / _name_run(name, config)
    fit(config, records, run_dir, tracker=tracker, checkpoint_minutes=checkpoint_minutes)
    if not is_first():
        return
    _evaluate_once(run_dir, records, name, "; ".join(filter(None, (note, variant))))
    if push_to:
        from stroke_hub.hub import publish

        say(f"published: {publish(run_dir, push_to)}")


def _name_run(name: str, config: TrainConfig) -> str:
    marks = ["probe"] if config.probe else []
    marks += [f"{config.branches}-only"] if config.branches != "both" else []
    marks += ["shuffled"] if config.shuffle_labels else []
    return "-".join([name, config.preset, config.recipe, *marks, f"seed{config.seed}"])


def _find_data(
    data: Literal["sample", "kaggle"] | None, data_dir: Path | None, note: str
) -> tuple[Records, str, str]:
    """The records, a short name for the dataset and the words that its figures carry."""
    if data == "sample":
        from stroke_hub.sample import write_sample

        return read_records(write_sample(data_dir or SAMPLE_FOLDER)), "sample", note or SAMPLE_NOTE
    if data_dir is not None:
        records = read_records(data_dir)
        if data is None:
            return records, _name_dataset(records), note or _note_simulated(records)
    from stroke_hub.kaggle import check_counts, download_kaggle

    records = read_records(data_dir or download_kaggle())
    difference = check_counts(records.table)
    if difference:
        say(f"warning: {difference}")
    return records, "kaggle", note or KAGGLE_NOTE


def _note_simulated(records: Records) -> str:
    """The words for simulated slices, which say in their names what they are."""
    simulated = all(path.rpartition("/")[2].endswith("_simulated.png") for path in records.table["path"])
    return SAMPLE_NOTE if simulated else ""


def _name_dataset(records: Records) -> str:
    return records.root.parent.name if records.root.name == "deep" else records.root.name


def _evaluate_once(run_dir: Path, records: Records, name: str, note: str) -> None:
    """Measure a trained run on its test slices, unless its report is there."""
    from stroke_hub.report import REPORT_FILE, evaluate_run, explain_samples

    if (run_dir / REPORT_FILE).is_file():
        say(f"{run_dir}: evaluated already.")
    else:
        evaluate_run(run_dir, records, name=name, note=note)
    if not (run_dir / "figures" / "explanations.png").is_file():
        from stroke_hub.model import ResNetViT

        explain_samples(ResNetViT.from_pretrained(run_dir), records.table, records.root, run_dir)
    _tell_figures(run_dir / REPORT_FILE)
    say(f"run folder: {run_dir}")


@_command
def evaluate_model(
    *,
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|OWNER/NAME")],
    data_dir: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    revision: Annotated[str | None, tyro.conf.arg(metavar="COMMIT")] = None,
    split: Literal["test", "train"] = "test",
    data_note: Annotated[str, tyro.conf.arg(metavar="WORDS")] = "",
    faithfulness: bool = False,
) -> None:
    """Measure any run or Hub model on any dataset in the Kaggle layout, and explain chosen slices.

    Args:
        model: a run folder, or a model on the Hub.
        data_dir: a dataset folder in the Kaggle layout.
        out: a new folder for report.json, the CSVs and the figures.
        revision: commit, tag or branch of a Hub model.
        split: which part of the dataset.
        data_note: words that every figure carries, for example what the data stand for.
        faithfulness: measure too whether the maps of the stroke slices are true (about 2 CPU-seconds a slice).
    """
    from stroke_hub.model import ResNetViT
    from stroke_hub.report import REPORT_FILE, evaluate, explain_samples, judge_maps

    loaded = ResNetViT.from_pretrained(model, revision=revision)
    records = _read_noted(data_dir)
    note = data_note or _note_simulated(records)
    data = {"name": _name_dataset(records), "note": note, "split": split, "notes": list(records.notes)}
    about = {"data": data | {"sha256": hash_records(records)}, "model": model, "revision": revision}
    with making(out) as folder:
        evaluate(loaded, records.part(split), records.root, folder, about=about)
        explain_samples(loaded, records.table, records.root, folder)
        if faithfulness:
            judge_maps(loaded, records.part(split), records.root, folder, note=note)
    _tell_figures(out / REPORT_FILE, split)
    say(f"evaluation: {out}")


@_command
def predict_files(
    sources: Annotated[list[Path], tyro.conf.Positional, tyro.conf.arg(metavar="FILE|FOLDER")],
    *,
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|OWNER/NAME")],
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.csv")],
    revision: Annotated[str | None, tyro.conf.arg(metavar="COMMIT")] = None,
    batch_size: int = 32,
) -> None:
    """Predict files, and every image in folders: a CSV row a slice; a bad file is a row with its error.

    Args:
        sources: image files, or folders that are searched through.
        model: a run folder, or a model on the Hub.
        out: the CSV: path, index, label, stroke_probability, error.
        revision: commit, tag or branch of a Hub model.
        batch_size: slices that go through the model at once.
    """
    from stroke_hub.inference import predict_paths
    from stroke_hub.model import ResNetViT

    if batch_size < 1:
        raise RunError(f"batch_size is {batch_size}, but must be at least 1.")
    if out.is_dir():
        raise RunError(f"{out}: is a folder; give the name of a CSV file.")
    table = predict_paths(ResNetViT.from_pretrained(model, revision=revision), sources, batch_size=batch_size)
    if table.empty:
        raise RunError("There is no image in what was given; name image files, or folders that hold some.")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, table.to_csv(index=False))
    bad = int((table["error"] != "").sum())
    say(f"{out}: {len(table)} rows, {bad} with an error")


@_command
def explain_folder(
    *,
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|OWNER/NAME")],
    data_dir: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    revision: Annotated[str | None, tyro.conf.arg(metavar="COMMIT")] = None,
    split: Literal["test", "train"] = "test",
    data_note: Annotated[str, tyro.conf.arg(metavar="WORDS")] = "",
) -> None:
    """Explain every slice of a dataset's split: maps, pictures and a page to look through, worst errors first.

    Args:
        model: a run folder, or a model on the Hub.
        data_dir: a dataset folder in the Kaggle layout.
        out: a new folder for index.html, explanations.csv, maps/ and pictures/.
        revision: commit, tag or branch of a Hub model.
        split: which part of the dataset.
        data_note: words that the page carries, for example what the data stand for.
    """
    from stroke_hub.gallery import write_gallery
    from stroke_hub.model import ResNetViT

    loaded = ResNetViT.from_pretrained(model, revision=revision)
    records = _read_noted(data_dir)
    note = data_note or _note_simulated(records)
    with making(out) as folder:
        page = write_gallery(loaded, records.part(split), records.root, folder, note=note)
    say(f"gallery: {out / page.name}")


def _read_noted(data_dir: Path) -> Records:
    records = read_records(data_dir)
    _tell_notes(records)
    return records


def _tell_notes(records: Records) -> None:
    for sentence in records.notes:
        say(f"note: {sentence}")


def _tell_figures(report_file: Path, split: str = "test") -> None:
    report = json.loads(report_file.read_text())
    for part in ("overall", "BT", "MR"):
        figures = report["test"][part]
        if figures["n"]:
            auroc, interval = figures["auroc"], figures["intervals"]["auroc"]
            words = "undefined" if auroc is None else f"{auroc:.4f}"
            if interval["low"] is not None:
                words += f" [{interval['low']:.4f}, {interval['high']:.4f}]"
            n = f"{figures['n']} slices of {figures['groups']} groups"
            say(f"{split} {part}: {n}, accuracy {figures['accuracy']:.4f}, AUROC {words}")


@_command
def write_sample_dataset(folder: Annotated[Path, tyro.conf.Positional] = SAMPLE_FOLDER, *, seed: int = 0) -> None:
    """Write the simulated sample dataset.

    Args:
        folder: where it goes.
        seed: decides every slice.
    """
    from stroke_hub.sample import write_sample

    say(f"sample dataset: {write_sample(folder, seed=seed)}")
