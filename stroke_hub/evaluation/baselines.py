"""The baselines: what simple rules reach on the same test slices as the model.

A model that a constant, the modality or six grey-level statistics come close to has not shown that it sees strokes.
What is fitted is fitted once, on the training slices alone: on what the model itself learned from.

majority : the share of strokes in training, of every slice.
modality : the share of strokes in training among the slices of the same modality; an unknown one is its own.
trivial_place : boosted trees on the slice number and on how many slices the scan has; the picture is not seen.
trivial_logistic, trivial_boosted : logistic regression and boosted trees on `measure_trivial_features` and the
    slice number.
cnn_alone, vit_alone : the model's own head, with the other branch's features held at their training mean.
probe : logistic regression on the model's frozen features, and beside it the same on random labels, as a control.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import stdtrit
from torch import Tensor

from stroke_hub.data.loader import decode_squares
from stroke_hub.data.records import name_scans, read_slice_numbers
from stroke_hub.errors import DatasetError
from stroke_hub.inference.predict import compute_features, read_logits
from stroke_hub.metrics.classification import auroc
from stroke_hub.models.resnet_vit import ResNetViT, get_evaluable
from stroke_hub.progress import track

__all__ = [
    "Baseline",
    "control_random_labels",
    "measure_trivial_features",
    "score_baselines",
]

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

FOREGROUND = 12  # grey levels: above what noise and compression leave outside a head
BONE = 240  # grey levels: bone is white in a brain window, and next to nothing in MR is
PROBED = 2000  # training slices whose features are computed: a forward each


@dataclass(frozen=True, eq=False)
class Control:
    """A probe on the true labels beside the same on random ones, one label a group.

    auroc : on the test slices, of the probe on the true labels.
    shuffled : (S,), on the true test labels, of each of the S probes on random labels.
    mean, sd : of `shuffled`; sd is None for fewer than two.
    low, high : 95 % interval of the mean by Student's t, or None for fewer than two. Only the shuffles are drawn,
        the slices are fixed: of other slices it says nothing, and where nothing is wrong it misses 0.5 about once
        in twenty times.
    """

    auroc: float
    shuffled: Floats
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class Baseline:
    """What one simple thing says of the test slices.

    probability : (N,) float64 in [0, 1], of Stroke, in the table's order; None where it is undefined.
    words : a sentence for the report: what it is, or why it is undefined.
    control : of the probe alone, where it is defined.
    """

    probability: Floats | None
    words: str
    control: Control | None = None


def score_baselines(
    model: ResNetViT, table: pd.DataFrame, root: Path, *, shuffles: int = 20, seed: int = 0
) -> dict[str, Baseline]:
    """Fit every baseline on the training slices and score it on the test slices.

    Parameters
    ----------
    table : path, label, modality, group and split, as in a run's split.csv. The slice number is that of a column
        "slice" or "slice_number", or else of a name like p012_s03.png. Without a training part, or without a column
        "split" (then every row is a test slice), only cnn_alone and vit_alone are defined: give another dataset so,
        as what was fitted on its own training part would not be what the model is to be compared with.
    root : the folder that `path` starts from.
    shuffles : how often random labels are drawn for the control; 0 leaves it out.
    seed : decides the shuffles.

    Returns
    -------
    By name, in the order of the module's docstring; the same for any order of the rows.

    Raises
    ------
    DatasetError : there are no test slices, or one cannot be read.
    ValueError : shuffles < 0.
    """
    if shuffles < 0:
        raise ValueError("shuffles must be at least 0")
    table = table.reset_index(drop=True).sort_values("path")  # so that every sum has one order
    split = table["split"] if "split" in table else pd.Series("test", index=table.index)
    training, test = table[split == "train"], table[split == "test"]
    if test.empty:
        raise DatasetError(f"{root}: has no test slices here to score baselines on; mark some in the column split.")
    squares = decode_squares(model, root, pd.concat([training, test]))
    known, unseen = squares[: len(training)], squares[len(training) :]
    features = compute_features(model, unseen)
    found = {
        "majority": _score_majority(training, test),
        "modality": _score_modality(training, test),
        "trivial_place": _score_place(training, test, seed),
        **_score_trivial(training, test, known, unseen, seed),
        **_score_branches(model, features),
        "probe": _score_probe(model, training, test, known, features, shuffles, seed),
    }
    back = np.argsort(test.index.to_numpy())  # from the order of the paths to the table's
    return {
        name: replace(one, probability=None if one.probability is None else one.probability[back])
        for name, one in found.items()
    }


def measure_trivial_features(squares: Tensor) -> Floats:
    """Measure six features that know no anatomy, (N, 6), of uint8 squares (N, S, S).

    Area (share of the square), mean and standard deviation (grey levels, 0 to 255) of the head, and the same of the
    largest part of it that is not bone, which in the brain is the brain. All 0 where there is none.

    On the CT slices of Hssayeni et al. (2020), in AUROC on training patients left out, with the slice number,
    logistic regression and boosted trees reach 0.80 and 0.81 with both, 0.75 and 0.70 with the head alone, 0.70 and
    0.73 without the head.
    """
    rows = [_describe_square(square) for square in track(squares.numpy(), "trivial features")]
    return np.array(rows, np.float64).reshape(-1, 6)


def control_random_labels(
    features: Floats,
    label: Labels,
    group: Sequence[str],
    test_features: Floats,
    test_label: Labels,
    *,
    shuffles: int = 20,
    seed: int = 0,
) -> tuple[Floats, Control | None]:
    """Fit logistic regression on frozen features, and the same on labels that know nothing.

    A shuffle calls half of the groups (patients) Stroke, all slices of each. What is fitted to that must know
    nothing of the test labels, yet single AUROCs scatter far around 0.5: learnt features vary along few directions,
    and the one that a shuffle picks may divide the test slices well, one way or the other; hence the mean. It is
    0.5 in expectation, as a labelling and its reverse are equally likely: over 2,000 shuffles of the quickstart's
    features it was 0.499, and the intervals of 95 in 100 runs of 20 held 0.5. Passing the true labels around among
    the patients would keep their imbalance, and with it a direction: with 17 % strokes, 400 such shuffles of the
    same features gave 0.460, with a standard error of 0.005, where nothing was wrong.

    It is the cheap control: the features were learnt from the true labels, and stay as they are. That a whole
    training on shuffled labels learns nothing is `scripts/benchmark.py recipe`.

    Parameters
    ----------
    features, label, group : (N, F), (N,) and N names, of the training slices.
    test_features, test_label : (M, F) and (M,).
    shuffles : at least 0.
    seed : decides the shuffles.

    Returns
    -------
    The probability (M,) of the probe on the true labels, and the control: None for no shuffles, where the test
    slices are of one class, or the training slices of one group.

    Raises
    ------
    ValueError : shuffles < 0, lengths that differ, or training labels of one class.
    """
    if shuffles < 0 or not len(features) == len(label) == len(group):
        raise ValueError("shuffles must be at least 0, and features, label and group equally long")
    if len(set(label.tolist())) < 2:
        raise ValueError("the training labels must be of two classes")
    probability = _fit_logistic(features, label, test_features)
    truth = auroc(test_label, probability)
    names, index = np.unique(np.asarray(group), return_inverse=True)
    if truth is None or not shuffles or len(names) < 2:
        return probability, None
    generator = np.random.default_rng(seed)
    shuffled = np.zeros(shuffles)
    for i in track(range(shuffles), "shuffled labels"):
        half = (len(names) + generator.integers(2)) // 2  # an odd group falls to either class as often
        drawn = (generator.permutation(len(names)) < half).astype(np.int64)[index]
        shuffled[i] = auroc(test_label, _fit_logistic(features, drawn, test_features))
    mean = float(shuffled.mean())
    if shuffles < 2:
        return probability, Control(truth, shuffled, mean, None, None, None)
    sd = float(shuffled.std(ddof=1))
    reach = float(stdtrit(shuffles - 1, 0.975)) * sd / shuffles**0.5
    return probability, Control(truth, shuffled, mean, sd, mean - reach, mean + reach)


# --- constants ----------------------------------------------------------------------------------------------


def _score_majority(training: pd.DataFrame, test: pd.DataFrame) -> Baseline:
    if training.empty:
        return _lack_training("The majority class")
    share = float(training["label"].mean())
    words = f"One number for every slice: the share of strokes among {_count(training)}, {share:.1%}."
    return Baseline(np.full(len(test), share), words)


def _score_modality(training: pd.DataFrame, test: pd.DataFrame) -> Baseline:
    if training.empty:
        return _lack_training("The modality")
    known, asked = (part["modality"].astype(object).fillna("unknown") for part in (training, test))
    shares = training["label"].groupby(known).mean()
    spoken = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    words = f"The modality alone: the share of strokes among {_count(training)} of the same modality ({spoken})"
    if strangers := int((~asked.isin(shares.index)).sum()):
        words += f", and of all of them for the {strangers:,} test slices of a modality that they do not have"
    if len(shares) == 1:
        words += ", which is the majority class, as there is one modality only"
    share = asked.map(shares).fillna(training["label"].mean())
    return Baseline(share.to_numpy(np.float64), words + ".")


def _count(training: pd.DataFrame) -> str:
    return f"{len(training):,} training slices"


def _lack_training(name: str) -> Baseline:
    return Baseline(None, f"{name}: undefined, as there are no training slices to fit it on.")


# --- trivial features ---------------------------------------------------------------------------------------


def _score_place(training: pd.DataFrame, test: pd.DataFrame, seed: int) -> Baseline:
    from sklearn.ensemble import HistGradientBoostingClassifier  # takes a second, and few commands need it

    if training["label"].nunique() < 2:
        return _lack_classes("Boosted trees on the slice's place", training)
    x, asked = (
        np.column_stack([read_slice_numbers(part), part.groupby(name_scans(part))["path"].transform("size")])
        for part in (training, test)
    )
    words = f"Boosted trees on the slice number and the number of slices of its scan, fitted on {_count(training)}"
    if not np.isfinite(x[:, 0]).any():
        x, asked = x[:, 1:], asked[:, 1:]
        words += "; no slice number is known here"
    trees: Any = HistGradientBoostingClassifier(early_stopping=False, random_state=seed)
    trees.fit(x, training["label"].to_numpy(np.int64))
    return Baseline(trees.predict_proba(asked)[:, 1], f"{words}.")


def _score_trivial(
    training: pd.DataFrame, test: pd.DataFrame, known: Tensor, unseen: Tensor, seed: int
) -> dict[str, Baseline]:
    from sklearn.ensemble import HistGradientBoostingClassifier  # takes a second, and few commands need it

    titles = {"trivial_logistic": "Logistic regression", "trivial_boosted": "Boosted trees"}
    if training["label"].nunique() < 2:
        return {name: _lack_classes(f"{title} on trivial features", training) for name, title in titles.items()}
    x, asked = measure_trivial_features(known), measure_trivial_features(unseen)
    number, asked_number = read_slice_numbers(training), read_slice_numbers(test)
    words = "area, mean and standard deviation of the head and of what is not bone in it"
    if np.isfinite(number).any():
        x, asked = np.column_stack([x, number]), np.column_stack([asked, asked_number])
        places = int(np.isfinite(number).sum() + np.isfinite(asked_number).sum())
        words += f", and the slice number, known for {places:,} of {len(x) + len(asked):,} slices"
    words = f"on trivial features ({words}), fitted on {_count(training)}."
    label = training["label"].to_numpy(np.int64)
    trees: Any = HistGradientBoostingClassifier(early_stopping=False, random_state=seed).fit(x, label)
    found = [_fit_logistic(x, label, asked), trees.predict_proba(asked)[:, 1]]
    return {name: Baseline(p, f"{titles[name]} {words}") for name, p in zip(titles, found, strict=True)}


def _lack_classes(name: str, training: pd.DataFrame) -> Baseline:
    if training.empty:
        return _lack_training(name)
    return Baseline(None, f"{name}: undefined, as the training slices are of one class.")


def _describe_square(square: NDArray[np.uint8]) -> list[float]:
    head = _keep_largest(square > FOREGROUND)
    # bone encloses the brain; where it does not, one erosion breaks the thin bridges to skin and eyes
    steps = max(1, round(len(square) / 128))
    soft = ndimage.binary_erosion(head & (square < BONE), iterations=steps)
    soft = ndimage.binary_dilation(_keep_largest(soft), iterations=steps)
    found = []
    for part in (head, soft):
        grey = square[part]
        found += [float(part.mean()), float(grey.mean()), float(grey.std())] if len(grey) else [0.0, 0.0, 0.0]
    return found


def _keep_largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labelled, parts = ndimage.label(mask)
    kept: NDArray[np.bool_] = labelled == np.bincount(labelled[mask]).argmax() if parts else mask
    return kept


def _fit_logistic(x: Floats, label: Labels, asked: Floats) -> Floats:
    """Predict the rows `asked` (M, F) by standardised logistic regression; NaN is a missing value."""
    from sklearn.impute import SimpleImputer  # takes a second, and few commands need it
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fit: Any = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(max_iter=1000))
    probability: Floats = fit.fit(x, label).predict_proba(asked)[:, 1]
    return probability


# --- the model's own features -------------------------------------------------------------------------------


def _score_branches(model: ResNetViT, features: Tensor) -> dict[str, Baseline]:
    split = model.cnn_features
    mean = model.feature_mean.float().cpu().expand_as(features)
    kept = {
        "cnn_alone": ("CNN", "ViT", [features[:, :split], mean[:, split:]]),
        "vit_alone": ("ViT", "CNN", [mean[:, :split], features[:, split:]]),
    }
    found = {}
    for name, (one, other, parts) in kept.items():
        with torch.inference_mode():
            logits = get_evaluable(model).head(torch.cat(parts, dim=1).to(model.temperature.device))
        words = f"The {one} alone: the model's own head, with the {other}'s features held at their training mean."
        found[name] = Baseline(read_logits(model, logits.float().cpu()).probability, words)
    return found


def _score_probe(
    model: ResNetViT,
    training: pd.DataFrame,
    test: pd.DataFrame,
    known: Tensor,
    features: Tensor,
    shuffles: int,
    seed: int,
) -> Baseline:
    if training["label"].nunique() < 2:
        return _lack_classes("Logistic regression on the model's features", training)
    taken = np.unique(np.linspace(0, len(training) - 1, min(PROBED, len(training))).round().astype(int))
    some = training.iloc[taken]
    if some["label"].nunique() < 2:
        return Baseline(None, "Logistic regression on the model's features: undefined, as one class is too rare.")
    probability, control = control_random_labels(
        compute_features(model, known[taken]).double().numpy(),
        some["label"].to_numpy(np.int64),
        some["group"].astype(str).tolist(),
        features.double().numpy(),
        test["label"].to_numpy(np.int64),
        shuffles=shuffles,
        seed=seed,
    )
    part = f" of {len(training):,}, spread evenly" if len(some) < len(training) else ""
    words = f"Logistic regression on the model's frozen features of {_count(some)}{part}"
    return Baseline(probability, f"{words}{_speak(control)}.", control)


def _speak(control: Control | None) -> str:
    """Say the control in words, to go on a sentence."""
    if control is None:
        return ", without a control: that needs test slices of both classes, two groups and a shuffle"
    words = (
        f": AUROC {control.auroc:.3f}; on random labels, one a group, drawn {len(control.shuffled)} times, "
        f"{control.mean:.3f} on average"
    )
    if control.sd is not None and control.low is not None and control.high is not None:
        held = "holds" if control.low <= 0.5 <= control.high else "does not hold"
        words += (
            f" (standard deviation {control.sd:.3f}, 95 % interval of that average {control.low:.3f} to "
            f"{control.high:.3f}, which {held} 0.5)"
        )
    return (
        f"{words}; this is the cheap control, as the features stay those learnt from the true labels "
        "(retraining the whole model is scripts/benchmark.py recipe)"
    )
