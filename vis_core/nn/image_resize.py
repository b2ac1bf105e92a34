"""From a camera image to a network's input, without PyTorch."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

IMAGENET_MEAN = (123.675, 116.280, 103.530)
IMAGENET_STD = (58.395, 57.120, 57.375)


def pillow_resized(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Pillow's bilinear resize, antialiased where it shrinks: along rows, then along columns, rounded after each.

    Pillow itself may take the columns first from version 13 on, so that each is a resize of its own.

    Args:
        image: uint8 ``[H, W, 3]``.
        size: height and width of the result.
    """
    for height, width in ((image.shape[0], size[1]), size):
        if image.shape[:2] != (height, width):
            resized = Image.fromarray(image).resize((width, height), Image.BILINEAR)  # type: ignore[attr-defined]
            image = np.asarray(resized)
    return image


class ArrayTransform:
    """What `vis_core.nn.input_transform.InputTransform` makes of an image, to the last bit, as an array.

    Args:
        size: height and width of the result; the aspect ratio is not kept.
        mean: of each channel, in 0..255.
        std: of each channel, in 0..255.
    """

    def __init__(
        self, size: tuple[int, int], mean: tuple[float, float, float], std: tuple[float, float, float]
    ) -> None:
        self.size = size
        levels = np.arange(256, dtype=np.float32)
        self._normalised = [(levels - np.float32(m)) / np.float32(s) for m, s in zip(mean, std)]

    def __call__(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """float32 ``[1, 3, h, w]`` from uint8 ``[H, W, 3]``."""
        out = np.empty((1, 3, *self.size), np.float32)
        for plane, levels, row in zip(cv2.split(pillow_resized(image, self.size)), self._normalised, out[0]):
            cv2.LUT(plane, levels, row)
        return out
