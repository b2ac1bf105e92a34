"""Boxes and areas of a file against its masks: what is said twice must be said alike.

All pairs of a file are gathered while it is read and compared at its end. A pair that differs is told; where most that
differ do so in one way, the way is named: how the boxes were written, or how the run lengths were.

When a pair differs:

* Each edge of a box may lie 2 pixels from the mask's, or 5 % of the mask's side: the corners of polygons, rounded
  numbers, last pixels counted in or out, and boxes drawn by hand differ by so much, other mistakes by more. Of
  polygons the corners count as well as the pixels: a thin tip covers none.
* An area may differ by 10 pixels or 10 %, and that of a polygon by half the outline of its box as well: an outline and
  the pixels that it covers are not the same number, and neither are COCO's areas of masks that were encoded later.
* Crowds, null, missing masks and boxes of zeros say nothing.
* Boxes of results may be predictions of their own: each edge may lie 4 pixels away, or a quarter of the side, and what
  differs is told only where one cause explains half of all.

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
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from vis_core.files.findings import is_number, shown
from vis_core.files.polygons import read_polygons
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
from vis_core.files.segmentations import Areas, Masks, Notes

_DRAWN, _PREDICTED = (2.0, 0.05), (4.0, 0.25)  # pixels, and part of the side, that an edge may be away
_NAMED_SHARE = 0.5
_FROM_ONE_SHARE = 0.9
_REFUSED_SHARE, _RIGHT_SHARE = 0.8, 0.1
_BATCH = 4096  # masks whose boxes are found at once


class _Pair(NamedTuple):
    """What is stated of one mask, which is complete when the file has been read."""

    masks: Masks
    areas: Areas
    frame: int
    size: tuple[int, int]
    entry: str
    segmentation: Any
    stated: Any
    key: str

    @property
    def text(self) -> bytes | None:
        """The mask, as compressed run lengths."""
        return self.masks[self.frame]

    @property
    def told_frame(self) -> int | None:
        """The frame, where the annotation may have others."""
        return self.frame if self.key in ("bboxes", "areas") else None

    @property
    def runs(self) -> bool:
        """Whether the file gives it as run lengths."""
        return not isinstance(self.segmentation, list)


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
        self._boxes: list[_Pair] = []
        self._areas: list[_Pair] = []

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
        for pairs, keys in ((self._boxes, ("bboxes", "bbox")), (self._areas, ("areas", "area"))):
            key = keys[0] if annotation.get(keys[0]) is not None or len(masks) > 1 else keys[1]
            stated = annotation.get(key)
            if stated is None:
                continue
            if key == keys[1]:
                stated = [stated]
            if not isinstance(stated, (list, tuple)) or len(stated) != len(masks):
                self._leave(key, stated, "not one a frame", entry)
                continue
            for frame, (value, segmentation) in enumerate(zip(stated, segmentations, strict=False)):
                if value is not None:
                    pairs.append(_Pair(masks, areas, frame, size, entry, segmentation, value, key))

    def finish(self) -> str:
        """Compare all; the reason why the file must be refused, or nothing."""
        boxes = [pair for pair in self._boxes if pair.areas[pair.frame] > 0 and self._is_box(pair)]
        areas = [pair for pair in self._areas if self._is_area(pair)]
        self._boxes, self._areas = [], []
        if areas:
            self._compare_areas(areas)
        return self._compare_boxes(boxes) if boxes else ""

    def _is_box(self, pair: _Pair) -> bool:
        """Whether a box can be compared; one of zeros says nothing."""
        box = pair.stated
        if isinstance(box, (list, tuple)) and len(box) == 4 and all(map(is_number, box)):
            return any(box)
        if not (isinstance(box, (list, tuple)) and not box):
            self._leave(pair.key, box, "not four numbers", pair.entry, pair.told_frame)
        return False

    def _is_area(self, pair: _Pair) -> bool:
        if is_number(pair.stated):
            return not pair.segmentation or bool(pair.areas[pair.frame] >= 0)
        self._leave(pair.key, pair.stated, "not a number", pair.entry, pair.told_frame)
        return False

    def _leave(self, key: str, stated: Any, fault: str, entry: str, frame: int | None = None) -> None:
        if not self._predicted:
            text = f"{key} {shown(stated)}: {fault}; not compared with the masks"
            self._notes.warn(f"{key} not compared", entry, text, frame=frame)

    def _compare_areas(self, pairs: list[_Pair]) -> None:
        total = len(pairs)
        more: Floats | float = 0.0
        for _ in range(2):  # polygons may differ by more, which is looked at only where it is needed
            stated = np.array([pair.stated for pair in pairs], np.float64)
            measured = np.array([max(pair.areas[pair.frame], 0) for pair in pairs], np.float64)
            pairs = [pairs[row] for row in np.flatnonzero(~near_areas(stated, measured, more))]
            extents = _mask_boxes(pairs)
            more = np.where([pair.runs for pair in pairs], 0, extents[:, 2] + extents[:, 3])
        if not pairs:
            return
        stated = np.array([pair.stated for pair in pairs], np.float64)
        measured = np.array([max(pair.areas[pair.frame], 0) for pair in pairs], np.float64)
        cause, explained = self._best(area_causes(stated, measured, extents, _sizes(pairs)), total)
        for row, pair in enumerate(pairs):
            text = f"{pair.key} says {stated[row]:g}, the mask has {measured[row]:g} pixels"
            use = "; areas decides the size range" if self._areas_decide else ""
            self._tell(pair, text, cause if explained[row] else "", use)

    def _compare_boxes(self, pairs: list[_Pair]) -> str:
        given = np.array([pair.stated for pair in pairs], np.float64)
        runs = np.array([pair.runs for pair in pairs])
        tolerance = _PREDICTED if self._predicted else _DRAWN
        boxes = Boxes(given, _mask_boxes(pairs), _sizes(pairs), runs, *tolerance)
        fits = boxes.fit(given)
        outlined = np.flatnonzero(~fits & ~runs)
        if outlined.size:
            corners = np.array([_outline_box(pairs[row]) for row in outlined.tolist()])
            fits[outlined] = boxes.rows(outlined).fit(given[outlined], corners)
        if not self._predicted:
            self._tell_from_one(pairs, boxes)
        if fits.all():
            return ""
        rows = np.flatnonzero(~fits)
        differing, differ = [pairs[row] for row in rows.tolist()], boxes.rows(rows)
        read = readings(differ, _mask_boxes(differing, swapped=True))
        counted = boxes.tell_readings()
        refusal = _refusal(differing, differ, read, int(counted.sum()), int((counted & fits).sum()))
        if refusal:
            return refusal
        cause, explained = self._best(read + writings(differ), len(pairs))
        named = f"{cause} ({explained.sum()} of {len(pairs)} boxes)"
        for row, pair in enumerate(differing):
            self._tell(pair, _against(pair, differ.extents[row]), named if explained[row] else "")
        return ""

    def _best(self, causes: Causes, total: int) -> tuple[str, Flags]:
        """The cause that explains most, the first of equals, and what it explains; nothing if that is too little."""
        text, explained = max(causes, key=lambda cause: int(cause[1].sum()))
        if explained.sum() < _NAMED_SHARE * (total if self._predicted else explained.size):
            return "", np.zeros_like(explained)
        return text, explained

    def _tell(self, pair: _Pair, text: str, cause: str, use: str = "") -> None:
        if cause or not self._predicted:
            kind = f"{pair.key} unlike the mask" + (f": {cause}" if cause else "")
            text += (f"; {cause}" if cause else "") + use
            self._notes.warn(kind, pair.entry, text, frame=pair.told_frame)

    def _tell_from_one(self, pairs: list[_Pair], boxes: Boxes) -> None:
        shifted = boxes.runs & (np.abs(boxes.given - boxes.extents - (1, 1, 0, 0)) < 0.01).all(axis=1)
        if boxes.runs.sum() < FACTOR_PAIRS or shifted.sum() < _FROM_ONE_SHARE * boxes.runs.sum():
            return
        for row in np.flatnonzero(shifted).tolist():
            text = f"{_against(pairs[row], boxes.extents[row])}; the boxes look counted from 1, COCO's are from 0"
            self._notes.warn(f"{pairs[row].key} counted from 1", pairs[row].entry, text, frame=pairs[row].told_frame)


def _refusal(pairs: list[_Pair], boxes: Boxes, read: Causes, total: int, right: int) -> str:
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
        first = int(np.flatnonzero(explained)[0])
        pair, example = pairs[first], _against(pairs[first], boxes.extents[first])
        frame = "" if pair.told_frame is None else f" frame {pair.frame}"
        advice = "Write the masks anew: encode them as pycocotools.mask.encode(numpy.asfortranarray(mask)) does"
        if cause == TURNED:
            advice = "Write height and width as the images have them, in the masks too"
        return (
            f"{explained.sum()} of {total} masks contradict their boxes: {cause}. {pair.entry}{frame}: "
            f"{example}. {advice}; or, if the masks are right, take {pair.key} out of the file"
        )
    return ""


def _sizes(pairs: list[_Pair]) -> Floats:
    return np.array([pair.size for pair in pairs], np.float64)


def _mask_boxes(pairs: list[_Pair], *, swapped: bool = False) -> Floats:
    """Boxes x, y, width, height ``[N, 4]`` of masks, zeros where there is none; as if height and width were swapped."""
    boxes = np.zeros((len(pairs), 4))
    rows = [row for row, pair in enumerate(pairs) if pair.text is not None]
    for begin in range(0, len(rows), _BATCH):
        part = rows[begin : begin + _BATCH]
        step = -1 if swapped else 1
        boxes[part] = coco_mask.toBbox([{"size": pairs[row].size[::step], "counts": pairs[row].text} for row in part])
    return boxes


def _outline_box(pair: _Pair) -> Floats:
    """Box of the corners of polygons, ``[4]``: tips that cover no pixel are within it."""
    polygons = read_polygons(pair.segmentation, pair.size)
    parts = [] if isinstance(polygons, str) else polygons.parts
    points = np.array(list(chain.from_iterable(parts)), np.float64).reshape(-1, 2).clip(0, pair.size[::-1])
    low = points.min(axis=0, initial=np.inf)
    return np.concatenate((low, points.max(axis=0, initial=-np.inf) - low))


def _against(pair: _Pair, extent: Floats) -> str:
    return f"{pair.key} {shown(list(pair.stated))}, but the mask's box is {[int(value) for value in extent]}"
