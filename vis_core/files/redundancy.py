"""Boxes and areas of a file against its masks: what is said twice must be said alike.

All pairs of a file are gathered while it is read and compared at its end. A pair that differs is told; where most that
differ do so in one way, the way is named: how the boxes were written, or how the run lengths were.

When a pair differs:

* Each edge of a box may lie 2 pixels from the mask's, or 5 % of the mask's side: the corners of polygons, rounded
  numbers, last pixels counted in or out, and boxes drawn by hand differ by so much, other mistakes by more. Of
  polygons the corners count as well as the pixels: a thin tip covers none.
* An area may differ by 10 pixels or 10 %: an outline and the pixels that it covers are not the same number. Of polygons
  the sum of what the outlines hold counts as well as the pixels: parts overlap, and thin ones cover few.
* Crowds, null, missing masks and boxes of zeros say nothing.
* Boxes of results may be predictions of their own: if nothing is found, each edge may lie 4 pixels away, or a quarter
  of the side, and what differs is told only where one cause explains half of all.

When the cause is named, and the file refused:

* A cause is named where it explains half of the pairs that differ, or more; a factor, which is taken from the pairs
  themselves, needs three of them that differ.
* Boxes from 1 differ by less than the tolerance: nine tenths of three boxes or more must differ by just that.
* Run lengths taken row by row, and height and width of the image swapped, give other pixels: no score or training on
  them is worth anything. By chance a mask that was read wrongly hardly ever fits its box. Where four fifths of the
  boxes fit that reading, and a tenth at most the right one, the file is refused. Boxes of nearly the whole image do
  not count, they fit any reading; nor do square images, where both mistakes look like boxes with x and y swapped:
  that may be, and is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from vis_core.files.findings import is_number, shown
from vis_core.files.redundancy_causes import (
    FACTOR_PAIRS,
    TURNED,
    Boxes,
    Causes,
    Flags,
    Floats,
    area_causes,
    near_areas,
    readings,
    writings,
)
from vis_core.files.redundancy_pairs import Pairs, Statement
from vis_core.files.segmentations import Areas, Masks, Notes

_DRAWN, _PREDICTED = (2.0, 0.05), (4.0, 0.25)  # pixels, and part of the side, that an edge may be away
_NAMED_SHARE = 0.5
_FROM_ONE_SHARE = 0.9
_REFUSED_SHARE, _RIGHT_SHARE = 0.8, 0.1
_MOST = 1e12  # greater numbers are as wrong, and can be multiplied


class Redundancy:
    """Compares the boxes and areas of one file with its masks.

    Args:
        notes: where differences are told.
        areas_decide: the stated areas decide the size ranges of the scores.
        predicted: the file holds results.
    """

    def __init__(self, notes: Notes, *, areas_decide: bool = False, predicted: bool = False) -> None:
        self._notes = notes
        self._areas_decide = areas_decide
        self._predicted = predicted
        self._boxes: list[Statement] = []
        self._areas: list[Statement] = []

    def add(
        self,
        annotation: Mapping[str, Any],
        segmentations: Sequence[Any],
        masks: Masks,
        areas: Areas,
        size: tuple[int, int],
        entry: str,
    ) -> None:
        """Gather what an annotation states.

        Args:
            annotation: with ``bboxes`` and ``areas`` of all frames, or ``bbox`` and ``area`` of its only one.
            segmentations: of each frame, as the file has them.
            masks: of each frame, as a `SegmentationReader` gives them; complete before ``finish``.
            areas: int64 ``[frames]``, of the masks, likewise.
            size: height and width of the image, pixels.
            entry: the annotation, for messages.
        """
        if annotation.get("iscrowd"):
            return
        for statements, keys in ((self._boxes, ("bboxes", "bbox")), (self._areas, ("areas", "area"))):
            key = keys[0] if annotation.get(keys[0]) is not None or len(masks) > 1 else keys[1]
            stated = annotation.get(key)
            if stated is None:
                continue
            if key == keys[1]:
                stated = [stated]
            if not isinstance(stated, (list, tuple)) or len(stated) != len(masks):
                self._leave(key, stated, "not one a frame", entry)
            else:
                statements.append(Statement(key, stated, segmentations, masks, areas, size, entry))

    def finish(self) -> str:
        """Compare all; the reason why the file must be refused, or nothing."""
        boxes, areas = self._boxes, self._areas
        self._boxes, self._areas = [], []
        if areas:
            self._compare_areas(Pairs.of(areas))
        return self._compare_boxes(Pairs.of(boxes)) if boxes else ""

    def _leave(self, key: str, stated: Any, fault: str, entry: str, frame: int | None = None) -> None:
        if not self._predicted:
            text = f"{key} {shown(stated)}: {fault}; not compared with the masks"
            self._notes.warn(f"{key} not compared", entry, text, frame=frame)

    def _left(self, pairs: Pairs, fault: str) -> None:
        for row, value in enumerate(pairs.of_each("stated")):
            self._leave(pairs.key(row), value, fault, *pairs.place(row))

    def _compare_areas(self, pairs: Pairs) -> None:
        values = pairs.of_each("stated")
        # A mask that was given and not read is told elsewhere.
        readable = (pairs.areas >= 0) | [not segmentation for segmentation in pairs.of_each("segmentations")]
        number = np.array([is_number(value) for value in values], np.bool_)
        told = readable & ~number & [value is not None for value in values]
        self._left(pairs.rows(np.flatnonzero(told)), "not a number")
        pairs = pairs.rows(np.flatnonzero(readable & number))
        total = len(pairs)
        stated = np.array(pairs.of_each("stated"), np.float64).clip(-_MOST, _MOST)
        measured = np.maximum(pairs.areas, 0).astype(np.float64)
        differ = np.flatnonzero(~near_areas(stated, measured))
        outlined = differ[~pairs.rows(differ).runs]
        near = near_areas(stated[outlined], pairs.rows(outlined).outline_areas())
        differ = np.setdiff1d(differ, outlined[near])
        if not differ.size:
            return
        pairs, stated, measured = pairs.rows(differ), stated[differ], measured[differ]
        cause, explained = self._best(area_causes(stated, measured, pairs.mask_boxes(), pairs.sizes), total)
        use = "; areas decides the size range" if self._areas_decide else ""
        for row in range(len(pairs)):
            text = f"{pairs.key(row)} says {stated[row]:g}, the mask has {measured[row]:g} pixels"
            self._tell(pairs, row, text, cause if explained[row] else "", use)

    def _compare_boxes(self, pairs: Pairs) -> str:
        pairs, given = self._usable_boxes(pairs.rows(pairs.areas > 0))
        boxes = Boxes(given, pairs.mask_boxes(), pairs.sizes, pairs.runs, _DRAWN)
        if not self._predicted:
            self._tell_from_one(pairs, boxes)
            return self._judge(pairs, boxes)[0]
        # Many results have the boxes of their masks; only others need the tolerance of a prediction.
        refusal, told = self._judge(pairs, boxes)
        return refusal if told else self._judge(pairs, replace(boxes, tolerance=_PREDICTED))[0]

    def _judge(self, pairs: Pairs, boxes: Boxes) -> tuple[str, bool]:
        """Tell the boxes that differ; the reason to refuse the file, and whether anything was told."""
        fits = boxes.fit(boxes.given)
        outlined = np.flatnonzero(~fits & ~boxes.runs)
        fits[outlined] = boxes.rows(outlined).fit(boxes.given[outlined], pairs.rows(outlined).corner_boxes())
        rows = np.flatnonzero(~fits)
        if not rows.size:
            return "", False
        differing, differ, total = pairs.rows(rows), boxes.rows(rows), len(pairs)
        read = readings(differ, differing.mask_boxes(swapped=True))
        counted = boxes.tell_readings()
        refusal = _refusal(differing, differ, read, int(counted.sum()), int((counted & fits).sum()))
        if refusal:
            return refusal, True
        cause, explained = self._best(read + writings(differ), total)
        named = f"{cause} ({explained.sum()} of {total} boxes)"
        for row in range(len(differing)):
            self._tell(differing, row, _against(differing, row, differ), named if explained[row] else "")
        return "", bool(cause)

    def _usable_boxes(self, pairs: Pairs) -> tuple[Pairs, Floats]:
        """Those with boxes of four numbers, and these ``[N, 4]``; boxes of zeros say nothing."""
        values = pairs.of_each("stated")
        plain = set(map(type, values)) == {list} and set(map(len, values)) == {4}
        if not plain or set(map(type, chain.from_iterable(values))) != {float}:
            good = np.array(
                [isinstance(v, (list, tuple)) and len(v) == 4 and all(map(is_number, v)) for v in values], np.bool_
            )
            told = np.array([v is not None and not (isinstance(v, (list, tuple)) and not v) for v in values], np.bool_)
            self._left(pairs.rows(np.flatnonzero(told & ~good)), "not four numbers")
            pairs = pairs.rows(good)
            values = pairs.of_each("stated")
        given = np.array(values, np.float64).reshape(-1, 4)
        finite = np.isfinite(given).all(axis=1)
        self._left(pairs.rows(np.flatnonzero(~finite)), "not four numbers")
        kept = np.flatnonzero(finite & given.any(axis=1))
        return pairs.rows(kept), given[kept].clip(-_MOST, _MOST)

    def _best(self, causes: Causes, total: int) -> tuple[str, Flags]:
        """The cause that explains most, the first of equals, and what it explains; nothing if that is too little."""
        text, explained = max(causes, key=lambda cause: int(cause[1].sum()))
        if explained.sum() < _NAMED_SHARE * (total if self._predicted else explained.size):
            return "", np.zeros_like(explained)
        return text, explained

    def _tell(self, pairs: Pairs, row: int, text: str, cause: str, use: str = "") -> None:
        if cause or not self._predicted:
            entry, frame = pairs.place(row)
            kind = f"{pairs.key(row)} unlike the mask" + (f": {cause}" if cause else "")
            self._notes.warn(kind, entry, text + (f"; {cause}" if cause else "") + use, frame=frame)

    def _tell_from_one(self, pairs: Pairs, boxes: Boxes) -> None:
        shifted = boxes.runs & (np.abs(boxes.given - boxes.extents - (1, 1, 0, 0)) < 0.01).all(axis=1)
        if boxes.runs.sum() < FACTOR_PAIRS or shifted.sum() < _FROM_ONE_SHARE * boxes.runs.sum():
            return
        for row in np.flatnonzero(shifted).tolist():
            entry, frame = pairs.place(row)
            text = f"{_against(pairs, row, boxes)}; the boxes look counted from 1, COCO's are from 0"
            self._notes.warn(f"{pairs.key(row)} counted from 1", entry, text, frame=frame)


def _refusal(pairs: Pairs, boxes: Boxes, read: Causes, total: int, right: int) -> str:
    """Why a file must be refused: its masks fit their boxes only when they are read otherwise.

    Args:
        pairs: those that differ.
        boxes: of them.
        read: which of them fit another reading.
        total: boxes of the file that can tell one reading from another.
        right: those of them that fit their masks as they are.
    """
    for cause, explained in read:
        if not explained.any() or explained.sum() < _REFUSED_SHARE * total or right > _RIGHT_SHARE * total:
            continue
        row = int(np.flatnonzero(explained)[0])
        entry, frame = pairs.place(row)
        place = entry if frame is None else f"{entry} frame {frame}"
        advice = "Write the masks anew: encode them as pycocotools.mask.encode(numpy.asfortranarray(mask)) does"
        if cause == TURNED:
            advice = "Write height and width as the images have them, in the masks too"
        return (
            f"{explained.sum()} of {total} masks contradict their boxes: {cause}. {place}: "
            f"{_against(pairs, row, boxes)}. {advice}; or, if they are right, take {pairs.key(row)} out of the file"
        )
    return ""


def _against(pairs: Pairs, row: int, boxes: Boxes) -> str:
    return f"{pairs.stated(row)}, but the mask's box is {[int(value) for value in boxes.extents[row]]}"
