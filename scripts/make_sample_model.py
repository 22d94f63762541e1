"""Make the sample model that comes with the package: simulate, train, halve, measure, export, choose examples.

    OMP_NUM_THREADS=1 python scripts/make_sample_model.py
    python scripts/make_sample_model.py --patients 40 --epochs 1 --run-dir runs/try --out /tmp/try

A run folder that is trained already is taken as it is, and so is its report; simulated datasets are kept in data/.
What is measured and exported are the weights as they are stored: rounded to float16, loaded back as float32.
"""

import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent.parent / "space"))

from examples import SELECTION_FILE, choose_rows

from stroke_hub import Predictor, Records, ResNetViT, TrainConfig, evaluate, fit, read_records, write_sample
from stroke_hub.cli.common import SAMPLE_NOTE, program, tell_figures
from stroke_hub.data import simulated
from stroke_hub.data.records import hash_records
from stroke_hub.deploy.export import export
from stroke_hub.errors import RunError
from stroke_hub.evaluation.evaluate import evaluate_run
from stroke_hub.files import write_text
from stroke_hub.inference.onnx_model import FOLDER
from stroke_hub.models.sample import EXAMPLES, SAMPLE, SAMPLE_FOLDER
from stroke_hub.models.weights import CONFIG_FILE, PREPROCESSOR_FILE, WEIGHTS_FILE, halve_weights
from stroke_hub.progress import say
from stroke_hub.runs.report import REPORT_FILE, Report, read_report
from stroke_hub.runs.run_folder import TRAIN_CONFIG_FILE, is_trained

SAMPLE_CONFIG = TrainConfig(preset="tiny", epochs=12, learning_rate=2e-3)
PATIENTS = 8800
SEED = 1701
FRESH_SEED = 2027  # of slices that no training, and no choice of a setting, has seen
FRESH_PATIENTS = 880
CELLS = 4  # at least one example of each modality and class
WEIGHTS_LIMIT, WHOLE_LIMIT = 3_000_000, 8_000_000  # bytes: everybody who installs the package downloads them
TEMPLATES = simulated.README[simulated.README.index("Templates:") :]  # their source and licence

NOTICE = """# The sample model of stroke_hub

**For research and trying out only. It was trained and measured on simulated slices, not on patients, and nothing
clinical can be concluded from what it says.** `from_pretrained("sample")` loads it.

- `config.json`, `model.safetensors`: the model, its weights rounded to float16. It computes with float32.
- `preprocessor_config.json`: by which Hugging Face transformers finds the package.
- `onnx/`: the same weights as an ONNX graph in float32.
- `report.json`: how it measured on {measured:,} fresh simulated test slices (seed {fresh_seed}).
- `examples/`: of these slices, one of each modality and kind that occurs: a clear hit, a subtle stroke, a miss, a
  false alarm, a normal slice. `index.csv` names kinds and lesion masks, `selection.json` how many were asked.

`scripts/make_sample_model.py` made all of it: {patients:,} simulated patients (seed {seed}), and the settings

```json
{settings}
```

The shapes and places of the lesions are those of real patients: the Stroke Outcome Optimization Project, OpenNeuro
ds004889, CC0. All else of the slices is simulated from templates.

{templates}"""


@program
def make_sample_model(
    *,
    patients: int = PATIENTS,
    epochs: int | None = None,
    run_dir: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs/sample-model"),
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = SAMPLE_FOLDER,
) -> None:
    """Make the sample model that comes with the package.

    Args:
        patients: simulated to train on.
        epochs: instead of those of SAMPLE_CONFIG, for a quick try.
        run_dir: the training's folder; a trained one is taken as it is.
        out: the folder that is written, in the place of an earlier sample model.
    """
    if out.exists() and not (out / CONFIG_FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: is there already and no sample model; give a new folder.")
    own = train(replace(SAMPLE_CONFIG, epochs=epochs or SAMPLE_CONFIG.epochs), patients, run_dir)
    fresh = simulate(min(patients, FRESH_PATIENTS), FRESH_SEED)
    out.parent.mkdir(parents=True, exist_ok=True)
    # beside its place, so that it gets there by renaming: whole or not at all
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as workplace:
        made, old = Path(workplace) / "made", Path(workplace) / "old"
        made.mkdir()
        report = fill(made, run_dir, own, fresh, Path(workplace))
        write_notice(made, run_dir, report, patients)
        check_sizes(made)
        if out.exists():
            out.rename(old)
        made.rename(out)
    tell_figures(report)
    say(f"sample model: {out}")


def train(config: TrainConfig, patients: int, run_dir: Path) -> Report:
    """Train a run and measure it on its own test slices, unless that is done; its report."""
    if is_trained(run_dir):
        say(f"{run_dir}: is trained already and taken as it is.")
    else:
        fit(config, simulate(patients, SEED), run_dir)
    if not (run_dir / REPORT_FILE).is_file():
        evaluate_run(run_dir, simulate(patients, SEED), name=f"simulated, seed {SEED}", note=SAMPLE_NOTE)
    return read_report(run_dir)


def simulate(patients: int, seed: int) -> Records:
    """Write a simulated dataset, unless it is there, and read it."""
    return read_records(
        write_sample(Path("data") / f"simulated-{patients}-seed{seed}", patients=patients, seed=seed)
    )


def fill(made: Path, run_dir: Path, own: Report, fresh: Records, workplace: Path) -> Report:
    """Write weights, configuration, report, export and examples of a run into an empty folder; the report."""
    for name in (CONFIG_FILE, PREPROCESSOR_FILE):
        shutil.copyfile(run_dir / name, made / name)
    weights = halve_weights(load_file(run_dir / WEIGHTS_FILE))
    save_file(weights, made / WEIGHTS_FILE, metadata={"format": "pt"})
    (made / WEIGHTS_FILE).chmod(0o644)  # safetensors makes it private
    model = ResNetViT.from_pretrained(made)
    name = f"simulated, seed {FRESH_SEED}"
    data = {"name": name, "note": SAMPLE_NOTE, "split": "test", "sha256": hash_records(fresh)}
    about: dict[str, Any] = {
        "data": data | {"notes": list(fresh.notes)},
        "model": {"source": SAMPLE, "revision": None},
    }
    measured = workplace / "measured"
    report = evaluate(model, fresh.part("test"), fresh.root, measured, about=about, own=own)
    shutil.copyfile(measured / REPORT_FILE, made / REPORT_FILE)
    whole = workplace / "whole"  # an export is of float32 weights: of these, as they are loaded
    model.save_pretrained(whole)
    export(whole, precisions=["fp32"], records=fresh, name="fresh simulated patients")
    shutil.copytree(whole / FOLDER, made / FOLDER)
    copy_examples(fresh, Predictor.from_pretrained(made), made / EXAMPLES.name)
    return report


def copy_examples(fresh: Records, predictor: Predictor, folder: Path) -> None:
    """Copy the slices that the demo's rule names, with the masks of their lesions, and how they were chosen."""
    rows, asked = choose_rows(fresh, predictor, most=None)
    if len({(row.modality, row.label) for row in rows.itertuples()}) != CELLS:
        raise RunError(f"{fresh.root}: has no example of some modality and class; simulate more --patients.")
    rows = rows.assign(
        file=[Path(*Path(path).parts[-2:]) for path in rows["path"]]
    )  # strokeBT and the like, and name
    masks = [(Path("masks") / row.file).as_posix() if row.mask else "" for row in rows.itertuples()]
    for row, mask in zip(rows.itertuples(), masks, strict=True):
        for source, there in ((row.path, folder / row.file), *([(row.mask, folder / mask)] if mask else [])):
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh.root / source, there)
    index = pd.DataFrame({"path": [file.as_posix() for file in rows["file"]], "mask": masks, "kind": rows["kind"]})
    index.to_csv(folder / "index.csv", index=False)
    counts = {modality: counted._asdict() for modality, counted in asked.items()}
    selection = {"weights_sha256": predictor.hash_weights(), "asked": counts}
    write_text(folder / SELECTION_FILE, json.dumps(selection, indent=2) + "\n")


def write_notice(made: Path, run_dir: Path, report: Report, patients: int) -> None:
    """Write what the folder is, how it was made and whose the templates are."""
    settings = json.loads((run_dir / TRAIN_CONFIG_FILE).read_text(encoding="utf-8"))
    text = NOTICE.format(
        measured=report.test["overall"].n,
        fresh_seed=FRESH_SEED,
        patients=patients,
        seed=SEED,
        settings=json.dumps(settings),
        templates=TEMPLATES,
    )
    write_text(made / "README.md", text)


def check_sizes(made: Path) -> None:
    """Refuse what would make the package too large."""
    weights = (made / WEIGHTS_FILE).stat().st_size
    whole = weights + sum(path.stat().st_size for path in (made / FOLDER).iterdir())
    for what, size, limit in (("weights", weights, WEIGHTS_LIMIT), ("weights and export", whole, WHOLE_LIMIT)):
        say(f"{what}: {size:,} bytes")
        if size > limit:
            raise RunError(f"{what}: have {size:,} bytes, but {limit:,} at most fit the package; make it smaller.")


if __name__ == "__main__":
    make_sample_model()
