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

When the cause is named, and the file refused:

* A cause is named where it explains half of the pairs that differ, or more; a factor, which is taken from the pairs
  themselves, needs three of them.
* Boxes from 1 differ by less than the tolerance: nine tenths of three boxes or more must differ by just that.
* Run lengths taken row by row, and height and width of the image swapped, give other pixels: no score or training on
  them is worth anything. By chance a mask that was read wrongly hardly ever fits its box. Where four fifths of the
  boxes fit that reading, and a tenth at most the right one, the file is refused. Boxes of nearly the whole image do
  not count, they fit any reading; nor do square images, where both mistakes look like boxes with x and y swapped:
  that may be, and is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from vis_core.files.findings import is_number, shown
from vis_core.files.polygons import read_polygons
from vis_core.files.segmentations import Areas, Masks, Notes

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_EDGE_PIXELS, _EDGE_SHARE = 2.0, 0.05
_AREA_PIXELS, _AREA_SHARE = 10.0, 0.1
_NAMED_SHARE = 0.5
_FACTOR_PAIRS = 3
_FROM_ONE_SHARE = 0.9
_REFUSED_SHARE, _RIGHT_SHARE = 0.8, 0.1
_WHOLE = 0.9
_BATCH = 4096  # masks whose boxes are found at once

_ROWS = "the run lengths look taken row by row, COCO's go column by column"
_TURNED = "height and width of the images look swapped"
_SWAPPED = "x and y look swapped"
_SQUARE = " in the boxes, or run lengths taken row by row: in square images both look alike"
_LAYOUTS: dict[str, Callable[[Floats], Floats]] = {
    "": lambda b: b,
    "x1, y1, x2, y2": lambda b: np.column_stack((b[:, :2], b[:, 2:] - b[:, :2])),
    "y, x, height, width": lambda b: b[:, [1, 0, 3, 2]],
    "y1, x1, y2, x2": lambda b: np.column_stack((b[:, [1, 0]], b[:, [3, 2]] - b[:, [1, 0]])),
    "centre x, centre y, width, height": lambda b: np.column_stack((b[:, :2] - b[:, 2:] / 2, b[:, 2:])),
}


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
    def runs(self) -> bool:
        """Whether the file gives it as run lengths."""
        return not isinstance(self.segmentation, list)


class Redundancy:
    """Compares the boxes and areas of one file with its masks.

    Args:
        notes: where differences are told.
        areas_decide: the stated areas decide the size ranges of the scores.
    """

    def __init__(self, notes: Notes, *, areas_decide: bool = False) -> None:
        self._notes = notes
        self._areas_decide = areas_decide
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
                text = f"{key} {shown(stated)}, not one a frame; not compared with the masks"
                self._notes.warn(f"{key} not compared", entry, text)
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
        if box not in ([], ()):
            text = f"{pair.key} {shown(box)} is not four numbers; not compared with the mask"
            self._notes.warn(f"{pair.key} not compared", pair.entry, text, frame=pair.frame)
        return False

    def _is_area(self, pair: _Pair) -> bool:
        if is_number(pair.stated):
            return not pair.segmentation or bool(pair.areas[pair.frame] >= 0)
        text = f"{pair.key} {shown(pair.stated)} is not a number; not compared with the mask"
        self._notes.warn(f"{pair.key} not compared", pair.entry, text, frame=pair.frame)
        return False

    def _compare_areas(self, pairs: list[_Pair]) -> None:
        stated = np.array([pair.stated for pair in pairs], np.float64)
        measured = np.array([max(pair.areas[pair.frame], 0) for pair in pairs], np.float64)
        differs = np.flatnonzero(~_near(stated, measured))
        if not differs.size:
            return
        pairs = [pairs[row] for row in differs]
        stated, measured = stated[differs], measured[differs]
        extents = _mask_boxes(pairs)
        outlines = np.where([pair.runs for pair in pairs], 0, extents[:, 2] + extents[:, 3])
        differs = np.flatnonzero(~_near(stated, measured, outlines))
        if not differs.size:
            return
        pairs = [pairs[row] for row in differs]
        stated, measured, extents = stated[differs], measured[differs], extents[differs]
        pixels = _sizes(pairs).prod(axis=1)
        there = measured > 0
        causes = [
            ("the areas look like width x height of the boxes", there & _near(stated, extents[:, 2] * extents[:, 3])),
            ("the areas look like parts of the image, not pixels", there & _near(stated * pixels, measured)),
        ]
        if there.sum() >= _FACTOR_PAIRS:
            factor = np.median(stated[there] / measured[there])
            near = there & _near(stated / max(factor, 1e-9), measured)
            causes.append((f"the areas look scaled by {factor:.3g}", near))
        cause, explained = _best(causes)
        for row, pair in enumerate(pairs):
            text = f"{pair.key} says {stated[row]:g}, the mask has {measured[row]:g} pixels"
            text += f"; {cause}" if explained[row] else ""
            text += "; areas decides the size range" if self._areas_decide else ""
            kind = f"{pair.key} unlike the mask"
            self._notes.warn(f"{kind}: {cause}" if explained[row] else kind, pair.entry, text, frame=pair.frame)

    def _compare_boxes(self, pairs: list[_Pair]) -> str:
        given = np.array([pair.stated for pair in pairs], np.float64)
        extents, sizes = _mask_boxes(pairs), _sizes(pairs)
        fits = _fit(given, extents, sizes)
        self._tell_from_one(pairs, given, extents)
        outlines = np.array([row for row in np.flatnonzero(~fits).tolist() if not pairs[row].runs], np.int64)
        if outlines.size:
            corners = np.array([_outline_box(pairs[row]) for row in outlines.tolist()])
            fits[outlines] = _fit(given[outlines], corners, sizes[outlines])
        if fits.all():
            return ""
        rows = np.flatnonzero(~fits)
        differing = [pairs[row] for row in rows]
        readings = _other_readings(differing, given[rows], sizes[rows])
        refusal = self._refusal(pairs, fits, given, extents, sizes, readings)
        if refusal:
            return refusal
        causes = readings + _box_causes(given[rows], extents[rows], sizes[rows])
        cause, explained = _best(causes)
        square = np.array([pair.runs for pair in differing]) & (sizes[rows, 0] == sizes[rows, 1])
        if cause == _SWAPPED and square[explained].all():
            cause += _SQUARE
        many = f" ({explained.sum()} of {len(pairs)} boxes)"
        kind = f"{pairs[0].key} unlike the mask"
        for row, pair, named in zip(rows.tolist(), differing, explained.tolist(), strict=True):
            text = _against(pair, extents[row]) + (f"; {cause}{many}" if named else "")
            self._notes.warn(f"{kind}: {cause}" if named else kind, pair.entry, text, frame=pair.frame)
        return ""

    def _tell_from_one(self, pairs: list[_Pair], given: Floats, extents: Floats) -> None:
        runs = np.array([pair.runs for pair in pairs])
        shifted = runs & (np.abs(given - extents - (1, 1, 0, 0)) < 0.01).all(axis=1)
        if runs.sum() < _FACTOR_PAIRS or shifted.sum() < _FROM_ONE_SHARE * runs.sum():
            return
        for row in np.flatnonzero(shifted).tolist():
            pair = pairs[row]
            text = f"{_against(pair, extents[row])}; their pixels look counted from 1, COCO's are from 0"
            self._notes.warn(f"{pair.key} counted from 1", pair.entry, text, frame=pair.frame)

    def _refusal(
        self,
        pairs: list[_Pair],
        fits: Flags,
        given: Floats,
        extents: Floats,
        sizes: Floats,
        readings: list[tuple[str, Flags]],
    ) -> str:
        """Why the file must be refused: its masks fit their boxes only when they are read otherwise."""
        counted = np.array([pair.runs for pair in pairs]) & (sizes[:, 0] != sizes[:, 1]) & ~_whole(given, sizes)
        total, right = int(counted.sum()), int((counted & fits).sum())
        for cause, explained in readings:
            other = np.flatnonzero(~fits)[explained]
            if not other.size or other.size < _REFUSED_SHARE * total or right > _RIGHT_SHARE * total:
                continue
            first = int(other[0])
            pair = pairs[first]
            frame = f" frame {pair.frame}" if pair.key == "bboxes" else ""
            advice = "encode them as pycocotools.mask.encode(numpy.asfortranarray(mask)) does"
            if cause == _TURNED:
                advice = "write height and width as the images have them"
            return (
                f"{other.size} of {total} masks contradict their boxes: {cause}. {pair.entry}{frame}: "
                f"{_against(pair, extents[first])}. Write the masks anew: {advice}; or, if they are right, take "
                f"{pair.key} out of the file"
            )
        return ""


def _other_readings(pairs: list[_Pair], given: Floats, sizes: Floats) -> list[tuple[str, Flags]]:
    """Mistakes in run lengths, and which boxes fit the masks that are meant."""
    possible = np.array([pair.runs for pair in pairs]) & (sizes[:, 0] != sizes[:, 1])
    extents = _mask_boxes(pairs, swapped=True)
    by_rows = possible & ~_whole(given, sizes) & _fit(given, extents[:, [1, 0, 3, 2]], sizes)
    turned = possible & ~_whole(given, sizes[:, ::-1]) & _fit(given, extents, sizes[:, ::-1])
    return [(_ROWS, by_rows), (_TURNED, turned)]


def _box_causes(given: Floats, extents: Floats, sizes: Floats) -> list[tuple[str, Flags]]:
    """Ways to write boxes that are not COCO's, the simple ones first, and which boxes fit each."""
    image = sizes[:, [1, 0, 1, 0]]
    scales: list[tuple[str, Floats | None]] = [("", np.ones_like(image))]
    scales += [("in parts of the image (0 to 1)", image), ("in percent of the image", image / 100), ("scaled", None)]
    causes = []
    for scale, factors in scales:
        for layout, written in _LAYOUTS.items():
            if not (scale or layout):
                continue
            boxes = written(given)
            if factors is not None:
                text = _SWAPPED if layout.startswith("y, x") and not scale else _as(layout, scale)
                causes.append((text, _fit(boxes * factors, extents, sizes)))
            elif len(boxes) >= _FACTOR_PAIRS and (boxes[:, 2:] > 0).all():
                sides = extents[:, 2:] / boxes[:, 2:]
                x, y = np.median(sides, axis=0)
                fit = _fit(boxes * (x, y, x, y), extents, sizes)
                causes.append((_as(layout, f"scaled by {1 / x:.3g} in x and {1 / y:.3g} in y"), fit))
                width, height = np.median(sizes[:, ::-1] / sides, axis=0)
                fit = _fit(boxes * image / (width, height, width, height), extents, sizes)
                causes.append((_as(layout, f"in pixels of images of {width:.0f}x{height:.0f}"), fit))
    return causes


def _as(layout: str, scale: str) -> str:
    written = f"written as {layout}" if layout else ""
    return f"the boxes look {' and '.join(part for part in (written, scale) if part)}"


def _best(causes: list[tuple[str, Flags]]) -> tuple[str, Flags]:
    """The cause that explains most, the first of equals, and what it explains; no text if that is too little."""
    text, explained = max(causes, key=lambda cause: int(cause[1].sum()))
    if explained.sum() < _NAMED_SHARE * explained.size:
        return "", np.zeros_like(explained)
    return text, explained


def _near(stated: Floats, measured: Floats, more: Floats | float = 0.0) -> Flags:
    """Whether areas are alike."""
    near: Flags = np.abs(stated - measured) <= np.maximum(_AREA_PIXELS, _AREA_SHARE * measured) + more
    return near


def _fit(boxes: Floats, extents: Floats, sizes: Floats) -> Flags:
    """Whether boxes are those of masks; what leaves the image does not count."""
    width, height = sizes[:, 1], sizes[:, 0]
    limits = np.column_stack((width, height, width, height))
    edges = np.column_stack((boxes[:, :2], boxes[:, :2] + boxes[:, 2:])).clip(0, limits)
    wanted = np.column_stack((extents[:, :2], extents[:, :2] + extents[:, 2:]))
    allowed = np.maximum(_EDGE_PIXELS, _EDGE_SHARE * extents[:, [2, 3, 2, 3]])
    near: Flags = np.all(np.abs(edges - wanted) <= allowed, axis=1)
    return near


def _whole(boxes: Floats, sizes: Floats) -> Flags:
    """Boxes of nearly the whole image."""
    whole: Flags = np.all(boxes[:, 2:] >= _WHOLE * sizes[:, ::-1], axis=1)
    return whole


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
