"""A scan and a model -> one answer for the scan, and why: exact sums over slices, branches and voxels.

Slices are decoded, judged and let go batch by batch, so that a scan of any length takes the memory of one batch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stroke_hub.errors import RunError, pluralise
from stroke_hub.files import atomic_write
from stroke_hub.inference.results import (
    CONTRIBUTIONS,
    Explanation,
    FloatMap,
    Prediction,
    join_predictions,
    tell_probability,
)
from stroke_hub.metrics.highest_mean import HighestMean
from stroke_hub.models.presets import CLASSES
from stroke_hub.progress import track
from stroke_hub.scan.scan import Scan

if TYPE_CHECKING:
    import pandas as pd

    from stroke_hub.inference.predictor import Predictor

__all__ = [
    "NO_HEAD",
    "ScanExplanation",
    "ScanLayer",
    "ScanPrediction",
    "explain_scan",
    "judge_scan",
    "predict_scan",
]

ScanLayer = Literal["evidence", "display"]
DESCRIPTIONS: dict[ScanLayer, bytes] = {
    "evidence": b"stroke evidence in log-odds",
    "display": b"stroke fused map as drawn, -1 to 1 in each slice",
}
MOST = 0.5  # share of a scan's slices from which something is said of the scan
SHOWN_SLICES = 6
TILE = 240  # pixels a side of one picture of the contact sheet
GAP = 12
LINE = 22  # pixels of one line of text
NOTICE = "Research software, not a medical device."
NO_GRID = (
    "The scan's slices are not one regular grid (a tilted gantry, gaps, uneven spacing, or files that do not say), "
    "so NIfTI cannot hold its evidence; take `evidence` slice by slice, or save the contact sheet."
)
RULE = "The scan is judged by {words}, as chosen on validation scans."
NO_RULE = "This model stores no scan rule, so the default was taken: {words}, not calibrated for scans."
NO_HEAD = "The scan does not look like a head: most of its slices are unlike the training slices."


@dataclass(frozen=True, eq=False, repr=False)
class ScanPrediction:
    """Hold what the model says of one scan of N slices.

    probability : of Stroke, calibrated for scans where the model stores a rule, in [0, 1].
    label : the class predicted, by the rule's threshold.
    log_odds : the same as log-odds: sigmoid(log_odds) = probability.
    slices : what it says of each slice, from foot to head.
    weights : (N,) float64, >= 0, adding up to 1, how much each slice counts in the scan's log-odds.
    rule : how the scan was judged, in words.
    threshold : the probability from which a scan is called Stroke, in [0, 1].
    remarks : what the reader must know of scan and answer, one plain sentence each.
    """

    probability: float
    label: str
    log_odds: float
    slices: Prediction
    weights: NDArray[np.float64]
    rule: str
    threshold: float
    remarks: tuple[str, ...]

    def __repr__(self) -> str:
        words = f"{self.label} {self.probability:.3f}, {pluralise(len(self.weights), 'slice')}"
        return f"ScanPrediction({words}, remarks={len(self.remarks)})"

    @property
    def ranked(self) -> list[int]:
        """List the slices by their number from 0, the highest log-odds first."""
        z = np.diff(self.slices.logits.astype(np.float64), axis=1)[:, 0]
        return [int(index) for index in np.argsort(-z, kind="stable")]

    @property
    def counted(self) -> list[int]:
        """List the slices that count in the scan's log-odds, the highest first."""
        return [index for index in self.ranked if self.weights[index] > 0]


@dataclass(frozen=True, eq=False, repr=False)
class ScanExplanation:
    """Hold why the model says what it says of one scan of N slices, in log-odds of Stroke.

    Which slices count, and how much, is held at what the rule chose. Then all shares add up to the log-odds:
    ``contributions.sum() + shift``; and ``evidence.sum() + outside`` is what CNN and ViT contribute of it.

    prediction : the answer that is explained.
    evidence : float32 of the scan's `shape`, columns first: the share of each voxel, 0 in slices without weight.
    shown : the fused map of each slice that counts, as it is drawn: float32 (H, W), -1 to 1, scaled by its own
        largest absolute value, 0 beside the head.
    outside : the share of the black margins round the slices, where the scan has no voxel.
    contributions : (N, 3) float64, the shares of CNN, ViT and baseline in each slice.
    shift : what the rule's calibration adds to every scan.
    baseline : what the slices are compared with, by name.
    """

    prediction: ScanPrediction
    evidence: FloatMap
    shown: Mapping[int, FloatMap]
    outside: float
    contributions: NDArray[np.float64]
    shift: float
    baseline: str
    _scan: Scan
    _predictor: "Predictor"

    def __repr__(self) -> str:
        sums = self.contributions.sum(axis=0)
        shares = ", ".join(f"{name} {share:+.2f}" for name, share in zip(CONTRIBUTIONS, sums, strict=True))
        words = f"{self.prediction.label} {self.prediction.probability:.3f}, {shares}, shift {self.shift:+.2f}"
        return f"ScanExplanation({words}, {pluralise(len(self.contributions), 'slice')})"

    @property
    def ranked(self) -> list[int]:
        """List the slices as the prediction does, the highest log-odds first."""
        return self.prediction.ranked

    def to_frame(self) -> "pd.DataFrame":
        """Make a table with a row for each slice: stroke_probability, weight, and contribution_ of each part."""
        import pandas as pd

        columns = {"stroke_probability": self.prediction.slices.probability, "weight": self.prediction.weights}
        columns |= {f"contribution_{name}": self.contributions[:, i] for i, name in enumerate(CONTRIBUTIONS)}
        return pd.DataFrame(columns)

    def explain_slice(self, index: int) -> Explanation:
        """Explain one slice by itself, with its maps; it is decoded again.

        Parameters
        ----------
        index : number of the slice from 0, from foot to head.

        Raises
        ------
        IndexError : there is no such slice.
        """
        count = len(self.contributions)
        if not 0 <= index < count:
            raise IndexError(f"slice {index} is asked for, but the scan has slices 0 to {count - 1}.")
        return self._predictor.explain(self._scan.slices[index])

    def give_display(self) -> FloatMap:
        """Give `shown` in the scan's own voxels, float32 of its `shape`, columns first; 0 where no slice counts."""
        blank = np.zeros(self._scan.slices[0].pixels.shape, np.float32)
        return self._scan.restore((self.shown.get(index, blank) for index in range(len(self._scan))), mean=True)

    def save(self, path: str | Path, *, layer: ScanLayer = "evidence") -> None:
        """Write a map as a NIfTI file that lies over the scan, in the scan's own voxel order and affine.

        Parameters
        ----------
        layer : "evidence" in log-odds, or "display", the fused map as it is drawn, from -1 to 1.

        Raises
        ------
        RunError : the slices are not one regular grid.
        ValueError : the name does not end in .nii or .nii.gz.
        """
        path = Path(path)
        if not path.name.lower().endswith((".nii", ".nii.gz")):
            raise ValueError(f"{path.name}: is no name of a NIfTI file; let it end in .nii or .nii.gz.")
        affine = self._scan.affine
        if affine is None:
            raise RunError(NO_GRID)
        import nibabel

        make_image: Any = nibabel.Nifti1Image  # has no types
        image = make_image(self.evidence if layer == "evidence" else self.give_display(), affine)
        image.set_qform(affine, code="scanner")
        image.set_sform(affine, code="scanner")
        image.header.set_xyzt_units("mm")
        image.header["descrip"] = DESCRIPTIONS[layer]
        is_packed = path.name.lower().endswith(".gz")
        with atomic_write(path) as partial:
            # nibabel chooses by the suffix, and that of a partial file is another
            whole = partial.with_name(f"{partial.name}.nii{'.gz' if is_packed else ''}")
            try:
                nibabel.save(image, whole)
                whole.replace(partial)
            finally:
                whole.unlink(missing_ok=True)

    def contact_sheet(self) -> Image.Image:
        """Draw the highest slices that count, each beside its map, with probabilities, as one RGB picture.

        The map is `Explanation.overlay`, scaled by its own strongest pixel.
        """
        shown = self.prediction.counted[:SHOWN_SLICES]
        across = min(2, len(shown))
        down = -(-len(shown) // across)
        width = across * (2 * TILE + GAP) + GAP
        heading = [
            f"{self.prediction.label}, probability of stroke {tell_probability(self.prediction.probability)}",
            f"Scan judged by {self.prediction.rule}",
            NOTICE,
        ]
        top = GAP + LINE * len(heading) + GAP
        sheet = Image.new("RGB", (width, top + down * (TILE + LINE + GAP)), "black")
        draw = ImageDraw.Draw(sheet)
        font = ImageFont.load_default(size=14)
        for row, words in enumerate(heading):
            draw.text((GAP, GAP + row * LINE), words, fill="white", font=font)
        for place, index in enumerate(track(shown, "drawing")):
            explained = self.explain_slice(index)
            x = GAP + place % across * (2 * TILE + GAP)
            y = top + place // across * (TILE + LINE + GAP)
            words = f"Slice {index + 1} of {len(self.contributions)}: {tell_probability(explained.probability)}"
            draw.text((x, y), words, fill="white", font=font)
            for column, picture in enumerate((Image.fromarray(explained.picture), explained.overlay())):
                sheet.paste(_fit(picture), (x + column * TILE, y + LINE))
        return sheet


def predict_scan(
    predictor: "Predictor", scan: Scan, *, batch_size: int, contributions: bool = False
) -> ScanPrediction:
    """Predict for a scan: `predict` without the choice of what was given.

    Raises
    ------
    ValueError : the scan has no slices.
    """
    if not len(scan):
        raise ValueError("the scan has no slices; pass one with at least one.")
    parts = [
        predictor.predict([scan.slices[i] for i in part], batch_size=batch_size, contributions=contributions)
        for part in track(_split(range(len(scan)), batch_size), "predicting")
    ]
    return judge_scan(predictor, scan, join_predictions(parts))


def judge_scan(predictor: "Predictor", scan: Scan, slices: Prediction) -> ScanPrediction:
    """Judge a scan by what `predictor` said of its slices, at least one, in their order."""
    rule, told = _find_rule(predictor)
    judged = rule.judge(np.diff(slices.logits.astype(np.float64), axis=1)[:, 0] / predictor.temperature)
    probability = float(np.exp(-np.logaddexp(0, -judged.log_odds)))
    return ScanPrediction(
        probability=probability,
        label=CLASSES[int(probability >= rule.threshold)],
        log_odds=judged.log_odds,
        slices=slices,
        weights=judged.weights,
        rule=rule.words,
        threshold=rule.threshold,
        remarks=(*scan.remarks, *_describe(slices), *told),
    )


def explain_scan(predictor: "Predictor", scan: Scan, *, batch_size: int) -> ScanExplanation:
    """Explain a scan: `explain` without the choice of what was given.

    Only slices with weight are explained; they are decoded a second time.

    Raises
    ------
    RunError : the export predicts only.
    ValueError : the scan has no slices.
    """
    predictor.explain([])  # what cannot explain says so before a whole scan is predicted
    prediction = predict_scan(predictor, scan, batch_size=batch_size)
    rule, _ = _find_rule(predictor)
    factors = rule.scale * prediction.weights
    contributions = np.zeros((len(scan), len(CONTRIBUTIONS)))
    outside, names = 0.0, set()
    blank = np.zeros(scan.slices[0].pixels.shape, np.float32)
    shown: dict[int, FloatMap] = {}

    def give_maps() -> Iterator[FloatMap]:
        nonlocal outside
        given = 0
        weighted = [int(index) for index in np.flatnonzero(factors)]
        for part in track(_split(weighted, batch_size), "explaining"):
            found = predictor.explain([scan.slices[i] for i in part], batch_size=batch_size)
            for index, one in zip(part, found, strict=True):
                yield from repeat(blank, index - given)
                contributions[index] = [factors[index] * one.contributions[name] for name in CONTRIBUTIONS]
                names.add(one.baseline)
                drawn = one.framed.lift(one.get_shown("fused"))
                shown[index] = drawn / (np.abs(drawn).max() or np.float32(1))
                fused = one.fused_map.astype(np.float64)
                shares = one.framed.give_back(one.fused_map)
                outside += factors[index] * float(fused.sum() - shares.sum(dtype=np.float64))
                yield np.asarray(factors[index] * shares, np.float32)
                given = index + 1
        yield from repeat(blank, len(scan) - given)

    evidence = scan.restore(give_maps())
    return ScanExplanation(
        prediction=prediction,
        evidence=evidence,
        shown=shown,
        outside=outside,
        contributions=contributions,
        shift=rule.shift,
        baseline=", ".join(sorted(names)),
        _scan=scan,
        _predictor=predictor,
    )


def _find_rule(predictor: "Predictor") -> tuple[HighestMean, tuple[str, ...]]:
    """The model's rule or else the default, and a remark that says which."""
    if predictor.scan_rule is not None:
        return predictor.scan_rule, (RULE.format(words=predictor.scan_rule.words),)
    rule = HighestMean(threshold=predictor.threshold)
    return rule, (NO_RULE.format(words=rule.words),)


def _describe(slices: Prediction) -> list[str]:
    """What the reader of a scan's answer must know of its slices."""
    count, told = len(slices.label), []
    unusual = int(slices.unusual.sum())
    if unusual > MOST * count:
        told.append(NO_HEAD)
    if unusual:
        told.append(f"Unlike the training slices: {unusual} of {pluralise(count, 'slice')}.")
    every = [sentence for remarks in slices.remarks for sentence in dict.fromkeys(remarks)]
    for sentence in dict.fromkeys(every):
        if every.count(sentence) > MOST * count:
            told.append(f"Of most slices: {sentence}")
    return told


def _split(values: "range | list[int]", size: int) -> list["range | list[int]"]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _fit(picture: Image.Image) -> Image.Image:
    """Fit a picture into a tile, black around it."""
    picture = picture.convert("RGB")
    scale = TILE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    tile = Image.new("RGB", (TILE, TILE), "black")
    tile.paste(picture.resize(size, Image.Resampling.BILINEAR), ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile
