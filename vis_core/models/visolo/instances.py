"""What VISOLO finds in a frame, before identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vis_core.masks import RunLengths
from vis_core.models.visolo.detection import Detections, Floats, Masks, occupied
from vis_core.system.clip import ClipInstances


@dataclass(frozen=True, eq=False)
class VISOLOInstances(ClipInstances):
    """The detections of one frame, by descending score, with what they are associated by.

    Attributes:
        stamp: of the frame, nanoseconds.
        detections: N of them.
        query: query features of their cells, ``[128, N]``: what a track is remembered by.
        reference: reference features of their cells, ``[128, N]``: what is compared with tracks.
        encode_masks: masks of detections at the image's size.
    """

    shows_empty_masks = True  # as the published code has it

    stamp: int
    detections: Detections
    query: Floats
    reference: Floats
    encode_masks: Callable[[Detections], list[RunLengths]]

    @property
    def class_scores(self) -> Floats:  # type: ignore[override]
        return self.detections.vectors

    @property
    def scores(self) -> Floats:
        """``[N]``."""
        return self.detections.scores

    @cached_property
    def boxes(self) -> npt.NDArray[np.float64]:
        """Tight boxes of the masks, x1, y1, x2, y2, pixels of the network's input: ``[N, 4]``."""
        return tight_boxes(self.detections.masks)

    def frame_scores(self, t: int, labels: npt.NDArray[np.int64]) -> Floats:
        return self.scores

    def masks(self, t: int, rows: Sequence[int]) -> list[RunLengths]:
        chosen = self.detections
        if list(rows) != list(range(len(chosen))):
            chosen = chosen.chosen(np.array(rows, np.intp))
        return self.encode_masks(chosen)

    def __len__(self) -> int:
        return len(self.detections)


def tight_boxes(masks: Masks) -> npt.NDArray[np.float64]:
    """Tight boxes x1, y1, x2, y2 ``[N, 4]`` of masks ``[N, h, w]`` that are not empty."""
    out = np.zeros((len(masks), 4))
    if len(masks):
        for marks, low, high in zip(occupied(masks), (1, 0), (3, 2)):
            out[:, low] = marks.argmax(1)
            out[:, high] = marks.shape[1] - marks[:, ::-1].argmax(1)
    return out
