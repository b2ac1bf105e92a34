"""Plain forms of what systems with boxes have in common: as a paper writes them, with nothing saved or rearranged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.nn.feature_pyramid import FeaturePyramid


def pyramid(network: FeaturePyramid, maps: Sequence[Tensor]) -> list[Tensor]:
    """The levels, the finest first; coarse maps are enlarged by interpolate."""
    merged: Tensor | None = None
    levels = []
    for i, x in zip((5, 4, 3, 2), reversed(maps)):
        lateral = getattr(network, f"lateral{i}")(x)
        merged = lateral if merged is None else lateral + F.interpolate(merged, scale_factor=2, mode="nearest")
        levels.append(getattr(network, f"output{i}")(merged))
    return levels[::-1]


def pasted(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks bool ``[N, H, W]`` of small ones ``[N, h, w]`` in boxes ``[N, 4]``, over the whole image."""
    masks = []
    for small, box in zip(probabilities, boxes):
        x1, y1, x2, y2 = box
        columns = (torch.arange(size[1]) + 0.5 - x1) / (x2 - x1) * 2 - 1
        rows = (torch.arange(size[0]) + 0.5 - y1) / (y2 - y1) * 2 - 1
        grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
        masks.append(F.grid_sample(small[None, None], grid[None], align_corners=False)[0, 0] >= 0.5)
    return torch.stack(masks)


def least_overlap(found: Tensor, wanted: Tensor) -> float:
    """Least IoU of masks bool ``[N, H, W]`` with those wanted, where either is not empty."""
    union = (found | wanted).sum((1, 2))
    overlap = ((found & wanted).sum((1, 2)) / union)[union > 0]
    return min([1.0, *overlap.tolist()])
