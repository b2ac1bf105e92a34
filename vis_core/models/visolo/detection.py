"""From the network's outputs to the instances of one frame, as in the published inference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import gcd
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vis_core import masks as run_lengths
from vis_core.masks import RunLengths
from vis_core.nn.arrays import logit, sigmoid

NMS_PRE = 500
NMS_SIGMA = 2.0
OVERLAP = 0.5
_BIT_COUNT: Any = getattr(np, "bitwise_count", None)  # NumPy 2

Floats = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Detections:
    """The instances of one frame before identity, by descending score.

    Attributes:
        cells: ``[N]``, grid cell, row by row.
        labels: ``[N]``.
        scores: ``[N]``.
        vectors: ``[N, C]``, category scores of the cells, not reweighted.
        masks: ``[N, h, w]`` at network size, where they are not coarse.
        logits: ``[N, h/4, w/4]``, mask logits.
    """

    cells: Rows
    labels: Rows
    scores: Floats
    vectors: Floats
    masks: Masks
    logits: Floats

    def __len__(self) -> int:
        return len(self.cells)

    def chosen(self, rows: Rows | Masks) -> Detections:
        """The rows of an array of indices or booleans."""
        return Detections(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def kept_cells(
    categories: Floats, weight: Floats | None, score_threshold: float, published_quirks: bool
) -> tuple[Rows, Rows, Floats]:
    """Cells whose best, reweighted category score reaches the threshold.

    Args:
        categories: scores ``[C, 252]``.
        weight: ``[252]``, or None for 1.
        score_threshold: of a cell.
        published_quirks: a frame whose only kept cell is cell 0 counts as empty.

    Returns:
        Cells ``[N]``, their labels ``[N]`` and reweighted scores ``[N]``.
    """
    scores, labels = categories.max(0), categories.argmax(0)
    if weight is not None:
        scores = scores * weight
    cells = np.flatnonzero((scores >= score_threshold) & (scores > 0))
    if published_quirks and cells.tolist() == [0]:
        cells = cells[:0]
    return cells, labels[cells], scores[cells]


def mask_probabilities(logits: Floats) -> Floats:
    """Probabilities at network size ``[N, h, w]`` from mask logits ``[N, h/4, w/4]``."""
    count, height, width = logits.shape
    fine = np.empty((count, 4 * height, 4 * width), np.float32)
    for row, out in zip(logits, fine):
        cv2.resize(row, out.shape[::-1], dst=out, interpolation=cv2.INTER_LINEAR)
    return sigmoid(fine)


def candidates(
    logits: Floats,
    categories: Floats,
    kept: tuple[Rows, Rows, Floats],
    mask_threshold: float,
    published_quirks: bool,
    coarse: bool = False,
) -> Detections:
    """Masks of the kept cells, their scores times mask quality, by descending score, lower cell first.

    Args:
        logits: of the masks of the kept cells, ``[N, h/4, w/4]``.
        categories: scores ``[C, 252]``.
        kept: result of `kept_cells`.
        mask_threshold: of a mask's probability.
        published_quirks: keep cells with an empty mask, with score NaN.
        coarse: masks are those of the logits, a quarter of the network's size, which for most uses tell as well what
            overlaps; `refined` makes those that stay whole.
    """
    cells, labels, scores = kept
    if coarse:
        masks = logits > logit(mask_threshold)
        quality = _means_inside(logits, masks)
    else:
        masks, quality = _masks(logits, mask_threshold)
    scores = scores * quality
    order = _descending(scores)
    if not published_quirks:
        order = order[~np.isnan(scores[order])]
    return Detections(cells, labels, scores, categories.T[cells], masks, logits).chosen(order[:NMS_PRE])


def refined(found: Detections, mask_threshold: float) -> Detections:
    """Coarse candidates with masks at network size; those of which nothing is left there are left out."""
    masks, _ = _masks(found.logits, mask_threshold, quality=False)
    whole, seen = replace(found, masks=masks), np.array([mask.any() for mask in masks], np.bool_)
    return whole if seen.all() else whole.chosen(seen)


def _masks(logits: Floats, mask_threshold: float, quality: bool = True) -> tuple[Masks, Floats]:
    """Masks ``[N, h, w]`` at network size of logits ``[N, h/4, w/4]``, and if asked for mean probabilities inside."""
    count, height, width = logits.shape
    masks, means = np.zeros((count, 4 * height, 4 * width), np.bool_), np.full(count, np.nan, np.float32)
    least = logit(mask_threshold)
    for row, y, x in occupied_parts(logits, mask_threshold):
        part = _resized(logits[row, y, x], (4 * (y.stop - y.start), 4 * (x.stop - x.start)))
        mask = masks[row, 4 * y.start : 4 * y.stop, 4 * x.start : 4 * x.stop]
        np.greater(part, least, out=mask)
        if quality:
            means[row] = _means_inside(part[None], mask[None])[0]
    return masks, means


def _means_inside(logits: Floats, masks: Masks) -> Floats:
    """Mean probability inside each of N masks; of an empty one NaN."""
    areas = np.array([np.count_nonzero(mask) for mask in masks], np.intp)
    means, filled = np.full(len(masks), np.nan, np.float32), areas > 0
    if filled.any():
        inside = sigmoid(logits[masks])
        sums = np.add.reduceat(inside, np.cumsum(areas[filled]) - areas[filled])
        means[filled] = sums / areas[filled]
    return means


def _descending(scores: Floats) -> Rows:
    """The order of descending scores, first come first; those that are NaN before all."""
    return np.argsort(np.where(np.isnan(scores), -np.inf, -scores), kind="stable")


def occupied(masks: Masks) -> tuple[Masks, Masks]:
    """Which rows ``[N, h]`` and which columns ``[N, w]`` of masks ``[N, h, w]`` hold a pixel."""
    words: Any = masks.view(next(f"u{size}" for size in (8, 4, 2, 1) if masks.shape[2] % size == 0))
    return (words != 0).any(2), np.bitwise_or.reduce(words, axis=1).view(np.bool_)


def occupied_parts(logits: Floats, mask_threshold: float, margin: int = 1) -> Iterator[tuple[int, slice, slice]]:
    """Parts of mask logits ``[N, h, w]`` (mask, rows, columns) outside which no pixel passes the threshold.

    Where it does, so does one of the logits that it is interpolated from: what a mask costs follows its box.

    Args:
        logits: of the masks.
        mask_threshold: of a pixel's probability.
        margin: places about a box that belong to its part.
    """
    rounding = 1e-3  # what the rounding of a pixel may hide
    for row, (rows, columns) in enumerate(zip(*occupied(logits > logit(mask_threshold) - rounding))):
        if rows.any():
            yield row, _with_margin(rows, margin), _with_margin(columns, margin)


def _with_margin(marks: Masks, margin: int) -> slice:
    """The part of an axis ``[n]`` that is marked, and a margin on either side."""
    first, end = int(marks.argmax()), len(marks) - int(marks[::-1].argmax())
    return slice(max(first - margin, 0), min(end + margin, len(marks)))


def intersections(masks: Masks) -> Floats:
    """Common pixels of each pair of masks ``[N, h, w]``: exact counts as float32 ``[N, N]``.

    By counting bits, which a CPU does quicker than products of numbers.
    """
    count, pixels = len(masks), masks[0].size if len(masks) else 0
    words = np.zeros((count, -(-pixels // 64) * 8), np.uint8)
    words[:, : -(-pixels // 8)] = np.packbits(masks.reshape(count, pixels), axis=1)
    words = words.view(np.uint64 if _BIT_COUNT is not None else np.uint16)
    count_bits = _BIT_COUNT if _BIT_COUNT is not None else _bits_of_words().take
    common = np.empty((count, count), np.float32)
    for i in range(count):
        common[i, i:] = common[i:, i] = count_bits(words[i] & words[i:]).sum(1, dtype=np.int64)
    return common


@cache
def _bits_of_words() -> npt.NDArray[np.uint8]:
    """How many bits each number of 16 bits has."""
    return np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16).sum(1, dtype=np.uint8)


def matrix_nms(scores: Floats, labels: Rows, common: Floats, sigma: float = NMS_SIGMA) -> Floats:
    """Scores decayed by the overlap with better masks of the same label (SOLOv2, NeurIPS 2020, section 3.3).

    Args:
        scores: ``[N]``, descending.
        labels: ``[N]``.
        common: ``[N, N]``, `intersections` in the same order.
    """
    areas = common.diagonal()
    with np.errstate(invalid="ignore"):  # two empty masks
        iou = common / (areas[:, None] + areas[None] - common)
    iou = np.triu(iou * (labels[:, None] == labels[None]), 1)
    compensation = iou.max(0)
    decay = np.exp(-sigma * iou**2) / np.exp(-sigma * compensation**2)[:, None]
    return np.asarray(scores * decay.min(0), np.float32)


def without_overlaps(common: Floats) -> list[int]:
    """Rows that stay when a mask that lies by more than half in a better one that stays is removed.

    Args:
        common: ``[N, N]``, `intersections` by descending score.
    """
    covered = common > OVERLAP * common.diagonal()[None]
    stays = np.ones(len(common), np.bool_)
    for i, row in enumerate(covered):
        if stays[i]:
            stays[i + 1 :] &= ~row[i + 1 :]
    return np.flatnonzero(stays).tolist()


def suppress(found: Detections, update_threshold: float, max_instances: int) -> Detections:
    """Candidates after matrix NMS, threshold, limit and removal of overlaps."""
    if len(found) == 0:
        return found
    common = intersections(found.masks)
    scores = matrix_nms(found.scores, found.labels, common)
    order = _descending(scores)
    order = order[scores[order] >= update_threshold][:max_instances]
    rows = order[without_overlaps(common[np.ix_(order, order)])]
    return replace(found.chosen(rows), scores=scores[rows])


def encode_masks(found: Detections, size: tuple[int, int], mask_resize: str, mask_threshold: float) -> list[RunLengths]:
    """Masks at the image's size, resized bilinearly; what a mask costs follows its box, not the image.

    Args:
        found: the instances.
        size: height and width of the image.
        mask_resize: ``logits``: probabilities resized, which gives smoother edges; else, as published, the binary
            masks at network size.
        mask_threshold: of a mask's probability, for ``logits``.
    """
    out = []
    for row, marks in enumerate(zip(*occupied(found.masks))):
        if not marks[0].any():
            out.append(RunLengths(size))
            continue
        (rows, y, height), (columns, x, width) = (_meeting(part, n) for part, n in zip(marks, size))
        if mask_resize != "logits":
            dense = found.masks[row, rows, columns]
            if dense.shape != (height, width):
                dense = _resized(dense.astype(np.float32), (height, width)) >= 0.5
        else:
            (probabilities,) = mask_probabilities(found.logits[row : row + 1])
            probabilities[(probabilities > mask_threshold) & ~found.masks[row]] = 0  # parts that were left out
            dense = _resized(probabilities[rows, columns], (height, width)) > mask_threshold
        part = run_lengths.encode(dense)
        if part.area:
            left, top, width, height = part.box
            part = RunLengths(size, (x + left, y + top, width, height), part.runs)
        out.append(part if part.area else RunLengths(size))
    return out


def _meeting(marks: Masks, target: int) -> tuple[slice, int, int]:
    """Part of an axis that holds all of a mask, one pixel of margin, and ends where pixels of both sizes meet.

    Resizing that part alone gives the pixels that resizing the whole axis gives, but for rounding of positions.

    Args:
        marks: ``[n]``, where the mask has a pixel.
        target: pixels of the axis after the resize.

    Returns:
        The part before the resize, and start and length of the part after it.
    """
    meetings = gcd(len(marks), target)
    before, after = len(marks) // meetings, target // meetings
    places = np.flatnonzero(marks)
    first = max(int(places[0]) - 1, 0) // before
    last = min(-(-(int(places[-1]) + 2) // before), meetings)
    return slice(first * before, last * before), first * after, (last - first) * after


def _resized(mask: Floats, size: tuple[int, int]) -> Floats:
    return np.asarray(cv2.resize(mask, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
