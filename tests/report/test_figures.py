"""Figures: what they show is what they were given, nothing overlaps, and many of them stand in one page."""

import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from playwright.sync_api import Browser

from stroke_hub.metrics.classification import trace_curves
from stroke_hub.report.figures import draw_forest
from stroke_hub.report.plots import (
    draw_confusion,
    draw_curves,
    draw_histograms,
    draw_net_benefit,
    draw_precision_recall,
    draw_reliability,
    draw_roc,
    save_figure,
)
from stroke_hub.runs.report import Bin, Confusion, Curve, NetBenefit

NOTE = (
    "simulated slices, not patients; thresholds were chosen on 112 validation slices of 56 patients, never on these"
)
WORDS: dict[str, str | None] = dict.fromkeys(("overall", "BT", "MR"), "0.978 [0.940, 0.994]")
POINTS = {"threshold 0.5": (0.1, 0.9), "Youden": (0.1, 0.9), "sensitivity 95 %": (0.2, 0.96)}
THRESHOLDS = np.linspace(0, 0.99, 100)


def draw_scores(separation: float, *, count: int = 300, seed: int = 0) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    label = np.append([0, 1], generator.random(count) < 0.3).astype(np.int64)
    return label, 1 / (1 + np.exp(-generator.normal(size=count + 2) - separation * (2 * label - 1)))


def trace(separation: float) -> dict[str, Curve]:
    return {part: Curve(**trace_curves(*draw_scores(separation, seed=i))) for i, part in enumerate(WORDS)}


def make_bins(shift: float = 0.0, n: int = 40) -> list[Bin]:
    bins = []
    for low in (np.arange(10) / 10).tolist():
        share = min(low + 0.05 + shift, 1)
        reach = {"share_low": max(share - 0.2, 0), "share_high": min(share + 0.2, 1)}
        bins.append(Bin(low=low, high=low + 0.1, n=n, mean_probability=low + 0.05, stroke_share=share, **reach))
    return bins


def make_row(label: str, value: float | None, **more: Any) -> dict[str, Any]:
    ends = {"low": None, "high": None} if value is None else {"low": value - 0.03, "high": min(value + 0.02, 1)}
    return {"label": label, "value": value, "n": 280, "n_stroke": 46, "groups": 140} | ends | more


def weigh(tpr: float, fpr: float, prevalence: float) -> list[float]:
    return (tpr * prevalence - fpr * (1 - prevalence) * THRESHOLDS / (1 - THRESHOLDS)).tolist()


def make_benefit(tpr: float, fpr: float, prevalence: float) -> NetBenefit:
    """A model of these rates beside calling every slice Stroke."""
    curves = {"model": weigh(tpr, fpr, prevalence), "treat_all": weigh(1, 1, prevalence)}
    return NetBenefit(threshold=THRESHOLDS.tolist(), **curves)


LONG_ROWS = [
    make_row(
        f"scanner {i} of a hospital with a long name" if i % 5 == 0 else f"scanner {i}",
        None if i == 9 else 0.95 - 0.03 * i,
        n=12800,
        n_stroke=4600,
        groups=1400,
        reason="only one class is present, so AUROC and average precision are undefined",
        heading="scanner" if i < 7 else "a very long heading, of an extra column in somebody's index.csv",
    )
    for i in range(14)
]
ONE_BIN = [Bin(low=0.9, high=1.0, n=1, mean_probability=0.97, stroke_share=1.0, share_low=0.2065, share_high=1.0)]
UNDEFINED = [make_row(name, None, reason="no images") for name in ("BT", "MR")]
HISTORY = pd.DataFrame(
    [[1, 0.7, 0.6, 0.5, 0.6], [2, 0.3, 3, 0.8, 0.9]],
    columns=["epoch", "train_loss", "val_loss", "val_accuracy", "val_auroc"],
)

FIGURES: dict[str, Callable[[], Figure]] = {
    "roc": lambda: draw_roc(trace(1.3), WORDS, points=POINTS, note=NOTE),
    "roc, worse than chance": lambda: draw_roc(trace(-1.0), WORDS, note=NOTE),
    "roc, perfect": lambda: draw_roc(trace(9.0), WORDS, points=dict.fromkeys(POINTS, (0.0, 1.0))),
    "precision-recall": lambda: draw_precision_recall(trace(-1.0), WORDS, prevalence=0.3, note=NOTE),
    "histograms": lambda: draw_histograms(*draw_scores(1.3, count=90000), threshold=0.43, note=NOTE),
    "histograms, one slice": lambda: draw_histograms(np.array([1]), np.array([0.7]), threshold=0.5),
    "confusion": lambda: draw_confusion(Confusion(tn=400, fp=20, fn=3, tp=90), note=NOTE),
    "curves": lambda: draw_curves(HISTORY, best_epoch=2, note=NOTE),
    "reliability": lambda: draw_reliability(
        make_bins(0.1), make_bins(n=9000), labels=("before: ECE 0.141 [0.120, 0.170]", "after"), note=NOTE
    ),
    "reliability, one slice": lambda: draw_reliability(ONE_BIN, ONE_BIN, note=NOTE),
    "reliability, nothing": lambda: draw_reliability([], []),
    "net benefit": lambda: draw_net_benefit(
        make_benefit(0.9, 0.1, 0.164), prevalence=0.164, note=NOTE
    ),
    "net benefit, no strokes": lambda: draw_net_benefit(
        make_benefit(0, 0.1, 0), prevalence=0, note=NOTE
    ),
    "forest": lambda: draw_forest(
        [make_row("the model", 0.98, bold=True), make_row("random labels (control)", 0.47)],
        title="Model and baselines", reference=0.5, reference_label="chance", note=NOTE,
    ),
    "forest, 14 rows": lambda: draw_forest(
        LONG_ROWS, title="AUROC by subgroup", reference=0.7, reference_label="overall 0.700", note=NOTE
    ),
    "forest, 1 row": lambda: draw_forest(
        [make_row("BT", 1.0, low=None, high=None)], title="AUROC", reference=1.0, reference_label="overall 1.000"
    ),
    "forest, nothing defined": lambda: draw_forest(UNDEFINED, title="AUROC by subgroup", note=NOTE),
    "forest, differences": lambda: draw_forest(
        [make_row("AUROC", 0.012), make_row("average precision", -0.02)],
        title="run a less run b", xlabel="difference", reference=0, reference_label="no difference", note=NOTE,
    ),
}  # fmt: skip


@cache
def lay_out(name: str) -> Figure:
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    return figure


def find_texts(figure: Figure) -> Iterator[Text]:
    """What can be read, once the figure is laid out."""
    yield from figure.texts
    for axes in figure.axes:
        yield from axes.texts
        if (legend := axes.get_legend()) is not None:
            yield from [*legend.get_texts(), legend.get_title()]
        yield from (axes.title, axes._left_title)  # type: ignore[attr-defined]  # matplotlib offers no other way
        if axes.axison:
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                labels = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=False)  # none where hidden
                yield from (label for place, label in labels if low - 1e-9 <= place <= high + 1e-9)
                yield axis.label


@pytest.mark.parametrize("name", FIGURES)
def test_no_words_overlap_or_leave_the_picture(name: str) -> None:
    figure = lay_out(name)
    texts = [text for text in find_texts(figure) if text.get_visible() and text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    assert len(boxes) > 5
    for text, box in boxes:
        inside = figure.bbox.padded(1)
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1, text
        assert inside.y0 <= box.y0 < box.y1 <= inside.y1, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not a.padded(-0.5).overlaps(b.padded(-0.5)), (one, other)


@pytest.mark.parametrize("name", FIGURES)
def test_legends_stand_clear_of_the_curves_and_tell_without_colour(name: str) -> None:
    figure = lay_out(name)
    for axes in figure.axes:
        if (legend := axes.get_legend()) is not None:
            frame = legend.get_window_extent()
            assert not any(frame.overlaps(other.get_window_extent()) for other in figure.axes if other.axison)
            looks = [
                (line.get_linestyle(), line.get_marker(), line.get_markersize()) for line in legend.get_lines()
            ] + [patch.get_hatch() for patch in legend.get_patches()]
            assert len(set(looks)) == len(looks)


def test_roc_joins_the_names_of_points_that_coincide() -> None:
    figure = draw_roc(trace(1.3), WORDS, points=POINTS)
    legend = figure.axes[1].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][-2:] == ["threshold 0.5, Youden", "sensitivity 95 %"]
    markers = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert [tuple(line.get_xydata()[0]) for line in markers] == [(0.1, 0.9), (0.2, 0.96)]


def test_reliability_puts_points_whiskers_and_bars_where_the_bins_are() -> None:
    bins = [*make_bins(n=7)[2:4], *ONE_BIN]
    axes, strip, _ = draw_reliability([], bins).axes
    curve, *whiskers = axes.lines[1:]
    np.testing.assert_allclose(curve.get_xydata(), [(one.mean_probability, one.stroke_share) for one in bins])
    ends = [line.get_xydata()[:, 1].tolist() for line in whiskers]
    assert ends == [[one.share_low, one.share_high] for one in bins]
    bars = [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_height()) for bar in strip.patches]
    np.testing.assert_allclose(bars, [(one.low, one.high, one.n) for one in bins])


@pytest.mark.parametrize("prevalence", [0.02, 0.164, 0.9])
def test_net_benefit_shows_all_that_a_model_can_reach(prevalence: float) -> None:
    axes = draw_net_benefit(make_benefit(1, 0, prevalence), prevalence=prevalence).axes[0]
    low, high = axes.get_ylim()
    assert -0.05 <= low < 0 < prevalence < high <= 1.15 * prevalence + 1e-9
    model, all_called, none_called = axes.lines
    assert list(model.get_ydata()) == pytest.approx([prevalence] * 100)  # a perfect model's net benefit
    assert all_called.get_ydata()[0] == pytest.approx(prevalence)
    assert list(none_called.get_ydata()) == [0, 0]


def read_columns(figure: Figure) -> tuple[list[str], list[str]]:
    names, _, words = figure.axes
    told = [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in words.texts]
    return [text.get_text() for text in names.texts], told


def test_forest_says_what_each_row_is_and_rests_on() -> None:
    rows = [
        make_row("all slices", 0.98),
        make_row("BT", 0.978, heading="modality"),
        make_row("MR", None, n=1, n_stroke=1, groups=1, reason="one class", heading="modality"),
        {"label": "majority", "value": 0.5, "low": None, "high": None, "bold": True},
    ]
    figure = draw_forest(rows, title="AUROC", reference=0.98, reference_label="overall")
    labels, told = read_columns(figure)
    assert labels == ["all slices", "modality", "BT", "MR", "majority"]
    assert told == [
        "0.980 [0.950, 1.000]\nn = 280, 46 strokes, 140 patients",
        "0.978 [0.948, 0.998]\nn = 280, 46 strokes, 140 patients",
        "undefined: one class\nn = 1, 1 stroke, 1 patient",
        "0.500",
    ]
    plot = figure.axes[1]
    drawn = [line.get_xdata() for line in plot.lines]
    assert [list(x) for x in drawn] == [[0.95, 1.0], [0.98], [0.948, 0.998], [0.978], [0.5], [0.98, 0.98]]
    assert [text.get_fontweight() for text in figure.axes[0].texts] == [
        "normal",
        "bold",
        "normal",
        "normal",
        "bold",
    ]
    assert max(plot.get_xticks()) <= 1 + 1e-9  # no such AUROC


def test_forest_of_differences_has_signs_and_a_line_at_nought() -> None:
    figure = FIGURES["forest, differences"]()
    assert [told.split("\n")[0] for told in read_columns(figure)[1]] == [
        "+0.012 [-0.018, +0.032]", "-0.020 [-0.050, +0.000]",
    ]  # fmt: skip
    assert list(figure.axes[1].lines[-1].get_xdata()) == [0, 0]


def test_forest_grows_with_its_rows() -> None:
    heights = [draw_forest(LONG_ROWS[1 : 1 + n], title="AUROC").get_figheight() for n in (1, 4, 7)]
    assert heights[2] - heights[1] == pytest.approx(heights[1] - heights[0], rel=0.2)
    assert heights[1] - heights[0] > 1


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What matplotlib gives ids to, each in two figures at least: clip paths, ticks, markers, hatches."""
    folder = tmp_path_factory.mktemp("figures")
    chosen = ("roc", "precision-recall", "histograms", "reliability", "forest")
    for name in chosen:
        save_figure(FIGURES[name](), folder / name)
    return {name: (folder / f"{name}.svg").read_text() for name in chosen}


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in "ab":
        save_figure(FIGURES["reliability"](), tmp_path / folder / "reliability")
    for kind in ("png", "svg"):
        first, second = ((tmp_path / folder / f"reliability.{kind}").read_bytes() for folder in "ab")
        assert first == second


def test_ids_of_no_two_figures_are_the_same_and_each_refers_to_its_own(pictures: dict[str, str]) -> None:
    seen: set[str] = set()
    for name, svg in pictures.items():
        ElementTree.fromstring(svg)  # noqa: S314  our own; still well-formed
        ids = re.findall(r'\sid="([^"]*)"', svg)
        referred = re.findall(r'(?:href="#|url\(#)([^")]*)', svg)
        assert referred, name
        assert set(referred) <= set(ids), name
        assert len(ids) == len(set(ids)), name
        assert not seen & set(ids), name
        seen |= set(ids)
        rules = re.findall(r"<style[^>]*>([^<]*)</style>", svg)
        assert [rule.split("{")[0] for rule in rules] == [f"#{ids[0]} *"], name


def test_words_that_look_like_ids_stay_words(tmp_path: Path) -> None:
    note = 'a note with id="x", url(#y), <b href="#z"> and $\\frac$'
    rows = [make_row("$\\frac$", 0.9, heading="$\\frac$")]
    save_figure(draw_forest(rows, title="$\\frac$", note=note), tmp_path / "odd")
    root = ElementTree.parse(tmp_path / "odd.svg").getroot()  # noqa: S314  our own
    assert note in [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_letters_have_families_to_fall_back_on(pictures: dict[str, str]) -> None:
    for svg in pictures.values():
        families = set(re.findall(r"font-family: ([^;\"]*)", svg))
        assert families == {"'DejaVu Sans', 'Verdana', 'Arial', 'Helvetica', sans-serif"}


def test_figures_in_one_page_look_as_they_do_alone(browser: Browser, tmp_path: Path) -> None:
    """Below a hidden one of the same size: if they shared a clip path, its curves would vanish."""
    for name, separation in (("good", 1.3), ("bad", -1.0)):
        save_figure(draw_roc(trace(separation), WORDS), tmp_path / name)
    good, bad = ((tmp_path / f"{name}.svg").read_text().partition("<svg")[2] for name in ("good", "bad"))
    page = browser.new_page()

    def look(html: str) -> bytes:
        page.set_content(f"<body style='background: #111'>{html}</body>")
        return page.locator("svg").last.screenshot()

    assert look(f"<div hidden><svg{good}</div><svg{bad}") == look(f"<svg{bad}")
    page.close()
