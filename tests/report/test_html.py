"""The page says what report.json says, in a real browser, on a phone and on paper, and fetches nothing."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tyro
from matplotlib.figure import Figure
from playwright.sync_api import Browser, Page

from stroke_hub.errors import RunError
from stroke_hub.report.html import write_page
from stroke_hub.runs.report import Report
from stroke_hub.runs.train_config import TrainConfig

NOTE = "simulated slices, not patients"
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"
STEMS = {  # inches, as the figures have them
    "training_curves": (8.4, 2.9),
    "confusion_matrix": (4.2, 3.6),
    "roc_curve": (4.2, 3.6),
    "precision_recall_curve": (4.2, 3.6),
    "probability_histograms": (4.2, 3.6),
    "reliability": (4.2, 4.2),
    "net_benefit": (4.2, 3.6),
    "forest_subgroups": (7.5, 4.0),
    "forest_baselines": (7.5, 3.2),
    "explanations": (6.8, 12.0),
    "component_summary": (8.2, 12.3),
    "errors": (6.8, 12.0),
    "unusual": (6.8, 12.0),
    "faithfulness": (9.6, 10.8),
}
A4 = 794  # CSS pixels
PRINTED = (695, 1028)  # what the margins leave of A4's 794 x 1123
RATES = ("sensitivity", "specificity", "ppv", "npv")
METRICS = ("accuracy", *RATES, "auroc", "average_precision", "brier")
BRIER = (
    "score", "reliability", "resolution", "uncertainty", "within_bin_variance", "within_bin_covariance",
)  # fmt: skip
REASON = "no slices of a class that it needs"


def interval(value: float | None, reach: float = 0.05, *, reason: str = REASON) -> dict[str, Any]:
    method = {"method": "expanded-bca bootstrap of groups", "groups": 46, "replicates": 10_000, "left_out": 0}
    if value is None:
        return {"value": None, "low": None, "high": None, **method, "undefined": reason}
    return {"value": value, "low": value - reach, "high": min(1.0, value + reach), **method}


def part(n: int, strokes: int, groups: int) -> dict[str, Any]:
    values = (0.9125, 0.9565, 0.9038, 0.6617, 0.9906, 0.9801, 0.9441, 0.0612)
    brier = {"score": 0.061, "reliability": 0.004, "resolution": 0.081, "uncertainty": 0.137}
    brier |= {"within_bin_variance": 0.001, "within_bin_covariance": 0.0}
    bins = [
        {"low": k / 10, "high": (k + 1) / 10, "n": 7 * k + 3, "mean_probability": k / 10 + 0.04}
        | {"stroke_share": k / 10, "share_low": k / 12, "share_high": (k + 1) / 11}
        for k in range(10)
    ]
    point = {name: interval(value) for name, value in zip(RATES, (0.9565, 0.9038, 0.6617, 0.9906), strict=True)}
    return {
        "n": n,
        "n_stroke": strokes,
        "groups": groups,
        "threshold": 0.3123,
        "accuracy": 0.9125,
        "auroc": 0.9801,
        "average_precision": 0.9441,
        "confusion": {"tp": strokes - 4, "tn": n - strokes - 45, "fp": 45, "fn": 4},
        "classes": {
            "Normal": {"precision": 0.9906, "recall": 0.9038, "f1-score": 0.9453, "support": n - strokes},
            "Stroke": {"precision": 0.6617, "recall": 0.9565, "f1-score": 0.7822, "support": strokes},
        },
        "intervals": {name: interval(value) for name, value in zip(METRICS, values, strict=True)},
        "delong": {"value": 0.9801, "low": 0.968, "high": 0.99964, "method": "DeLong, logit"},
        "operating_points": {name: {"threshold": 0.3} | point for name in ("half", "youden", "sensitivity95")},
        "calibration": {
            "before": {"ece": 0.0712, "log_loss": 0.243, "brier": brier, "bins": bins},
            "after": {"ece": 0.0312, "log_loss": 0.201, "brier": brier, "bins": bins},
        },
        "net_benefit": {"threshold": [0.1, 0.5, 0.9], "model": [0.1, 0.08, -0.2], "treat_all": [0.05, -0.6, -7.0]},
        "patients": by_patient(groups, strokes // 2),
    }


def by_patient(n: int, strokes: int, *, mixed: int = 0) -> dict[str, Any]:
    """The figures of patients, of whom 4 with stroke are missed and 5 without have a false call."""
    at = {p: {"ppv": interval(0.34), "npv": interval(0.9975)} for p in ("0.05", "0.2", "0.5")}
    point = {"threshold": 0.3, "sensitivity": interval(0.913), "specificity": interval(0.979), "at_prevalence": at}
    within = {"slices": 40, "stroke_slices": 9, "pooled": interval(0.849), "mean": interval(0.811)}
    return {
        "n": n,
        "n_stroke": strokes,
        "n_mixed": mixed,
        "scans": n,
        "stroke_scans": strokes,
        "missed": min(4, strokes),
        "missed_called": 0,
        "false_called": 5,
        "any_slice": point,
        "mean_sensitivity": interval(0.41),
        "false_calls": interval(0.63),
        "operating_points": dict.fromkeys(("half", "youden", "sensitivity95"), point),
        "rules": [
            {"name": "maximum", "words": "the highest probability", "auroc": interval(0.733)},
            {"name": "highest3", "words": "the mean of the 3 highest probabilities", "auroc": interval(0.766)},
        ],
        "within": within if mixed else None,
    }


def empty_part() -> dict[str, Any]:
    """A part without slices, as `measure_parts` gives it."""
    found = {"ece": None, "log_loss": None, "brier": dict.fromkeys(BRIER), "bins": []}
    return {"n": 0, "n_stroke": 0, "threshold": 0.5, "accuracy": None, "undefined": "no images", "groups": 0} | {
        "intervals": {name: interval(None) for name in METRICS},
        "delong": {"value": None, "low": None, "high": None, "method": "DeLong, logit", "undefined": "one class"},
        "operating_points": {name: undefined_point() for name in ("half", "youden", "sensitivity95")},
        "calibration": {"before": found, "after": found},
        "net_benefit": {"threshold": [], "model": [], "treat_all": []},
    }


def audit(*findings: dict[str, Any]) -> dict[str, Any]:
    keys = ("dataset", "counts", "calibration", "duplicates", "leaks")
    return {"version": 1, **{key: {} for key in keys}, "findings": list(findings)}


def undefined_point() -> dict[str, Any]:
    return {"threshold": 0.5, **{name: interval(None) for name in RATES}}


def typed(report: dict[str, Any]) -> Report:
    return Report.from_json(json.dumps(report))


def whole_report() -> dict[str, Any]:
    """Everything that docs/report-schema.md names, of a run."""
    sizes = {"train": (800, 160, 480), "val": (200, 40, 120), "test": (468, 92, 280)}
    return {
        "schema_version": 2,
        "stroke_hub": "0.1.0",
        "data": {
            "name": "sample",
            "note": NOTE,
            "sha256": "5563bce7d8c4cebe38abd507d4aab2cdb2554898c1047cae8f8f6b2817e57b27",
            "notes": ["Patients are known from the file names."],
            "split": "test",
            "slices": {name: {"normal": normal, "stroke": stroke} for name, (normal, stroke, _) in sizes.items()},
            "groups": {name: groups for name, (_, _, groups) in sizes.items()},
            "participants": {
                "slices": 1774,
                "patients": 884,
                "left_out": [{"reason": "training images that stand in test too", "slices": 14, "patients": 4}],
                "parts": {
                    name: {"slices": normal + stroke, "stroke_slices": stroke, "patients": patients}
                    | {"stroke_patients": stroke // 2, "mixed_patients": 0}
                    for name, (normal, stroke, patients) in sizes.items()
                },
            },
        },
        "model": {
            "source": "quickstart",
            "revision": None,
            "weights_sha256": "0a" * 32,
            "cnn": "test_resnet",
            "vit": "test_vit",
            "image_size": 128,
            "resize": "pad",
            "parameters": 765_432,
            "temperature": 1.2345,
            "threshold": 0.3123,
            "operating_point": "sensitivity95",
        },
        "training": {
            "preset": "tiny",
            "recipe": "plain",
            "cnn": "test_resnet",
            "vit": "test_vit",
            "epochs": 20,
            "batch_size": 32,
            "learning_rate": 0.001,
            "limit": None,
            "seed": 0,
            "best_epoch": 16,
            "best_val_auroc": 0.98913,
        },
        "history": [
            {"epoch": epoch, "train_loss": 0.5, "val_loss": 0.4, "val_accuracy": 0.9, "val_auroc": 0.95}
            for epoch in range(1, 21)
        ],
        "trained_on": None,
        "unit": "slice",
        "calibration": {
            "method": "platt",
            "fitted_on": "val",
            "n": 240,
            "n_stroke": 40,
            "groups": 120,
            "temperature": 1.23,
            "shift": -0.5,
        },
        "operating_points": {
            "half": {"threshold": 0.5, "chosen_on": "fixed", "words": "a probability of 0.5"},
            "youden": {"threshold": 0.41, "chosen_on": "val", "words": "the greatest sensitivity + specificity"},
            "sensitivity95": {"threshold": 0.3123, "chosen_on": "val", "words": "at least 95 % sensitivity"},
            "specificity95": {"threshold": None, "chosen_on": "val", "words": "at least 95 % specificity"}
            | {"undefined": "no threshold reaches it"},
        },
        "test": {"overall": part(560, 92, 280), "BT": part(280, 46, 140), "MR": part(280, 46, 140)},
        "subgroups": [
            {"column": "modality", "value": name, "n": 280, "n_stroke": 46, "groups": 140}
            | {metric: interval(0.95) for metric in ("auroc", "sensitivity", "specificity")}
            for name in ("BT", "MR")
        ]
        + [
            {"column": "slices of the group", "value": "1", "n": 3, "n_stroke": 0, "groups": 3}
            | {"auroc": interval(None), "sensitivity": interval(None), "specificity": interval(0.9, 0.09)}
        ],
        "baselines": [
            {"name": "majority", "words": "Every slice is called what most training slices are."}
            | {"auroc": interval(0.5, 0), "accuracy": interval(0.8357)}
            | {"difference": {"auroc": interval(0.48), "accuracy": interval(0.077, 0.09)}}
            | {
                "scans": [
                    {"name": name, "auroc": interval(0.512), "difference": interval(0.221)}
                    for name in ("maximum", "highest3")
                ]
            },
            {"name": "trivial_boosted", "words": "Brain area, mean and standard deviation of grey."}
            | {"auroc": None, "accuracy": None, "difference": None, "undefined": "no training slices"},
        ],
        "random_labels": {"shuffles": 20, "aurocs": [0.5] * 20, "mean": 0.503, "low": 0.47, "high": 0.53}
        | {"true_labels": 0.961, "words": "A head was fitted to shuffled labels."},
        "audit": audit(
            {"level": "warning", "sentence": "2 slices stand in train and test.", "counts": {"slices": 2}}
        ),
        "half": {"max_probability_change": 0.0045},
        "novelty": {"limit": 1.7, "median": 0.9, "unusual": 7, "share": 0.0125},
        "errors": [
            {"path": f"deep/test/1- Stroke/StrokeBT/p{k:03d}_s02.png", "group": f"p{k:03d}", "modality": "BT"}
            | {
                "truth": "Stroke",
                "predicted": "Normal",
                "probability": 0.01 + k / 999,
                "confidence": 0.99 - k / 999,
            }
            for k in range(49)
        ],
        "curves": {name: {"fpr": [], "tpr": [], "precision": [], "recall": []} for name in ("overall", "BT", "MR")},
        "words": [
            "Measured on 560 slices of sample, 92 of them with stroke, of 280 patients or groups.",
            "Of 100 strokes, 96 are found; with 92 strokes of 46 patients that is known to about ±5 points.",
        ],
        "warnings": [
            f"Every figure here is of: {NOTE}.",
            "The model is not shown to be better than this: brain area, mean and standard deviation of grey.",
        ],
        "headline": "4 of 46 patients with stroke have no slice found; 5 of 234 patients without one do.",
        "patients": [
            {"patient": f"p{k:03d}", "slices": 2, "stroke_slices": 2 * (k < 23), "found": int(k > 3)}
            | {"false_calls": int(23 <= k < 28), "probability": 0.5, "path": f"deep/p{k:03d}_s07.png"}
            for k in range(60)
        ],
    }


def bare_report() -> dict[str, Any]:
    """A model from elsewhere on a folder of normal MR slices: everything that may be null is."""
    report = whole_report()
    empty = empty_part()
    kept = {key: empty[key] for key in ("intervals", "delong", "calibration", "net_benefit")}
    only = part(5, 0, 5) | {
        "auroc": None,
        "average_precision": None,
        "confusion": {"tp": 0, "tn": 5, "fp": 0, "fn": 0},
        "classes": {
            "Normal": {"precision": 1.0, "recall": 1.0, "f1-score": 1.0, "support": 5},
            "Stroke": {"precision": None, "recall": None, "f1-score": None, "support": 0},
        },
        "operating_points": {"half": undefined_point()},
        "undefined": "only one class is present",
    }
    only |= kept
    report["data"] = {"name": "", "note": "", "sha256": None, "notes": [], "split": "test"}
    report["model"] |= {"source": None, "weights_sha256": None, "operating_point": None}
    for name in ("half", "youden", "sensitivity95"):
        report["operating_points"][name] |= {"threshold": None, "undefined": "one class only"}
    report["operating_points"]["half"]["threshold"] = 0.5
    report |= dict.fromkeys(("training", "history", "calibration", "random_labels", "audit"))
    report["test"] = {"overall": only, "BT": empty, "MR": only}
    report |= {"subgroups": [], "baselines": [], "errors": [], "words": ["Nothing."], "warnings": []}
    del report["headline"], report["patients"]  # as of an earlier version
    del only["patients"]
    return report


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for every figure, of the size that the real ones have."""
    folder = tmp_path_factory.mktemp("figures")
    for stem, size in STEMS.items():
        figure = Figure(figsize=size)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1])
        axes.set(title=stem, xlabel="<&\"'")
        figure.savefig(folder / f"{stem}.svg", metadata={"Date": None})
    return folder


@pytest.fixture(scope="module")
def whole(figures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(typed(whole_report()), figures, tmp_path_factory.mktemp("whole") / "report.html")


class Outline(HTMLParser):
    """What a page is made of: its text, and the attributes of every element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] != "style":
            self.words.append(data)

    def get(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(page: Path) -> Outline:
    return Outline(page.read_text(encoding="utf-8"))


def read_command(page: Path) -> str:
    """The command as a reader copies it."""
    found = re.search(r"<pre>(.*?)</pre>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return "".join(Outline(found[1]).words)


def test_numbers_and_warnings_are_the_reports(whole: Path) -> None:
    report, outline = whole_report(), read(whole)
    text = outline.text
    assert text.index(NOTE) < text.index("Research software, not a medical device") < text.index("Verdict")
    for sentence in (*report["warnings"], *report["data"]["notes"]):
        assert text.count(sentence) == 1
    assert "0.980 [0.930, 1.000]" in text  # AUROC
    assert "0.980 [0.968, >0.999]" in text  # DeLong's: 0.99964 is not 1
    assert "560 slices, 92 of class Stroke, 280 groups" in text
    assert "+0.480 [+0.430, +0.530] +0.077 [−0.013, +0.167] yes" in text  # a baseline's difference
    assert "not defined: no training slices" in text
    assert "Aimed at 95 % specificity not defined: no threshold reaches it" in text
    assert "At 2 of 3 thresholds" in text  # 0.9: worth less than acting on none
    assert "0.503 [0.470, 0.530]; with the true labels: 0.961" in text
    assert "Warning: 2 slices stand in train and test." in text
    assert "p039_s02.png" in text
    assert "p040_s02.png" not in text  # 40 of 49, and that is said
    assert "The 40 most confident of 49 stand here" in text
    for value in (report["data"]["sha256"], report["model"]["weights_sha256"], "0.1.0"):
        assert value in text


def test_the_headline_is_of_patients_and_each_has_a_line(whole: Path) -> None:
    report, text = whole_report(), read(whole).text
    assert text.index(report["headline"]) < text.index("Is it good enough") < text.index("Participants")
    assert "Left out: training images that stand in test too 14 – 4 – –" in text
    assert "Test 560 92 280 46 0" in text
    assert "Sensitivity (any slice called) 0.913 [0.863, 0.963]" in text
    assert "AUROC of scans by the highest probability 0.733 [0.683, 0.783]" in text
    assert "0.512 [0.462, 0.562] +0.221 [+0.171, +0.271]" in text  # a simple rule by scan
    assert "p003 2 2 0 – 0.500 deep/p003_s07.png" in text
    assert "p023 2 0 – 1 0.500 deep/p023_s07.png" in text
    assert "40 of 60, all are in patients.csv" in text
    assert "p041_s07.png" not in text
    assert "among slices of patients with both classes" not in text


def test_patients_with_both_classes_have_rows_of_their_own(tmp_path: Path) -> None:
    report = whole_report()
    report["test"]["overall"]["patients"] = by_patient(280, 46, mixed=9)
    text = read(write_page(typed(report), tmp_path, tmp_path / "report.html")).text
    assert "AUROC among slices of patients with both classes 0.849 [0.799, 0.899] – –" in text
    assert "the same within one patient, mean over patients 0.811 [0.761, 0.861] – –" in text


def test_an_error_leads_to_its_place_in_the_gallery_that_is_there(tmp_path: Path) -> None:
    report, gallery = whole_report(), tmp_path / "gallery"

    def list_links() -> list[str]:
        page = read(write_page(typed(report), tmp_path, tmp_path / "report.html"))
        return [str(link["href"]) for link in page.get("a") if not str(link["href"]).startswith("#")]

    assert list_links() == []
    (gallery / "pages").mkdir(parents=True)
    (gallery / "index.html").touch()
    here, gone = (error["path"] for error in report["errors"][:2])
    (gallery / "explanations.csv").write_text(f"path,page\n{here},index.html#s7\n{gone},pages/all-2.html#s8\n")
    assert list_links() == ["gallery/index.html", "gallery/index.html#s7"]
    (gallery / "pages" / "unusual-1.html").touch()
    assert list_links()[2:] == ["gallery/pages/unusual-1.html"]


def test_settings_that_no_default_gives_stand_out(tmp_path: Path) -> None:
    report = whole_report()
    config = TrainConfig(preset="tiny", epochs=7, learning_rate=1e-3, seed=5).resolve()
    report["training"] = json.loads(json.dumps(vars(config))) | {"best_epoch": 3, "best_val_auroc": 0.9}
    text = read(write_page(typed(report), tmp_path, tmp_path / "report.html")).text
    table, rest = text.partition("Settings that are not the defaults")[2].split(
        "The rest is what the defaults give"
    )
    for words in ("epochs 7", "preset tiny", "seed 5"):
        assert words in table
    assert "batch size 32" not in table
    assert "batch size 32" in rest
    assert "best epoch" not in table + rest


def test_commands_in_sentences_are_code(tmp_path: Path) -> None:
    report = whole_report()
    report["warnings"] = [f"Look at `stroke-hub audit` and at {HOSTILE}."]
    page = write_page(typed(report), tmp_path, tmp_path / "report.html")
    assert "Look at <code>stroke-hub audit</code> and at &lt;script&gt;" in page.read_text(encoding="utf-8")
    assert "`" not in read(page).text


def test_what_a_rule_is_does_not_begin_with_its_name_again(tmp_path: Path) -> None:
    report = whole_report()
    report["baselines"][0] |= {"name": "modality", "words": "The modality alone: the share of strokes in it."}
    text = read(write_page(typed(report), tmp_path, tmp_path / "report.html")).text
    assert "The modality alone : The share of strokes in it." in text


def test_every_figure_is_inside_once_and_none_is_missed(whole: Path, figures: Path, tmp_path: Path) -> None:
    images = read(whole).get("img")
    assert len(images) == len(STEMS)
    assert all(image["src"].startswith("data:image/svg+xml,") for image in images)
    assert all(len(image["alt"]) > 20 for image in images)
    alone = tmp_path / "figures"
    alone.mkdir()
    (alone / "roc_curve.svg").write_bytes((figures / "roc_curve.svg").read_bytes())
    Figure(figsize=(4.2, 3.6)).savefig(alone / "reliability.png", dpi=160)
    images = read(write_page(typed(whole_report()), alone, tmp_path / "few.html")).get("img")
    assert [(image["src"][:15], image["width"]) for image in images] == [
        ("data:image/svg+", "403"),
        ("data:image/png;", "403"),
    ]
    assert read(write_page(typed(whole_report()), tmp_path / "nowhere", tmp_path / "none.html")).get("img") == []


def test_null_is_not_defined_with_its_reason(figures: Path, tmp_path: Path) -> None:
    text = read(write_page(typed(bare_report()), figures, tmp_path / "bare.html")).text
    assert not re.search(r"\b(None|nan|NaN|null|undefined)\b", text)
    assert f"a Not defined: {REASON}." in text
    assert "Not defined: one class." in text
    assert "not defined: no slice is or was called Stroke" in text
    assert "All slices, MR" in text  # one modality is the whole test, and is not shown twice
    assert "brain MR slices" in text
    assert not re.search(r"\bCT\b", text.replace("difference between CT and MR", ""))
    assert "was trained elsewhere" in text
    assert "No leakage audit" in text
    assert "not recorded" in text


def test_a_part_without_slices_has_no_column(tmp_path: Path) -> None:
    report = whole_report()
    report["test"]["MR"] = empty_part()
    report["test"]["BT"] = part(100, 20, 30)  # the others are of no known modality
    report["subgroups"] = []
    text = read(write_page(typed(report), tmp_path, tmp_path / "report.html")).text
    assert "All slices" in text
    assert "CT 100 slices" in text
    assert "MR 280" not in text


@pytest.mark.parametrize("build", [whole_report, bare_report])
def test_names_and_notes_are_text(build: Any, tmp_path: Path) -> None:
    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: poison(item) for key, item in value.items()}
        if isinstance(value, list):
            return [poison(item) for item in value]
        return HOSTILE if isinstance(value, str) and value else value

    report = poison(build())
    report["data"] |= {"name": HOSTILE, "note": HOSTILE, "split": HOSTILE}
    report["model"]["operating_point"] = "half"
    page = write_page(typed(report), tmp_path, tmp_path / "report.html")
    outline = read(page)
    assert outline.get("script") == []
    assert outline.get("img") == []
    assert not [name for _, attributes in outline.elements for name in attributes if name.startswith("on")]
    assert HOSTILE in outline.text


def test_command_gives_the_training_again(tmp_path: Path) -> None:
    config = TrainConfig(preset="tiny", epochs=20, learning_rate=1e-3, limit=7, cnn_weights="a b.safetensors")
    report = whole_report()
    resolved = json.loads(json.dumps(vars(config.resolve())))
    report["training"] = resolved | {"best_epoch": 3, "best_val_auroc": 0.9, "data_sha256": "0a", "threads": 3}
    report["data"]["options"] = ["--drop-leaks", "--split-file", "split.csv"]
    words = shlex.split(read_command(write_page(typed(report), tmp_path, tmp_path / "report.html")))
    assert words[:5] == ["OMP_NUM_THREADS=3", "stroke-hub", "train", "--data", "sample"]
    assert words[5:7] == ["--run-dir", "runs/again"]  # where the run of this report does not lie
    assert words[-5:] == ["--drop-leaks", "--split-file", "split.csv", "--data-note", NOTE]
    assert tyro.cli(TrainConfig, args=words[7:-5]).resolve() == config.resolve()


def test_command_of_a_model_from_elsewhere(tmp_path: Path) -> None:
    report = bare_report()
    report["model"] |= {"source": "owner/name", "revision": "abc"}
    report["data"] |= {"split": "train", "note": "it's $HOME"}
    assert read_command(write_page(typed(report), tmp_path, tmp_path / "report.html")) == (
        "stroke-hub evaluate --model owner/name --revision abc --data-dir FOLDER --out OUT --split train "
        "--data-note 'it'\"'\"'s $HOME'"
    )


def test_a_figure_of_others_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "roc_curve.svg").write_text("<svg>")
    with pytest.raises(RunError, match=r"roc_curve\.svg: has no viewBox"):
        write_page(typed(whole_report()), tmp_path, tmp_path / "report.html")
    assert [file.name for file in tmp_path.iterdir()] == ["roc_curve.svg"]


def test_same_report_same_bytes(whole: Path, figures: Path, tmp_path: Path) -> None:
    again = write_page(typed(whole_report()), figures, tmp_path / "report.html")
    assert again.read_bytes() == whole.read_bytes()


def test_tables_figures_and_headings_are_labelled(whole: Path) -> None:
    outline = read(whole)
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [link["href"] for link in outline.get("a")]
    assert len(targets) == 9  # an answer each, and how intervals were made
    assert {target[1:] for target in targets} <= set(ids)
    assert {attributes.get("aria-labelledby", "caption-points") for _, attributes in outline.elements} <= set(ids)
    assert all(header.get("scope") in {"col", "row", "colgroup", "rowgroup"} for header in outline.get("th"))
    assert len(outline.get("caption")) == len(outline.get("table"))
    assert len(outline.get("h1")) == len(outline.get("main")) == 1
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.fixture
def page(browser: Browser, whole: Path) -> Iterator[Page]:
    """The page unfolded, whose requests are all for itself and whose console stays free of errors."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    requests: list[str] = []
    errors: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    context.on("requestfailed", lambda request: errors.append(request.url))
    page = context.new_page()
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(whole.as_uri())
    page.get_by_label("Unfold everything").check()
    yield page
    context.close()
    assert requests[0] == whole.as_uri()
    assert [url for url in requests[1:] if not url.startswith("data:")] == []
    assert errors == []


def test_pictures_are_drawn(page: Page) -> None:
    drawn = "images => images.map(image => image.complete && image.naturalWidth > 0 && image.clientWidth > 100)"
    assert page.locator("img").evaluate_all(drawn) == [True] * len(STEMS)


# every text against the first background behind it, by WCAG 2.2's formula
CONTRAST = """() => {
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const behind = element => { for (; element; element = element.parentElement) {
    const c = parse(getComputedStyle(element).backgroundColor); if (c.length < 4 || c[3] > 0) return c } };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim()) continue;
    const pair = [parse(getComputedStyle(element).color), behind(element)].map(c => light(c.slice(0, 3)));
    found.push((Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05));
  }
  return [found.length, Math.min(...found)];
}"""


@pytest.mark.parametrize(("scheme", "background"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 26)")])
def test_themes_have_contrast(page: Page, scheme: Any, background: str) -> None:
    page.emulate_media(color_scheme=scheme)
    assert page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor") == background
    texts, contrast = page.evaluate(CONTRAST)
    assert texts > 300
    assert contrast >= 4.5  # WCAG AA
    card = "images => images.map(image => getComputedStyle(image.parentElement).backgroundColor)"
    assert set(page.locator("img").evaluate_all(card)) == {"rgb(255, 255, 255)"}


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_sticks_out(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    edges = "parts => Math.max(...parts.map(part => part.getBoundingClientRect().right))"
    assert page.locator("body > *, section > *, .scroll, figure, .scroll caption span").evaluate_all(edges) <= width
    wide = "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth).length"
    assert (page.locator(".scroll").evaluate_all(wide) == 0) == (width == 1280)


def test_a_wide_table_scrolls_by_keyboard(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    box = page.get_by_role("region", name="Performance on the test slices")
    box.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("box => box.scrollLeft > 0", arg=box.element_handle())


def test_paper(page: Page) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": PRINTED[0], "height": PRINTED[1]})
    assert page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") <= PRINTED[0]
    boxes = page.locator("figure, table, pre, .alert").evaluate_all(
        "parts => parts.map(part => [part.tagName, part.getBoundingClientRect().right, "
        "part.getBoundingClientRect().height, getComputedStyle(part).breakInside])"
    )
    assert len(boxes) > 20
    for tag, right, height, breaks in boxes:
        assert right <= PRINTED[0], tag
        assert (breaks == "avoid" and height <= PRINTED[1]) or (tag == "TABLE" and breaks == "auto"), tag
    sheets = print_pages(page)
    assert 8 <= len(sheets) <= 20
    assert {(round(width / 72 * 25.4), round(height / 72 * 25.4)) for width, height in sheets} == {(210, 297)}


def print_pages(page: Page) -> list[tuple[float, float]]:
    """Print the page and list the size of each sheet in points."""
    boxes = re.findall(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", page.pdf(prefer_css_page_size=True))
    return [(float(width), float(height)) for width, height in boxes]


def test_what_is_folded_is_not_printed_and_the_verdict_is_one_page(page: Page) -> None:
    page.get_by_label("Unfold everything").uncheck()
    assert len(print_pages(page)) == 2  # the verdict, and what is folded by its name
    page.emulate_media(media="print")
    page.set_viewport_size({"width": PRINTED[0], "height": PRINTED[1]})
    verdict = page.get_by_role("region", name="Verdict")
    assert verdict.evaluate("verdict => verdict.getBoundingClientRect().bottom") < PRINTED[1]
    page.emulate_media(media="null")
    page.locator("#heading-errors").click()
    page.locator("#heading-explanations").click()
    assert 4 <= len(print_pages(page)) <= 9


def test_an_answer_unfolds_what_it_rests_on(page: Page) -> None:
    page.get_by_label("Unfold everything").uncheck()
    table = page.get_by_role("region", name="Calibration before and after")
    assert not table.is_visible()
    page.get_by_role("link", name="Can a stated probability be believed?").press("Enter")
    table.wait_for()
    assert page.locator("details[open]").count() == 1
    page.locator("#heading-subgroups").click()
    assert page.get_by_role("region", name="Subgroups").first.is_visible()


OPEN = "document.querySelectorAll('details').forEach(one => one.open = true)"  # axe passes over what is closed
AXED = [(scheme, width) for scheme in ("light", "dark") for width in (1440, 390)]


@pytest.mark.parametrize(("scheme", "width"), AXED)
def test_axe_finds_nothing(page: Page, axe: Callable[[Page], list[str]], scheme: Any, width: int) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate(OPEN)
    assert axe(page) == []


def test_axe_would_find_something(page: Page, axe: Callable[[Page], list[str]]) -> None:
    page.get_by_label("Unfold everything").uncheck()
    assert axe(page) == []  # folded
    page.evaluate(OPEN)
    page.evaluate("document.images[0].removeAttribute('alt')")
    assert [words.split()[0] for words in axe(page)] == ["image-alt"]
