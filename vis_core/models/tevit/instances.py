"""What TeViT finds in a clip: chosen queries, each with the masks of one class."""

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
class TeViTInstances(ClipInstances):
    """N results of a clip of T frames.

    Attributes:
        scores: of the classes ``[N, C]``, means over the clip.
        shown: score of each in each frame ``[N, T]``; 0: it is not there.
        boxes: ``[N, T, 4]``, pixels of the image as it came.
        mask_logits: ``mask_logits(rows, first)`` gives those of some results from frame `first` on, ``[n, T - first,
            28, 28]``.
        size: of the image.
        linking_size: height and width of the masks by which clips are linked.
    """

    scores: Tensor
    shown: Tensor
    boxes: Tensor
    mask_logits: Callable[[Sequence[int], int], Tensor]
    size: tuple[int, int]
    linking_size: tuple[int, int]
    _made: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def class_scores(self) -> npt.NDArray[np.float32]:  # type: ignore[override]
        return np.asarray(self.scores.float().cpu().numpy())

    @cached_property
    def _shown(self) -> npt.NDArray[np.float32]:
        return np.asarray(self.shown.float().cpu().numpy())

    @cached_property
    def coarse_masks(self) -> Tensor:
        """Bool ``[N, T, h, w]``, for linking by overlap."""
        count, frames = self.boxes.shape[:2]
        logits = self._logits(0)[1]
        (height, width), (rows, columns) = self.size, self.linking_size
        boxes = self.boxes * self.boxes.new_tensor([columns / width, rows / height] * 2)
        dense = paste_dense(logits.sigmoid().flatten(0, 1), boxes.flatten(0, 1), self.linking_size)
        return dense.unflatten(0, (count, frames))

    def frame_scores(self, t: int, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        frame: npt.NDArray[np.float32] = self._shown[:, t]
        return frame

    def masks(self, t: int, rows: Sequence[int]) -> list[RunLengths]:
        if not rows:
            return []
        first, logits = self._logits(t)
        return paste(logits[list(rows), t - first].sigmoid(), self.boxes[list(rows), t], self.size)

    def _logits(self, t: int) -> tuple[int, Tensor]:
        """Mask logits of all results, from the first frame on that was asked for."""
        if not self._made or self._made["first"] > t:
            self._made.update(first=t, logits=self.mask_logits(range(len(self)), t))
        return self._made["first"], self._made["logits"]

    def __len__(self) -> int:
        return len(self.boxes)


def best_pairs(scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, labels and scores of the best pairs of both, the best first; a query may come with several labels.

    Args:
        scores: ``[N, K]``.
        count: of pairs.
    """
    best = scores.flatten().topk(min(count, scores.numel()))
    return best.indices // scores.shape[1], best.indices % scores.shape[1], best.values


def best_labels(queries: Tensor, values: Tensor, threshold: float) -> Tensor:
    """Which of pairs, the best first, reach the threshold and are the first of their query; int64."""
    chosen: list[int] = []
    named: set[int] = set()
    reaches = (values >= torch.tensor(threshold, dtype=values.dtype)).tolist()
    for row, (query, sure) in enumerate(zip(queries.tolist(), reaches)):
        if sure and query not in named:
            named.add(query)
            chosen.append(row)
    return torch.tensor(chosen, dtype=torch.int64, device=queries.device)
