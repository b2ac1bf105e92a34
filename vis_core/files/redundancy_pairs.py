"""What a file states of its masks, one number or box a mask, beside the masks that were read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from vis_core.files.findings import shown
from vis_core.files.polygons import Polygons, outline_area, read_polygons
from vis_core.files.redundancy_causes import Flags, Floats
from vis_core.files.segmentations import Areas, Masks

Rows = npt.NDArray[np.int64]
_BATCH = 4096  # masks whose boxes are found at once


class Statement(NamedTuple):
    """What an annotation states of its frames; its masks are complete when the file has been read."""

    key: str
    stated: Sequence[Any]
    segmentations: Sequence[Any]
    masks: Masks
    areas: Areas
    size: tuple[int, int]
    entry: str


@dataclass(frozen=True)
class Pairs:
    """Stated values and masks, one row a frame of an annotation.

    Attributes:
        statements: of the annotations.
        owners: int64 ``[N]``, whose value it is.
        frames: int64 ``[N]``, of which frame.
    """

    statements: Sequence[Statement]
    owners: Rows
    frames: Rows

    @classmethod
    def of(cls, statements: Sequence[Statement]) -> Pairs:
        """All frames of all annotations."""
        counts = np.array([len(statement.masks) for statement in statements], np.int64)
        owners = np.repeat(np.arange(counts.size), counts)
        return cls(statements, owners, np.arange(owners.size) - np.repeat(counts.cumsum() - counts, counts))

    def __len__(self) -> int:
        return self.owners.size

    def rows(self, which: Rows | Flags) -> Pairs:
        """Some of them."""
        return Pairs(self.statements, self.owners[which], self.frames[which])

    def of_each(self, name: str) -> list[Any]:
        """Of each row its item of a list that the statements have: ``stated``, ``segmentations`` or ``masks``."""
        lists = [getattr(statement, name) for statement in self.statements]
        return [lists[owner][frame] for owner, frame in zip(self.owners.tolist(), self.frames.tolist(), strict=True)]

    @property
    def areas(self) -> npt.NDArray[np.int64]:
        """Pixels of the masks ``[N]``; below 0: none."""
        counts = np.array([statement.areas.size for statement in self.statements])
        starts = counts.cumsum() - counts
        areas: npt.NDArray[np.int64] = np.concatenate([statement.areas for statement in self.statements])
        return areas[starts[self.owners] + self.frames]

    @property
    def sizes(self) -> Floats:
        """Height and width of the images ``[N, 2]``."""
        sizes: Floats = np.array([statement.size for statement in self.statements], np.float64)[self.owners]
        return sizes

    @property
    def runs(self) -> Flags:
        """Whether the masks are given as run lengths ``[N]``."""
        return np.array(
            [not isinstance(segmentation, list) for segmentation in self.of_each("segmentations")], np.bool_
        )

    def mask_boxes(self, *, swapped: bool = False) -> Floats:
        """Boxes x, y, width, height ``[N, 4]`` of the masks, zeros where there is none.

        Args:
            swapped: as if height and width of the images were swapped.
        """
        boxes = np.zeros((len(self), 4))
        texts = self.of_each("masks")
        sizes = [statement.size[:: -1 if swapped else 1] for statement in self.statements]
        owners = self.owners.tolist()
        there = [row for row, text in enumerate(texts) if text is not None]
        for begin in range(0, len(there), _BATCH):
            part = there[begin : begin + _BATCH]
            boxes[part] = coco_mask.toBbox([{"size": sizes[owners[row]], "counts": texts[row]} for row in part])
        return boxes

    def _outlines(self) -> list[list[list[float]]]:
        """The polygons of each row."""
        owners = self.owners.tolist()
        read = [s and read_polygons(s, self.statements[o].size) for s, o in zip(self.of_each("segmentations"), owners)]
        return [polygons.parts if isinstance(polygons, Polygons) else [] for polygons in read]

    def corner_boxes(self) -> Floats:
        """Boxes ``[N, 4]`` of the corners of polygons: tips that cover no pixel are within them."""
        boxes = np.zeros((len(self), 4))
        for row, (parts, (height, width)) in enumerate(zip(self._outlines(), self.sizes.tolist(), strict=True)):
            if parts:
                points = np.array(list(chain.from_iterable(parts))).reshape(-1, 2).clip(0, (width, height))
                low = points.min(axis=0)
                boxes[row] = *low, *(points.max(axis=0) - low)
        return boxes

    def outline_areas(self) -> Floats:
        """Areas ``[N]`` within the outlines of polygons, summed over parts."""
        return np.array([sum(map(outline_area, parts)) for parts in self._outlines()], np.float64)

    def place(self, row: int) -> tuple[str, int | None]:
        """Entry of a row, and its frame where the annotation may have others."""
        statement = self.statements[self.owners[row]]
        return statement.entry, int(self.frames[row]) if statement.key in ("bboxes", "areas") else None

    def key(self, row: int) -> str:
        """What the file calls the value of a row."""
        return self.statements[self.owners[row]].key

    def stated(self, row: int) -> str:
        """Key and value of a row, for messages."""
        statement = self.statements[self.owners[row]]
        value = statement.stated[self.frames[row]]
        return f"{statement.key} {shown(value)}"
