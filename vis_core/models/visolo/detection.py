"""From the network's outputs to the instances of one frame, as in the published inference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core import masks as run_lengths
from vis_core.masks import RunLengths

NMS_PRE = 500
NMS_SIGMA = 2.0
OVERLAP = 0.5
_BIT_COUNT: Any = getattr(np, "bitwise_count", None)  # NumPy 2


@dataclass(frozen=True, eq=False)
class Detections:
    """The instances of one frame before identity, by descending score.

    Attributes:
        cells: int64 ``[N]``, grid cell, row by row.
        labels: int64 ``[N]``.
        scores: float32 ``[N]``.
        vectors: float32 ``[N, C]``, category scores of the cells, not reweighted.
        masks: bool ``[N, h, w]`` at network size, where they are not coarse.
        logits: float32 ``[N, h/4, w/4]``, mask logits.
    """

    cells: Tensor
    labels: Tensor
    scores: Tensor
    vectors: Tensor
    masks: Tensor
    logits: Tensor

    def __len__(self) -> int:
        return len(self.cells)

    def chosen(self, rows: Tensor) -> Detections:
        """The rows of an index or boolean tensor."""
        return Detections(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def kept_cells(
    categories: Tensor, weight: Tensor | None, score_threshold: float, published_quirks: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Cells whose best, reweighted category score reaches the threshold.

    Args:
        categories: scores ``[C, 252]``.
        weight: ``[252]``, or None for 1.
        score_threshold: of a cell.
        published_quirks: a frame whose only kept cell is cell 0 counts as empty.

    Returns:
        Cells ``[N]``, their labels ``[N]`` and reweighted scores ``[N]``.
    """
    scores, labels = categories.max(0)
    if weight is not None:
        scores = scores * weight
    cells = torch.nonzero((scores >= score_threshold) & (scores > 0))[:, 0]
    if published_quirks and len(cells) == 1 and int(cells[0]) == 0:
        cells = cells[:0]
    return cells, labels[cells], scores[cells]


def mask_probabilities(logits: Tensor) -> Tensor:
    """Probabilities at network size ``[N, h, w]`` from mask logits ``[N, h/4, w/4]``."""
    return F.interpolate(logits[None], scale_factor=4, mode="bilinear", align_corners=False)[0].sigmoid_()


def candidates(
    mask_features: Tensor,
    kernels: Tensor,
    categories: Tensor,
    kept: tuple[Tensor, Tensor, Tensor],
    mask_threshold: float,
    published_quirks: bool,
    coarse: bool = False,
) -> Detections:
    """Masks of the kept cells, their scores times mask quality, by descending score, lower cell first.

    Args:
        mask_features: ``[256, h/4, w/4]``.
        kernels: ``[256, 252]``.
        categories: scores ``[C, 252]``.
        kept: result of `kept_cells`.
        mask_threshold: of a mask's probability.
        published_quirks: keep cells with an empty mask, with score NaN.
        coarse: masks are those of the logits, a quarter of the network's size, which for most uses tell as well what
            overlaps; `refined` makes those that stay whole.
    """
    cells, labels, scores = kept
    logits = (kernels[:, cells].T @ mask_features.flatten(1)).unflatten(1, mask_features.shape[1:])
    if coarse:
        probabilities = logits.sigmoid()
        masks = probabilities > mask_threshold
        inside = F.threshold(probabilities, mask_threshold, 0.0, inplace=True).sum((1, 2))
    else:
        masks, inside = _masks(logits, mask_threshold)
    scores = scores * (inside / masks.flatten(1).view(torch.uint8).sum(1, dtype=torch.int32))
    order = scores.sort(descending=True, stable=True).indices
    if not published_quirks:
        order = order[~scores[order].isnan()]
    order = order[:NMS_PRE]
    found = Detections(cells, labels, scores, categories.T[cells], masks, logits)
    return found.chosen(order)


def refined(found: Detections, mask_threshold: float) -> Detections:
    """Coarse candidates on the host with masks at network size; those of which nothing is left there are left out."""
    found = Detections(*(getattr(found, name).cpu() for name in found.__dataclass_fields__))
    count, height, width = found.logits.shape
    masks = np.zeros((count, 4 * height, 4 * width), np.bool_)
    least = float(torch.logit(torch.tensor(mask_threshold)))
    logits = found.logits.numpy()
    for rows, y, x in occupied_parts(found.logits, mask_threshold):
        # What is small is done by OpenCV: a call of PyTorch costs more than the work.
        fine = cv2.resize(logits[rows.start, y, x], None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
        masks[rows.start, 4 * y.start : 4 * y.stop, 4 * x.start : 4 * x.stop] = fine > least
    whole = replace(found, masks=torch.from_numpy(masks))
    return whole.chosen(torch.from_numpy(masks.any((1, 2))))


def _masks(logits: Tensor, mask_threshold: float) -> tuple[Tensor, Tensor]:
    """Masks bool ``[N, h, w]`` at network size of logits ``[N, h/4, w/4]``, and each one's sum of probabilities."""
    count, height, width = logits.shape
    masks = torch.zeros((count, 4 * height, 4 * width), dtype=torch.bool, device=logits.device)
    inside = logits.new_zeros(count)
    for rows, y, x in occupied_parts(logits, mask_threshold):
        probabilities = mask_probabilities(logits[rows, y, x])
        masks[rows, 4 * y.start : 4 * y.stop, 4 * x.start : 4 * x.stop] = probabilities > mask_threshold
        inside[rows] = F.threshold(probabilities, mask_threshold, 0.0, inplace=True).sum((1, 2))
    return masks, inside


def occupied_parts(logits: Tensor, mask_threshold: float, margin: int = 1) -> Iterator[tuple[slice, slice, slice]]:
    """Parts of mask logits ``[N, h, w]`` (masks, rows, columns) outside which no pixel passes the threshold.

    Where it does, so does one of the logits that it is interpolated from: on a CPU what a mask costs follows its
    box. Elsewhere the boxes would have to be waited for: eight whole masks are a part.

    Args:
        logits: of the masks.
        mask_threshold: of a pixel's probability.
        margin: places about a box that belong to its part.
    """
    count, height, width = logits.shape
    if logits.device.type != "cpu":
        for start in range(0, count, 8):
            yield slice(start, start + 8), slice(0, height), slice(0, width)
        return
    rounding = 1e-3  # what the rounding of a probability may hide
    passes = (logits > torch.logit(torch.tensor(mask_threshold)) - rounding).view(torch.uint8)
    for row, marks in enumerate(zip(passes.amax(2).numpy(), passes.amax(1).numpy())):
        if marks[0].any():
            y, x = (_with_margin(along, margin) for along in marks)
            yield slice(row, row + 1), y, x


def _with_margin(occupied: npt.NDArray[np.uint8], margin: int) -> slice:
    """The part of an axis ``[n]`` that is not 0, and a margin on either side."""
    places = np.flatnonzero(occupied)
    return slice(max(int(places[0]) - margin, 0), min(int(places[-1]) + 1 + margin, len(occupied)))


def intersections(masks: Tensor) -> Tensor:
    """Common pixels of each pair of masks ``[N, h, w]``: exact counts as float32 ``[N, N]``."""
    flat = masks.flatten(1)
    if flat.device.type == "cpu" and _BIT_COUNT is not None:
        return torch.from_numpy(_common_bits(flat.numpy()))
    return flat.float() @ flat.float().T


def _common_bits(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """`intersections` of masks ``[N, P]`` by counting bits, which a CPU does quicker than products of numbers."""
    count, pixels = masks.shape
    words = np.zeros((count, -(-pixels // 64) * 8), np.uint8)
    words[:, : -(-pixels // 8)] = np.packbits(masks, axis=1)
    words = words.view(np.uint64)
    common = np.empty((count, count), np.float32)
    for i in range(count):
        common[i, i:] = common[i:, i] = _BIT_COUNT(words[i] & words[i:]).sum(1, dtype=np.int64)
    return common


def matrix_nms(scores: Tensor, labels: Tensor, common: Tensor, sigma: float = NMS_SIGMA) -> Tensor:
    """Scores decayed by the overlap with better masks of the same label (SOLOv2, NeurIPS 2020, section 3.3).

    Args:
        scores: ``[N]``, descending.
        labels: ``[N]``.
        common: ``[N, N]``, `intersections` in the same order.
    """
    areas = common.diagonal()
    iou = common / (areas[:, None] + areas[None] - common)
    iou = (iou * (labels[:, None] == labels[None])).triu(1)
    compensation = iou.max(0).values
    decay = torch.exp(-sigma * iou**2) / torch.exp(-sigma * compensation**2)[:, None]
    return scores * decay.min(0).values


def without_overlaps(common: Tensor) -> list[int]:
    """Rows that stay when a mask that lies by more than half in a better one that stays is removed.

    Args:
        common: ``[N, N]``, `intersections` by descending score; on the host.
    """
    covered = common / common.diagonal()[None] > OVERLAP
    stays = [True] * len(common)
    for i, row in enumerate(covered.tolist()):
        if stays[i]:
            for j in range(i + 1, len(row)):
                if row[j]:
                    stays[j] = False
    return [i for i, stay in enumerate(stays) if stay]


def suppress(found: Detections, update_threshold: float, max_instances: int) -> Detections:
    """Candidates after matrix NMS, threshold, limit and removal of overlaps."""
    if len(found) == 0:
        return found
    common = intersections(found.masks)
    scores = matrix_nms(found.scores, found.labels, common)
    order = scores.sort(descending=True, stable=True).indices
    order = order[scores[order] >= update_threshold][:max_instances]
    rows = order[torch.tensor(without_overlaps(common[order][:, order].cpu()), dtype=torch.int64, device=order.device)]
    stay = found.chosen(rows)
    return Detections(stay.cells, stay.labels, scores[rows], stay.vectors, stay.masks, stay.logits)


def encode_masks(found: Detections, size: tuple[int, int], mask_resize: str, mask_threshold: float) -> list[RunLengths]:
    """Masks at the image's size, resized bilinearly; what a mask costs follows its box, not the image.

    Args:
        size: height and width of the image.
        mask_resize: ``logits``: probabilities resized, which gives smoother edges; else, as published, the binary
            masks at network size.
        mask_threshold: of a mask's probability, for ``logits``.
    """
    # Rows and columns that each mask touches, brought to the host at once.
    pixels = found.masks.view(torch.uint8)
    occupied = torch.cat((pixels.amax(2), pixels.amax(1)), 1).cpu().numpy()
    out = []
    for row, marks in enumerate(occupied):
        if not marks.any():
            out.append(RunLengths(size))
            continue
        (rows, y, height), (columns, x, width) = (
            _meeting(part, n) for part, n in zip(np.split(marks, pixels.shape[1:2]), size)
        )
        if mask_resize != "logits":
            dense = found.masks[row, rows, columns]
            if dense.shape != (height, width):
                dense = _resized(dense.float(), (height, width)) >= 0.5
        else:
            probabilities = mask_probabilities(found.logits[row : row + 1])[0]
            probabilities[(probabilities > mask_threshold) & ~found.masks[row]] = 0  # parts that were left out
            dense = _resized(probabilities[rows, columns], (height, width)) > mask_threshold
        part = run_lengths.encode(dense.cpu().numpy())
        if part.area:
            left, top, width, height = part.box
            part = RunLengths(size, (x + left, y + top, width, height), part.runs)
        out.append(part if part.area else RunLengths(size))
    return out


def _meeting(occupied: npt.NDArray[np.uint8], target: int) -> tuple[slice, int, int]:
    """Part of an axis that holds all of a mask, one pixel of margin, and ends where pixels of both sizes meet.

    Resizing that part alone gives the pixels that resizing the whole axis gives, but for rounding of positions.

    Args:
        occupied: ``[n]``, not 0 where the mask has a pixel.
        target: pixels of the axis after the resize.

    Returns:
        The part before the resize, and start and length of the part after it.
    """
    meetings = gcd(len(occupied), target)
    before, after = len(occupied) // meetings, target // meetings
    marks = np.flatnonzero(occupied)
    first = max(int(marks[0]) - 1, 0) // before
    last = min(-(-(int(marks[-1]) + 2) // before), meetings)
    return slice(first * before, last * before), first * after, (last - first) * after


def _resized(mask: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(mask[None, None], size, mode="bilinear", align_corners=False)[0, 0]
