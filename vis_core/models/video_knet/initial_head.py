"""The first kernels of a frame: learned ones, with what their masks cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vis_core.models.video_knet.kernels import RARE, covered_sums
from vis_core.models.video_knet.semantic_pyramid import NormedConv, SemanticPyramid


@dataclass(frozen=True, eq=False)
class InitialOutputs:
    """What the initial head says of B frames.

    Attributes:
        features: ``[B, C, h, w]``, which all later stages look at.
        masks: logits ``[B, N, h, w]``.
        kernels: ``[B, N, C]``.
        semantic: logits of the classes of each pixel ``[B, K, h, w]``; None: not asked for.
    """

    features: Tensor
    masks: Tensor
    kernels: Tensor
    semantic: Tensor | None


class InitialHead(nn.Module):
    """Learned kernels applied to the frame (K-Net, section 3.4).

    Args:
        classes: of the pixels: things, then stuff.
        kernels: number of learned ones.
        width: channels.
    """

    def __init__(self, classes: int, kernels: int, width: int) -> None:
        super().__init__()
        self.pyramid = SemanticPyramid(width)
        self.loc_conv = NormedConv(width, width, 1)
        self.seg_conv = NormedConv(width, width, 1)
        self.init_kernels = nn.Conv2d(width, kernels, 1, bias=False)
        self.conv_seg = nn.Conv2d(width, classes, 1)

    def initialise(self, exclusive: bool) -> None:
        """As the published training starts; exclusive: a pixel has one class, by softmax."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
        nn.init.normal_(self.init_kernels.weight)
        assert self.conv_seg.bias is not None
        nn.init.constant_(self.conv_seg.bias, 0.0 if exclusive else RARE)

    def forward(self, maps: Sequence[Tensor], semantic: bool) -> InitialOutputs:
        """Of a neck's maps at strides 4 to 32; semantic: whether to name the pixels too."""
        localisation, named = self.pyramid(maps)
        localisation, named = self.loc_conv(localisation), self.seg_conv(named)
        masks, features = self.init_kernels(localisation), localisation + named
        sums, _ = covered_sums(features, masks)
        kernels = self.init_kernels.weight.flatten(1) + sums
        return InitialOutputs(features, masks, kernels, self.conv_seg(named) if semantic else None)

    def with_stuff(self, initial: InitialOutputs, things: int) -> InitialOutputs:
        """The kernels of things, then a fixed one of each stuff class: what the pixels are named by.

        Args:
            initial: with semantic logits.
            things: number of thing classes, the first ones.
        """
        assert initial.semantic is not None
        stuff = self.conv_seg.weight[things:].flatten(1).expand(len(initial.kernels), -1, -1)
        return InitialOutputs(
            initial.features,
            torch.cat((initial.masks, initial.semantic[:, things:]), 1),
            torch.cat((initial.kernels, stuff), 1),
            initial.semantic,
        )
