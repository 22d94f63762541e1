"""The command train: audit, train, evaluate, explain, publish."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from stroke_hub.cli.common import (
    check_data,
    find_data,
    program,
    tell_figures,
    tell_findings,
    tell_notes,
)
from stroke_hub.cli.push import PublishOptions, publish_run
from stroke_hub.data.records import Records
from stroke_hub.data.splits import apply_split
from stroke_hub.datasets.slice_rules import SliceRules
from stroke_hub.errors import RunError
from stroke_hub.progress import is_first, say
from stroke_hub.runs.train_config import AdvancedConfig, CommonConfig, Tracker, TrainConfig, describe_variant

__all__ = ["train_and_push"]


@dataclass(frozen=True)
class RunOptions:
    """How often is trained, how the dataset is divided and what a run says of itself."""

    seeds: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """This many trainings, from --seed on, each in a folder seed-N of the run folder. The report of the first says
    how far their figures lie apart; the model of the first is published."""
    data_note: Annotated[str, tyro.conf.arg(metavar="WORDS")] = ""
    """Words that every figure and report of this run carries, for example what the data stand for."""
    drop_leaks: bool = False
    """Leave training images out that stand in test too; the audit looks for them in any case."""
    split_file: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv")] = None
    """Divide the dataset as the split.csv of another run does."""
    tracker: Annotated[Tracker | None, tyro.conf.arg(metavar="trackio|tensorboard|wandb")] = None
    """Pass the figures of every epoch on; nothing leaves the machine unless its own settings say so."""
    checkpoint_minutes: float = 10.0
    """How much work a crash may cost, in minutes; there is a checkpoint after every epoch too."""


@program
def train_and_push(
    *,
    data: Annotated[str | None, tyro.conf.arg(metavar="sample|kaggle|hf://OWNER/NAME")] = None,
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    run_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    push_to: Annotated[str | None, tyro.conf.arg(metavar="OWNER/NAME")] = None,
    folds: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    training: CommonConfig = CommonConfig(),  # noqa: B008  frozen
    advanced: RunOptions = RunOptions(),
    advanced_training: AdvancedConfig = AdvancedConfig(),  # noqa: B008
    advanced_slices: SliceRules = SliceRules(),  # noqa: B008
    advanced_publishing: PublishOptions = PublishOptions(),  # noqa: B008
) -> None:
    """Train on a dataset: audit it, train, measure on the test slices once, explain, and publish if asked to.

    A finished run is not trained again; an interrupted one goes on.

    Args:
        data: sample: simulated slices, made on the spot; kaggle: the Multimodal Stroke Image Dataset, downloaded
            where no --data-dir is given; or a dataset on the Hub. Without both, kaggle is meant.
        data_dir: a dataset folder in the Kaggle layout, a dataset of scans (BIDS, nnU-Net, RSNA 2019, CT-ICH,
            CQ500), a CSV of images with labels or masks, or where the sample dataset goes.
        run_dir: the run folder; by default runs/<dataset>-<preset>-<recipe>-seed<seed> and what sets it apart.
        push_to: publish the run as this Hub repository; name and right to write are checked before the training.
        folds: grouped cross-validation on the training slices instead: a run a fold, out-of-fold predictions, the
            test slices left alone.
        training: what most trainings set.
        advanced: what few runs set.
        advanced_training: what few trainings set.
        advanced_slices: how slices are made of a dataset of scans.
        advanced_publishing: how --push-to publishes the run.
    """
    config = TrainConfig(**vars(training), **vars(advanced_training))
    drop_leaks, split_file, seeds = advanced.drop_leaks, advanced.split_file, advanced.seeds
    recipe = config.resolve().recipe  # what cannot be shows before the audit
    if folds is not None and folds < 2:
        raise RunError(f"folds is {folds}, but must be at least 2.")
    if seeds is not None and (folds or seeds < 2):
        wrong = "goes without --folds" if folds else f"is {seeds}, but must be at least 2"
        raise RunError(f"--seeds {wrong}.")
    if split_file and not split_file.is_file():
        raise RunError(f"{split_file}: is no file; give the split.csv of a run.")
    check_data(data)
    from stroke_hub.audit.leaks import assign_groups, audit, read_audit, write_audit
    from stroke_hub.audit.leaks import drop_leaks as leave_out
    from stroke_hub.runs.run_folder import AUDIT_FILE, TRAIN_CONFIG_FILE
    from stroke_hub.training.distributed import first_goes_first
    from stroke_hub.training.fit import fit

    if push_to:
        from stroke_hub.deploy.hub import check_access, check_name

        if folds:
            raise RunError("Cross-validation makes no one model to publish; leave --push-to or --folds out.")
        check_name(push_to)
        if not advanced_publishing.dry_run:
            check_access(push_to, create_pr=advanced_publishing.create_pr)
    with first_goes_first():
        records, name, note = find_data(data, data_dir, advanced.data_note, advanced_slices)
    tell_notes(records)
    variant = describe_variant(config)
    run_dir = run_dir or Path("runs") / _name_run(name, config, recipe, folds, seeds)
    runs = {config.seed + k: run_dir / f"seed-{config.seed + k}" for k in range(seeds or 0)} or {
        config.seed: run_dir
    }
    if seeds and (run_dir / TRAIN_CONFIG_FILE).is_file():
        raise RunError(f"{run_dir}: is the folder of a single training; choose another --run-dir for several.")
    first = runs[config.seed]
    found = read_audit(first, records) or audit(records)
    tell_findings(found)
    kept = assign_groups(leave_out(records, found) if drop_leaks else records, found)
    if split_file:
        kept = apply_split(kept, split_file)
    tell_notes(replace(kept, notes=kept.notes[len(records.notes) :]))
    if folds:
        _cross_validate(config, kept, run_dir, folds)
        return
    for number, (seed, run) in enumerate(runs.items(), start=1):
        if seeds:
            say(f"training {number} of {seeds}: seed {seed}")
        one = replace(config, seed=seed)
        fit(one, kept, run, tracker=advanced.tracker, checkpoint_minutes=advanced.checkpoint_minutes)
    if not is_first():
        return
    options = ["--drop-leaks"] * drop_leaks + (["--split-file", split_file.name] if split_file else [])
    options += advanced_slices.to_options()
    for run in runs.values():
        if not (run / AUDIT_FILE).is_file():
            write_audit(found, records, run)
        _evaluate_once(run, kept, name, "; ".join(filter(None, (note, variant))), options)
    if seeds:
        _tell_trainings([*runs.values()])
    if push_to:
        publish_run(first, push_to, advanced_publishing, records=kept, name=name)


def _tell_trainings(runs: list[Path]) -> None:
    """Put the spread between trainings into the report of the first, and say it."""
    from stroke_hub.evaluation.trainings import record_trainings
    from stroke_hub.report.sentences import describe_trainings

    for sentence in describe_trainings(record_trainings(runs)):
        say(sentence)
    say(f"the model of these trainings: {runs[0]}; its report: {runs[0] / 'report.html'}")


def _cross_validate(config: TrainConfig, records: Records, run_dir: Path, folds: int) -> None:
    from stroke_hub.report.formatting import format_interval
    from stroke_hub.training.cross_validation import cross_validate

    result = cross_validate(config, records, run_dir, folds=folds)
    for name, figures in [*enumerate(result["folds"]), ("pooled", result["pooled"])]:
        auroc = figures["intervals"]["auroc"]
        words = format_interval(auroc["value"], auroc["low"], auroc["high"])
        say(f"fold {name}: {figures['n']} slices of {figures['groups']} groups, held-out AUROC {words}")
    say(f"cross-validation: {run_dir}")


def _name_run(name: str, config: TrainConfig, recipe: str, folds: int | None, seeds: int | None) -> str:
    marks = [f"{config.branches}-only"] if config.branches != "both" else []
    marks += ["shuffled"] if config.shuffle_labels else []
    marks += [f"{folds}-folds"] if folds else []
    last = f"-{config.seed + seeds - 1}" if seeds else ""
    return "-".join([name, config.preset, recipe, *marks, f"seed{config.seed}{last}"])


def _evaluate_once(run_dir: Path, records: Records, name: str, note: str, options: list[str]) -> None:
    """Measure a trained run on its test slices, unless its report is there."""
    from stroke_hub.evaluation.evaluate import evaluate_run
    from stroke_hub.runs.report import REPORT_FILE, read_report

    if (run_dir / REPORT_FILE).is_file():
        say(f"{run_dir}: evaluated already.")
    else:
        evaluate_run(run_dir, records, name=name, note=note, options=options)
    tell_figures(read_report(run_dir))
    say(f"run folder: {run_dir}; its report: {run_dir / 'report.html'}")
