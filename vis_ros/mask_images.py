"""Masks of a frame as one image of 8 bits, where a better score has the pixel that several masks hold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vis_core.structures import Instances


def class_mask(instances: Instances) -> npt.NDArray[np.uint8]:
    """uint8 ``[H, W]``: 1 + label of each pixel, at most 255; 0 where there is none."""
    return painted(instances, np.minimum(instances.labels + 1, 255).astype(np.uint8))


def confidence_mask(instances: Instances) -> npt.NDArray[np.uint8]:
    """uint8 ``[H, W]``: score of each pixel's object, 255 is 1."""
    return painted(instances, np.rint(255 * np.clip(instances.scores, 0, 1)).astype(np.uint8))


def painted(instances: Instances, values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 ``[H, W]``: at each pixel the value ``[N]`` of its row, 0 where there is none; an earlier row wins."""
    out = np.zeros(instances.size, np.uint8)
    for row in range(len(instances) - 1, -1, -1):
        x, y, width, height = instances.masks[row].box
        out[y : y + height, x : x + width][instances.masks[row].crop() != 0] = values[row]
    return out
