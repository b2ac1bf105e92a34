"""Semantic pyramid (Kirillov et al., CVPR 2019): a neck's levels, summed at stride 8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.nn.position_codes import image_code
from vis_core.nn.tracing import is_tracing
from vis_core.nn.winograd import WinogradConv2d

GROUPS = 32


class ExactGroupNorm(nn.GroupNorm):
    """Group norm whose statistics are exact to rounding, for inference, whatever the number of threads.

    PyTorch's own, of maps in channels-last layout, errs some seven times as much; kernels' pooling masks are hard, and
    their nearest pixels turn by less. It costs half a millisecond more a map.
    """

    def forward(self, input: Tensor) -> Tensor:
        if (torch.is_grad_enabled() and not is_tracing()) or input.dtype != torch.float32:
            return super().forward(input)
        pixels = input.flatten(2)
        moments = torch.stack((pixels.mean(2), pixels.square().mean(2))).double()
        mean, square = moments.unflatten(2, (self.num_groups, -1)).mean(3, keepdim=True)
        weight, bias = (x.double().unflatten(0, (self.num_groups, -1)) for x in (self.weight, self.bias))
        scale = weight * ((square - mean**2).clamp(min=0) + self.eps).rsqrt()
        shift = bias - mean * scale
        scale, shift = (x.flatten(1)[..., None, None].float() for x in (scale, shift))
        return torch.addcmul(shift, input, scale)


class NormedConv(WinogradConv2d):
    """Convolution without bias, group norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, size, stride, size // 2, bias=False)
        self.norm = ExactGroupNorm(GROUPS, outputs)

    def forward(self, input: Tensor) -> Tensor:
        return self.normed(super().forward(input))

    def normed(self, x: Tensor) -> Tensor:
        """What follows the convolution."""
        return F.relu(self.norm(x), inplace=True)


class SemanticPyramid(nn.Module):
    """Every level at stride 8, summed; the coarsest one knows its positions.

    Args:
        width: channels of the levels and of what comes out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.levels = nn.ModuleList(
            nn.ModuleList(NormedConv(width, width, 3, stride) for _ in range(count))
            for count, stride in ((1, 2), (1, 1), (2, 1), (3, 1))
        )
        self.localisation = NormedConv(width, width, 1)
        self.semantic = NormedConv(width, width, 1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Features to localise and to name objects, each ``[B, width, H/8, W/8]``.

        Args:
            maps: ``[B, width, h, w]`` at strides 4, 8, 16 and 32, of images whose sides are multiples of 32; the first
                one may have its convolution behind it, at stride 8: see `FinestLevel`.
        """
        height, width = maps[3].shape[2:]
        code = image_code(height, width, self.width, maps[3].device).to(maps[3].dtype)
        coarsest = maps[3] + code.T.unflatten(1, (height, width))
        total: Tensor | None = None
        for level, (convolutions, x) in enumerate(zip(self.levels, (*maps[:3], coarsest))):
            assert isinstance(convolutions, nn.ModuleList)
            first: Any = convolutions[0]
            x = first.normed(x) if level == 0 and x.shape == maps[1].shape else first(x)
            for convolution in convolutions[1:]:
                x = convolution(doubled(x))
            total = x if total is None else total + x
        return self.localisation(total), self.semantic(total)


def doubled(x: Tensor, times: int = 2) -> Tensor:
    """Maps ``[B, C, h, w]``, bilinear, twice (or some other whole number of times) as high and wide."""
    return F.interpolate(x, scale_factor=times, mode="bilinear", align_corners=False)
