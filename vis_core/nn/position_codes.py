"""Sine codes of positions (Vaswani et al., NeurIPS 2017; two axes as in Carion et al., ECCV 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TEMPERATURE = 10000.0
_EPSILON = 1e-6


def angle_code(angles: Tensor, channels: int) -> Tensor:
    """Code of numbers ``[...]``, float32 ``[..., channels]``: even channels hold sines, odd ones cosines."""
    pair = torch.arange(channels, dtype=torch.float32, device=angles.device).div(2, rounding_mode="floor")
    slowed = angles[..., None] / _TEMPERATURE ** (2 * pair / channels)
    return torch.stack((slowed[..., 0::2].sin(), slowed[..., 1::2].cos()), -1).flatten(-2)


def axis_code(length: int, channels: int, device: torch.device | None = None, centred: bool = False) -> Tensor:
    """Code of the places 1 to `length` of an axis, scaled to one turn; float32 ``[length, channels]``.

    Args:
        length: of the axis.
        channels: of the code.
        device: of the code.
        centred: each place half a step before, as in Deformable DETR (Zhu et al., ICLR 2021).
    """
    with torch.inference_mode(False):  # what is cached may be asked for again in training
        places = torch.arange(1, length + 1, dtype=torch.float32, device=device) - (0.5 if centred else 0)
        return angle_code(places / (length + _EPSILON) * (2 * math.pi), channels)


def image_code(
    height: int, width: int, channels: int, device: torch.device | None = None, centred: bool = False
) -> Tensor:
    """Code of each pixel, row by row: half of the channels for y, then half for x; ``[height * width, channels]``."""
    with torch.inference_mode(False):
        y, x = (axis_code(n, channels // 2, device, centred) for n in (height, width))
        return torch.cat((y[:, None].expand(-1, width, -1), x[None].expand(height, -1, -1)), 2).flatten(0, 1)
