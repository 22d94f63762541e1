"""Which recipe of training helps: every one trained on one dataset and measured on the same test slices.

Every row and seed is a run folder, so that what is finished is found again and what was interrupted goes on. A seed
decides the validation split too: each has another. The test slices decide nothing.
"""

import json
import os
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import tyro
from benchmarks.recipe_table import REFERENCE, judge, measure_rows, write_table
from benchmarks.timing import Row

from stroke_hub import PRESETS, Records, ResNetViT, fit, predict, read_records
from stroke_hub.data.loader import decode_squares
from stroke_hub.data.records import hash_records
from stroke_hub.errors import RunError
from stroke_hub.evaluation.baselines import score_baselines
from stroke_hub.files import write_text
from stroke_hub.progress import say, track
from stroke_hub.runs.run_folder import TRAIN_CONFIG_FILE, is_trained, read_split
from stroke_hub.runs.train_config import TrainConfig

Group = Literal["main", "control"]

SHUFFLES = 5  # at least, of the random-label control
PREDICTIONS_FILE, SECONDS_FILE = "recipe_predictions.csv", "recipe_seconds.txt"


@dataclass(frozen=True)
class Recipe:
    """A row that is trained: what it changes of the probe."""

    words: str
    group: Group
    changes: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    "seed": Recipe("the notebook's recipe", "main", {"recipe": "seed"}),
    "plain": Recipe("plain", "main", {"recipe": "plain"}),
    "scratch": Recipe("scratch", "main", {"recipe": "scratch"}),
    "probe": Recipe("**probe**", "main"),
    "probe-cnn": Recipe("probe, CNN only", "main", {"branches": "cnn"}),
    "probe-vit": Recipe("probe, ViT only", "main", {"branches": "vit"}),
    "shuffled": Recipe("probe on shuffled labels", "control", {"shuffle_labels": True}),
}
BASELINES = {
    "trivial-logistic": "no network: logistic regression on head area, grey level and slice number",
    "trivial-boosted": "no network: boosted trees on head area, grey level and slice number",
}
NAMES = (*RECIPES, *BASELINES)
GROUPS: dict[str, Group] = {name: recipe.group for name, recipe in RECIPES.items()}
GROUPS |= dict.fromkeys(BASELINES, "control")
RIVALS = ("probe-cnn", "probe-vit", "seed", "plain", "scratch", *BASELINES)


def choose_rows(groups: Sequence[Group], only: Sequence[str]) -> list[str]:
    """The names of the rows asked for: all of the groups and those named; without both, all.

    Raises
    ------
    RunError : there is no such row.
    """
    unknown = sorted(set(only) - set(NAMES))
    if unknown:
        raise RunError(f"--only {' '.join(unknown)}: there is no such row; the rows are {', '.join(NAMES)}.")
    return [name for name in NAMES if name in only or GROUPS[name] in groups or not (groups or only)]


def plan_runs(base: TrainConfig, seeds: Sequence[int]) -> dict[tuple[str, int], TrainConfig]:
    """The configuration of every row and seed; a row that would be the probe once more is left out."""
    planned = {}
    probe = replace(base, recipe=REFERENCE, epochs=None)  # which has no epochs
    for name, recipe in RECIPES.items():
        config = replace(probe, **{"epochs": base.epochs if "recipe" in recipe.changes else None} | recipe.changes)
        if name != REFERENCE and config.resolve() == probe.resolve():
            continue  # the CNN alone where that is asked for in every row
        more = [seed for seed in range(len(seeds) + SHUFFLES) if seed not in seeds]
        missing = max(0, SHUFFLES - len(seeds)) if config.shuffle_labels else 0
        planned |= {(name, seed): replace(config, seed=seed) for seed in [*seeds, *more[:missing]]}
    return planned


# --- training -----------------------------------------------------------------------------------------------


def train_run(config: TrainConfig, records: Records, run_dir: Path) -> None:
    """Train one run, or go on with it, and keep what it says of its validation and test slices."""
    with counting_seconds(run_dir):
        fit(config, records, run_dir)
    if (run_dir / PREDICTIONS_FILE).is_file():
        return
    model, table = ResNetViT.from_pretrained(run_dir), read_split(run_dir)
    table = table[table["split"] != "train"]
    probability = predict(model, decode_squares(model, records.root, table)).probability
    write_text(run_dir / PREDICTIONS_FILE, table.assign(probability=probability).to_csv(index=False))


@contextmanager
def counting_seconds(run_dir: Path) -> Iterator[None]:
    """Add this process's CPU seconds to a file of the run every second, so that a killed run's count too."""
    file, done, start = run_dir / SECONDS_FILE, threading.Event(), time.process_time()
    before = read_seconds(run_dir) or 0.0

    def note() -> None:
        if (run_dir / TRAIN_CONFIG_FILE).is_file():  # before that, the folder is not a run's yet
            new = file.with_suffix(".new")  # not `.partial`: these the training clears away when it ends
            new.write_text(f"{before + time.process_time() - start:.1f}\n")
            os.replace(new, file)

    def repeat() -> None:
        while not done.wait(1):
            note()

    if is_trained(run_dir):
        yield
        return
    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        note()


def read_seconds(run_dir: Path) -> float | None:
    """CPU seconds that a run took so far; None where nobody counted."""
    file = run_dir / SECONDS_FILE
    return float(file.read_text()) if file.is_file() else None


def predict_baselines(records: Records, file: Path, *, image_size: int) -> None:
    """Write the test slices with a column of probabilities for each trivial baseline."""
    # the squares are what is looked at; the network that they are cut for is of no account
    model = ResNetViT(**PRESETS["tiny"] | {"image_size": image_size})
    found = score_baselines(model, records.table, records.root, shuffles=0)
    columns = {name: found[name.replace("-", "_")].probability for name in BASELINES}
    write_text(file, records.part("test").assign(**columns).to_csv(index=False))


def read_predictions(file: Path) -> pd.DataFrame:
    """A table of slices with probabilities."""
    return pd.read_csv(file, dtype={"path": str, "group": str})


# --- the result ---------------------------------------------------------------------------------------------


def compare_recipes(
    base: TrainConfig,
    records: Records,
    out: Path,
    *,
    chosen: Sequence[str] = NAMES,
    seeds: Sequence[int] = (0, 1, 2),
    note: str = "",
    replicates: int = 10_000,
) -> dict[str, Any]:
    """Train the chosen rows, measure all that are finished, write recipe.md and recipe.json.

    Parameters
    ----------
    base : backbones, weights, size and epochs of every row.
    out : the folder of the run folders, one a row and seed; what is finished there is not trained again.
    chosen : names of `NAMES`.
    note : what the data stand for.
    replicates : of the bootstrap.

    Returns
    -------
    What recipe.json holds: "about", "rows" (as `measure_rows` gives them) and "sentences".

    Raises
    ------
    RunError : the folder holds runs of other settings or other data.
    DatasetError : a slice cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    planned = plan_runs(base, seeds)
    size = next(iter(planned.values())).resolve().image_size
    for name in (name for name in chosen if name in RECIPES and (name, seeds[0]) not in planned):
        say(f"{name}: left out, as it is the probe here.")
    # a finished run of another row is looked at too: it must be of these settings to stand in the table
    jobs = [(name, seed) for name, seed in planned if name in chosen or is_trained(out / f"{name}-seed{seed}")]
    for place, (name, seed) in enumerate(track(jobs, "recipes"), start=1):
        say(f"{place}/{len(jobs)}: {RECIPES[name].words.strip('*')}, seed {seed}")
        train_run(planned[name, seed], records, out / f"{name}-seed{seed}")
    baselines = out / f"baselines-{hash_records(records)[:12]}-{size}.csv"
    if set(chosen) & set(BASELINES) and not baselines.is_file():
        predict_baselines(records, baselines, image_size=size)
    rows = collect_rows(jobs, out, baselines, replicates=replicates)
    about = describe(base, records, note) | {"command": write_command(base, seeds, note)}
    result = {"about": about, "rows": rows, "sentences": judge(rows, rivals=RIVALS)}
    write_text(out / "recipe.json", json.dumps(result, indent=2, allow_nan=False) + "\n")
    write_text(out / "recipe.md", write_page(result))
    return result


def collect_rows(
    jobs: Sequence[tuple[str, int]], out: Path, baselines: Path, *, replicates: int
) -> list[dict[str, Any]]:
    """Measure the runs of `jobs`, which are finished, and the baselines where their file is there."""
    tables: dict[str, dict[int, pd.DataFrame]] = {}
    seconds: dict[str, dict[int, float]] = {}
    for name, seed in jobs:
        run_dir = out / f"{name}-seed{seed}"
        tables.setdefault(name, {})[seed] = read_predictions(run_dir / PREDICTIONS_FILE)
        counted = read_seconds(run_dir)
        seconds.setdefault(name, {}).update({} if counted is None else {seed: counted})
    if baselines.is_file():
        found = read_predictions(baselines)
        tables |= {name: {0: found.assign(probability=found[name])} for name in BASELINES}
    words = {name: recipe.words for name, recipe in RECIPES.items()} | BASELINES
    return measure_rows(tables, seconds, words=words, replicates=replicates)


def describe(base: TrainConfig, records: Records, note: str) -> dict[str, Any]:
    """What all rows have in common."""
    config, test = replace(base, recipe="plain").resolve(), records.part("test")
    return {
        "note": note,
        "notes": list(records.notes),
        "data_sha256": hash_records(records),
        "test": {"n": len(test), "n_stroke": int(test["label"].sum()), "groups": int(test["group"].nunique())},
        "cnn": f"{config.cnn} ({Path(config.cnn_weights or '').stem})",
        "vit": f"{config.vit} ({Path(config.vit_weights or '').stem})",
        "branches": config.branches,
        "image_size": config.image_size,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
    }


def write_command(base: TrainConfig, seeds: Sequence[int], note: str) -> str:
    """What to type for the same runs; folders and files of weights are of one machine only."""
    default, words = TrainConfig(preset="compact", epochs=10), []
    for name in ("preset", "branches", "cnn", "cnn_weights", "vit", "vit_weights", "image_size", "epochs"):
        value = getattr(base, name)
        if value != getattr(default, name):
            words += [f"--{name.replace('_', '-')}", str(value) if isinstance(value, int) else Path(value).name]
    words += ["--seeds", *map(str, seeds)] + (["--data-note", note] if note else [])
    return shlex.join(
        ["python", "scripts/benchmark.py", "recipe", "--data-dir", "FOLDER", "--out", "FOLDER", *words]
    )


def write_page(result: dict[str, Any]) -> str:
    """The table as Markdown, with what it is of above it and what it shows below."""
    about, listed = result["about"], "\n".join(f"- {sentence}" for sentence in result["sentences"])
    test = about["test"]
    data = f" ({about['note']})" if about["note"] else ""
    alone = {"cnn": f"{about['cnn']} alone", "vit": f"{about['vit']} alone"}
    networks = alone.get(about["branches"], f"{about['cnn']} beside {about['vit']}")
    words = (
        f"{test['n']} test slices{data}, {test['n_stroke']} of them of the class Stroke, of {test['groups']} "
        f"patients or groups; {networks}, {about['image_size']} pixels, "
        f"{about['epochs']} epochs (a probe has none). Of each figure the middle seed, with its 95 % interval over "
        "patients; "
        "differences are of the middle seeds over the same resamples, and seed by seed where seeds are counted. "
        "Only the validation AUROC, which is that of the best epoch, may choose anything."
    )
    again = f"Data: SHA-256 `{about['data_sha256']}`. Once more: `{about['command']}`"
    return "\n\n".join(filter(None, (words, write_table(result["rows"]), listed, again))) + "\n"


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
    branches: Literal["both", "cnn", "vit"] = "both",
    image_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    epochs: int = 10,
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="INT [INT ...]")] = (0, 1, 2),
    group: Annotated[tuple[Group, ...], tyro.conf.arg(metavar="main|control")] = (),
    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ROW [ROW ...]")] = (),
) -> list[Row]:
    """Train every recipe, a probe of each branch and the controls, and say what each is worth.

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
        branches: cnn or vit: every row that does not name a branch itself has this one alone, which is faster.
        image_size: side of the square input in pixels.
        epochs: of every row but the probes.
        seeds: every row is trained with each; the shuffled labels with 5 at least.
        group: train these groups of rows only.
        only: train these rows only (with --group: these too); the table has all that are finished.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise RunError("--seeds must be one number or several different ones.")
    chosen, weights = choose_rows(group, only), {"cnn_weights": cnn_weights, "vit_weights": vit_weights}
    base = TrainConfig(
        preset=preset, branches=branches, cnn=cnn, vit=vit, image_size=image_size, epochs=epochs, **weights
    )
    records = read_records(data_dir)
    for sentence in records.notes:
        say(f"note: {sentence}")
    result = compare_recipes(base, records, out, chosen=chosen, seeds=seeds, note=data_note)
    print((out / "recipe.md").read_text())
    return [summarise(row) for row in result["rows"]]


def summarise(row: dict[str, Any]) -> Row:
    """A row's test AUROC, as every benchmark's rows are."""
    control = row.get("control")
    figure = control | {"value": control["mean"]} if control else row["auroc"]
    known = {key: figure[key] for key in ("value", "low", "high") if figure[key] is not None}
    return {"row": row["name"], "bar": "none"} | known  # whether a control holds 0.5 is a sentence of the page
