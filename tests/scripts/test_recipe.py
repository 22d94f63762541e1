"""The recipes' table says what its runs' own predictions say, and a finished run is never trained again."""

import hashlib
import json
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tyro
from scipy.stats import ttest_1samp
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from stroke_hub import Records, ResNetViT, RunError, TrainConfig, predict
from stroke_hub.data.loader import decode_squares
from stroke_hub.data.records import hash_records
from stroke_hub.runs.run_folder import read_split

SCRIPTS = Path(__file__).parents[2] / "scripts"
BASE = TrainConfig(preset="tiny", image_size=64, epochs=1, validation_fraction=0.3)
CHOSEN = {"chosen": ["scratch", "probe", "trivial-logistic"], "seeds": (0, 1), "replicates": 200}


@pytest.fixture(scope="module")
def recipe() -> Any:
    return load_benchmark("recipe")


@pytest.fixture(scope="module")
def recipe_table() -> Any:
    return load_benchmark("recipe_table")


def load_benchmark(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(SCRIPTS)
        __import__(f"benchmarks.{name}")
    return sys.modules[f"benchmarks.{name}"]


@pytest.fixture(scope="module")
def compared(recipe: Any, sample: Records, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Two rows of two seeds and a baseline."""
    out = tmp_path_factory.mktemp("recipes") / "out"
    return out, recipe.compare_recipes(BASE, sample, out, note="simulated slices, not patients", **CHOSEN)


def read_row(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in result["rows"] if row["name"] == name)


def predict_part(run: Path, records: Records, part: str) -> tuple[np.ndarray, np.ndarray]:
    model, table = ResNetViT.from_pretrained(run), read_split(run)
    table = table[table["split"] == part]
    probability = predict(model, decode_squares(model, records.root, table)).probability
    return table["label"].to_numpy(), probability


def find_sensitivity(label: np.ndarray, probability: np.ndarray) -> float:
    """At 95 % specificity, by scikit-learn's curve."""
    fpr, tpr, _ = roc_curve(label, probability, drop_intermediate=False)
    return float(tpr[1 - fpr >= 0.95].max())


def hash_files(folder: Path) -> dict[str, tuple[int, str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("recipe."))
    return {str(f): (f.stat().st_mtime_ns, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files}


# --- training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scratch", "probe"])
def test_a_row_holds_what_its_runs_predict(
    compared: tuple[Path, dict[str, Any]], sample: Records, name: str
) -> None:
    out, result = compared
    row = read_row(result, name)
    assert [run["seed"] for run in row["runs"]] == [0, 1]
    for run in row["runs"]:
        folder = out / f"{name}-seed{run['seed']}"
        val_label, val = predict_part(folder, sample, "val")
        label, probability = predict_part(folder, sample, "test")
        assert run["val_auroc"] == pytest.approx(roc_auc_score(val_label, val))
        assert run["val_auroc"] == pytest.approx(pd.read_csv(folder / "history.csv")["val_auroc"].max(), abs=1e-6)
        assert run["auroc"]["value"] == pytest.approx(roc_auc_score(label, probability))
        assert run["average_precision"]["value"] == pytest.approx(average_precision_score(label, probability))
        assert run["roc_sensitivity"]["value"] == pytest.approx(find_sensitivity(label, probability))
        called = probability >= (np.inf if run["threshold"] is None else run["threshold"])
        assert run["sensitivity"]["value"] == pytest.approx(called[label == 1].mean())
        assert run["specificity"]["value"] == pytest.approx((~called)[label == 0].mean())
        if run["threshold"] is not None:  # nothing but validation slices chose it
            assert run["threshold"] in val
            assert (val[val_label == 0] < run["threshold"]).mean() >= 0.95
            assert (val >= run["threshold"])[val_label == 1].mean() == find_sensitivity(val_label, val)
        assert run["cpu_seconds"] > 0
    assert row["auroc"]["value"] == min(run["auroc"]["value"] for run in row["runs"])  # of two the lower


def test_differences_are_of_the_middle_seeds_and_of_each_seed(compared: tuple[Path, dict[str, Any]]) -> None:
    probe, scratch, baseline = (read_row(compared[1], name) for name in ("probe", "scratch", "trivial-logistic"))
    ours, theirs = ([run["auroc"]["value"] for run in row["runs"]] for row in (scratch, probe))
    gap = scratch["difference"]
    assert gap["value"] == pytest.approx(min(ours) - min(theirs))
    assert gap["low"] <= gap["value"] <= gap["high"]
    assert gap["mean"] == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert (gap["above"], gap["pairs"]) == (sum(a > b for a, b in zip(ours, theirs, strict=True)), 2)
    assert baseline["difference"]["pairs"] == 2
    assert baseline["difference"]["above"] == sum(baseline["auroc"]["value"] > b for b in theirs)
    assert baseline["val_auroc"] is None
    assert "difference" not in probe


def test_the_files_hold_the_rows_and_name_the_data(compared: tuple[Path, dict[str, Any]]) -> None:
    out, result = compared
    assert json.loads((out / "recipe.json").read_text()) == result
    words = (out / "recipe.md").read_text()
    assert "(simulated slices, not patients)" in words
    lines = [line for line in words.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + 4  # both trivial baselines, which are made together
    for line, row in zip(lines[2:], result["rows"], strict=True):
        assert row["words"] in line
        assert f"| {row['auroc']['value']:.3f} [" in line


def test_the_page_tells_the_command_that_asks_for_the_same(
    compared: tuple[Path, dict[str, Any]], recipe: Any, sample: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = (compared[0] / "recipe.md").read_text().strip().splitlines()[-1]
    assert hash_records(sample) in last
    words = shlex.split(last.split("`")[3])
    assert words[:3] == ["python", "scripts/benchmark.py", "recipe"]
    asked: list[Any] = []
    monkeypatch.setattr(recipe, "compare_recipes", lambda *given, **options: asked.append((given, options)))
    with pytest.raises(FileNotFoundError):  # there is no recipe.md to print
        tyro.cli(recipe.benchmark_recipe, args=[w.replace("FOLDER", str(sample.root)) for w in words[3:]])
    (base, _, _), options = asked[0]
    assert base == replace(BASE, validation_fraction=TrainConfig().validation_fraction)
    assert (options["seeds"], options["note"]) == (CHOSEN["seeds"], "simulated slices, not patients")


def test_nothing_finished_is_trained_again(
    compared: tuple[Path, dict[str, Any]], recipe: Any, sample: Records
) -> None:
    out, result = compared
    before = hash_files(out)
    # another choice: the table keeps what stands there
    again = recipe.compare_recipes(
        BASE, sample, out, note="simulated slices, not patients", **CHOSEN | {"chosen": ["probe"]}
    )
    assert again == result
    assert hash_files(out) == before
    with pytest.raises(RunError, match=r"scratch-seed0: holds .* other settings \(window: brain -> stroke\)"):
        recipe.compare_recipes(replace(BASE, window="stroke"), sample, out, **CHOSEN | {"chosen": ["probe"]})
    assert hash_files(out) == before


def test_seconds_add_up_over_interruptions(recipe: Any, tmp_path: Path) -> None:
    def work(seconds: float) -> None:
        with recipe.counting_seconds(tmp_path):
            (tmp_path / "train_config.json").touch()
            until = recipe.time.process_time() + seconds
            while recipe.time.process_time() < until:
                pass
            raise KeyboardInterrupt

    for total in (0.2, 0.5):
        with pytest.raises(KeyboardInterrupt):
            work(total - (recipe.read_seconds(tmp_path) or 0.0) + 0.05)
        assert recipe.read_seconds(tmp_path) >= total
    assert {path.name for path in tmp_path.iterdir()} == {"recipe_seconds.txt", "train_config.json"}


# --- rows ---------------------------------------------------------------------------------------------------


def test_every_row_is_trained_as_it_is_called(recipe: Any) -> None:
    base = TrainConfig(preset="compact", cnn_weights="cnn.safetensors", vit_weights="random", epochs=10)
    planned = recipe.plan_runs(base, (0, 1, 2))
    assert {name for name, _ in planned} == set(recipe.RECIPES)
    resolved = {name: config.resolve() for (name, seed), config in planned.items() if seed == 1}
    recipes = {name: config.recipe for name, config in resolved.items()}
    assert [recipes[name] for name in ("seed", "plain", "scratch")] == ["seed", "plain", "scratch"]
    assert {recipes[name] for name in ("probe", "probe-cnn", "probe-vit", "shuffled")} == {"probe"}
    assert {name for name, config in resolved.items() if config.epochs == 10} == {"seed", "plain", "scratch"}
    probe = asdict(resolved["probe"])
    for name, changed in (("probe-cnn", "branches"), ("probe-vit", "branches"), ("shuffled", "shuffle_labels")):
        assert {key for key, value in asdict(resolved[name]).items() if value != probe[key]} == {changed}
    assert sorted(seed for name, seed in planned if name == "shuffled") == [0, 1, 2, 3, 4]
    assert sorted(seed for name, seed in planned if name == "probe") == [0, 1, 2]


def test_a_row_that_would_be_the_probe_again_is_left_out(recipe: Any) -> None:
    names = {name for name, _ in recipe.plan_runs(replace(BASE, branches="cnn"), (7,))}
    assert set(recipe.RECIPES) - names == {"probe-cnn"}


def test_rows_are_chosen_by_group_and_by_name(recipe: Any) -> None:
    assert recipe.choose_rows((), ()) == list(recipe.NAMES)
    assert recipe.choose_rows(("control",), ("probe",))[0] == "probe"
    assert recipe.choose_rows(("control",), ())[-2:] == ["trivial-logistic", "trivial-boosted"]
    with pytest.raises(RunError, match="--only prob: there is no such row; the rows are seed, plain"):
        recipe.choose_rows((), ("prob",))


# --- figures ------------------------------------------------------------------------------------------------


def make_runs(*, shift: float, seeds: int = 3, shuffled: bool = False) -> dict[int, pd.DataFrame]:
    """Predictions of 30 patients with 6 slices each, 10 of them with strokes, which score `shift` higher."""
    patient = np.repeat(np.arange(30), 6)
    label = (patient % 3 == 0).astype(int)
    runs = {}
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        own = np.random.default_rng(99).normal(size=30)[patient]  # as easy or hard for every run
        score = own + generator.normal(size=180) + shift * label
        table = pd.DataFrame({"path": [f"{i}.png" for i in range(180)], "label": label, "group": patient})
        table = table.assign(probability=1 / (1 + np.exp(-score)), split=np.where(patient < 12, "val", "test"))
        runs[seed] = table.assign(shuffled_label=label) if shuffled else table
    return runs


def test_the_roc_point_and_its_resamples_are_scikit_learns(recipe_table: Any) -> None:
    table = make_runs(shift=1.5)[0]
    table = table.assign(probability=table["probability"].round(1))  # with ties
    label, probability, group = (table[name].to_numpy() for name in ("label", "probability", "group"))
    found = recipe_table.measure_roc_point(label, probability, group, replicates=40)
    assert found["value"] == pytest.approx(find_sensitivity(label, probability))
    drawn = []
    for (counts,) in recipe_table.resample_groups(30, 40, seed=0, step=1):
        rows = np.repeat(np.arange(180), counts[group].astype(int))
        drawn.append(find_sensitivity(label[rows], probability[rows]))
    assert len(set(drawn)) > 5
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(drawn, [0.025, 0.975]))


def test_what_is_shown_is_said_and_what_is_not_too(recipe_table: Any) -> None:
    shifts = {"probe": 1.5, "seed": 0.2, "plain": 1.5001, "scratch": 4.0}
    tables = {name: make_runs(shift=shift) for name, shift in shifts.items()}
    words = {name: f"<{name}>" for name in (*shifts, "shuffled")}
    tables["shuffled"] = make_runs(shift=0.0, seeds=5, shuffled=True)
    rows = recipe_table.measure_rows(tables, {}, words=words, replicates=400)
    sentences = recipe_table.judge(rows, rivals=["seed", "plain", "scratch"])
    assert sentences[:3] == [
        "The probe is shown to be better than: <seed>.",
        "The probe is shown to be worse than: <scratch>.",
        "These slices show no difference between the probe and: <plain>.",
    ]
    assert sentences[3].startswith("Shuffled labels give a mean test AUROC of 0.")
    # one seed that does not agree, and nothing is shown
    tables["seed"] = {0: tables["seed"][0], 1: tables["seed"][1], 2: tables["scratch"][2]}
    rows = recipe_table.measure_rows(tables, {}, words=words, replicates=400)
    assert rows[1]["difference"]["high"] < 0
    assert "the probe and: <seed>; <plain>" in recipe_table.judge(rows, rivals=["seed", "plain"])[0]


def test_other_test_slices_are_refused(recipe_table: Any) -> None:
    tables = {"probe": make_runs(shift=1.0), "plain": make_runs(shift=1.0)}
    tables["plain"] = {seed: table.iloc[:-1] for seed, table in tables["plain"].items()}
    with pytest.raises(ValueError, match="plain and probe were not measured on the same slices"):
        recipe_table.measure_rows(tables, {}, words={"probe": "", "plain": ""}, replicates=10)


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_row_is_told_as_those_of_every_benchmark_are(recipe: Any, recipe_table: Any, shuffled: bool) -> None:
    runs = make_runs(shift=2.0, shuffled=shuffled)
    (row,) = recipe_table.measure_rows({"a": runs}, {}, words={"a": "a"}, replicates=100)
    told = load_benchmark("all").describe_row(recipe.summarise(row))
    assert told[0] == "a"
    assert f"{(row['control']['mean'] if shuffled else row['auroc']['value']):.3g}" in told[1]


def test_the_control_is_a_t_interval(recipe_table: Any) -> None:
    aurocs = [0.41, 0.56, 0.62, 0.47, 0.58]
    found = recipe_table.average_shuffles(aurocs)
    interval = ttest_1samp(aurocs, 0.5).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high))
    assert found["holds_half"]
    assert not recipe_table.average_shuffles([value + 0.3 for value in aurocs])["holds_half"]
    assert recipe_table.average_shuffles([0.4])["holds_half"] is None
