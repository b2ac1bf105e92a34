"""How boxes and areas may have been written, or masks be meant, where they differ: each cause, and what it explains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Causes = list[tuple[str, Flags]]
"""Texts, and the rows that fit if they are true, bool ``[N]``."""

ROWS = "the run lengths look taken row by row, COCO's go column by column"
TURNED = "height and width of the images look swapped"
_SWAPPED = "x and y look swapped"
_SQUARE = " in the boxes, or run lengths taken row by row: in square images both look alike"
FACTOR_PAIRS = 3
"""Pairs that it takes to find a factor."""
_WHOLE = 0.9
_AREA_PIXELS, _AREA_SHARE = 10.0, 0.1
_LAYOUTS: dict[str, Callable[[Floats], Floats]] = {
    "": lambda b: b,
    "x1, y1, x2, y2": lambda b: np.column_stack((b[:, :2], b[:, 2:] - b[:, :2])),
    "y, x, height, width": lambda b: b[:, [1, 0, 3, 2]],
    "y1, x1, y2, x2": lambda b: np.column_stack((b[:, [1, 0]], b[:, [3, 2]] - b[:, [1, 0]])),
    "centre x, centre y, width, height": lambda b: np.column_stack((b[:, :2] - b[:, 2:] / 2, b[:, 2:])),
}


@dataclass(frozen=True)
class Boxes:
    """Boxes x, y, width, height that are stated, and those of the masks.

    Attributes:
        given: float64 ``[N, 4]``, as the file has them.
        extents: float64 ``[N, 4]``, of the masks, pixels.
        sizes: float64 ``[N, 2]``, height and width of the images.
        runs: bool ``[N]``, the masks are given as run lengths.
        tolerance: pixels that an edge may be away, or, if that is more, part of the mask's side.
    """

    given: Floats
    extents: Floats
    sizes: Floats
    runs: Flags
    tolerance: tuple[float, float]

    def rows(self, rows: npt.NDArray[np.int64]) -> Boxes:
        """Some of them."""
        return Boxes(self.given[rows], self.extents[rows], self.sizes[rows], self.runs[rows], self.tolerance)

    def fit(self, boxes: Floats, extents: Floats | None = None, sizes: Floats | None = None) -> Flags:
        """Whether boxes are those of the masks, or of others in images of other sizes; bool ``[N]``.

        What leaves the image does not count.
        """
        extents = self.extents if extents is None else extents
        height, width = (self.sizes if sizes is None else sizes).T
        limits = np.column_stack((width, height, width, height))
        edges = np.column_stack((boxes[:, :2], boxes[:, :2] + boxes[:, 2:])).clip(0, limits)
        wanted = np.column_stack((extents[:, :2], extents[:, :2] + extents[:, 2:]))
        pixels, share = self.tolerance
        allowed = np.maximum(pixels, share * extents[:, [2, 3, 2, 3]])
        near: Flags = np.all(np.abs(edges - wanted) <= allowed, axis=1)
        return near

    def tell_readings(self) -> Flags:
        """Which of them can tell one reading of a mask from another: run lengths, and less than the whole image."""
        whole = np.all(self.given[:, 2:] >= _WHOLE * self.sizes[:, ::-1], axis=1)
        told: Flags = self.runs & (self.sizes[:, 0] != self.sizes[:, 1]) & ~whole
        return told


def readings(boxes: Boxes, swapped: Floats) -> Causes:
    """Mistakes in run lengths.

    Args:
        boxes: that differ from the masks.
        swapped: float64 ``[N, 4]``, boxes of the masks if height and width of the images are swapped.
    """
    by_rows = boxes.fit(boxes.given, swapped[:, [1, 0, 3, 2]])
    turned = boxes.fit(boxes.given, swapped, boxes.sizes[:, ::-1])
    return [(ROWS, by_rows & boxes.tell_readings()), (TURNED, turned & boxes.tell_readings())]


def writings(boxes: Boxes) -> Causes:
    """Ways to write boxes that are not COCO's, the simple ones first."""
    image = boxes.sizes[:, [1, 0, 1, 0]]
    scales: list[tuple[str, Floats]] = [("", np.ones_like(image))]
    scales += [("in parts of the image (0 to 1)", image), ("in percent of the image", image / 100)]
    causes: Causes = []
    for scale, factors in scales:
        for layout, written in _LAYOUTS.items():
            if scale or layout:
                fit = boxes.fit(written(boxes.given) * factors)
                parts = (f"written as {layout}" if layout else "", scale)
                text = f"the boxes look {' and '.join(filter(None, parts))}"
                if layout == "y, x, height, width" and not scale:
                    square = (boxes.runs & (boxes.sizes[:, 0] == boxes.sizes[:, 1]))[fit].all()
                    text = _SWAPPED + (_SQUARE if square else "")
                causes.append((text, fit))
    plain = boxes.given
    if len(plain) >= FACTOR_PAIRS and (plain[:, 2:] > 0).all():
        sides = boxes.extents[:, 2:] / plain[:, 2:]
        x, y = np.median(sides, axis=0)
        causes.append(
            (
                f"the boxes look scaled by {1 / x:.3g} in x and {1 / y:.3g} in y against the masks",
                boxes.fit(plain * (x, y, x, y)),
            )
        )
        width, height = np.median(boxes.sizes[:, ::-1] / sides, axis=0)
        fit = boxes.fit(plain * image / (width, height, width, height))
        causes.append((f"the boxes look in pixels of images of {width:.0f}x{height:.0f}", fit))
    return causes


def area_causes(stated: Floats, measured: Floats, extents: Floats, sizes: Floats) -> Causes:
    """What stated areas may be of that are not those of the masks.

    Args:
        stated: ``[N]``.
        measured: pixels of the masks, ``[N]``.
        extents: boxes of the masks, ``[N, 4]``.
        sizes: of the images, ``[N, 2]``.
    """
    there = measured > 0
    boxed = there & near_areas(stated, extents[:, 2] * extents[:, 3])
    parts = there & near_areas(stated * sizes.prod(axis=1), measured)
    causes = [
        ("the areas look like width x height of the boxes", boxed),
        ("the areas look like parts of the image, not pixels", parts),
    ]
    if there.sum() >= FACTOR_PAIRS:
        factor = max(float(np.median(stated[there] / measured[there])), 1e-9)
        causes.append((f"the areas look scaled by {factor:.3g}", there & near_areas(stated / factor, measured)))
    return causes


def near_areas(stated: Floats, measured: Floats) -> Flags:
    """Whether areas are alike; bool ``[N]``."""
    near: Flags = np.abs(stated - measured) <= np.maximum(_AREA_PIXELS, _AREA_SHARE * measured)
    return near
