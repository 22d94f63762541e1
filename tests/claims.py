"""What docs/claims.toml names as `check`: each computes the figures of one claim, written as the page has them."""

import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from stroke_hub import Explanation, ResNetViT, explain, read_records, write_sample
from stroke_hub.audit.duplicates import align, collect_sketches, sketch
from stroke_hub.audit.label_quality import count_joint
from stroke_hub.data.kaggle import EXPECTED
from stroke_hub.inference.ood import TEXTURE_SIZE
from stroke_hub.metrics.classification import auroc
from stroke_hub.metrics.intervals import bootstrap_intervals
from stroke_hub.models.sample import SAMPLE, SAMPLE_FOLDER
from stroke_hub.report.formatting import CONTROLS, MEASURES, format_interval, say_interval
from stroke_hub.runs.report import Report, read_report
from tests.conftest import load_rows

ROOT = Path(__file__).parent.parent
PLANES = range(60, 130, 5)  # of the template: from the base of the brain to its top
NUMBERS = {7: "seven"}


def read_sample_auroc_ct() -> list[str]:
    return [say_interval(read_report(SAMPLE_FOLDER).test["BT"].intervals["auroc"])]


def read_sample_auroc_mr() -> list[str]:
    return [say_interval(read_report(SAMPLE_FOLDER).test["MR"].intervals["auroc"])]


def read_sample_row_ct() -> list[str]:
    return _read_sample_row("BT")


def read_sample_row_mr() -> list[str]:
    return _read_sample_row("MR")


def _read_sample_row(part: str) -> list[str]:
    found = read_report(SAMPLE_FOLDER).test[part].intervals
    return [say_interval(found[name]) for name in ("auroc", "sensitivity", "specificity")]


def read_ct_report() -> list[str]:
    report = Report.from_json((ROOT / "docs" / "ct-report.json").read_bytes())
    return [say_interval(report.test["overall"].intervals["auroc"])]


def count_measures() -> list[str]:
    return [f"{len(MEASURES)} measures", f"{NUMBERS[len(CONTROLS)]} controls"]


def count_texture() -> list[str]:
    return [f"{TEXTURE_SIZE} simple statistics"]


def count_kaggle_training() -> list[str]:
    return [f"{EXPECTED['train', 0] + EXPECTED['train', 1]:,}"]


def count_kaggle_test() -> list[str]:
    return [f"{EXPECTED['test', 0] + EXPECTED['test', 1]:,}"]


# --- neighbouring slices of one head ------------------------------------------------------------------------


def compare_template_1mm() -> list[str]:
    return _compare_neighbours(1)


def compare_template_2mm() -> list[str]:
    return _compare_neighbours(2)


def compare_template_5mm() -> list[str]:
    return _compare_neighbours(5)


def _compare_neighbours(gap: int) -> list[str]:
    pairs = [collect_sketches([_draw_template(plane), _draw_template(plane + gap)]) for plane in PLANES]
    similarity = np.array([align(pair, 0, 1)[0] for pair in pairs])
    return [str(len(pairs)), f"{np.median(similarity):.2f}", str((similarity >= 0.8).sum())]


def doubt_labels_of_a_good_model() -> list[str]:
    return _doubt_flipped_labels(2.0)


def doubt_labels_of_a_fair_model() -> list[str]:
    return _doubt_flipped_labels(1.5)


def doubt_labels_of_a_weak_model() -> list[str]:
    return _doubt_flipped_labels(1.0)


def _doubt_flipped_labels(distance: float) -> list[str]:
    """Of 20 draws of 1,000 slices, 50 with a flipped label: AUROC, labels in doubt, and how many are flipped.

    The model is calibrated, with normal log-odds of standard deviation 1 before that, `distance` from the middle.
    """
    found = []
    for seed in range(20):
        draw = np.random.default_rng(seed)
        true = np.arange(1_000) % 2
        score = draw.normal(np.where(true, distance, -distance))
        probability = 1 / (1 + np.exp(-2 * distance * score))
        flipped = np.zeros(len(true), bool)
        flipped[draw.choice(len(true), 50, replace=False)] = True
        *_, doubtful = count_joint(np.where(flipped, 1 - true, true), probability)
        found.append((auroc(true, probability), doubtful.sum(), (doubtful & flipped).sum()))
    area, listed, right = np.mean(found, axis=0)
    return [f"{area:.3f}", f"{listed:.0f}", f"{right:.0f}"]


@cache
def _draw_template(plane: int) -> np.ndarray:
    volume = _load_template()
    picture = np.rot90(volume[:, :, plane]) / volume.max() * 255
    return sketch(picture.clip(0, 255).astype(np.uint8))


@cache
def _load_template() -> np.ndarray:
    from nilearn import datasets

    return np.asarray(datasets.load_mni152_template(resolution=1).get_fdata())  # voxels of 1 mm


# --- floating-point operations ------------------------------------------------------------------------------


def count_over_forward() -> list[str]:
    return [f"{_count()['flops_over_forward']:.3f}"]


def count_over_pruned() -> list[str]:
    return [f"{_count()['flops_over_pruned_forward']:.4f}"]


def count_over_forward_probe() -> list[str]:
    return [f"{_count()['flops_over_forward_probe']:.3f}"]


def count_grad_cam() -> list[str]:
    return [f"{_count()['flops_grad_cam_over_ours']:.1f}"]


def count_careful() -> list[str]:
    return [f"{1 / _count()['flops_ours_over_careful']:.2f}"]


def count_shares() -> list[str]:
    added = _count()["flops_over_pruned_forward"]
    saved = 1 - _count()["flops_over_forward"] / added
    return [f"{100 * (added - 1):.2f} %", f"{100 * saved:.1f} %"]


@cache
def _count() -> dict[str, float]:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from benchmarks.explain import count_rows
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    return {str(row["row"]): float(row["value"]) for row in count_rows()}


# --- the sample model on fresh slices -----------------------------------------------------------------------


def measure_sample_auroc_mr() -> list[str]:
    explanations, label, group = _explain_fresh("MR")
    probability = np.array([one.probability for one in explanations])
    found = bootstrap_intervals(label, probability, group, threshold=0.5)["auroc"]
    return [format_interval(found["value"], found["low"], found["high"])]


def count_claims_of_stroke_ct() -> list[str]:
    return _count_claims("BT")


def count_claims_of_stroke_mr() -> list[str]:
    return _count_claims("MR")


def _count_claims(modality: str) -> list[str]:
    explanations, label, _ = _explain_fresh(modality)
    carried = [one.contributions["vit"] for one, stroke in zip(explanations, label, strict=True) if not stroke]
    return [f"{sum(value > 0.5 for value in carried)} of {len(carried)}"]


@cache
def _explain_fresh(modality: str) -> tuple[list[Explanation], np.ndarray, np.ndarray]:
    """Explanations, labels and patients of the fresh slices that the sample model was measured on."""
    explanations, table = _explain_all()
    rows = (table["modality"] == modality).to_numpy()
    chosen = [one for one, kept in zip(explanations, rows, strict=True) if kept]
    return chosen, table["label"].to_numpy(np.int64)[rows], table["group"].to_numpy(str)[rows]


@cache
def _explain_all() -> tuple[list[Explanation], pd.DataFrame]:
    with tempfile.TemporaryDirectory() as folder:
        records = read_records(write_sample(Path(folder) / "fresh", patients=880, seed=2027))
        test = records.part("test")
        return explain(ResNetViT.from_pretrained(SAMPLE), load_rows(records.root, test)), test
