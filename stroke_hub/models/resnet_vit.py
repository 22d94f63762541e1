"""ResNetViT: a CNN beside a vision transformer, and a small head on both; saved and loaded strictly.

The model takes float pixels in [0, 1] and normalises inside, each branch with its own statistics, so that
nobody downstream can get the preprocessing wrong. What a reader needs besides the weights (calibration,
operating point, baseline of the explanation) travels in its buffers.
"""

import copy
import errno
import hashlib
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import timm
import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from safetensors import SafetensorError
from safetensors.torch import save, save_file
from torch import Tensor, nn

from stroke_hub.errors import ModelFormatError
from stroke_hub.files import atomic_write, write_text
from stroke_hub.metrics.highest_mean import HighestMean
from stroke_hub.models.branches import create_cnn, create_vit
from stroke_hub.models.download import download
from stroke_hub.models.presets import CLASSES, name_baselines
from stroke_hub.models.sample import locate_model
from stroke_hub.models.weights import (
    CONFIG_FILE,
    PREPROCESSOR,
    PREPROCESSOR_FILE,
    WEIGHTS_FILE,
    check_weights,
    read_config,
    read_weights,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stroke_hub.io.rendering import Rendering
    from stroke_hub.io.sight import Framing
    from stroke_hub.io.windowing import Modality, Window

__all__ = ["LESION_GRID", "MODEL_TYPE", "ResNetViT", "copy_for_evaluation", "get_evaluable", "hash_weights"]

FORMAT_VERSION = 2
MODEL_TYPE = "stroke_hub"  # by which Hugging Face transformers knows the model (`stroke_hub.transformers`)
# what configurations of format 1 do not say
FORMAT_1: dict[str, Any] = {"rendering": "legacy", "window": "brain", "framing": "whole", "modalities": []}
SIGHT: dict[str, tuple[str, ...]] = {
    "resize": ("pad", "stretch"),
    "rendering": ("canonical", "legacy"),
    "window": ("brain", "stroke", "subdural"),
    "framing": ("head", "whole"),
}
MODALITIES = ("BT", "MR")
LESION_GRID = 16  # cells on a side: 5 % of a head is 13 of them
TEXTURE_SIZE = 52  # numbers that `ood.measure_texture` gives
CARD = """---
{{ card_data }}
---

# Stroke or normal on brain CT (BT) and MR slices

**Research software, not a medical device.**{% if note %} **Trained on: {{ note }}.**{% endif %}

```python
from stroke_hub import ResNetViT, explain, load_slices, predict

model = ResNetViT.from_pretrained("{{ repo_id or 'FOLDER' }}")
```

What it was trained on and how it measured stands in report.json of its run folder.
"""


class ResNetViT(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="stroke-hub",
    license="apache-2.0",
    pipeline_tag="image-classification",
    tags=["medical", "brain", "stroke", "ct", "mri", "explainable"],
    model_card_template=CARD,
):
    """Classify brain slices by two timm backbones and a head: two logits (Normal, Stroke).

    Parameters
    ----------
    cnn : name of a timm model whose `forward_features` gives a spatial map (N, C, H, W).
    vit : name of a timm model with square patches and a CLS token.
    image_size : side S of the square input in pixels, 32 to 1024.
    hidden : width of the head's hidden layer, 1 to 8192; 0 is a linear head.
    cnn_output_stride : pixels a cell of the CNN's last map, 32, 16 or 8. Below 32, timm dilates the last stages,
        which keeps pretrained weights and gives finer maps.
    cnn_stages : how many of the CNN's last stages give features, each averaged over its map; 0 takes the final map
        alone, behind whatever the CNN has after its stages.
    vit_blocks : how many of the transformer's first blocks are kept, before its final norm; 0 keeps all.
    vit_patches : whether the mean of the patches joins the CLS token.
    lesion_cells : how many cells the lesion scores average, 1 to 64; 0 is without. A linear layer, learned from
        lesion masks, scores every cell of a grid of 16 x 16 by both branches; the mean score of the highest cells,
        one number a branch, joins the features.
    dropout : probability behind the hidden layer, 0 <= dropout < 1.
    classes : the two class names, fixed.
    resize : how a slice becomes a square, by black margins ("pad") or distortion ("stretch").
    rendering : how measured values become grey levels (`io.rendering`); "legacy" is of models of format 1.
    window : in which the model sees CT in Hounsfield units.
    framing : "head" crops a slice to the head before it becomes a square; "whole" does not.
    modalities : that the model was trained on, of "BT" and "MR"; empty where unknown.
    model_type : the name of the architecture for Hugging Face transformers, fixed.
    format_version : version of this description. Those of format 1 say nothing of the four above: they are read as
        "legacy", "brain", "whole" and unknown.

    All are plain JSON and become `config.json`. Nothing is ever downloaded here: weights are random until
    they are trained or loaded.

    Buffers
    -------
    cnn_mean, cnn_std, vit_mean, vit_std : (3, 1, 1), statistics for pixels in [0, 1].
    temperature : (), divides the difference of the logits (1 until calibrated).
    threshold : (), probability from which a slice is called Stroke (0.5 until chosen).
    feature_mean : (F,), mean features of the training set.
    normal_maps : (M, cells), the mean maps of normal training slices, stage after stage, flattened, of each of M
        modalities; normal_tokens : (M, T, D), their mean CLS token and, where these give features, patches;
        normal_scores : (M, 2), their mean lesion scores, where there are some. What contributions and evidence are
        compared with (`baselines`); None before the end of a training, and of older models, which compare with
        `feature_mean`.
    feature_scale : (F,), standard deviations of the same, by which distances are measured; None before the end of
        a training, and of models saved before there were distances.
    feature_whitening : (F, F), makes these z-scores uncorrelated, by the covariance of the training slices; None as
        above. Older models have none.
    texture_mean, texture_scale, texture_whitening : (T,), (T,), (T, T), the same of the training slices' texture
        (`ood.measure_texture`), scaled so that the limit of that distance is 1; None as above.
    feature_distance_limit : (), distance beyond which an input is unlike the training set (infinite until set).
    scan_rule : (5,), how a scan is judged by its slices (`get_scan_rule`); None where the training had too few
        validation scans to choose it, and of older models.

    Raises
    ------
    ModelFormatError : for a name, size or value that no model of ours has.
    """

    cnn_mean: Tensor
    cnn_std: Tensor
    vit_mean: Tensor
    vit_std: Tensor
    temperature: Tensor
    threshold: Tensor
    feature_mean: Tensor
    normal_maps: Tensor | None
    normal_tokens: Tensor | None
    normal_scores: Tensor | None
    feature_scale: Tensor | None
    feature_whitening: Tensor | None
    texture_mean: Tensor | None
    texture_scale: Tensor | None
    texture_whitening: Tensor | None
    feature_distance_limit: Tensor
    scan_rule: Tensor | None
    commit: str | None = None  # of the Hub repository that it was loaded from

    def __init__(
        self,
        *,
        cnn: str = "resnet50",
        vit: str = "vit_base_patch16_224",
        image_size: int = 224,
        hidden: int = 512,
        cnn_output_stride: int = 32,
        cnn_stages: int = 0,
        vit_blocks: int = 0,
        vit_patches: bool = False,
        lesion_cells: int = 0,
        dropout: float = 0.3,
        classes: list[str] | tuple[str, ...] = CLASSES,
        resize: Literal["pad", "stretch"] = "pad",
        rendering: "Rendering" = "canonical",
        window: "Window" = "brain",
        framing: "Framing" = "head",
        modalities: "Sequence[Modality]" = (),
        model_type: str = MODEL_TYPE,
        format_version: int = FORMAT_VERSION,
    ) -> None:
        super().__init__()
        _require(model_type == MODEL_TYPE, "model_type", model_type, MODEL_TYPE)
        _check_config(cnn, vit, image_size, hidden, dropout, classes, format_version)
        _check_branches(cnn_output_stride, cnn_stages, vit_blocks, vit_patches, lesion_cells)
        _check_sight({"resize": resize, "rendering": rendering, "window": window, "framing": framing}, modalities)
        self.image_size = image_size
        self.resize: Literal["pad", "stretch"] = resize
        self.rendering, self.window, self.framing, self.modalities = rendering, window, framing, tuple(modalities)
        self.cnn_stages, self.vit_patches, self.lesion_cells = cnn_stages, vit_patches, lesion_cells
        self.cnn, channels = create_cnn(cnn, output_stride=cnn_output_stride, stages=cnn_stages)
        self.vit = create_vit(vit, image_size, blocks=vit_blocks)
        scores, self.cnn_channels = bool(lesion_cells), sum(channels)
        self.cnn_features = sum(channels) + scores  # of the features, the first are the CNN's
        features = self.cnn_features + self.vit.num_features * (1 + vit_patches) + scores
        if lesion_cells:
            self.lesion = nn.Linear(sum(channels) + self.vit.num_features, 1)
        before = [nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout)] if hidden else []
        self.head = nn.Sequential(*before, nn.Linear(hidden or features, len(CLASSES)))
        for branch in ("cnn", "vit"):
            source = getattr(self, branch).pretrained_cfg
            for name in ("mean", "std"):
                self.register_buffer(f"{branch}_{name}", torch.tensor(source[name]).reshape(3, 1, 1))
        self.register_buffer("temperature", torch.tensor(1.0))
        self.register_buffer("threshold", torch.tensor(0.5))
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("normal_maps", None)
        self.register_buffer("normal_tokens", None)
        self.register_buffer("normal_scores", None)
        self.register_buffer("feature_scale", None)
        self.register_buffer("feature_whitening", None)
        for name in ("texture_mean", "texture_scale", "texture_whitening"):
            self.register_buffer(name, None)
        self.register_buffer("feature_distance_limit", torch.tensor(float("inf")))
        self.register_buffer("scan_rule", None)

    def __repr__(self) -> str:  # in a line; `print(model.cnn)` shows layers
        cnn, vit = (getattr(self, branch).pretrained_cfg["architecture"] for branch in ("cnn", "vit"))
        count = sum(parameter.numel() for parameter in self.parameters()) / 1e6
        kind = str(self.temperature.dtype).removeprefix("torch.")
        size = f"{self.image_size} x {self.image_size}"
        return f"ResNetViT({cnn} + {vit}, {size}, {count:.1f} M parameters, {kind} on {self.temperature.device})"

    @property
    def baselines(self) -> tuple[str, ...]:
        """Name what contributions are compared with: the normal slices of each modality, and of all together."""
        return name_baselines(self.modalities, has_normal=self.normal_maps is not None)

    def get_config(self) -> dict[str, Any]:
        """Get the arguments that the model was made with, as config.json has them."""
        return cast(dict[str, Any], self._hub_mixin_config).copy()

    def store_scan_rule(self, rule: HighestMean) -> None:
        """Store how a scan is judged, in place; its numbers are rounded to float32."""
        numbers = (rule.highest, rule.width, rule.scale, rule.shift, rule.threshold)
        self.scan_rule = self.temperature.new_tensor(numbers, dtype=torch.float32)

    def get_scan_rule(self) -> HighestMean | None:
        """Get how a scan is judged; None where the model does not say.

        Raises
        ------
        ValueError : the numbers are no rule.
        """
        if self.scan_rule is None:
            return None
        return HighestMean.from_numbers(self.scan_rule.tolist())

    def map_stages(self, x: Tensor) -> list[Tensor]:
        """Compute the CNN's maps that give features, (N, C, H, W) each, of float pixels (N, 3, S, S) in [0, 1]."""
        x = (x - self.cnn_mean) / self.cnn_std
        if self.cnn_stages:
            maps = self.cnn.forward_intermediates(x, indices=self.cnn_stages, intermediates_only=True)
        else:
            maps = [self.cnn.forward_features(x)]
        if any(one.ndim != 4 for one in maps) or sum(one.shape[1] for one in maps) != self.cnn_channels:
            raise ModelFormatError(
                f"{type(self.cnn).__name__} gives features of shape {tuple(maps[-1].shape)}, not a spatial "
                "map (N, C, H, W); choose another timm CNN."
            )
        return cast(list[Tensor], maps)

    def map_cnn(self, x: Tensor) -> Tensor:
        """Compute the CNN's last map, (N, C, H, W), of float pixels (N, 3, S, S) in [0, 1]."""
        return self.map_stages(x)[-1]

    def normalise_vit(self, x: Tensor) -> Tensor:
        """Normalise pixels (N, 3, S, S) for the transformer's patch embedding."""
        return (x - self.vit_mean) / self.vit_std

    def features(self, x: Tensor) -> Tensor:
        """Compute both branches' features, (N, F): the pooled maps, the CLS token, the mean of the patches."""
        tokens = self.vit.forward_features(self.normalise_vit(x))
        return self.join(self.map_stages(x), tokens)

    def join(self, maps: list[Tensor], tokens: Tensor) -> Tensor:
        """Join the features, (N, F), of the CNN's maps and the transformer's final tokens (N, T, D)."""
        cnn, vit = self.pool_maps(maps), self.pool_tokens(tokens)
        if not self.lesion_cells:
            return torch.cat([cnn, vit], dim=1)
        scores = self.score_cells(maps, tokens)
        highest = scores.flatten(2).gather(2, self.find_cells(scores)).mean(2)
        return torch.cat([cnn, highest[:, :1], vit, highest[:, 1:]], dim=1)

    def pool_maps(self, maps: list[Tensor]) -> Tensor:
        """Average the CNN's maps, (N, channels)."""
        return torch.cat([one.mean((2, 3)) for one in maps], dim=1)

    def pool_tokens(self, tokens: Tensor) -> Tensor:
        """Take the CLS token of the transformer's final tokens and, if wanted, the mean of the patches."""
        if not self.vit_patches:
            return tokens[:, 0]
        return torch.cat([tokens[:, 0], tokens[:, self.vit.num_prefix_tokens :].mean(1)], dim=1)

    def score_cells(self, maps: list[Tensor], tokens: Tensor) -> Tensor:
        """Score the cells of the lesion grid by both branches, (N, 2, 16, 16): summed, log-odds of a lesion."""
        *stages, patches = self.lesion.weight[0].split([*(one.shape[1] for one in maps), tokens.shape[2]])
        own = (tokens[:, self.vit.num_prefix_tokens :] @ patches).unflatten(1, self.vit.patch_embed.grid_size)
        seen = [torch.einsum("nchw,c->nhw", one, weight) for one, weight in zip(maps, stages, strict=True)]
        cnn = torch.stack([_resample(one) for one in seen]).sum(0)
        return torch.stack([cnn, _resample(own)], dim=1) + self.lesion.bias / 2

    def find_cells(self, scores: Tensor) -> Tensor:
        """Find the cells of highest score, (N, 2, `lesion_cells`): the same for both branches."""
        return scores.sum(1).flatten(1).topk(self.lesion_cells).indices[:, None].expand(-1, 2, -1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (N, 2), uncalibrated, of float pixels (N, 3, S, S) in [0, 1]."""
        return cast(Tensor, self.head(self.features(x)))

    def _save_pretrained(self, save_directory: Path) -> None:
        for value in self.state_dict().values():
            if value.is_floating_point() and value.dtype != torch.float32:
                kind = str(value.dtype).removeprefix("torch.")
                raise ModelFormatError(
                    f"The model is in {kind}, but saved in float32 only; call model.float() first."
                )
        weights = {name: value.contiguous() for name, value in self.state_dict().items()}
        with atomic_write(save_directory / WEIGHTS_FILE) as partial:
            try:
                save_file(weights, partial, metadata={"format": "pt"})
            except SafetensorError as error:  # of a full disk, and the like
                raise OSError(errno.EIO, str(error)) from error
            partial.chmod(0o644)  # safetensors makes it private; weights are read by others like any file
        write_text(save_directory / PREPROCESSOR_FILE, json.dumps(PREPROCESSOR, indent=2) + "\n")

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Load a model in evaluation mode from the Hub, from a local folder or from the package.

        Strict where the mixin is lenient: configuration and weights come from one commit, safetensors only,
        every key and shape must match, and what is missing is never replaced by a default.

        Parameters
        ----------
        pretrained_model_name_or_path : ``"owner/name"``, a folder with config.json and model.safetensors, or
            ``"sample"``, the model that comes with the package; a local folder of that name is ``"./sample"``.
        revision : commit, tag or branch on the Hub.
        token, cache_dir, force_download, local_files_only : as in `huggingface_hub.hf_hub_download`.
        device : where the weights go, as "cpu" or "cuda".

        Raises
        ------
        ValueError : there is no such device here.
        ModelFormatError : the files do not describe one of our models exactly.
        HubError : the repository cannot be reached or read.
        """
        _check_device(device)
        name = locate_model(pretrained_model_name_or_path)
        commit = None
        if Path(name).is_dir():
            config_path, weights_path = Path(name) / CONFIG_FILE, Path(name) / WEIGHTS_FILE
            for path in (config_path, weights_path):
                if not path.is_file():
                    raise ModelFormatError(f"{name}: has no {path.name}, so it is not a saved ResNetViT.")
        else:
            options: dict[str, Any] = {
                "token": token,
                "cache_dir": cache_dir,
                "force_download": force_download,
                "local_files_only": local_files_only,
            }
            config_path = download(name, CONFIG_FILE, revision, options)
            commit = config_path.parent.name  # the cache files every download under snapshots/<commit>/
            weights_path = download(name, WEIGHTS_FILE, commit, options)
        config = read_config(config_path, name)
        weights = read_weights(weights_path, name, device)
        model = cls._assemble(config, weights, name, device)
        model.commit = commit
        return model

    @classmethod
    def outline(cls, config: dict[str, Any], name: str) -> Self:
        """Build the model `name` of a config.json without weights, on the meta device, in evaluation mode.

        Raises
        ------
        ModelFormatError : the configuration is not one of ours.
        """
        try:
            with torch.device("meta"):
                return cls(**_upgrade(config)).eval()
        except TypeError as error:
            unknown = ascii(str(error).split("__init__() ")[-1][:100])[1:-1]  # a stranger's words
            raise ModelFormatError(f"{name}: config.json {unknown}.") from None
        except ModelFormatError as error:
            raise ModelFormatError(f"{name}: {error}") from None

    @classmethod
    def _assemble(
        cls, config: dict[str, Any], weights: dict[str, Tensor], name: str, device: str | torch.device
    ) -> Self:
        """Build without initialising, then take the loaded tensors as the parameters themselves."""
        model = cls.outline(config, name)
        optional = {
            key: model.feature_mean.new_ones(shape)
            for keys in model._list_optional()  # older models lack some, and their files stay what they are
            if not weights.keys().isdisjoint(keys)
            for key, shape in keys.items()
        }
        for key, value in optional.items():
            setattr(model, key, value)
        check_weights(model, weights, name)
        expected = dict(model.state_dict())
        extra_buffers = {key for key, _ in model.named_buffers()} - set(expected)
        if extra_buffers:  # rotary tables and the like are computed, not saved: meta would leave them empty
            model = cls(**_upgrade(config))
            for key, value in optional.items():
                setattr(model, key, torch.ones_like(value, device="cpu"))
            model.to(device).load_state_dict(weights, strict=True)
        else:
            model.load_state_dict(weights, strict=True, assign=True)
        try:
            model.get_scan_rule()
        except ValueError as error:
            raise ModelFormatError(f"{name}: {error}") from None
        return model.eval()

    def _list_optional(self) -> list[dict[str, tuple[int, ...]]]:
        """List tensors that not every file has, with their shapes; those of one dictionary come together."""
        size, rows = len(self.feature_mean), max(1, len(self.modalities))
        blank = self.feature_mean.new_zeros(1, 3, self.image_size, self.image_size)
        cells = sum(one.numel() for one in self.map_stages(blank))  # on the meta device: nothing is computed
        tokens = 1 + self.vit_patches * self.vit.patch_embed.num_patches
        return [
            {"normal_maps": (rows, cells), "normal_tokens": (rows, tokens, self.vit.num_features)}
            | ({"normal_scores": (rows, 2)} if self.lesion_cells else {}),
            {"feature_scale": (size,)},
            {"scan_rule": (len(fields(HighestMean)),)},
            {"feature_whitening": (size, size)},
            {
                "texture_mean": (TEXTURE_SIZE,),
                "texture_scale": (TEXTURE_SIZE,),
                "texture_whitening": (TEXTURE_SIZE, TEXTURE_SIZE),
            },
        ]


def hash_weights(model: ResNetViT) -> str:
    """Hash the model.safetensors that `save_pretrained` writes: SHA-256, as 64 hexadecimal digits."""
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    return hashlib.sha256(save(weights, metadata={"format": "pt"})).hexdigest()


def copy_for_evaluation(model: ResNetViT) -> ResNetViT:
    """Make a private copy in evaluation mode that shares every tensor with `model` and needs no gradients."""
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    shared |= {id(buffer): buffer for buffer in model.buffers()}
    return copy.deepcopy(model, shared).eval()


def get_evaluable(model: ResNetViT) -> ResNetViT:
    """Give `model` itself if it is in evaluation mode, else a private copy: other threads may use its mode."""
    return copy_for_evaluation(model) if any(part.training for part in model.modules()) else model


def _resample(scores: Tensor) -> Tensor:
    """Resample scores (N, h, w) to the lesion grid."""
    side = (LESION_GRID, LESION_GRID)
    if scores.shape[1:] == side:
        return scores
    return F.interpolate(scores[:, None], side, mode="bilinear", align_corners=False)[:, 0]


def _check_device(device: str | torch.device) -> None:
    """Refuse a device that torch does not know, or that is not there."""
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, NotImplementedError, TypeError):
        advice = "pass 'cpu' or 'cuda'" if torch.cuda.is_available() else "pass 'cpu', as torch finds no CUDA here"
        raise ValueError(f"device is {str(device)!r}, but there is no such device; {advice}.") from None


def _check_config(
    cnn: Any,
    vit: Any,
    image_size: Any,
    hidden: Any,
    dropout: Any,
    classes: Any,
    format_version: Any,
) -> None:
    """Refuse every value that a hostile or damaged config.json could hold, before anything is built."""
    _require(format_version == FORMAT_VERSION, "format_version", format_version, f"{FORMAT_VERSION}")
    for key, name in (("cnn", cnn), ("vit", vit)):
        # a plain name: "hf-hub:", "local-dir:" and paths would make timm fetch or open something
        plain = isinstance(name, str) and re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)?", name) is not None
        _require(plain and timm.is_model(name), key, name, "the name of a timm model")
    size_fits = type(image_size) is int and 32 <= image_size <= 1024
    _require(size_fits, "image_size", image_size, "a whole number from 32 to 1024")
    hidden_fits = type(hidden) is int and 0 <= hidden <= 8192
    _require(hidden_fits, "hidden", hidden, "one whole number from 0 (a linear head) to 8192, for one hidden layer")
    _require(type(dropout) in (int, float) and 0 <= dropout < 1, "dropout", dropout, "from 0 to below 1")
    _require(
        isinstance(classes, (list, tuple)) and tuple(classes) == CLASSES,
        "classes",
        classes,
        f"{list(CLASSES)}",
    )


def _check_branches(output_stride: Any, stages: Any, blocks: Any, patches: Any, lesion_cells: Any) -> None:
    """Refuse values that say of the branches what none of ours has."""
    stride_fits = type(output_stride) is int and output_stride in (8, 16, 32)
    _require(stride_fits, "cnn_output_stride", output_stride, "32, 16 or 8")
    _require(type(stages) is int and 0 <= stages <= 4, "cnn_stages", stages, "a whole number from 0 to 4")
    _require(type(blocks) is int and 0 <= blocks <= 100, "vit_blocks", blocks, "a whole number from 0 to 100")
    _require(type(patches) is bool, "vit_patches", patches, "true or false")
    cells_fit = type(lesion_cells) is int and 0 <= lesion_cells <= 64
    _require(cells_fit, "lesion_cells", lesion_cells, "a whole number from 0 to 64")


def _check_sight(chosen: dict[str, Any], modalities: Any) -> None:
    """Refuse a rendering, window, framing or modality that there is none of."""
    for name, value in chosen.items():
        known = SIGHT[name]
        _require(value in known, name, value, f"{', '.join(known[:-1])} or {known[-1]}")
    fine = isinstance(modalities, list | tuple) and all(one in MODALITIES for one in modalities)
    _require(fine and len(set(modalities)) == len(modalities), "modalities", modalities, "a list of BT and MR")


def _require(fine: bool, name: str, value: Any, wanted: str) -> None:
    if not fine:
        raise ModelFormatError(f"{name} is {str(value)[:60]!r}, but must be {wanted}.")


def _upgrade(config: dict[str, Any]) -> dict[str, Any]:
    """Turn a configuration of format 1 into one of today's that answers the same; others stay as they are."""
    if config["format_version"] != 1:
        return config
    interpolation = config.get("interpolation", "bilinear")  # could be nothing else
    _require(interpolation == "bilinear", "interpolation", interpolation, "bilinear")
    for name in FORMAT_1:
        _require(name not in config, name, config.get(name), "left out of a config.json of format 1")
    rest = {name: value for name, value in config.items() if name != "interpolation"}
    return rest | FORMAT_1 | {"format_version": FORMAT_VERSION}
