"""Masks that are given as polygons: checked before any C code sees them, and brought to one form."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.files.findings import is_number, shown

# pycocotools walks along the outline in memory, so its length must be bounded, by the image and absolutely.
_MAX_OUTLINE = 100
_MAX_OUTLINE_PIXELS = 10**6
_MAX_COORDINATE = 10**6


@dataclass(frozen=True, slots=True)
class Polygons:
    """The polygons of one mask.

    Attributes:
        parts: each ``[x0, y0, x1, y1, ...]``; their union is the mask.
        oddities: what is odd and was mended or left away, as kind and text.
    """

    parts: list[list[float]]
    oddities: tuple[tuple[str, str], ...] = ()


def read_polygons(segmentation: list[Any], size: tuple[int, int]) -> Polygons | str:
    """Check the polygons of a mask.

    COCO's form is a list of flat lists. Points as ``[x, y]`` pairs, and one flat list alone, can be taken for nothing
    else, and are taken as what they are. A part that marks no pixel (less than three points, all points on a line,
    outside the image) is left away beside others that do.

    Args:
        segmentation: as the file has it, not empty.
        size: height and width of the image, pixels.

    Returns:
        The polygons, or a text on why they cannot be used.
    """
    polygons, oddities = _as_flat_lists(segmentation)
    good: list[list[float]] = []
    lines: list[list[float]] = []
    dropped: list[str] = []
    height, width = size
    most, leaves, fractions = 0.0, False, True  # the outline is no longer than the first
    for position, polygon in enumerate(polygons):
        if not isinstance(polygon, list):
            return f"segmentation[{position}] {shown(polygon)} is not a polygon; give [x0, y0, x1, y1, ...]"
        if len(polygon) % 2:
            return f"polygon {position} has {_few(polygon)}; give x and y of three points or more"
        points = _points(polygon)
        if points is None:
            odd = next(value for value in polygon if not is_number(value) or abs(value) > _MAX_COORDINATE)
            return f"polygon {position} holds {shown(odd)}; give pixels of the image"
        if len(points) < 3:
            dropped.append(f"polygon {position} has {_few(polygon)}; give x and y of three points or more")
            continue
        (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        if fractions:
            fractions = left >= 0 and top >= 0 and right <= 1 and bottom <= 1 and bool((points % 1).any())
        if left < 0 or top < 0 or right > width or bottom > height:
            leaves = True
            if right <= 0 or bottom <= 0 or left >= width or top >= height:
                dropped.append(f"polygon {position} lies outside the image of {width}x{height}")
                continue
        most += len(points) * (right - left + bottom - top)
        if _on_a_line(points):
            lines.append(polygon)
            dropped.append(f"all points of polygon {position} lie on a line")
        else:
            good.append(polygon)
    longest = min(_MAX_OUTLINE * (height + width), _MAX_OUTLINE_PIXELS)
    if most > longest and (outline := sum(map(_outline, good or lines))) > longest:
        return f"polygons with an outline of {outline:.0f} pixels; at most {longest} are read in this video"
    if not good and not lines:
        return dropped[0]
    if fractions and min(size) > 2:
        return "the polygons lie between 0 and 1: are they parts of the width and height? give pixels"
    if dropped:
        what = "the other parts are kept" if good else "the mask is empty"
        oddities.append(("polygon without area", f"{dropped[0]}; {what}"))
    if leaves:
        oddities.append(("polygon clipped", "a polygon leaves the image; it is clipped"))
    return Polygons(good or lines, tuple(oddities))


def _as_flat_lists(segmentation: list[Any]) -> tuple[list[Any], list[tuple[str, str]]]:
    """The polygons in COCO's form, and what was told of another one."""
    pairs = ("polygon of [x, y] pairs", "points are [x, y] pairs, COCO has them in one flat list; taken as that")
    if type(segmentation[0]) in (int, float) and not any(isinstance(value, (list, dict)) for value in segmentation):
        text = "one flat list, COCO has a list of such lists; taken as one polygon"
        return [segmentation], [("polygon of one flat list", text)]
    if len(segmentation) > 2 and _are_pairs(segmentation):
        return [list(chain.from_iterable(segmentation))], [pairs]
    if any(isinstance(polygon, list) and polygon and _are_pairs(polygon) for polygon in segmentation):
        flat = [
            list(chain.from_iterable(polygon)) if isinstance(polygon, list) and _are_pairs(polygon) else polygon
            for polygon in segmentation
        ]
        return flat, [pairs]
    return segmentation, []


def _are_pairs(points: list[Any]) -> bool:
    """Whether these are points of two values each."""
    return all(isinstance(p, list) and len(p) == 2 and not isinstance(p[0], (list, dict)) for p in points)


def _points(polygon: list[Any]) -> npt.NDArray[np.float64] | None:
    """Points ``[N, 2]`` of a polygon, None if it holds what is no pixel coordinate."""
    if set(map(type, polygon)) - {int, float}:
        return None
    try:
        points = np.array(polygon, np.float64).reshape(-1, 2)
    except OverflowError:
        return None
    # A NaN is no less than anything.
    return points if not points.size or np.abs(points).max() <= _MAX_COORDINATE else None


def _outline(polygon: list[float]) -> float:
    """Length of an outline, along the axes."""
    points = np.array(polygon, np.float64).reshape(-1, 2)
    return float(np.abs(np.diff(points, axis=0, append=points[:1])).sum())


def outline_area(polygon: list[float]) -> float:
    """Area within an outline that does not cross itself, pixels."""
    x, y = np.array(polygon, np.float64).reshape(-1, 2).T
    return abs(_doubled_area(x, y)) / 2


def _doubled_area(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    return float(x[:-1] @ y[1:] - y[:-1] @ x[1:] + x[-1] * y[0] - y[-1] * x[0])


def _on_a_line(points: npt.NDArray[np.float64]) -> bool:
    """Whether all points lie on a line; a polygon that crosses itself has no signed area either, but marks pixels."""
    if abs(_doubled_area(points[:, 0], points[:, 1])) > 1e-3:
        return False
    x, y = (points - points[0]).T
    farthest = int(np.argmax(np.maximum(np.abs(x), np.abs(y))))
    reach = max(abs(float(x[farthest])), abs(float(y[farthest])))
    return bool((np.abs(x * y[farthest] - y * x[farthest]) <= 1e-9 * reach**2).all())


def _few(values: list[Any]) -> str:
    return f"{len(values)} number{'' if len(values) == 1 else 's'}"
