"""What EfficientVIS finds in a window: its queries, each one tracklet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vis_core.masks import RunLengths
from vis_core.nn.pasting import paste, paste_dense
from vis_core.system.clip import ClipInstances


@dataclass(frozen=True, eq=False)
class EfficientVISInstances(ClipInstances):
    """N queries of a window of T frames.

    Attributes:
        probabilities: of the classes in each frame ``[N, T, K]``.
        sure: bool ``[N]``: whether the best class's mean over the window reaches the threshold.
        queries: mean over the window of what the last stage left ``[N, C]``: what the next window may start with.
        boxes: ``[N, T, 4]``, pixels of the network's image without padding.
        presence_threshold: least score of a track's label in a frame that shows it.
        mask_logits: ``mask_logits(rows, first)`` gives those of some queries from frame `first` on, ``[n, T - first,
            28, 28]``.
        network_size: height and width of the network's image without padding.
        size: of the image.
    """

    probabilities: Tensor
    sure: npt.NDArray[np.bool_]
    queries: Tensor
    boxes: Tensor
    presence_threshold: float
    mask_logits: Callable[[Sequence[int], int], Tensor]
    network_size: tuple[int, int]
    size: tuple[int, int]
    _made: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def class_scores(self) -> npt.NDArray[np.float32]:  # type: ignore[override]
        return np.asarray(self.probabilities.float().cpu().numpy())

    @property
    def last_boxes(self) -> Tensor:
        """In the last frame ``[N, 4]``."""
        return self.boxes[:, -1]

    @cached_property
    def coarse_masks(self) -> Tensor:
        """Bool ``[N, T, h, w]`` at the network's size, for linking by overlap."""
        count, frames = self.boxes.shape[:2]
        masks = self.mask_logits(range(count), 0).sigmoid().flatten(0, 1)
        dense = paste_dense(masks, self.boxes.flatten(0, 1), self.network_size)
        return dense.unflatten(0, (count, frames))

    def frame_scores(self, t: int, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        scores = self.class_scores[np.arange(len(labels)), t, labels]
        return np.where(scores >= self.presence_threshold, scores, np.float32(0))

    def masks(self, t: int, rows: Sequence[int]) -> list[RunLengths]:
        if not rows:
            return []
        first, place, logits = self._logits(t, rows)
        chosen = logits[[place[row] for row in rows], t - first]
        (height, width), (rows_to, columns_to) = self.network_size, self.size
        scale = self.boxes.new_tensor([columns_to / width, rows_to / height] * 2)
        return paste(chosen.sigmoid(), self.boxes[list(rows), t] * scale, self.size)

    def _logits(self, t: int, rows: Sequence[int]) -> tuple[int, dict[int, int], Tensor]:
        """Mask logits from the first frame that was asked for on, of the queries that may be asked for."""
        if "logits" not in self._made or not set(rows) <= set(self._made["place"]):
            wanted = sorted({*np.flatnonzero(self.sure).tolist(), *rows})
            self._made.update(first=t, place={row: i for i, row in enumerate(wanted)})
            self._made["logits"] = self.mask_logits(wanted, t)
        return self._made["first"], self._made["place"], self._made["logits"]

    def chosen(self, rows: Sequence[int]) -> EfficientVISInstances:
        """Some of the queries, in the order given."""
        return EfficientVISInstances(
            self.probabilities[list(rows)],
            self.sure[list(rows)],
            self.queries[list(rows)],
            self.boxes[list(rows)],
            self.presence_threshold,
            lambda asked, first: self.mask_logits([rows[i] for i in asked], first),
            self.network_size,
            self.size,
        )


def sure_of(probabilities: Tensor, threshold: float) -> npt.NDArray[np.bool_]:
    """Bool ``[N]``: whether the mean over time of the best class reaches the threshold; of ``[N, T, K]``."""
    best = probabilities.mean(1).amax(1)
    return np.asarray((best >= torch.tensor(threshold, dtype=best.dtype)).cpu().numpy())
