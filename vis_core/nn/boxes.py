"""Boxes as tensors: their two forms, the decoding of predicted changes, and how much they overlap.

The last dimension of every tensor holds the four numbers of a box; the others broadcast, so that all pairs of
``a [N, 4]`` and ``b [M, 4]`` are ``box_iou(a[:, None], b)``. What is not finite stays so: it is never hidden.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LARGEST_CHANGE = math.log(100_000 / 16)  # of a side's logarithm in one decoding


def corners_from_centres(boxes: Tensor) -> Tensor:
    """x1, y1, x2, y2 of boxes ``[..., 4]`` given as cx, cy, width, height."""
    centre, sides = boxes.split(2, -1)
    return torch.cat((centre - sides / 2, centre + sides / 2), -1)


def centres_from_corners(boxes: Tensor) -> Tensor:
    """cx, cy, width, height of boxes ``[..., 4]`` given as x1, y1, x2, y2."""
    first, second = boxes.split(2, -1)
    return torch.cat(((first + second) / 2, second - first), -1)


def decode_deltas(boxes: Tensor, deltas: Tensor, change: tuple[float, float] = (-math.inf, LARGEST_CHANGE)) -> Tensor:
    """Boxes that were moved and resized as a network says (Sparse R-CNN; Ren et al., NeurIPS 2015, equation 2).

    Args:
        boxes: ``[..., 4]``, x1 y1 x2 y2.
        deltas: ``[..., 4]``, dx, dy: moves of the centre in halves of the box's width and height; dw, dh: changes of
            the logarithm of width and height.
        change: least and largest dw and dh, to which they are limited. The published Sparse R-CNN has no least one.

    Returns:
        ``[..., 4]``, x1 y1 x2 y2, not clipped to an image.
    """
    centre, sides = centres_from_corners(boxes).split(2, -1)
    move, growth = deltas.split(2, -1)
    moved = centre + sides * move / 2
    return corners_from_centres(torch.cat((moved, sides * growth.clamp(*change).exp()), -1))


def box_area(boxes: Tensor) -> Tensor:
    """Area ``[...]`` of boxes ``[..., 4]``, x1 y1 x2 y2."""
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    return width * height


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes, x1 y1 x2 y2; 0 where neither has an area.

    Args:
        first: ``[..., 4]``.
        second: ``[..., 4]``; broadcast with `first`.

    Returns:
        ``[...]``, 0..1.
    """
    intersection, union = _intersection_and_union(first, second)
    return _over(intersection, union)


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU, less the share of the hull of two boxes that neither covers (Rezatofighi et al., CVPR 2019).

    0 for two boxes that are the same point or lie on one line along an axis: there is nothing to take shares of.

    Args:
        first: ``[..., 4]``, x1 y1 x2 y2.
        second: ``[..., 4]``; broadcast with `first`.

    Returns:
        ``[...]``, -1..1.
    """
    intersection, union = _intersection_and_union(first, second)
    corners = torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])
    hull = box_area(torch.cat(corners, -1))
    return _over(intersection, union) - _over(hull - union, hull)


def _intersection_and_union(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    width, height = (high - low).clamp(min=0).unbind(-1)
    intersection = width * height
    return intersection, box_area(first) + box_area(second) - intersection


def _over(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``; where the whole is 0, so is the part, and the quotient, and its gradient is finite."""
    return part / torch.where(whole == 0, 1, whole)
