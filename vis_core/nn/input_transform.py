"""From a camera image to the network's input."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

IMAGENET_MEAN = (123.675, 116.280, 103.530)
IMAGENET_STD = (58.395, 57.120, 57.375)
_FRACTION_BITS = 22


class InputTransform(nn.Module):
    """Resize an RGB image to a fixed size and normalise it.

    The resize is Pillow's bilinear one on uint8, to the last bit: along the rows, then along the columns, in fixed
    point with 22 fractional bits, antialiased where it shrinks, rounded to uint8 after each of the two.

    Args:
        size: height and width of the result; the aspect ratio is not kept.
        mean: of each channel, in 0..255.
        std: of each channel, in 0..255.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        size: tuple[int, int],
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def resize(self, image: npt.NDArray[np.uint8]) -> Tensor:
        """uint8 ``[h, w, 3]`` on the device of this module from uint8 ``[H, W, 3]``."""
        return _resize(image, self.size, self.mean.device)

    def forward(self, image: npt.NDArray[np.uint8]) -> Tensor:
        """float32 ``[1, 3, h, w]``, channels-last, on the device of this module from uint8 ``[H, W, 3]``."""
        pixels = self.resize(image)[None].float()
        return pixels.sub_(self.mean).div_(self.std).permute(0, 3, 1, 2)


class ShortSideTransform(nn.Module):
    """Resize an RGB image by its shorter side, normalise it, and pad it right and bottom with zeros.

    The resize is that of `InputTransform`; the aspect ratio is kept.

    Args:
        short_side: of the result, pixels; None: as it comes.
        longest_side: of the result at most, pixels.
        multiple_of: what height and width are padded to.
        mean: of each channel, in 0..255.
        std: of each channel, in 0..255.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        short_side: int | None,
        longest_side: int = 1333,
        multiple_of: int = 32,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.short_side, self.longest_side, self.multiple_of = short_side, longest_side, multiple_of
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after the resize, before the padding, of an image of this height and width."""
        if self.short_side is None:
            return height, width
        ratio = self.short_side / min(height, width)
        new: tuple[float, float] = (
            (self.short_side, ratio * width) if height < width else (ratio * height, self.short_side)
        )
        if max(new) > self.longest_side:
            shrink = self.longest_side / max(new)
            new = new[0] * shrink, new[1] * shrink
        return max(int(new[0] + 0.5), 1), max(int(new[1] + 0.5), 1)

    def resize(self, image: npt.NDArray[np.uint8]) -> Tensor:
        """uint8 ``[h, w, 3]`` on the device of this module from uint8 ``[H, W, 3]``."""
        return _resize(image, self.size(*image.shape[:2]), self.mean.device)

    def forward(self, image: npt.NDArray[np.uint8]) -> Tensor:
        """float32 ``[1, 3, h, w]``, channels-last, padded, on the device of this module from uint8 ``[H, W, 3]``."""
        pixels = self.resize(image)
        height, width = (-(-n // self.multiple_of) * self.multiple_of for n in pixels.shape[:2])
        padded = self.mean.new_zeros((1, height, width, 3))
        torch.sub(pixels, self.mean, out=(inside := padded[0, : pixels.shape[0], : pixels.shape[1]]))
        inside.div_(self.std)
        return padded.permute(0, 3, 1, 2)


def _resize(image: npt.NDArray[np.uint8], size: tuple[int, int], device: torch.device) -> Tensor:
    """uint8 ``[h, w, 3]`` of that size on the device."""
    if not image.flags.writeable or not image.flags.c_contiguous:
        image = np.array(image)  # torch takes neither read-only nor negatively strided arrays
    pixels = torch.from_numpy(image).to(device)
    for axis in (1, 0):
        if pixels.shape[axis] != size[axis]:
            pixels = _resize_axis(pixels, axis, size[axis])
    return pixels


def _resize_axis(pixels: Tensor, axis: int, size: int) -> Tensor:
    starts, weights = _taps(pixels.shape[axis], size)
    shape = [1, 1, 1]
    shape[axis] = size
    total = torch.full((), 1 << (_FRACTION_BITS - 1), dtype=torch.int32, device=pixels.device)
    for tap, weight in enumerate(weights):
        index = (starts + tap).clamp_(max=pixels.shape[axis] - 1).to(pixels.device)  # beyond the end the weight is 0
        total = total + pixels.index_select(axis, index) * weight.to(pixels.device).view(shape)
    return (total >> _FRACTION_BITS).to(torch.uint8)


@lru_cache(maxsize=16)
def _taps(length: int, size: int) -> tuple[Tensor, Tensor]:
    """First source position of each of `size` outputs, and the triangle filter's weights ``[taps, size]`` as int32."""
    scale = length / size
    support = max(scale, 1.0)
    center = (np.arange(size) + 0.5) * scale
    first = np.maximum((center - support + 0.5).astype(np.int64), 0)
    last = np.minimum((center + support + 0.5).astype(np.int64), length)
    taps = np.arange(int((last - first).max()))[:, None]
    weights = np.maximum(1 - np.abs((taps + first - center + 0.5) / support), 0)
    weights = np.where(taps < last - first, weights, 0)
    weights /= weights.sum(0)
    fixed = (weights * (1 << _FRACTION_BITS) + 0.5).astype(np.int32)
    return torch.from_numpy(first), torch.from_numpy(fixed)
