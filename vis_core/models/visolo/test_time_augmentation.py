"""Several views of each frame whose outputs are averaged (test-time augmentation): larger, mirrored."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.models.visolo.memory import FrameMemory
from vis_core.models.visolo.model import GridReading
from vis_core.nn.input_transform import InputTransform
from vis_core.structures import Frame

_MULTIPLE = 16


class View:
    """One more view of each frame of a stream; the network remembers it apart from the others.

    Args:
        first: of the first view; size and normalisation.
        scale: of the view's size, relative to the first one's.
        mirrored: left and right are exchanged.
        memory: empty.
    """

    def __init__(self, first: InputTransform, scale: float, mirrored: bool, memory: FrameMemory) -> None:
        height, width = (max(round(scale * n / _MULTIPLE), 1) * _MULTIPLE for n in first.size)
        mean, std = (tuple(x.tolist()) for x in (first.mean, first.std))
        self._transform = InputTransform((height, width), mean, std, first.exact).to(first.mean.device)
        self._mirrored = mirrored
        self.memory = memory

    def image(self, frame: Frame) -> Tensor:
        """The network's input ``[1, 3, h, w]``."""
        image: Tensor = self._transform(frame.image)
        return image.flip(3) if self._mirrored else image

    def as_first(
        self, reading: GridReading, mask_features: Tensor, grid: tuple[int, int], size: Sequence[int]
    ) -> tuple[GridReading, Tensor]:
        """What was read of this view, as if of the first one.

        Args:
            reading: of the view.
            mask_features: of the view, ``[d, h/4, w/4]``.
            grid: rows and columns of the network's grid, which is the same at every size.
            size: height and width of the first view's mask features.
        """
        categories, kernels, features = reading.categories, reading.kernels, mask_features
        if features.shape[1:] != torch.Size(size):
            features = F.interpolate(features[None], tuple(size), mode="bilinear", align_corners=False)[0]
        if self._mirrored:
            categories, kernels = (x.unflatten(1, grid).flip(2).flatten(1) for x in (categories, kernels))
            features = features.flip(2)
        return reading._replace(categories=categories, kernels=kernels), features


def averaged(readings: Sequence[tuple[GridReading, Tensor]]) -> tuple[GridReading, Tensor]:
    """Mean category scores and mask logits of the views of a frame; all else is the first one's.

    Kernels and mask features of the views are joined, so that their product is the sum of the views' logits.
    """
    first, _ = readings[0]
    categories = torch.stack([reading.categories for reading, _ in readings]).mean(0)
    kernels = torch.cat([reading.kernels for reading, _ in readings])
    features = torch.cat([features for _, features in readings]) / len(readings)
    return first._replace(categories=categories, kernels=kernels), features
