"""The configuration of a training: as it is asked for, and with every default of its recipe filled in."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias

import tyro

from stroke_hub.errors import RunError
from stroke_hub.io.sight import Framing
from stroke_hub.io.windowing import Modality, Window
from stroke_hub.metrics.calibration import Calibration, OperatingPoint
from stroke_hub.models.presets import PRESETS

__all__ = [
    "LESION_CELLS",
    "RECIPES",
    "AdvancedConfig",
    "CommonConfig",
    "Lesions",
    "Recipe",
    "ResolvedConfig",
    "Tracker",
    "TrainConfig",
    "describe_variant",
]

GIVEN = "init-from"  # what cnn_weights and vit_weights say of weights that another run gave
FLOAT = tyro.conf.arg(metavar="FLOAT")
SWITCH = tyro.conf.arg(metavar="True|False")
WEIGHTS = tyro.conf.arg(metavar="imagenet|random|hf-hub:OWNER/NAME|FILE")

Recipe: TypeAlias = Literal["probe", "scratch", "plain", "seed"]
"""How a model is trained."""

Lesions: TypeAlias = Literal["masks", "bleeding", "none"]
"""What teaches a model where a lesion lies."""

Tracker: TypeAlias = Literal["trackio", "tensorboard", "wandb"]
"""A package that the figures of every epoch are passed on to."""

UNUSED = ("epochs", "batch_size", "learning_rate", "augmentation", "precision", "hidden")  # by a probe
LESION_CELLS = 5  # 2 % of the grid of 16 x 16
PROBED_BLOCKS = 2 / 3  # share of the transformer's blocks that a probe's features lie behind

_NOTEBOOK: dict[str, Any] = {
    "epochs": 35,
    "batch_size": 32,
    "learning_rate": 3e-4,
    "cnn_output_stride": 32,
    "cnn_stages": 0,
    "vit_blocks": 0,
    "vit_patches": False,
    "hidden": 512,
    "framing": "head",
    "augmentation": "seed",
    "precision": "fp32",
    "calibration": "platt",
}
_LINEAR: dict[str, Any] = _NOTEBOOK | {"cnn_stages": 3, "vit_patches": True, "hidden": 0}
RECIPES: dict[str, dict[str, Any]] = {
    "probe": _LINEAR | {"epochs": 1, "batch_size": 0, "learning_rate": 0.0, "augmentation": "none"},
    "scratch": _LINEAR | {"learning_rate": 1e-3},
    "plain": _NOTEBOOK,
    "seed": _NOTEBOOK | {"framing": "whole", "calibration": "none"},
}
"""What None means, by recipe; a probe's `vit_blocks` follow from the transformer."""


@dataclass(frozen=True)
class CommonConfig:
    """What most trainings set."""

    preset: Literal["full", "compact", "tiny"] = "full"
    """full: ResNet50 + ViT-B/16, the seed's model; compact: for small GPUs; tiny: seconds on two cores."""
    recipe: Annotated[Recipe | None, tyro.conf.arg(metavar="probe|scratch|plain|seed")] = None
    """probe: the backbones stay as given and a linear head is fitted to their features; scratch: everything learns.
    plain, seed: the notebook's training, as baselines; plain pads slices to squares, seed stretches them. Without
    it: probe where both branches start from given weights, otherwise scratch."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Side of the square input in pixels, instead of the preset's."""
    epochs: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Times that every training slice is seen: 35. A probe has no epochs."""
    batch_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Slices a step, of all processes together: 32. A probe has no steps."""
    learning_rate: Annotated[float | None, FLOAT] = None
    """AdamW's, at its highest. scratch: 1e-3; plain, seed: 3e-4. A probe has none."""
    cnn_weights: Annotated[str | None, WEIGHTS] = None
    """imagenet (the default; random for tiny), random, a safetensors file, or a Hub repository of timm's, as
    hf-hub:timm/resnet50.a1_in1k."""
    vit_weights: Annotated[str | None, WEIGHTS] = None
    """The same for the transformer."""
    seed: int = 0
    """Decides the validation split, the first weights, the order and the augmentation. The same seed gives the same
    model on the same machine with the same number of threads (OMP_NUM_THREADS): sums are rounded in their order."""


@dataclass(frozen=True)
class AdvancedConfig:
    """What few trainings set."""

    cnn: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """timm name of the CNN, instead of the preset's."""
    vit: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """timm name of the vision transformer, instead of the preset's."""
    init_from: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """Start from the weights of this run folder instead: same backbones, any image size. A probe takes its
    backbones only; the other recipes take its head too, which must have the same shape."""
    cnn_output_stride: Annotated[Literal[32, 16, 8] | None, tyro.conf.arg(metavar="32|16|8")] = None
    """Pixels a cell of the CNN's last map: 32. Below 32 its last stages are dilated, and Grad-CAM is finer."""
    cnn_stages: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """How many of the CNN's last stages give features; 0 is its final map alone. probe, scratch: 3; plain, seed:
    0."""
    vit_blocks: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """How many of the transformer's first blocks the model keeps; 0 is all. probe: two thirds; the others: 0."""
    vit_patches: Annotated[bool | None, SWITCH] = None
    """The mean of the patches is a feature beside the CLS token. probe, scratch: True; plain, seed: False."""
    lesions: Annotated[Lesions | None, tyro.conf.arg(metavar="masks|bleeding|none")] = None
    """What teaches the model where a lesion lies: the dataset's masks; simulated bleeding, laid into normal CT
    slices; none. probe: masks where most training strokes have one, bleeding where there is CT alone, otherwise
    none; scratch: masks or none; plain, seed: none."""
    lesion_cells: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """How many cells of highest lesion score join the features: 5, and 0 where nothing teaches lesions."""
    hidden: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Width of the head's hidden layer; 0 is a linear head. probe, scratch: 0; plain, seed: 512."""
    framing: Annotated[Framing | None, tyro.conf.arg(metavar="head|whole")] = None
    """head: every slice is cropped to the head before it becomes a square; whole: the whole picture, with what is
    black around the head. seed: whole; the others: head."""
    window: Window = "brain"
    """In which CT in Hounsfield units is seen, in training and in use: brain, stroke or subdural."""
    augmentation: Annotated[Literal["none", "seed"] | None, tyro.conf.arg(metavar="none|seed")] = None
    """seed: flips and rotation, as in the notebook. A probe has none; the others: seed."""
    precision: Annotated[Literal["fp32", "bf16"] | None, tyro.conf.arg(metavar="fp32|bf16")] = None
    """bf16: autocast in the forward pass of training. Every recipe: fp32."""
    branches: Literal["both", "cnn", "vit"] = "both"
    """cnn or vit: an ablation in which the head sees zeros for the other branch, which is not trained."""
    shuffle_labels: bool = False
    """A control: labels of training and validation are dealt out anew among the groups; a model that then does
    better than chance on the test slices shows a fault in the evaluation."""
    validation_fraction: float = 0.2
    """Share of the training slices that chooses the best epoch, the calibration and the threshold, whole groups at
    a time."""
    calibration: Calibration | None = None
    """What the validation slices mend in the probabilities: platt, temperature and shift; temperature alone; none.
    seed: none; the others: platt."""
    operating_point: OperatingPoint = "youden"
    """What the model's threshold is: a probability of 0.5 (half), or chosen on the validation slices (see the
    report)."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Take only this many slices of each split, spread evenly: for a quick try."""


@dataclass(frozen=True)
class TrainConfig(AdvancedConfig, CommonConfig):
    """Everything that decides what training gives; written beside the weights as train_config.json."""

    def resolve(
        self, *, masks: bool | None = None, modalities: Collection[Modality | None] = ()
    ) -> "ResolvedConfig":
        """Fill in every default that hangs on the preset, the recipe or the data.

        Parameters
        ----------
        masks : whether most training strokes have a lesion mask; None before anybody has looked.
        modalities : of the training slices.

        Raises
        ------
        RunError : a number that no training can have, or two settings that contradict each other.
        """
        _check_choices(self)
        preset = PRESETS[self.preset]
        weights = GIVEN if self.init_from else "random" if self.preset == "tiny" else "imagenet"
        if self.init_from and (self.cnn_weights or self.vit_weights) not in (None, GIVEN):
            raise RunError(
                "--init-from gives the weights of both branches; leave --cnn-weights and --vit-weights out."
            )
        defaults = preset | {"cnn_weights": self.cnn_weights or weights, "vit_weights": self.vit_weights or weights}
        random = "random" in (defaults["cnn_weights"], defaults["vit_weights"])
        recipe: Recipe = self.recipe or ("scratch" if random else "probe")
        defaults |= {"recipe": recipe} | RECIPES[recipe]
        unused = UNUSED if recipe == "probe" else ()
        for name in unused:
            if getattr(self, name) not in (None, defaults[name]):
                raise RunError(
                    f"{name} means nothing to the recipe probe, which fits a linear head to the features of still "
                    "backbones; leave it out, or give another --recipe."
                )
        _check_numbers(self, unused)
        if recipe == "probe" and self.vit_blocks is None:
            defaults["vit_blocks"] = round(PROBED_BLOCKS * _count_blocks(self.vit or preset["vit"]))
        lesions = self._choose_lesions(recipe, masks, modalities)
        defaults |= {"lesions": lesions, "lesion_cells": 0 if lesions == "none" else LESION_CELLS}
        filled: dict[str, Any] = {}
        for field in fields(TrainConfig):
            asked = getattr(self, field.name)
            filled[field.name] = defaults.get(field.name) if asked is None else asked
        return ResolvedConfig(**filled)

    def _choose_lesions(
        self, recipe: Recipe, masks: bool | None, modalities: Collection[Modality | None]
    ) -> Lesions:
        """Choose what teaches lesions, of what the recipe can learn from and the data hold."""
        learns = self.branches == "both" and not self.shuffle_labels
        possible: dict[Lesions, bool] = {
            "masks": learns and recipe in ("probe", "scratch") and masks is not False,
            "bleeding": learns and recipe == "probe" and (masks is None or "BT" in modalities),
            "none": True,
        }
        usual: Lesions = "masks" if masks else "bleeding" if set(modalities) == {"BT"} else "none"
        if self.lesion_cells == 0 or not possible[usual]:
            usual = "none"
        if self.lesion_cells and usual == "none":
            usual = "masks"
        chosen = self.lesions or usual
        if not possible[chosen]:
            raise RunError(
                "lesion scores need lesion masks of most training strokes (recipe probe or scratch) or CT slices "
                "(--lesions bleeding, recipe probe), and both branches; leave lesions and lesion_cells out."
            )
        if self.lesion_cells is not None and (chosen == "none") != (self.lesion_cells == 0):
            raise RunError(f"lesions is {chosen}, but lesion_cells is {self.lesion_cells}; leave one of them out.")
        return chosen


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig(TrainConfig):
    """A `TrainConfig` whose every default is filled in: what training reads, and train_config.json holds.

    `init_from` and `limit` may be None still: then there is neither. Of a probe, `batch_size` and `learning_rate`
    are 0: it takes no steps.
    """

    recipe: Recipe
    cnn: str
    vit: str
    cnn_weights: str
    vit_weights: str
    image_size: int
    epochs: int
    batch_size: int
    learning_rate: float
    cnn_output_stride: Literal[32, 16, 8]
    cnn_stages: int
    vit_blocks: int
    vit_patches: bool
    lesions: Lesions
    lesion_cells: int
    hidden: int
    framing: Framing
    augmentation: Literal["none", "seed"]
    precision: Literal["fp32", "bf16"]
    calibration: Calibration


def describe_variant(config: TrainConfig) -> str:
    """Describe an ablation or control, for every place that shows its figures; "" for a usual model."""
    words = []
    if config.branches != "both":
        words.append(f"ablation: {config.branches.upper().replace('VIT', 'ViT')} branch only")
    if config.shuffle_labels:
        words.append("control: trained on shuffled labels")
    return "; ".join(words)


@cache
def _count_blocks(vit: str) -> int:
    """Count the blocks of a transformer; 0 where there is no such model or it has none, which training names."""
    import timm  # takes seconds, and most of what reads a configuration does without it
    import torch

    if not timm.is_model(vit):
        return 0
    with torch.device("meta"):
        return len(getattr(timm.create_model(vit, pretrained=False, num_classes=0), "blocks", ()))


def _check_choices(config: TrainConfig) -> None:
    """Refuse recipes and augmentations that there are no more: a train_config.json may name one."""
    known = {"recipe": tuple(RECIPES), "augmentation": ("none", "seed")}
    for name, choices in known.items():
        value = getattr(config, name)
        if value is not None and value not in choices:
            raise RunError(f"{name} is {value}, but must be {', '.join(choices[:-1])} or {choices[-1]}.")


def _check_numbers(config: TrainConfig, unused: tuple[str, ...]) -> None:
    # batch normalisation has no variance of one slice, so a batch is two at least
    least = {"epochs": 1, "batch_size": 2, "limit": 1, "image_size": 32, "seed": 0}
    for name, low in least.items():
        value = getattr(config, name)
        if value is not None and not low <= value < 2**31 and name not in unused:
            raise RunError(f"{name} is {value}, but must be at least {low} and below 2^31.")
    if not 0 < config.validation_fraction <= 0.5:
        raise RunError(f"validation_fraction is {config.validation_fraction}, but must be above 0 and at most 0.5.")
    rate = config.learning_rate
    if rate is not None and not 0 < rate < float("inf") and "learning_rate" not in unused:
        raise RunError("learning_rate must be above 0.")
