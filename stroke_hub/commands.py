"""The commands behind scripts/ and the installed `stroke-hub-*` programs: arguments in, modules called."""

import functools
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from stroke_hub.errors import RunError, StrokeHubError
from stroke_hub.files import making, write_text
from stroke_hub.folders import has_labels, has_splits, read_folder
from stroke_hub.processes import Tracker, first_goes_first
from stroke_hub.progress import is_first, say
from stroke_hub.records import Records, hash_records, read_records
from stroke_hub.train import TrainConfig, describe_variant, fit

if TYPE_CHECKING:
    from stroke_hub.audit import Audit
    from stroke_hub.model import ResNetViT

__all__ = [
    "audit_folder",
    "evaluate_model",
    "explain_folder",
    "predict_files",
    "publish_space",
    "report_runs",
    "train_and_push",
    "write_sample_dataset",
]

SAMPLE_FOLDER = Path("data/sample")
SAMPLE_NOTE = "simulated slices, not patients"
KAGGLE_NOTE = "Kaggle Multimodal Stroke Image Dataset"
PREDICTIONS_FILE = "predictions.csv"


@dataclass(frozen=True)
class PublishOptions:
    """How --push-to publishes a run."""

    private: bool = False
    """The repository, where it is made here, is private."""
    create_pr: bool = False
    """Open a pull request instead of committing."""
    revision: Annotated[str | None, tyro.conf.arg(metavar="BRANCH")] = None
    """The branch to commit to, instead of main."""
    tag: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """The tag of the commit; by default weights- and the first 8 digits of the weights' SHA-256."""
    update_card: bool = False
    """Renew the numbers in a card that was edited on the Hub."""
    half: bool = False
    """Store the weights as float16: half the download."""
    with_checkpoints: bool = False
    """Upload the checkpoints too."""
    with_onnx: bool = False
    """Upload the exported models in onnx/ too."""
    dry_run: bool = False
    """Only say what would be uploaded; no request is made."""

    def __post_init__(self) -> None:
        if self.create_pr and (self.revision or self.tag):
            raise RunError("--create-pr goes to main and gets no tag; leave --revision and --tag out.")


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
    publishing: PublishOptions = PublishOptions(),
    drop_leaks: bool = False,
    tracker: Annotated[Tracker | None, tyro.conf.arg(metavar="trackio|tensorboard|wandb")] = None,
    checkpoint_minutes: float = 10.0,
) -> None:
    """Audit a dataset, train on it, measure on its test slices once, explain, and push to the Hub if asked to.

    A finished run is not trained again; an interrupted one goes on.

    Args:
        config: what decides the training.
        data: sample: simulated slices, made on the spot; kaggle: the Multimodal Stroke Image Dataset, downloaded
            where no --data-dir is given. Without both, kaggle is meant.
        data_dir: a dataset folder in the Kaggle layout, or where the sample dataset goes.
        data_note: words that every figure and report of this run carries, for example what the data stand for.
        run_dir: the run folder; by default runs/<dataset>-<preset>-<recipe>-seed<seed> and what sets it apart.
        push_to: a Hub repository, as owner/name; name and right to write are checked before the training.
        publishing: how it is published.
        drop_leaks: leave training images out that stand in test too; the audit looks for them in any case.
        tracker: passes the figures of every epoch on; nothing leaves the machine unless its own settings say so.
        checkpoint_minutes: how much work a crash may cost; there is a checkpoint after every epoch too.
    """
    from stroke_hub.audit import AUDIT_FILE, assign_groups, audit, read_audit, write_audit
    from stroke_hub.audit import drop_leaks as leave_out

    if push_to:
        from stroke_hub.hub import check_access, check_name

        check_name(push_to)
        if not publishing.dry_run:
            check_access(push_to, create_pr=publishing.create_pr)
    with first_goes_first():
        records, name, note = _find_data(data, data_dir, data_note)
    _tell_notes(records)
    variant = describe_variant(config)
    run_dir = run_dir or Path("runs") / _name_run(name, config)
    found = read_audit(run_dir, records) or audit(records)
    _tell_findings(found)
    kept = assign_groups(leave_out(records, found) if drop_leaks else records, found)
    fit(config, kept, run_dir, tracker=tracker, checkpoint_minutes=checkpoint_minutes)
    if not is_first():
        return
    if not (run_dir / AUDIT_FILE).is_file():
        write_audit(found, records, run_dir)
    records = kept
    _evaluate_once(run_dir, records, name, "; ".join(filter(None, (note, variant))))
    if push_to:
        from stroke_hub.hub import publish

        address = publish(run_dir, push_to, **asdict(publishing))
        say(f"published: {address}" if address else "nothing was published, as this was a dry run.")


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
    from stroke_hub.report import REPORT_FILE, evaluate_run

    if (run_dir / REPORT_FILE).is_file():
        say(f"{run_dir}: evaluated already.")
    else:
        evaluate_run(run_dir, records, name=name, note=note)
    _tell_figures(run_dir / REPORT_FILE)
    say(f"run folder: {run_dir}; its report: {run_dir / 'report.html'}")


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
    compare: bool = False,
) -> None:
    """Measure any run or Hub model on any folder of slices, and explain chosen ones; without labels, predict only.

    Args:
        model: a run folder, or a model on the Hub.
        data_dir: a dataset folder in the Kaggle layout, or any folder of slices whose classes are told by folder
            names or by an index.csv with the columns path and label.
        out: a new folder for report.json, the CSVs and the figures; without labels for predictions.csv.
        revision: commit, tag or branch of a Hub model.
        split: which part of the dataset.
        data_note: words that every figure carries, for example what the data stand for.
        compare: print the model's own report beside the new figures; where one is outside the interval that the
            report gives, the exit status is 1.
        faithfulness: measure too whether the maps of the stroke slices are true (about 2 CPU-seconds a slice).
    """
    from stroke_hub.model import ResNetViT
    from stroke_hub.report import REPORT_FILE, evaluate, find_report, read_report

    loaded = ResNetViT.from_pretrained(model, revision=revision)
    records = _read_any(data_dir, split)
    _tell_notes(records)
    if not has_labels(records):
        _predict_only(loaded, records, out)
        return
    note = data_note or _note_simulated(records)
    data = {"name": _name_dataset(records), "note": note, "split": split, "notes": list(records.notes)}
    about = {
        "data": data | {"sha256": hash_records(records)},
        "model": {"source": model, "revision": loaded.commit or revision},
    }
    own = find_report(model, loaded.commit or revision)
    about["calibration"] = own["calibration"] if own else None
    with making(out) as folder:
        evaluate(
            loaded,
            records.part(split).assign(split="test"),
            records.root,
            folder,
            about=about,
            operating_points=own["operating_points"] if own else None,
            faithfulness=faithfulness,
        )
    _tell_figures(out / REPORT_FILE, split)
    say(f"evaluation: {out}")
    if compare:
        _compare_with_own(own, read_report(out), model)


def _compare_with_own(own: dict[str, Any] | None, new: dict[str, Any], model: str) -> None:
    from stroke_hub.comparison import compare_reports

    if own is None:
        raise RunError(f"{model}: has no report of its own to compare with.")
    lines, agree = compare_reports(own, new)
    print("\n".join(lines))
    if not agree:
        raise RunError("A figure is outside the interval that the model's own report gives for it.")


def _read_any(data_dir: Path, split: str) -> Records:
    """The records of a folder in the Kaggle layout, or else of whatever lies in it."""
    if has_splits(data_dir):
        return read_records(data_dir)
    records = read_folder(data_dir)
    if split != "test":
        raise RunError(f"{data_dir}: has no train and test folders, so all of it is test; leave --split out.")
    return records


def _predict_only(model: "ResNetViT", records: Records, out: Path) -> None:
    """Write out/predictions.csv, with paths from the folder that was read; a bad file is a row with its error."""
    from stroke_hub.inference import predict_paths

    with making(out) as folder:
        table = predict_paths(model, [records.root / path for path in records.table["path"]])
        table["path"] = [Path(path).relative_to(records.root).as_posix() for path in table["path"]]
        write_text(folder / PREDICTIONS_FILE, table.to_csv(index=False))
    bad = int((table["error"] != "").sum())
    say(f"predictions only: {out / PREDICTIONS_FILE}, {len(table)} rows, {bad} with an error")


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


@_command
def audit_folder(
    *,
    data_dir: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
) -> None:
    """Look for leaks in a dataset: one picture twice, one patient on both sides, uneven classes.

    Args:
        data_dir: a dataset folder in the Kaggle layout.
        out: a new folder for audit.json, audit.csv and pictures of the pairs.
    """
    from stroke_hub.audit import audit, write_audit

    records = _read_noted(data_dir)
    with making(out) as folder:
        found = audit(records)
        write_audit(found, records, folder)
    _tell_findings(found)
    say(f"audit: {out}")


def _tell_findings(found: "Audit") -> None:
    for finding in found.summary["findings"]:
        say(f"{finding['level']}: {finding['sentence']}")


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
def publish_space(
    *,
    repo_id: Annotated[str, tyro.conf.arg(metavar="OWNER/SPACE")],
    model: Annotated[str, tyro.conf.arg(metavar="OWNER/NAME")],
    revision: Annotated[str, tyro.conf.arg(metavar="COMMIT")] = "main",
    private: bool = False,
) -> None:
    """Put the demo into a Gradio Space, with the package beside it and the model pinned to a commit.

    Args:
        repo_id: the Space; made where there is none.
        model: the model on the Hub.
        revision: the Space shows the commit that this is now.
        private: of a Space that is made here.
    """
    from stroke_hub.hub import check_access
    from stroke_hub.space import push_space

    check_access(repo_id)
    say(f"Space: {push_space(repo_id, model, revision=revision, private=private)}")


@_command
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
    from stroke_hub.comparison import compare as compare_runs
    from stroke_hub.comparison import write_comparison
    from stroke_hub.page import write_page
    from stroke_hub.report import read_report

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
    from stroke_hub.summary import say_interval

    a, b = (result[side]["folder"] for side in "ab")
    counts = f"{result['n']} slices in both, {result['n_stroke']} strokes, {result['groups']} patients or groups"
    lines = [f"a: {a}", f"b: {b}", counts, "95 % intervals over patients; a minus b over the same resamples", ""]
    lines.append(f"{'':18}{'a':24}{'b':24}a - b")
    for name, cell in result["metrics"].items():
        words = [say_interval(cell[side]) for side in ("a", "b", "difference")]
        lines.append(f"{name.replace('_', ' '):18}{words[0]:24}{words[1]:24}{words[2]}")
    notes = {result[side]["note"] for side in "ab"} - {""}
    return "\n".join([*lines, *(f"Every figure is of: {note}." for note in sorted(notes))])


@_command
def write_sample_dataset(folder: Annotated[Path, tyro.conf.Positional] = SAMPLE_FOLDER, *, seed: int = 0) -> None:
    """Write the simulated sample dataset.

    Args:
        folder: where it goes.
        seed: decides every slice.
    """
    from stroke_hub.sample import write_sample

    say(f"sample dataset: {write_sample(folder, seed=seed)}")
