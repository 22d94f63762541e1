"""The configuration of a training: as it is asked for, and with every default of its recipe filled in."""

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeAlias

import tyro

from stroke_hub.errors import RunError
from stroke_hub.io.sight import Framing
from stroke_hub.io.windowing import Window
from stroke_hub.metrics.calibration import Calibration, OperatingPoint
from stroke_hub.models.presets import PRESETS

__all__ = ["AdvancedConfig", "CommonConfig", "ResolvedConfig", "Tracker", "TrainConfig", "describe_variant"]

GIVEN = "init-from"  # what cnn_weights and vit_weights say of weights that another run gave
FLOAT = tyro.conf.arg(metavar="FLOAT")
SWITCH = tyro.conf.arg(metavar="True|False")
WEIGHTS = tyro.conf.arg(metavar="imagenet|random|hf-hub:OWNER/NAME|FILE")


Tracker: TypeAlias = Literal["trackio", "tensorboard", "wandb"]
"""A package that the figures of every epoch are passed on to."""


@dataclass(frozen=True)
class CommonConfig:
    """What most trainings set."""

    preset: Literal["full", "compact", "tiny"] = "full"
    """full: ResNet50 + ViT-B/16, the seed's model; compact: for small GPUs; tiny: seconds on two cores."""
    recipe: Literal["plain", "seed", "robust"] = "plain"
    """plain: padded squares, each branch's own statistics; seed: the notebook's (stretched, mean = std = 0.5);
    robust: plain, and every ingredient below, each of which has its own switch."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Side of the square input in pixels, instead of the preset's."""
    epochs: int = 35
    """Times that every training slice is seen."""
    batch_size: int = 32
    """Slices a step, of all processes together."""
    learning_rate: Annotated[float | None, FLOAT] = None
    """AdamW's, at its highest. plain, seed, robust: 3e-4; a probe: 1e-3."""
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
    """Start from the weights of this run folder, head included, instead: same backbones, any image size."""
    cnn_output_stride: Literal[32, 16, 8] = 32
    """Pixels a cell of the CNN's last map: below 32 its last stages are dilated, and Grad-CAM is finer."""
    framing: Annotated[Framing | None, tyro.conf.arg(metavar="head|whole")] = None
    """head: every slice is cropped to the head before it becomes a square; whole: the whole picture, with what is
    black around the head. plain, robust: head; seed: whole."""
    window: Window = "brain"
    """In which CT in Hounsfield units is seen, in training and in use: brain, stroke or subdural."""
    weight_decay: Annotated[float | None, FLOAT] = None
    """AdamW's. plain, seed: 1e-4; robust: 0.05."""
    decay_norms: Annotated[bool | None, SWITCH] = None
    """Weight decay acts on biases and normalisation layers too. plain, seed: True; robust: False."""
    head_epochs: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Epochs at the start in which backbones of given weights are held still and only what is random learns, at
    a constant rate. robust: 1 (0 where nothing is given, or in a single epoch); plain, seed: 0."""
    cnn_layer_decay: Annotated[float | None, FLOAT] = None
    """Learning rate of each layer of the CNN over that of the layer above it (Bao et al., 2022), in the groups of
    timm's own matcher. robust: 0.75 where its weights are given; otherwise 1, which is off."""
    vit_layer_decay: Annotated[float | None, FLOAT] = None
    """The same for the transformer."""
    schedule: Annotated[Literal["constant", "cosine"] | None, tyro.conf.arg(metavar="constant|cosine")] = None
    """Of the learning rate after the head's epochs. plain, seed: constant; robust: cosine, down to 0."""
    warmup_epochs: Annotated[float | None, FLOAT] = None
    """Length of the linear warm-up before the cosine. robust: a tenth of the epochs; plain, seed: 0."""
    clip_norm: Annotated[float | None, FLOAT] = None
    """The gradient is scaled down to this norm. robust: 1; plain, seed: 0, which is off."""
    freeze_batch_norm: Annotated[bool | None, SWITCH] = None
    """The CNN's BatchNorm layers keep their means and variances. robust: where its weights are given."""
    ema_decay: Annotated[float | None, FLOAT] = None
    """Decay of the moving average of the weights, which is what is validated and saved; it rises to this as
    1 - (1 + step)^(-2/3), so that a short run averages little. robust: 0.999; plain, seed: 0, which is off."""
    class_weights: Annotated[bool | None, SWITCH] = None
    """Both classes weigh the same in the loss, however rare one is. robust: True; plain, seed: False."""
    augmentation: Annotated[Literal["none", "seed", "mild"] | None, tyro.conf.arg(metavar="none|seed|mild")] = None
    """seed: flips and rotation; mild: small affine changes and gamma too. robust: mild; plain, seed: seed."""
    hidden: int = 512
    """Width of the head's hidden layer; 0 is a linear head."""
    dropout: float = 0.3
    """Behind the head's hidden layer."""
    precision: Annotated[Literal["fp32", "bf16"] | None, tyro.conf.arg(metavar="fp32|bf16")] = None
    """bf16: autocast in the forward pass of training. robust: bf16 on CUDA; otherwise fp32."""
    compile: bool = False
    """torch.compile for the training step."""
    channels_last: Annotated[bool | None, SWITCH] = None
    """Memory order of the images and convolutions. robust: True; plain, seed: False."""
    fused: Annotated[bool | None, SWITCH] = None
    """AdamW in one kernel. robust: True on CUDA; otherwise False."""
    branches: Literal["both", "cnn", "vit"] = "both"
    """cnn or vit: an ablation in which the head sees zeros for the other branch, which is not trained."""
    shuffle_labels: bool = False
    """A control: labels of training and validation are dealt out anew among the groups; a model that then does
    better than chance on the test slices shows a fault in the evaluation."""
    probe: bool = False
    """A fast first look: the backbones are used as they are and only the head is trained, in seconds."""
    validation_fraction: float = 0.2
    """Share of the training slices that chooses the best epoch, whole groups at a time."""
    calibration: Calibration | None = None
    """What the validation slices mend in the probabilities: platt, temperature and shift; temperature alone; none.
    plain, robust: platt; seed: none."""
    operating_point: OperatingPoint = "half"
    """What the model's threshold is: a probability of 0.5, or chosen on the validation slices (see the report)."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Take only this many slices of each split, spread evenly: for a quick try."""


@dataclass(frozen=True)
class TrainConfig(AdvancedConfig, CommonConfig):
    """Everything that decides what training gives; written beside the weights as train_config.json."""

    def resolve(self) -> "ResolvedConfig":
        """Fill in every default that hangs on the preset or the recipe.

        Raises
        ------
        RunError : a number that no training can have, or two settings that contradict each other.
        """
        _check_numbers(self)
        preset = PRESETS[self.preset]
        weights = GIVEN if self.init_from else "random" if self.preset == "tiny" else "imagenet"
        if self.init_from and (self.cnn_weights or self.vit_weights) not in (None, GIVEN):
            raise RunError(
                "--init-from gives the weights of both branches; leave --cnn-weights and --vit-weights out."
            )
        defaults = preset | {"cnn_weights": self.cnn_weights or weights, "vit_weights": self.vit_weights or weights}
        recipe = _describe_recipe(
            self, cnn=defaults["cnn_weights"] != "random", vit=defaults["vit_weights"] != "random"
        )
        if self.probe:
            _check_probe(self, recipe)
        defaults |= recipe
        filled: dict[str, Any] = {}
        for field in fields(TrainConfig):
            asked = getattr(self, field.name)
            filled[field.name] = defaults.get(field.name) if asked is None else asked
        config = ResolvedConfig(**filled)
        _check_schedule(config)
        return config


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig(TrainConfig):
    """A `TrainConfig` whose every default is filled in: what training reads, and train_config.json holds.

    `init_from` and `limit` may be None still: then there is neither.
    """

    cnn: str
    vit: str
    cnn_weights: str
    vit_weights: str
    image_size: int
    framing: Framing
    learning_rate: float
    weight_decay: float
    decay_norms: bool
    head_epochs: int
    cnn_layer_decay: float
    vit_layer_decay: float
    schedule: Literal["constant", "cosine"]
    warmup_epochs: float
    clip_norm: float
    freeze_batch_norm: bool
    ema_decay: float
    class_weights: bool
    augmentation: Literal["none", "seed", "mild"]
    precision: Literal["fp32", "bf16"]
    channels_last: bool
    fused: bool
    calibration: Calibration

    def is_given(self, branch: Literal["cnn", "vit"]) -> bool:
        """Tell whether a branch starts from weights that have learned something."""
        return (self.cnn_weights if branch == "cnn" else self.vit_weights) != "random"


def describe_variant(config: TrainConfig) -> str:
    """Describe an ablation, control or probe, for every place that shows its figures; "" for a usual model."""
    words = []
    if config.probe:
        words.append("probe: a fast first look, only the head was trained")
    if config.branches != "both":
        words.append(f"ablation: {config.branches.upper().replace('VIT', 'ViT')} branch only")
    if config.shuffle_labels:
        words.append("control: trained on shuffled labels")
    return "; ".join(words)


def _describe_recipe(config: TrainConfig, *, cnn: bool, vit: bool) -> dict[str, Any]:
    """Tell what None means, field by field; `cnn` and `vit` say whether that branch has given weights."""
    plain: dict[str, Any] = {
        "framing": "whole" if config.recipe == "seed" else "head",
        "learning_rate": 1e-3 if config.probe else 3e-4,
        "weight_decay": 1e-4,
        "decay_norms": True,
        "head_epochs": 0,
        "cnn_layer_decay": 1.0,
        "vit_layer_decay": 1.0,
        "schedule": "constant",
        "warmup_epochs": 0.0,
        "clip_norm": 0.0,
        "freeze_batch_norm": False,
        "ema_decay": 0.0,
        "class_weights": False,
        "augmentation": "none" if config.probe else "seed",
        "precision": "fp32",
        "channels_last": False,
        "fused": False,
        "calibration": "none" if config.recipe == "seed" else "platt",
    }
    if config.recipe != "robust" or config.probe:
        return plain
    import torch  # takes a second, and most of what reads a configuration does without it

    cuda = torch.cuda.is_available()
    return plain | {
        "weight_decay": 0.05,
        "decay_norms": False,
        # what is random is new like the head: holding it still or slowing it down would protect nothing
        "head_epochs": int((cnn or vit) and config.epochs > 1),
        "cnn_layer_decay": 0.75 if cnn else 1.0,
        "vit_layer_decay": 0.75 if vit else 1.0,
        "schedule": "cosine",
        "warmup_epochs": config.epochs / 10 if config.schedule != "constant" else 0.0,
        "clip_norm": 1.0,
        "freeze_batch_norm": cnn,  # the first statistics of a random CNN are 0 and 1, and normalise nothing
        "ema_decay": 0.999,
        "class_weights": True,
        "augmentation": "mild",
        "precision": "bf16" if cuda else "fp32",
        "channels_last": True,
        "fused": cuda,
    }


def _check_numbers(config: TrainConfig) -> None:
    # batch normalisation has no variance of one slice, so a batch is two at least
    least = {"epochs": 1, "batch_size": 2, "limit": 1, "image_size": 32, "seed": 0, "head_epochs": 0}
    for name, low in least.items():
        value = getattr(config, name)
        if value is not None and not low <= value < 2**31:
            raise RunError(f"{name} is {value}, but must be at least {low} and below 2^31.")
    if not 0 < config.validation_fraction <= 0.5:
        raise RunError(f"validation_fraction is {config.validation_fraction}, but must be above 0 and at most 0.5.")
    if not (0 < (1 if config.learning_rate is None else config.learning_rate) < float("inf")):
        raise RunError("learning_rate must be above 0.")
    for name in ("weight_decay", "warmup_epochs", "clip_norm"):
        value = getattr(config, name)
        if value is not None and not 0 <= value < float("inf"):
            raise RunError(f"{name} is {value}, but must be at least 0.")
    for name in ("dropout", "ema_decay"):
        value = getattr(config, name)
        if value is not None and not 0 <= value < 1:
            raise RunError(f"{name} is {value}, but must be at least 0 and below 1.")
    for name in ("cnn_layer_decay", "vit_layer_decay"):
        value = getattr(config, name)
        if value is not None and not 0 < value <= 1:
            raise RunError(f"{name} is {value}, but must be above 0 and at most 1.")


def _check_probe(config: TrainConfig, defaults: dict[str, Any]) -> None:
    """A probe has no use for most ingredients: one that is asked for is refused rather than left out silently."""
    used = {"framing", "learning_rate", "weight_decay", "decay_norms", "class_weights", "calibration"}
    for name, value in defaults.items():
        if name not in used and getattr(config, name) not in (None, value):
            raise RunError(f"{name} means nothing to a probe, which trains the head alone; leave it out.")
    if config.compile:
        raise RunError("compile means nothing to a probe, which trains the head alone; leave it out.")


def _check_schedule(config: ResolvedConfig) -> None:
    head, warmup = config.head_epochs, config.warmup_epochs
    if head and not (config.is_given("cnn") or config.is_given("vit")):
        raise RunError(
            f"head_epochs is {head}, but both backbones start from random weights, so there is nothing to hold."
        )
    if warmup and config.schedule != "cosine":
        raise RunError("warmup_epochs goes with --schedule cosine.")
    if head + warmup > config.epochs:
        raise RunError(f"head_epochs and warmup_epochs are {head + warmup:g} together, of {config.epochs} epochs.")
