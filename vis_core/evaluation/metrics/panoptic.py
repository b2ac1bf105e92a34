"""Panoptic quality of videos, from areas of overlap alone: STQ of whole videos, VPQ of windows of frames.

A segment is ``class << 16 | number``, as `vis_core.files.panoptic_images` has it: of stuff all pixels of a class, of
things those of one instance. A thing of number 0 in the ground truth is a crowd, in a result one more instance.
Sources: STQ: M. Weber et al., STEP, NeurIPS Datasets and Benchmarks 2021; VPQ: D. Kim et al., Video Panoptic
Segmentation, CVPR 2020; void and crowds: A. Kirillov et al., Panoptic Segmentation, CVPR 2019, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vis_core.data.panoptic_classes import PanopticClasses
from vis_core.files.panoptic_images import MAX_NUMBER, NUMBER_BITS, VOID

Integers = npt.NDArray[np.int64]
_SEGMENT_BITS = 8 + NUMBER_BITS


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """How many pixels each pair of a true and an answered segment has; all pixels of some frames.

    Attributes:
        truth: segments ``[N]``.
        result: segments ``[N]``; pairs are distinct.
        areas: pixels ``[N]``, over 0.
    """

    truth: Integers
    result: Integers
    areas: Integers


def frame_overlaps(truth: npt.NDArray[np.int32], result: npt.NDArray[np.int32]) -> Overlaps:
    """Those of one frame.

    Args:
        truth: segment of each pixel ``[H, W]``.
        result: segment of each pixel ``[H, W]``.
    """
    pairs = (truth.ravel().astype(np.int64) << _SEGMENT_BITS) | result.ravel()
    begins = np.concatenate(([0], np.flatnonzero(np.diff(pairs)) + 1))
    return _counted(pairs[begins], np.diff(begins, append=pairs.size))


def total(parts: Sequence[Overlaps]) -> Overlaps:
    """Those of all frames of the parts together."""
    pairs = np.concatenate([(part.truth << _SEGMENT_BITS) | part.result for part in parts])
    return _counted(pairs, np.concatenate([part.areas for part in parts]))


def _counted(pairs: Integers, areas: Integers) -> Overlaps:
    distinct, position = np.unique(pairs, return_inverse=True)
    sums = np.zeros(len(distinct), np.int64)
    np.add.at(sums, position, areas)
    return Overlaps(distinct >> _SEGMENT_BITS, distinct & ((1 << _SEGMENT_BITS) - 1), sums)


def class_areas(overlaps: Overlaps, classes: PanopticClasses) -> Integers:
    """Pixels of each true and each answered class ``[C + 1, C + 1]``, in the order of the classes, void last."""
    position = _positions(classes)
    out = np.zeros((len(classes.names) + 1,) * 2, np.int64)
    np.add.at(out, (position[overlaps.truth >> NUMBER_BITS], position[overlaps.result >> NUMBER_BITS]), overlaps.areas)
    return out


def class_ious(areas: Integers) -> npt.NDArray[np.float64]:
    """IoU of each class over pixels that are not void in the ground truth ``[C]``; -1: no pixel has it.

    Args:
        areas: as of `class_areas`.
    """
    known = areas[:-1]
    common = known.diagonal()
    union = known.sum(0)[:-1] + known.sum(1) - common
    return np.where(union > 0, common / np.maximum(union, 1), -1.0)


@dataclass(frozen=True, slots=True)
class Association:
    """How well the tracks of things are kept, whatever their class.

    Attributes:
        quality: sum over the tracks of the ground truth; AQ is its mean.
        tracks: of the ground truth.
        answered: tracks of the result.
    """

    quality: float
    tracks: int
    answered: int


def association(overlaps: Overlaps, classes: PanopticClasses) -> Association:
    """AQ of a video, before its mean is taken.

    Each true track g adds ``sum over tracks p of TPA(p, g) IoU(p, g) / |g|``, with IoU = TPA / (TPA + FPA + FNA). A
    track is a class and a number; what overlaps counts whether or not the classes agree. Pixels of crowds are left
    out; those that a result has on void or on stuff count as its FPA.

    Args:
        overlaps: of all frames of the video.
        classes: which are things.
    """
    things = _table(classes.things)
    true_thing = things[overlaps.truth >> NUMBER_BITS]
    apart = ~(true_thing & (overlaps.truth & MAX_NUMBER == 0))
    of_truth, of_result = true_thing & apart, things[overlaps.result >> NUMBER_BITS] & apart
    tracks, true_areas = _areas_where(overlaps.truth, overlaps.areas, of_truth)
    answered, areas = _areas_where(overlaps.result, overlaps.areas, of_result)
    both = of_truth & of_result
    common = overlaps.areas[both]
    size = true_areas[np.searchsorted(tracks, overlaps.truth[both])]
    union = size + areas[np.searchsorted(answered, overlaps.result[both])] - common
    return Association(float((common * (common / union) / size).sum()), len(tracks), len(answered))


@dataclass(frozen=True, slots=True, eq=False)
class TubeMatches:
    """What was matched in some windows, by class, in the order of the classes.

    Attributes:
        iou: sum of IoU of what was matched ``[C]``.
        matched: ``[C]``.
        missed: of the ground truth ``[C]``.
        wrong: of the result ``[C]``.
    """

    iou: npt.NDArray[np.float64]
    matched: Integers
    missed: Integers
    wrong: Integers

    def __add__(self, other: TubeMatches) -> TubeMatches:
        return TubeMatches(
            self.iou + other.iou,
            self.matched + other.matched,
            self.missed + other.missed,
            self.wrong + other.wrong,
        )

    @classmethod
    def none(cls, classes: PanopticClasses) -> TubeMatches:
        """Of no window."""
        count = len(classes.names)
        return cls(np.zeros(count), *(np.zeros(count, np.int64) for _ in range(3)))

    def quality(self) -> npt.NDArray[np.float64]:
        """PQ of each class ``[C]``: ``iou / (matched + missed / 2 + wrong / 2)``; -1: it occurs nowhere."""
        weight = self.matched + (self.missed + self.wrong) / 2
        return np.where(weight > 0, self.iou / np.maximum(weight, 0.5), -1.0)


def match_tubes(overlaps: Overlaps, classes: PanopticClasses) -> TubeMatches:
    """Match the tubes of a window: same class, IoU over 0.5.

    Void pixels of the ground truth are no part of a result's tube. A result without a match of which more than half
    lies on void, or on crowds of its class, is not wrong; a crowd is neither matched nor missed.

    Args:
        overlaps: of all frames of the window.
        classes: which are things.
    """
    things = _table(classes.things)
    areas = overlaps.areas
    truth, of_truth = np.unique(overlaps.truth, return_inverse=True)
    result, of_result = np.unique(overlaps.result, return_inverse=True)
    true_class, class_ = truth >> NUMBER_BITS, result >> NUMBER_BITS
    crowd = things[true_class] & (truth & MAX_NUMBER == 0)
    same = true_class[of_truth] == class_[of_result]
    on_void = true_class[of_truth] == VOID
    true_size, size = _sums(of_truth, areas), _sums(of_result, areas)
    void_area = _sums(of_result, areas * on_void)
    ignored = void_area + _sums(of_result, areas * (crowd[of_truth] & same))
    union = true_size[of_truth] + size[of_result] - void_area[of_result] - areas
    hit = same & ~crowd[of_truth] & ~on_void & (2 * areas > union)

    missed, wrong = ~crowd & (true_class != VOID), (class_ != VOID) & (2 * ignored <= size)
    missed[of_truth[hit]], wrong[of_result[hit]] = False, False
    position, count = _positions(classes), len(classes.names)
    hit_class = position[true_class[of_truth[hit]]]
    return TubeMatches(
        np.asarray(np.bincount(hit_class, areas[hit] / union[hit], count), np.float64),
        np.bincount(hit_class, minlength=count),
        np.bincount(position[true_class[missed]], minlength=count),
        np.bincount(position[class_[wrong]], minlength=count),
    )


def _sums(rows: npt.NDArray[np.intp], values: Integers) -> Integers:
    """Sums of the values of each row."""
    out = np.zeros(rows.max(initial=-1) + 1, np.int64)
    np.add.at(out, rows, values)
    return out


def _areas_where(segments: Integers, areas: Integers, where: npt.NDArray[np.bool_]) -> tuple[Integers, Integers]:
    """The distinct segments of the chosen pairs, ascending, and their areas in these."""
    distinct, rows = np.unique(segments[where], return_inverse=True)
    return distinct, _sums(rows, areas[where])


def _table(chosen: frozenset[int]) -> npt.NDArray[np.bool_]:
    """Whether a class is among the chosen ones ``[256]``."""
    out = np.zeros(VOID + 1, np.bool_)
    out[list(chosen)] = True
    return out


def _positions(classes: PanopticClasses) -> Integers:
    """Position of each class among the classes ``[256]``; that of void is their number."""
    out = np.full(VOID + 1, len(classes.names), np.int64)
    out[list(classes.names)] = np.arange(len(classes.names))
    return out
