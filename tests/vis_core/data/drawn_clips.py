"""Clips that the other tests of training data draw, and what their masks must cover."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from vis_core.data.annotation_files import read_annotations
from vis_core.data.augmentation import NO_AUGMENTATION, Augmentation
from vis_core.data.sources import Clips

SIZE = (60, 80)
RED, GREEN, BLUE = range(3)
ONLY_GEOMETRY = Augmentation(
    brightness=0, contrast=0, saturation=0, hue=0, grey=0, blur=0, noise=0, copy_paste=0, erase=0
)  # fmt: skip
PASTING = replace(NO_AUGMENTATION, copy_paste=4.0)
THREE = [("red", (8, 10, 20, 16)), ("green", (40, 6, 12, 30)), ("blue", (30, 42, 34, 12))]


def clips(path, augmentation=NO_AUGMENTATION, frames=3, size=SIZE, donors=()):
    return Clips(read_annotations(path), frames, size, augmentation, [read_annotations(d) for d in donors])


def drawn(source, seed, index=0):
    return source.clip(index, np.random.default_rng(seed))


def of_colour(images, label):
    """Which pixels show a colour by half or more, beside the ground or another colour."""
    high, low = images.max(-1).astype(int), images.min(-1).astype(int)
    return (images.argmax(-1) == label) & (high - low > (230 - 20) // 2)


def near_edge(mask):
    """Pixels that touch the border of a mask, or lie on the edge of the picture."""
    kernel, mask = np.ones((3, 3), np.uint8), mask.astype(np.uint8)
    return cv2.dilate(mask, kernel) != cv2.erode(mask, kernel, borderValue=0)


def assert_masks_cover_their_colours(clip):
    """Masks and ignored regions of a class are what shows its colour, up to one pixel at their borders."""
    for label in range(3):
        regions = np.concatenate((clip.masks[clip.labels == label], clip.ignore_masks[clip.ignore_labels == label]))
        for t, image in enumerate(clip.images):
            wrong = of_colour(image, label) != regions[:, t].any(0)
            for region in regions[:, t]:
                wrong &= ~near_edge(region)
            assert not wrong.any(), (label, t, int(wrong.sum()))
