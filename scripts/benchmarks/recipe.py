"""Which ingredients of training help: every recipe trained on one dataset, measured on the same test slices.

Each row of the table is trained once for every seed; a seed has a validation split of its own, too. What a cell
holds is the seed in the middle (of an even number the lower of the two) by that cell's figure, with that seed's
95 % interval over patients: the mean of the seeds' probabilities would be an ensemble, which no run is, and
flatter a recipe that scatters. How far the seeds lie apart stands beside it.
"""

import json
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import tyro
from benchmarks.timing import Row
from numpy.typing import NDArray
from scipy.stats import t as student

from stroke_hub import PRESETS, Records, ResNetViT, fit, predict, read_records, write_sample
from stroke_hub.baselines import score_baselines
from stroke_hub.errors import RunError
from stroke_hub.files import write_text
from stroke_hub.intervals import bootstrap_intervals, paired_bootstrap, resample_groups
from stroke_hub.loader import decode_squares
from stroke_hub.metrics import auroc, choose_threshold
from stroke_hub.progress import say, track
from stroke_hub.records import hash_records
from stroke_hub.settings import TrainConfig
from stroke_hub.summary import say_interval
from stroke_hub.train import TRAIN_CONFIG_FILE, is_trained, read_split

Group = Literal["main", "ablation", "control"]
Floats = NDArray[np.float64]

SHUFFLES = 5  # at least, of the random-label control
SIMULATED_SEED = 2  # 0 is the quickstart's dataset, 1 the README's fresh one
METRICS = ("auroc", "average_precision", "sensitivity", "roc_sensitivity")
PREDICTIONS_FILE, SECONDS_FILE = "recipe_predictions.csv", "recipe_seconds.txt"


@dataclass(frozen=True)
class Recipe:
    """A row that is trained: what it changes of the robust recipe."""

    words: str
    group: Group
    changes: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    "seed": Recipe("the notebook's recipe", "main", {"recipe": "seed"}),
    "plain": Recipe("plain", "main", {"recipe": "plain"}),
    "robust": Recipe("**robust**", "main"),
    "cnn-only": Recipe("robust, CNN only", "main", {"branches": "cnn"}),
    "vit-only": Recipe("robust, ViT only", "main", {"branches": "vit"}),
    "init-from": Recipe(
        "robust, pretrained on simulated slices", "main", {"cnn_weights": None, "vit_weights": None}
    ),
    "no-layer-decay": Recipe(
        "robust without layer decay", "ablation", {"cnn_layer_decay": 1.0, "vit_layer_decay": 1.0}
    ),
    "no-schedule": Recipe("robust without warm-up and cosine", "ablation", {"schedule": "constant"}),
    "no-frozen-norm": Recipe("robust without frozen BatchNorm", "ablation", {"freeze_batch_norm": False}),
    "no-ema": Recipe("robust without averaged weights", "ablation", {"ema_decay": 0.0}),
    "no-class-weights": Recipe("robust without class weights", "ablation", {"class_weights": False}),
    "no-mild": Recipe("robust with the notebook's augmentation", "ablation", {"augmentation": "seed"}),
    "no-head-first": Recipe("robust without the head first", "ablation", {"head_epochs": 0}),
    "no-clipping": Recipe("robust without clipping", "ablation", {"clip_norm": 0.0}),
    "no-weight-decay": Recipe(
        "robust with the notebook's weight decay", "ablation", {"weight_decay": 1e-4, "decay_norms": True}
    ),
    "probe": Recipe("probe: the head alone, 35 epochs", "control", {"probe": True, "epochs": 35}),
    "shuffled": Recipe("robust on shuffled labels", "control", {"shuffle_labels": True}),
}
BASELINES = {
    "trivial-logistic": "head area, grey level, slice number: logistic regression",
    "trivial-boosted": "the same: boosted trees",
}
NAMES = (*RECIPES, *BASELINES)


# --- what is trained ----------------------------------------------------------------------------------------


def choose_rows(groups: Sequence[Group], only: Sequence[str]) -> list[str]:
    """The names of the rows asked for: all of the groups and those named; without both, all.

    Raises
    ------
    RunError : there is no such row.
    """
    unknown = sorted(set(only) - set(NAMES))
    if unknown:
        raise RunError(f"--only {' '.join(unknown)}: there is no such row; the rows are {', '.join(NAMES)}.")
    if not groups and not only:
        return list(NAMES)
    of = {name: recipe.group for name, recipe in RECIPES.items()} | dict.fromkeys(BASELINES, "control")
    return [name for name in NAMES if of[name] in groups or name in only]


def plan_runs(base: TrainConfig, seeds: Sequence[int], out: Path) -> dict[tuple[str, int], TrainConfig]:
    """The configuration of every row and seed; rows in which nothing differs from robust are left out."""
    planned = {}
    for name, recipe in RECIPES.items():
        changes: dict[str, Any] = {"recipe": "robust"} | recipe.changes
        if name == "init-from":
            changes["init_from"] = str(out / "pretraining")
        config = replace(base, **changes)
        if name != "robust" and config.resolve() == replace(base, recipe="robust").resolve():
            continue  # say, layer decay where no weights are given
        more = [seed for seed in range(len(seeds) + SHUFFLES) if seed not in seeds]
        missing = max(0, SHUFFLES - len(seeds)) if config.shuffle_labels else 0
        planned |= {(name, seed): replace(config, seed=seed) for seed in [*seeds, *more[:missing]]}
    return planned


def train_run(config: TrainConfig, records: Records, run_dir: Path) -> None:
    """Train one run, or go on with it, and keep what it says of its validation and test slices."""
    with counting_seconds(run_dir):
        fit(config, records, run_dir)
    if (run_dir / PREDICTIONS_FILE).is_file():
        return
    model, table = ResNetViT.from_pretrained(run_dir), read_split(run_dir)
    table = table[table["split"] != "train"]
    probability = predict(model, decode_squares(model, records.root, table["path"])).probability
    write_text(run_dir / PREDICTIONS_FILE, table.assign(probability=probability).to_csv(index=False))


def pretrain(base: TrainConfig, out: Path, *, patients: int, epochs: int) -> None:
    """One robust run on simulated slices, from which every seed of the row init-from starts."""
    simulated = read_records(write_sample(out / "simulated", patients=patients, seed=SIMULATED_SEED))
    with counting_seconds(out / "pretraining"):
        fit(replace(base, recipe="robust", epochs=epochs), simulated, out / "pretraining")


@contextmanager
def counting_seconds(run_dir: Path) -> Iterator[None]:
    """Add this process's CPU seconds to a file of the run, every few seconds: a killed run's count too."""
    file, done, start = run_dir / SECONDS_FILE, threading.Event(), time.process_time()
    if is_trained(run_dir):
        yield
        return
    before = float(file.read_text()) if file.is_file() else 0.0

    def note() -> None:
        if (run_dir / TRAIN_CONFIG_FILE).is_file():  # before that, the folder is not a run's yet
            write_text(file, f"{before + time.process_time() - start:.1f}\n")

    def repeat() -> None:
        while not done.wait(5):
            note()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        note()


def predict_baselines(records: Records, out: Path, *, image_size: int) -> pd.DataFrame:
    """The test slices with a column of probabilities for each trivial baseline; found again where it was made."""
    file = out / f"baselines-{hash_records(records)[:12]}-{image_size}.csv"
    if not file.is_file():
        # the squares are what is looked at; the network that they are cut for is of no account
        model = ResNetViT(**PRESETS["tiny"] | {"image_size": image_size})
        found = score_baselines(model, records.table, records.root, shuffles=0)
        columns = {name: found[name.replace("-", "_")].probability for name in BASELINES}
        write_text(file, records.part("test").assign(**columns).to_csv(index=False))
    return read_predictions(file)


def read_predictions(file: Path) -> pd.DataFrame:
    """A table of slices with probabilities, to the bit as they were."""
    return pd.read_csv(file, dtype={"path": str, "group": str}, float_precision="round_trip")


# --- what it is worth ---------------------------------------------------------------------------------------


def measure_run(table: pd.DataFrame, *, replicates: int) -> dict[str, Any]:
    """The figures of one run from its predictions (path, label, group, split, probability).

    "sensitivity" and "specificity" are those of the threshold that has 95 % specificity on the validation slices;
    where none has, nobody is called Stroke. "roc_sensitivity" is read off the test slices' own ROC curve.
    """
    val, test = (table[table["split"] == split] for split in ("val", "test"))
    threshold = None
    found: dict[str, Any] = {"val_auroc": None}
    if len(val):
        label = val["shuffled_label" if "shuffled_label" in val else "label"].to_numpy(np.int64)
        probability = val["probability"].to_numpy(np.float64)
        found["val_auroc"] = auroc(label, probability)
        threshold = choose_threshold(label, probability, rule="specificity95")
    label, probability, group = read_columns(test)
    at = float("inf") if threshold is None else threshold
    measured = bootstrap_intervals(label, probability, group, threshold=at, replicates=replicates)
    chosen = ("auroc", "average_precision", "sensitivity", "specificity")
    found |= {"threshold": threshold} | {name: measured[name] for name in chosen}
    if not len(val):
        found |= {"sensitivity": None, "specificity": None}
    return found | {"roc_sensitivity": measure_roc_point(label, probability, group, replicates=replicates)}


def read_columns(test: pd.DataFrame, column: str = "probability") -> tuple[NDArray[np.int64], Floats, list[str]]:
    """Labels, probabilities and groups of test slices."""
    return test["label"].to_numpy(np.int64), test[column].to_numpy(np.float64), test["group"].tolist()


def measure_roc_point(
    label: NDArray[np.int64], probability: Floats, group: Sequence[str], *, replicates: int
) -> dict[str, Any]:
    """Sensitivity where the slices' own ROC curve has 95 % specificity, and its percentile interval over patients.

    The point is found anew in every resample.
    """
    order = np.argsort(-probability, kind="stable")
    stroke = label[order] == 1
    last = np.append(np.flatnonzero(np.diff(probability[order])), len(label) - 1)  # of each tie
    names, index = np.unique(np.asarray(group)[order], return_inverse=True)

    def find(counts: Floats) -> Floats:
        tp, fp = (np.cumsum(counts[:, index] * of, axis=1)[:, last] for of in (stroke, ~stroke))
        with np.errstate(invalid="ignore"):  # a resample without a class is left out
            allowed = (fp[:, -1:] - fp) / fp[:, -1:] >= 0.95
            sensitivity: Floats = np.max(np.where(allowed, tp, 0.0), axis=1) / tp[:, -1]
        return np.where(fp[:, -1] > 0, sensitivity, np.nan)

    drawn = np.concatenate([find(counts) for counts in resample_groups(len(names), replicates, seed=0)])
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    value = float(find(np.ones((1, len(names))))[0])
    return {"value": value, "low": float(low), "high": float(high), "method": "percentile bootstrap of groups"}


def measure_row(
    name: str, tables: Mapping[int, pd.DataFrame], seconds: Mapping[int, float | None], *, replicates: int
) -> dict[str, Any]:
    """A row of the result: its seeds, and of each metric the middle one."""
    runs = [
        {"seed": seed, "cpu_seconds": seconds.get(seed)} | measure_run(table, replicates=replicates)
        for seed, table in tables.items()
    ]
    row: dict[str, Any] = {"name": name, "words": RECIPES[name].words if name in RECIPES else BASELINES[name]}
    row |= {"group": RECIPES[name].group if name in RECIPES else "control", "seeds": [run["seed"] for run in runs]}
    for metric in METRICS:
        row[metric] = find_middle(runs, metric)[metric]
    row["specificity"] = find_middle(runs, "sensitivity")["specificity"]
    for figure in ("val_auroc", "cpu_seconds"):
        known = [run[figure] for run in runs if run[figure] is not None]
        row[figure] = statistics.median_low(known) if known else None
    if name == "shuffled":
        row["control"] = average_shuffles([run["auroc"]["value"] for run in runs])
    return row | {"runs": runs}


def find_middle(runs: Sequence[dict[str, Any]], metric: str) -> dict[str, Any]:
    """The run in the middle by a metric; of an even number the lower one."""
    ranked = sorted(runs, key=lambda run: run[metric]["value"] if run[metric] else 0.0)
    return ranked[(len(ranked) - 1) // 2]


def average_shuffles(aurocs: Sequence[float]) -> dict[str, Any]:
    """Mean test AUROC of trainings on shuffled labels, and its 95 % interval by Student's t over the shuffles.

    The test slices are fixed: the interval says whether this evaluation rewards knowing nothing.
    """
    mean, count = statistics.fmean(aurocs), len(aurocs)
    if count < 2:
        return {"mean": mean, "low": None, "high": None, "holds_half": None}
    reach = float(student.ppf(0.975, count - 1)) * statistics.stdev(aurocs) / count**0.5
    return {"mean": mean, "low": mean - reach, "high": mean + reach, "holds_half": abs(mean - 0.5) <= reach}


def compare_rows(
    row: dict[str, Any],
    other: dict[str, Any],
    tables: Mapping[int, pd.DataFrame],
    others: Mapping[int, pd.DataFrame],
    *,
    replicates: int,
) -> dict[str, Any]:
    """AUROC of a row minus that of `other`, middle seeds, over the same resamples of patients.

    "better" of "pairs" counts the seeds that both have in which the row's AUROC is higher.
    """
    a, b = (
        of[find_middle(one["runs"], "auroc")["seed"]].query("split == 'test'").sort_values("path")
        for one, of in ((row, tables), (other, others))
    )
    if a["path"].tolist() != b["path"].tolist():
        raise RunError(f"{row['name']} and {other['name']} were measured on other slices; choose another --out.")
    label, first, group = read_columns(a)
    difference = paired_bootstrap(
        label, first, read_columns(b)[1], group, threshold_a=0.5, threshold_b=0.5, replicates=replicates
    )["auroc"]
    ours, theirs = ({run["seed"]: run["auroc"]["value"] for run in one["runs"]} for one in (row, other))
    shared = sorted(ours.keys() & theirs.keys())
    return difference | {"better": sum(ours[seed] > theirs[seed] for seed in shared), "pairs": len(shared)}


# --- the table ----------------------------------------------------------------------------------------------


def collect(
    planned: Mapping[tuple[str, int], TrainConfig], records: Records, out: Path, *, size: int, replicates: int
) -> list[dict[str, Any]]:
    """Measure every row of which a run is finished, whichever call trained it."""
    tables: dict[str, dict[int, pd.DataFrame]] = {}
    seconds: dict[str, dict[int, float | None]] = {}
    for name, seed in planned:
        run_dir = out / f"{name}-seed{seed}"
        if is_trained(run_dir) and (run_dir / PREDICTIONS_FILE).is_file():
            tables.setdefault(name, {})[seed] = read_predictions(run_dir / PREDICTIONS_FILE)
            file = run_dir / SECONDS_FILE
            seconds.setdefault(name, {})[seed] = float(file.read_text()) if file.is_file() else None
    if list(out.glob("baselines-*.csv")):
        found = predict_baselines(records, out, image_size=size)
        for name in BASELINES:
            tables[name] = {0: found.assign(probability=found[name], split="test")}
    rows = {}
    for name in track(tables, "measuring, with intervals over patients"):
        rows[name] = measure_row(name, tables[name], seconds.get(name, {}), replicates=replicates)
    for name, row in rows.items():
        if "robust" in rows and name not in ("robust", "shuffled"):
            row["difference"] = compare_rows(
                row, rows["robust"], tables[name], tables["robust"], replicates=replicates
            )
    return list(rows.values())


HEADER = (
    "| | validation AUROC | test AUROC | each seed | minus robust (seeds above it) | average precision "
    "| sensitivity, threshold of 95 % specificity on validation (specificity on test) "
    "| sensitivity where the test slices' ROC curve has 95 % | CPU s |\n|---|---|---|---|---|---|---|---|---|"
)


def write_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    return "\n".join([HEADER, *(write_line(row) for row in rows)])


def write_line(row: dict[str, Any]) -> str:
    """One row as Markdown."""
    control, runs = row.get("control"), row["runs"]
    each = ", ".join(f"{run['auroc']['value']:.3f}" for run in runs) if len(runs) > 1 else ""
    first = f"{row['words']} (mean of {len(runs)})" if control else row["words"]
    validation = "" if row["val_auroc"] is None else f"{row['val_auroc']:.3f}"
    seconds = "" if row["cpu_seconds"] is None else f"{row['cpu_seconds']:.0f}"
    if control:
        cells = [first, "", say_interval(control | {"value": control["mean"]}), each, "", "", "", ""]
        return f"| {' | '.join([*cells, seconds])} |"
    sensitivity = ""
    if row["sensitivity"]:
        sensitivity = f"{say_interval(row['sensitivity'])} ({row['specificity']['value']:.3f})"
    cells = [first, validation, say_interval(row["auroc"]), each, say_difference(row.get("difference"))]
    cells += [say_interval(row["average_precision"]), sensitivity, say_interval(row["roc_sensitivity"])]
    return f"| {' | '.join([*cells, seconds])} |"


def say_difference(difference: dict[str, Any] | None) -> str:
    """A difference with its interval, signed, and in how many seeds it is above 0."""
    if difference is None:
        return ""
    words = f"{difference['value']:+.3f}"
    if difference["low"] is not None:
        words += f" [{difference['low']:+.3f}, {difference['high']:+.3f}]"
    return words + (f" ({difference['better']} of {difference['pairs']})" if difference["pairs"] > 1 else "")


def judge(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the differences to robust show, and what they do not."""
    gaps = {row["name"]: row["difference"] for row in rows if row.get("difference")}
    words = {row["name"]: row["words"] for row in rows}
    ablated = [row["name"] for row in rows if row["group"] == "ablation" and row["name"] in gaps]
    sentences = []
    for verdict, holds in (
        ("An ingredient is shown to help (AUROC lower without it, interval below 0)", lambda gap: is_below(gap)),
        ("It is shown to hurt", lambda gap: gap["low"] is not None and gap["low"] > 0),
        ("Not shown to do either", lambda gap: not is_below(gap) and (gap["low"] is None or gap["low"] <= 0)),
    ):
        if ablated:
            named = [words[name] for name in ablated if holds(gaps[name])]
            sentences.append(f"{verdict}: {'; '.join(named) or 'none'}.")
    for name in ("cnn-only", "vit-only", "seed", "plain", *BASELINES):
        if name in gaps:
            shown = "is better than" if is_below(gaps[name]) else "is not shown to be better than"
            sentences.append(f"robust with both branches {shown} this row: {words[name]}.")
    for row in rows:
        if control := row.get("control"):
            held = {None: "one shuffle has no interval", True: "which holds 0.5", False: "which does not hold 0.5"}
            cell = say_interval(control | {"value": control["mean"]})
            sentences.append(f"Shuffled labels give a mean test AUROC of {cell}, {held[control['holds_half']]}.")
    return sentences


def is_below(gap: dict[str, Any]) -> bool:
    """Whether a difference's interval lies below 0."""
    return gap["high"] is not None and gap["high"] < 0


def compare_recipes(
    base: TrainConfig,
    records: Records,
    out: Path,
    *,
    chosen: Sequence[str] = NAMES,
    seeds: Sequence[int] = (0, 1, 2),
    note: str = "",
    pretrain_patients: int = 880,
    pretrain_epochs: int | None = None,
    replicates: int = 10_000,
) -> list[dict[str, Any]]:
    """Train the chosen rows, measure all that are finished, write recipe.md and recipe.json.

    Parameters
    ----------
    base : backbones, weights, size and epochs of every row.
    out : the folder of the run folders, one a row and seed; what is finished there is not trained again.
    chosen : names of `NAMES`.
    note : what the data stand for.

    Returns
    -------
    The rows, as recipe.json has them.

    Raises
    ------
    RunError : the folder holds runs of other settings or other data.
    DatasetError : a slice cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    size = base.resolve().image_size or 0
    planned = plan_runs(base, seeds, out)
    for name in (name for name in chosen if name in RECIPES and (name, seeds[0]) not in planned):
        say(f"{name}: left out, as robust has nothing to take away here.")
    jobs = [(name, seed) for name, seed in planned if name in chosen]
    for place, (name, seed) in enumerate(track(jobs, "recipes"), start=1):
        say(f"{place}/{len(jobs)}: {RECIPES[name].words.strip('*')}, seed {seed}")
        if name == "init-from":
            pretrain(base, out, patients=pretrain_patients, epochs=pretrain_epochs or base.epochs)
        train_run(planned[name, seed], records, out / f"{name}-seed{seed}")
    if set(chosen) & set(BASELINES):
        predict_baselines(records, out, image_size=size)
    rows = collect(planned, records, out, size=size, replicates=replicates)
    about = describe(base, records, out, note)
    sentences = judge(rows)
    result = {"about": about, "rows": rows, "sentences": sentences}
    write_text(out / "recipe.json", json.dumps(result, indent=2, allow_nan=False) + "\n")
    write_text(out / "recipe.md", "\n\n".join([write_words(about), write_table(rows), " ".join(sentences)]) + "\n")
    return rows


def describe(base: TrainConfig, records: Records, out: Path, note: str) -> dict[str, Any]:
    """What all rows have in common."""
    config, test = base.resolve(), records.part("test")
    names = {branch: Path(getattr(config, f"{branch}_weights") or "").name for branch in ("cnn", "vit")}
    pretrained = out / "pretraining" / SECONDS_FILE
    return {
        "note": note,
        "notes": list(records.notes),
        "data_sha256": hash_records(records),
        "test": {"n": len(test), "n_stroke": int(test["label"].sum()), "groups": int(test["group"].nunique())},
        "cnn": f"{config.cnn} ({names['cnn']})",
        "vit": f"{config.vit} ({names['vit']})",
        "image_size": config.image_size,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "pretraining_cpu_seconds": float(pretrained.read_text()) if pretrained.is_file() else None,
    }


def write_words(about: dict[str, Any]) -> str:
    """What stands above the table."""
    test = about["test"]
    data = f" of {about['note']}" if about["note"] else ""
    words = (
        f"{test['n']} test slices{data}, {test['n_stroke']} of them positive, "
        f"of {test['groups']} patients or groups; "
        f"{about['cnn']} beside {about['vit']}, {about['image_size']} pixels, {about['epochs']} epochs. Of each "
        "figure the middle seed with its 95 % interval over patients; the differences are of the middle seeds over "
        "the same resamples. Choices may be made on the validation AUROC alone, of the best epoch."
    )
    if about["pretraining_cpu_seconds"]:
        words += f" The pretraining took {about['pretraining_cpu_seconds']:.0f} CPU seconds, once for all seeds."
    return words


def benchmark_recipe(
    *,
    data_dir: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    data_note: Annotated[str, tyro.conf.arg(metavar="WORDS")] = "",
    preset: Literal["full", "compact", "tiny"] = "compact",
    cnn: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
    cnn_weights: Annotated[str | None, tyro.conf.arg(metavar="imagenet|random|FILE")] = None,
    vit: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
    vit_weights: Annotated[str | None, tyro.conf.arg(metavar="imagenet|random|FILE")] = None,
    image_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    epochs: int = 10,
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="INT [INT ...]")] = (0, 1, 2),
    group: Annotated[tuple[Group, ...], tyro.conf.arg(metavar="main|ablation|control")] = (),
    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ROW [ROW ...]")] = (),
    pretrain_patients: int = 880,
    pretrain_epochs: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
) -> list[Row]:
    """Train every recipe, and robust without each of its ingredients, and say what each is worth.

    Every row and seed is a run folder below --out: what is finished there is found again, and what was interrupted
    goes on. Two calls at once may share --out if they train other rows.

    Args:
        data_dir: a dataset folder in the Kaggle layout.
        out: the folder of the runs, of recipe.md and recipe.json.
        data_note: words that the table carries, for example what the data stand for.
        preset: the backbones and the size where they are not named.
        cnn: timm name of the CNN.
        cnn_weights: imagenet, random, or a safetensors file.
        vit: timm name of the vision transformer.
        vit_weights: the same for the transformer.
        image_size: side of the square input in pixels.
        epochs: of every row but the probe.
        seeds: every row is trained with each; the shuffled labels with 5 at least.
        group: train these groups of rows only.
        only: train these rows only (with --group: these too); the table has all that are finished.
        pretrain_patients: how many are simulated for the row init-from.
        pretrain_epochs: of its pretraining; by default --epochs.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise RunError("--seeds must be one number or several different ones.")
    base = TrainConfig(
        preset=preset,
        cnn=cnn,
        cnn_weights=cnn_weights,
        vit=vit,
        vit_weights=vit_weights,
        image_size=image_size,
        epochs=epochs,
    )
    records, chosen = read_records(data_dir), choose_rows(group, only)
    for sentence in records.notes:
        say(f"note: {sentence}")
    rows = compare_recipes(
        base,
        records,
        out,
        chosen=chosen,
        seeds=seeds,
        note=data_note,
        pretrain_patients=pretrain_patients,
        pretrain_epochs=pretrain_epochs,
    )
    print((out / "recipe.md").read_text())
    figures = {row["name"]: row["auroc"] for row in rows}
    figures |= {row["name"]: row["control"] | {"value": row["control"]["mean"]} for row in rows if "control" in row}
    kept = ("value", "low", "high")
    return [
        {"row": name, "bar": "none"} | {key: figure[key] for key in kept if figure[key] is not None}
        for name, figure in figures.items()
    ]
