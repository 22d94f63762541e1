"""What contributions are compared with: the mean of the normal training slices of each modality."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stroke_hub.inference.predict import to_float_pixels
from stroke_hub.io.windowing import Modality
from stroke_hub.models.resnet_vit import ResNetViT, get_evaluable
from stroke_hub.progress import track

__all__ = ["store_baseline"]


def store_baseline(
    model: ResNetViT, squares: Tensor, labels: Tensor, modalities: Sequence[Modality | None]
) -> None:
    """Store the mean maps and tokens of the normal training slices of each modality, in place.

    Compared with the mean of all slices of both modalities, as models were until then, a branch was told to have
    found what only tells CT from MR: +1.35 log-odds of stroke on every normal CT slice of a quickstart's.

    Parameters
    ----------
    squares : uint8 (N, S, S), training slices that are not augmented.
    labels : (N,), 1 of strokes. A modality without normal slices is compared with the normal ones of all.
    modalities : N of them; they count where the model knows its modalities.
    """
    evaluable, device = get_evaluable(model), model.temperature.device
    normal = (labels == 0).cpu()
    rows = [normal & torch.tensor([one == known for one in modalities]) for known in model.modalities]
    rows = [row if row.any() else normal for row in rows] or [normal]
    sums: list[tuple[Tensor, ...]] = []
    for row in rows:
        maps = tokens = scores = torch.zeros(1, dtype=torch.float64)
        for batch in track(squares[row.to(squares.device)].split(32), "normal slices"):
            x = to_float_pixels(batch, device)
            with torch.no_grad():
                stages = evaluable.map_stages(x)
                found = torch.cat([one.flatten(1) for one in stages], 1)
                final = evaluable.vit.forward_features(evaluable.normalise_vit(x))
                if model.lesion_cells:
                    joined = evaluable.join(stages, final)[:, [model.cnn_features - 1, -1]]
                    scores = scores + joined.double().sum(0).cpu()
                kept = [0, *range(evaluable.vit.num_prefix_tokens, final.shape[1])] if model.vit_patches else [0]
            maps = maps + found.double().sum(0).cpu()
            tokens = tokens + final[:, kept].double().sum(0).cpu()
        sums.append(tuple(total / int(row.sum()) for total in (maps, tokens, scores)))
    maps, tokens, scores = (torch.stack(parts).to(model.feature_mean) for parts in zip(*sums, strict=True))
    model.normal_maps, model.normal_tokens = maps, tokens
    if model.lesion_cells:
        model.normal_scores = scores
