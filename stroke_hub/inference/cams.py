"""Maps of other methods through the grad-cam package: slower than the closed forms, for comparison with them.

HiResCAM and XGrad-CAM are missing on purpose: behind global average pooling they are Grad-CAM.
"""

import torch
from torch import Tensor, nn

from stroke_hub.inference.results import Cam
from stroke_hub.models.resnet_vit import ResNetViT, copy_for_evaluation

__all__ = ["compute_cams"]


class _Exposed(nn.Module):
    """Expose the CNN's last map as the output of a module, for the package to hook."""

    def __init__(self, model: ResNetViT) -> None:
        super().__init__()
        self.model = copy_for_evaluation(model)
        self.cnn_map = nn.Identity()
        self.vit_tokens = self.model.vit.blocks[-1].norm1

    def forward(self, x: Tensor) -> Tensor:
        *earlier, last = self.model.map_stages(x)
        tokens = self.model.vit.forward_features(self.model.normalise_vit(x))
        logits: Tensor = self.model.head(self.model.join([*earlier, self.cnn_map(last)], tokens))
        return logits

    def lay_out(self, tokens: Tensor) -> Tensor:
        """Lay out tokens (N, T, D) as a map (N, D, g, k)."""
        patches = tokens[:, self.model.vit.num_prefix_tokens :]
        laid_out: Tensor = patches.unflatten(1, self.model.vit.patch_embed.grid_size).permute(0, 3, 1, 2)
        return laid_out


def compute_cams(model: ResNetViT, x: Tensor, sign: Tensor, method: Cam) -> tuple[Tensor, Tensor]:
    """Compute the maps of both branches by another method, (N, S, S) each, scaled to 0..1 slice by slice.

    Parameters
    ----------
    x : (N, 3, S, S), float pixels in [0, 1].
    sign : (N,), +1 where Stroke is explained and -1 where Normal is.
    method : gradcam++ (Chattopadhay et al., 2018), layercam (Jiang et al., 2021), eigencam (Muhammad and Yeasin,
        2020; it knows no class), eigengradcam or scorecam (Wang et al., 2020; a forward a channel).
    """
    import pytorch_grad_cam as package

    classes = {
        "gradcam++": package.GradCAMPlusPlus,
        "layercam": package.LayerCAM,
        "eigencam": package.EigenCAM,
        "eigengradcam": package.EigenGradCAM,
        "scorecam": package.ScoreCAM,
    }
    exposed = _Exposed(model)

    def aim(direction: float) -> object:
        return lambda logits: direction * (logits[1] - logits[0]) / exposed.model.temperature

    targets = [aim(direction) for direction in sign.tolist()]
    maps = []
    for layer, reshape in ((exposed.cnn_map, None), (exposed.vit_tokens, exposed.lay_out)):
        with (
            torch.enable_grad(),
            classes[method](model=exposed, target_layers=[layer], reshape_transform=reshape) as cam,
        ):
            maps.append(torch.from_numpy(cam(x.clone().requires_grad_(), targets)))
    return maps[0], maps[1]
