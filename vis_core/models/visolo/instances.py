"""What VISOLO finds in a frame, before identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vis_core.masks import RunLengths
from vis_core.models.visolo.detection import Detections
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
    query: Tensor
    reference: Tensor
    encode_masks: Callable[[Detections], list[RunLengths]]

    @cached_property
    def class_scores(self) -> npt.NDArray[np.float32]:  # type: ignore[override]
        return np.asarray(self.detections.vectors.cpu().numpy())

    @cached_property
    def scores(self) -> npt.NDArray[np.float32]:
        """Float32 ``[N]``."""
        return np.asarray(self.detections.scores.cpu().numpy())

    @cached_property
    def boxes(self) -> npt.NDArray[np.float64]:
        """Tight boxes of the masks, x1, y1, x2, y2, pixels of the network's input: ``[N, 4]``."""
        return tight_boxes(self.detections.masks)

    def frame_scores(self, t: int, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return self.scores

    def masks(self, t: int, rows: Sequence[int]) -> list[RunLengths]:
        chosen = self.detections
        if list(rows) != list(range(len(chosen))):
            chosen = chosen.chosen(torch.tensor(rows, dtype=torch.int64, device=chosen.cells.device))
        return self.encode_masks(chosen)

    def __len__(self) -> int:
        return len(self.detections)


def tight_boxes(masks: Tensor) -> npt.NDArray[np.float64]:
    """Tight boxes x1, y1, x2, y2 ``[N, 4]`` of masks bool ``[N, h, w]`` that are not empty, w a multiple of 8."""
    out = np.zeros((len(masks), 4))
    if not len(masks):
        return out
    words = masks.cpu().numpy().view(np.uint64)  # eight pixels at a time
    columns, rows = np.bitwise_or.reduce(words, axis=1).view(np.bool_), (words != 0).any(axis=2)
    for occupied, low, high in ((columns, 0, 2), (rows, 1, 3)):
        out[:, low] = occupied.argmax(1)
        out[:, high] = occupied.shape[1] - occupied[:, ::-1].argmax(1)
    return out
