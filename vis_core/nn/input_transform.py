"""From a camera image to the network's input."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vis_core.nn.image_resize import IMAGENET_MEAN as IMAGENET_MEAN
from vis_core.nn.image_resize import IMAGENET_STD as IMAGENET_STD
from vis_core.nn.image_resize import pillow_resized

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
        return _padded(self.resize(image), self.multiple_of, self.mean, self.std)


class WithinTransform(nn.Module):
    """Fit an RGB image into a rectangle, enlarged if need be, normalise it, and pad it right and bottom with zeros.

    The aspect ratio is kept. The resize is OpenCV's bilinear one, without antialiasing: that of mmdetection.

    Args:
        short_side: of the rectangle, pixels; None: images stay as they come.
        long_side: of the rectangle, pixels; it lies as the image does; None: it has no end.
        multiple_of: what height and width are padded to.
        rounded: to uint8 after the resize; False: it works on float32.
        mean: of each channel, in 0..255.
        std: of each channel, in 0..255.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        short_side: int | None,
        long_side: int | None = None,
        multiple_of: int = 32,
        rounded: bool = True,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.short_side, self.long_side = short_side, long_side
        self.multiple_of, self.rounded = multiple_of, rounded
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after the resize, before the padding, of an image of this height and width."""
        if self.short_side is None:
            return height, width
        ratio = self.short_side / min(height, width)
        if self.long_side is not None:
            ratio = min(self.long_side / max(height, width), ratio)
        return max(int(height * ratio + 0.5), 1), max(int(width * ratio + 0.5), 1)

    def resize(self, image: npt.NDArray[np.uint8]) -> Tensor:
        """``[h, w, 3]`` on the device of this module from uint8 ``[H, W, 3]``; float32 if resized and not rounded."""
        height, width = self.size(*image.shape[:2])
        pixels: npt.NDArray[Any] = image
        if (height, width) != image.shape[:2]:
            pixels = image if self.rounded else image.astype(np.float32)
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        return torch.from_numpy(_readable(pixels)).to(self.mean.device)

    def forward(self, image: npt.NDArray[np.uint8]) -> Tensor:
        """float32 ``[1, 3, h, w]``, channels-last, padded, on the device of this module from uint8 ``[H, W, 3]``."""
        return _padded(self.resize(image), self.multiple_of, self.mean, self.std)


def _padded(pixels: Tensor, multiple_of: int, mean: Tensor, std: Tensor) -> Tensor:
    """Normalised, with zeros right and below, ``[1, 3, h, w]`` channels-last, from pixels ``[H, W, 3]``."""
    height, width = (-(-n // multiple_of) * multiple_of for n in pixels.shape[:2])
    padded = mean.new_zeros((1, height, width, 3))
    torch.sub(pixels, mean, out=(inside := padded[0, : pixels.shape[0], : pixels.shape[1]]))
    inside.div_(std)
    return padded.permute(0, 3, 1, 2)


def _resize(image: npt.NDArray[np.uint8], size: tuple[int, int], device: torch.device) -> Tensor:
    """uint8 ``[h, w, 3]`` of that size on the device."""
    if device.type == "cpu":
        return torch.from_numpy(_readable(pillow_resized(image, size)))
    return resized_on_device(torch.from_numpy(_readable(image)).to(device), size)


def resized_on_device(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """`pillow_resized` of uint8 ``[H, W, 3]`` on any device, to the last bit."""
    if pixels.shape[1] != size[1]:
        pixels = _resize_rows(pixels.transpose(0, 1).contiguous(), size[1]).transpose(0, 1).contiguous()
    return pixels if pixels.shape[0] == size[0] else _resize_rows(pixels, size[0])


def _readable(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The image, copied where PyTorch does not take it: it is read-only or has strides of its own."""
    if image.flags.writeable and image.flags.c_contiguous and min(image.strides) > 0:
        return image
    return np.array(image, order="C")


def _resize_rows(pixels: Tensor, size: int) -> Tensor:
    starts, weights = _taps(len(pixels), size)
    flat = pixels.flatten(1)
    total = torch.full((size, flat.shape[1]), 1 << (_FRACTION_BITS - 1), dtype=torch.int32, device=pixels.device)
    for tap, weight in enumerate(weights):
        index = (starts + tap).clamp_(max=len(pixels) - 1).to(pixels.device)  # beyond the end the weight is 0
        total.addcmul_(flat.index_select(0, index).int(), weight[:, None].to(pixels.device))
    return (total >> _FRACTION_BITS).to(torch.uint8).unflatten(1, pixels.shape[1:])


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
