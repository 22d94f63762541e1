"""Predictions and explanations, and how they are made of the arrays that a backend gives: numpy alone, no torch."""

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stroke_hub.errors import pluralise
from stroke_hub.inference.colormaps import colour
from stroke_hub.inference.inputs import Taken
from stroke_hub.inference.ood import describe_unusual, find_unusual
from stroke_hub.io.framing import Box
from stroke_hub.io.sight import FramedSlice, Sight, frame_slice, frame_square
from stroke_hub.io.slices import Slice
from stroke_hub.io.windowing import Modality
from stroke_hub.models.presets import CLASSES

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CAMS",
    "CONTRIBUTIONS",
    "METHODS",
    "TARGETS",
    "Cam",
    "Explanation",
    "Layer",
    "Method",
    "Prediction",
    "Squares",
    "Target",
    "find_method",
    "find_target",
    "frame_slices",
    "join_predictions",
    "make_explanations",
    "make_prediction",
    "tell_probability",
    "to_squares",
]

Target = Literal["Stroke", "Normal", "predicted"]
Layer = Literal["cnn", "vit", "fused"]
Cam = Literal["gradcam++", "layercam", "eigencam", "eigengradcam", "scorecam"]
Method = Literal["relevance", "attention", Cam]
TARGETS: tuple[Target, ...] = get_args(Target)
CAMS: tuple[Cam, ...] = get_args(Cam)
METHODS: tuple[Method, ...] = get_args(Method)
CONTRIBUTIONS = ("cnn", "vit", "baseline")
OUTSIDE = 0.25  # share of a map beside the head from which a reader is told
SHOWN_ROWS = 20  # of a table in a notebook
FloatMap = NDArray[np.float32]


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """Hold what the model says of N slices.

    probability : (N,) float64 in [0, 1], of Stroke, calibrated.
    label : N class names, by the model's threshold.
    logits : (N, 2) float32, of Normal and Stroke, uncalibrated.
    distance : (N,) float64, >= 0, from the training slices (`ood.measure_distance`); NaN where not measured.
    unusual : (N,) bool, whether that is beyond the model's limit, or the slice blank.
        Always False of a model without a limit.
    remarks : N tuples, what the reader of each answer must know of the picture, one plain sentence each.
    contributions : (N, 3) float32, log-odds of Stroke that CNN, ViT and baseline contribute, as in `Explanation`;
        None where they were not asked for.
    baseline : N names of what they are compared with; None as above.
    """

    probability: NDArray[np.float64]
    label: list[str]
    logits: NDArray[np.float32]
    distance: NDArray[np.float64]
    unusual: NDArray[np.bool_]
    remarks: list[tuple[str, ...]]
    contributions: NDArray[np.float32] | None = None
    baseline: list[str] | None = None

    def __repr__(self) -> str:
        counts = [f"{self.label.count(name)} {name}" for name in reversed(CLASSES)]
        words = [pluralise(len(self.label), "slice"), *counts, f"{int(self.unusual.sum())} unusual"]
        return f"Prediction({', '.join(words)})"

    def _repr_html_(self) -> str:
        table: str = self.to_frame().to_html(max_rows=SHOWN_ROWS, float_format="{:.3f}".format, border=0)
        return table

    def to_frame(self) -> "pd.DataFrame":
        """Make a table with a row for each slice.

        Returns
        -------
        Columns label, stroke_probability, contribution_cnn, contribution_vit, contribution_baseline and baseline
        (its name; these four where they were asked for), unusual, distance and remarks (one text), named as in the
        table of ``stroke-hub predict``.
        """
        import pandas as pd

        columns: dict[str, Any] = {"label": self.label, "stroke_probability": self.probability}
        if self.contributions is not None:
            columns |= {f"contribution_{name}": self.contributions[:, i] for i, name in enumerate(CONTRIBUTIONS)}
            columns["baseline"] = self.baseline
        columns |= {"unusual": self.unusual, "distance": self.distance}
        return pd.DataFrame(columns | {"remarks": [" ".join(remarks) for remarks in self.remarks]})


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Hold why the model says what it says of one slice; S is the model's image size.

    target : the class explained, "Stroke" or "Normal"; every sign below is seen from it.
    label : the class predicted, by the model's threshold.
    probability : of `target`, calibrated, in [0, 1].
    log_odds : the same as log-odds: sigmoid(log_odds) = probability.
    cnn_map : float32 (S, S), >= 0, Grad-CAM of the CNN branch; a display map.
    vit_map : float32 (S, S), >= 0, of the ViT branch: gradient x attention, or what `method` names; a display map.
    cnn_evidence : float32 (S, S), signed log-odds per pixel, summing to contributions["cnn"].
    vit_evidence : float32 (S, S), the same for contributions["vit"]: that sum allocated over the patches.
    fused_map : float32 (S, S), cnn_evidence + vit_evidence. It is not the sum of the two display maps.
    contributions : log-odds of "cnn", "vit" and "baseline", summing to log_odds. The first two tell how far the
        slice's features are from the baseline's, the last what the model says of the baseline itself.
    baseline : what that is, as "mean of the normal BT training slices".
    norms : Euclidean norms of the branches' features: a diagnostic, not a contribution.
    method : how the maps were computed.
    framed : what the model saw of the slice, and where in the slice that lies.
    pixels : uint8 (S, S), the square that the model saw.
    picture : uint8 (H, W), the whole slice in the window that was asked for, else as the model sees it.
    box : the part of the picture that is in the square.
    distance : from the training slices, as in `Prediction`, and distance_limit : the model's limit (or infinity).
    unusual : whether the slice is beyond that, or blank.
    """

    target: str
    label: str
    probability: float
    log_odds: float
    cnn_map: FloatMap
    vit_map: FloatMap
    cnn_evidence: FloatMap
    vit_evidence: FloatMap
    fused_map: FloatMap
    contributions: dict[str, float]
    norms: dict[str, float]
    baseline: str
    method: str
    framed: FramedSlice
    distance: float
    distance_limit: float
    unusual: bool

    def __repr__(self) -> str:
        shares = ", ".join(f"{name} {share:+.2f}" for name, share in self.contributions.items())
        words = f"{self.target} {self.probability:.3f}, {shares}, label={self.label!r}"
        return f"Explanation({words}, remarks={len(self.remarks)})"

    def _repr_png_(self) -> bytes:
        """Draw the overlays side by side as a PNG: CNN, ViT, fused."""
        overlays = [self.overlay(layer) for layer in get_args(Layer)]
        width, height = overlays[0].size
        row = Image.new("RGB", (width * len(overlays), height))
        for place, one in enumerate(overlays):
            row.paste(one, (place * width, 0))
        stream = io.BytesIO()
        row.save(stream, "PNG")
        return stream.getvalue()

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The square that the model saw, uint8 (S, S)."""
        return self.framed.square

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The whole slice in the window that was asked for, else as the model sees it, uint8 (H, W)."""
        return self.framed.picture

    @property
    def box(self) -> Box:
        """The part of the picture that the model saw."""
        return self.framed.box

    def get_map(self, layer: Layer) -> FloatMap:
        """Get the float32 (S, S) map that `layer` names: "cnn", "vit" (>= 0) or "fused" (signed)."""
        maps = {"cnn": self.cnn_map, "vit": self.vit_map, "fused": self.fused_map}
        if str(layer).lower() not in maps:
            raise ValueError(f"layer is {layer!r}, but must be one of {list(maps)}.")
        return maps[layer.lower()]

    def get_shown(self, layer: Layer) -> FloatMap:
        """Get the map that is drawn, float32 (S, S): `get_map` within the head, 0 beside it."""
        return np.where(self.framed.head, self.get_map(layer), np.float32(0))

    def measure_outside(self, layer: Layer) -> float:
        """Measure the share of a map's absolute values, 0 to 1, that lies beside the head and is not drawn."""
        sizes = np.abs(self.get_map(layer).astype(np.float64))
        total = float(sizes.sum())
        return float(sizes[~self.framed.head].sum()) / total if total > 0 else 0.0

    @property
    def remarks(self) -> list[str]:
        """List what a reader must not miss: of the picture, then a slice unlike the training slices, empty maps."""
        warning = [describe_unusual(self.distance, self.distance_limit)] if self.unusual else []
        names: dict[Layer, str] = {
            "cnn": "Grad-CAM of the CNN",
            "vit": "relevance of the ViT",
            "fused": "fused map",
        }
        empty = [
            f"{name}: no positive evidence for {self.target}"
            for layer, name in names.items()
            if not (self.get_map(layer) > 0).any()
        ]
        shares = {name: share for layer, name in names.items() if (share := self.measure_outside(layer)) >= OUTSIDE}
        told = ", ".join(f"{share:.0%} of the {name}" for name, share in shares.items())
        beside = [f"beside the head, and not drawn: {told}"] if told else []
        return [*self.framed.remarks, *warning, *empty, *beside]

    def speaks_against(self, layer: Layer) -> bool:
        """Tell whether a branch's sum speaks against `target`: then nothing of its display map is drawn."""
        branch = layer.lower()
        return branch in ("cnn", "vit") and self.contributions[branch] <= 0

    def overlay(self, layer: Layer = "cnn", *, opacity: float = 0.5, colormap: str | None = None) -> Image.Image:
        """Draw one map over the slice, an RGB picture (H, W) in the slice's own proportions.

        Red speaks for Stroke and blue against it, in all three maps. Colour and opacity grow with strength, each
        map scaled by its own largest absolute value. A map without evidence, or of a branch whose sum speaks
        against `target`, leaves the slice as it is. Nothing is drawn beside the head: `measure_outside` says how
        much lies there.

        Parameters
        ----------
        layer : "cnn", "vit" or "fused". The first is the default because it placed lesions best for an earlier
            model. No map is best for every model: `docs/how-far-to-trust-the-heatmaps.md` has the numbers.
        opacity : of the strongest pixel, 0 to 1.
        colormap : a name of `colormaps.colour`; by default the diverging "RdBu_r". With another name the maps of
            the branches are coloured by strength alone.

        Raises
        ------
        ValueError, MissingExtra : as of `colormaps.colour`.
        """
        layer = layer.lower()  # type: ignore[assignment]
        values = self.framed.lift(self.get_shown(layer))
        strength = 0.0 if self.speaks_against(layer) else float(np.abs(values).max())
        grey = np.repeat(self.picture[..., None], 3, axis=2).astype(np.float32)
        if strength > 0:
            scaled = values / np.float32(strength)
            towards = scaled if self.target == "Stroke" else -scaled
            # a diverging map is near white around zero: beginning half way out leaves no veil where nothing is
            position = 0.5 + np.sign(towards) * (0.25 + 0.25 * np.abs(towards))
            if colormap is not None and layer != "fused":
                position = np.abs(scaled)
            painted = colour(position, colormap or "RdBu_r")
            cover = opacity * np.abs(scaled)[..., None] ** 0.7  # below 1, so that weaker regions stay visible
            grey = grey * (1 - cover) + painted * cover
        return Image.fromarray(grey.round().astype(np.uint8))


def frame_slices(model: Sight, slices: Taken) -> Iterator[FramedSlice]:
    """Frame slices as the model sees them; squares, and slices that are framed already, stay as they are."""
    if isinstance(slices, np.ndarray):
        yield from map(frame_square, slices)
        return
    for one in slices:
        yield frame_slice(model, one) if isinstance(one, Slice) else one


class Squares(NamedTuple):
    """Hold what a model sees of N slices: squares uint8 (N, S, S), and remarks and modality of each."""

    squares: NDArray[np.uint8]
    remarks: list[tuple[str, ...]]
    modalities: list[Modality | None]


def to_squares(model: Sight, slices: Iterable[Slice | FramedSlice] | NDArray[np.uint8]) -> Squares:
    """Turn N slices into the model's squares; squares stay what they are. N may be 0."""
    if isinstance(slices, np.ndarray):
        return Squares(slices, [()] * len(slices), [None] * len(slices))
    # pictures are let go at once
    seen = [(one.square, one.remarks, one.modality) for one in frame_slices(model, slices)]
    if not seen:
        return Squares(np.zeros((0, model.image_size, model.image_size), np.uint8), [], [])
    squares, remarks, modalities = zip(*seen, strict=True)
    return Squares(np.stack(squares), list(remarks), list(modalities))


def tell_probability(probability: float) -> str:
    """Tell a probability in percent; none is ever 0 or 100."""
    if 0.01 <= probability <= 0.99:
        return f"{probability:.0%}"
    return "below 1%" if probability < 0.5 else "above 99%"


def find_target(name: str) -> Target:
    """Find the target of a name in any case.

    Raises
    ------
    ValueError : it is neither "Stroke" nor "Normal" nor "predicted".
    """
    if found := [target for target in TARGETS if target.lower() == str(name).lower()]:
        return found[0]
    raise ValueError(f"target is {name!r}, but must be 'Stroke', 'Normal' or 'predicted'.")


def find_method(name: str) -> Method:
    """Find the method of a name in any case, with or without hyphens, spaces and underscores.

    "Grad-CAM" is "relevance", whose map of the CNN is Grad-CAM.

    Raises
    ------
    ValueError : there is no such method.
    """
    plain = re.sub(r"[\s_-]", "", str(name).lower())
    if plain == "gradcam":
        return "relevance"
    if found := [method for method in METHODS if method == plain]:
        return found[0]
    raise ValueError(f"method is {name!r}, but must be one of {list(METHODS)}.")


def make_prediction(
    logits: NDArray[np.float32],
    *,
    temperature: float,
    threshold: float,
    distance: NDArray[np.floating] | None = None,
    limit: float = np.inf,
    squares: NDArray[np.uint8] | None = None,
    contributions: NDArray[np.float32] | None = None,
    baseline: list[str] | None = None,
    remarks: Sequence[tuple[str, ...]] | None = None,
) -> Prediction:
    """Turn logits (N, 2) into calibrated probabilities and labels, and tell which slices are unusual.

    Parameters
    ----------
    temperature, threshold : the model's own.
    distance : (N,), from the training slices; where it was not measured, nothing is unusual.
    limit : the model's, for `distance`.
    squares : uint8 (N, S, S), what the model saw; goes with `distance`.
    contributions, baseline : (N, 3) and N names, passed on.
    remarks : of each slice; none where only squares are known.
    """
    values = logits.astype(np.float64)
    probability = 1 / (1 + np.exp((values[:, 0] - values[:, 1]) / temperature))
    label = [CLASSES[int(p >= threshold)] for p in probability]
    measured, unusual = np.full(len(logits), np.nan), np.zeros(len(logits), bool)
    if distance is not None and squares is not None:
        measured = distance.astype(np.float64)
        unusual = find_unusual(measured, limit, squares)
    told: list[tuple[str, ...]] = [()] * len(logits) if remarks is None else list(remarks)
    return Prediction(probability, label, logits, measured, unusual, told, contributions, baseline)


def join_predictions(parts: Sequence[Prediction]) -> Prediction:
    """Join predictions of parts, at least one, into one of all their slices, in their order."""
    first = parts[0]
    return Prediction(
        probability=np.concatenate([part.probability for part in parts]),
        label=[name for part in parts for name in part.label],
        logits=np.concatenate([part.logits for part in parts]),
        distance=np.concatenate([part.distance for part in parts]),
        unusual=np.concatenate([part.unusual for part in parts]),
        remarks=[told for part in parts for told in part.remarks],
        contributions=None
        if first.contributions is None
        else np.concatenate([part.contributions for part in parts if part.contributions is not None]),
        baseline=None if first.baseline is None else [name for part in parts for name in part.baseline or ()],
    )


def make_explanations(
    found: Mapping[str, NDArray[Any]],
    framed: Sequence[FramedSlice],
    *,
    temperature: float,
    threshold: float,
    limit: float,
    target: Target,
    method: str,
    baselines: Sequence[str],
) -> list[Explanation]:
    """Turn the arrays of `relevance.Relevance` into explanations.

    Parameters
    ----------
    found : arrays by the names of its fields, and `distance` (N,), from the training slices. `cnn_map` and
        `vit_map` may be other grids, or maps of full size.
    framed : what the model saw of N slices.
    temperature, threshold, limit : the model's own, the last for the distance.
    target : the class that `found` is of.
    method : how the maps were computed.
    baselines : what each slice is compared with, by name.
    """
    squares = np.stack([one.square for one in framed])
    size = squares.shape[-1]
    cnn_maps, vit_maps = upsample(found["cnn_map"], size), upsample(np.maximum(found["vit_map"], 0), size)
    cnn_evidence, vit_evidence = spread_sums(found["cnn_evidence"], size), spread_sums(found["vit_evidence"], size)
    fused = cnn_evidence + vit_evidence
    prediction = make_prediction(
        found["logits"],
        temperature=temperature,
        threshold=threshold,
        distance=found["distance"],
        limit=limit,
        squares=squares,
    )
    labels = prediction.label
    log_odds = found["log_odds"].astype(np.float64)
    probability = np.exp(-np.logaddexp(0, -log_odds))
    contributions, norms = found["contributions"].tolist(), found["norms"].tolist()
    return [
        Explanation(
            target=labels[i] if target == "predicted" else target,
            label=labels[i],
            probability=float(probability[i]),
            log_odds=float(log_odds[i]),
            cnn_map=cnn_maps[i],
            vit_map=vit_maps[i],
            cnn_evidence=cnn_evidence[i],
            vit_evidence=vit_evidence[i],
            fused_map=fused[i],
            contributions=dict(zip(CONTRIBUTIONS, contributions[i], strict=True)),
            norms=dict(zip(("cnn", "vit"), norms[i], strict=True)),
            baseline=baselines[i],
            method=method,
            framed=framed[i],
            distance=float(prediction.distance[i]),
            distance_limit=limit,
            unusual=bool(prediction.unusual[i]),
        )
        for i in range(len(labels))
    ]


def upsample(grid: NDArray[Any], size: int) -> NDArray[Any]:
    """Upsample grids (N, h, w) to (N, size, size), bilinear between the centres of the cells; the type is kept."""
    for axis in (1, 2):
        cells = grid.shape[axis]
        # as torch's interpolate with align_corners=False: pixel centres, and the border cell beyond its centre
        position = ((np.arange(size) + 0.5) * (cells / size) - 0.5).clip(0, cells - 1)
        low = position.astype(np.intp)
        share = (position - low).astype(grid.dtype).reshape((-1, 1) if axis == 1 else -1)
        first, second = grid.take(low, axis), grid.take(np.minimum(low + 1, cells - 1), axis)
        grid = first * (1 - share) + second * share
    return grid


def spread_sums(grid: NDArray[Any], size: int) -> NDArray[Any]:
    """Spread grids of sums (N, h, w) into densities (N, size, size) with the same sums.

    Bilinear weights of every cell add up to its area where the factor is whole; otherwise each cell is spread
    evenly over the pixels that it covers.
    """
    rows, columns = grid.shape[1:]
    if size % rows == 0 and size % columns == 0:
        smooth = upsample(grid, size)
        smooth /= (size // rows) * (size // columns)
        return smooth
    row, column = np.arange(size) * rows // size, np.arange(size) * columns // size
    area = np.bincount(row, minlength=rows)[:, None] * np.bincount(column, minlength=columns)
    density: NDArray[Any] = (grid / area.astype(grid.dtype)).take(row, 1).take(column, 2)
    return density
