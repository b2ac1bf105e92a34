"""From a camera image to the network's input, as the published code makes it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD

MULTIPLE_OF = 32


class BoundedTransform(nn.Module):
    """Resize an RGB image into bounds, normalise it, and pad it right and bottom with zeros to a multiple of 32.

    The resize is OpenCV's bilinear one on float32, not antialiased; the aspect ratio is kept, and small images grow.

    Args:
        short_side: shorter side of the result at most, pixels; None: images stay as they come.
        long_side: longer side of it at most, pixels; None: whatever the shorter one makes of it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, short_side: int | None, long_side: int | None = None) -> None:
        super().__init__()
        self.short_side, self.long_side = short_side, long_side
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD), persistent=False)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after the resize, before the padding, of an image of this height and width."""
        if self.short_side is None:
            return height, width
        scale = self.short_side / min(height, width)
        if self.long_side is not None:
            scale = min(self.long_side / max(height, width), scale)
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)

    def forward(self, image: npt.NDArray[np.uint8]) -> Tensor:
        """float32 ``[1, 3, h, w]``, channels-last, padded, on the device of this module from uint8 ``[H, W, 3]``."""
        height, width = self.size(*image.shape[:2])
        pixels: npt.NDArray[Any] = image.astype(np.float32)
        if pixels.shape[:2] != (height, width):
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        device = self.mean.device
        padded = torch.zeros((1, height + -height % MULTIPLE_OF, width + -width % MULTIPLE_OF, 3), device=device)
        padded[0, :height, :width] = (torch.from_numpy(pixels).to(device) - self.mean) / self.std
        return padded.permute(0, 3, 1, 2)
