"""From queries to instances: which are kept, and their masks at the image's size (published inference)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vis_core.masks import RunLengths
from vis_core.nn.mask_resize import MaskResize
from vis_core.system.clip import ClipInstances

PUBLISHED_RESULTS = 10


def class_scores(logits: Tensor) -> Tensor:
    """Probabilities of the classes ``[..., K]`` from logits ``[..., K + 1]`` whose last one is "no object"."""
    return logits.float().softmax(-1)[..., :-1]


def best_pairs(scores: Tensor, count: int = PUBLISHED_RESULTS) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs of query and class, whatever their scores; a query may come with several classes.

    Args:
        scores: ``[Q, K]``.
        count: of pairs.

    Returns:
        Their queries, labels and scores, by descending score.
    """
    best = scores.flatten().topk(min(count, scores.numel()))
    return best.indices // scores.shape[1], best.indices % scores.shape[1], best.values


@dataclass(frozen=True, eq=False)
class QueryInstances(ClipInstances):
    """Chosen queries as the instances of a clip, which are there in the frames where their masks are not empty.

    Attributes:
        scores: class scores ``[N, C]``.
        mask_logits: ``[N, T, h, w]``.
        resize: of the masks.
    """

    scores: Tensor
    mask_logits: Tensor
    resize: MaskResize

    @cached_property
    def class_scores(self) -> npt.NDArray[np.float32]:  # type: ignore[override]
        return np.asarray(self.scores.cpu().numpy())

    @cached_property
    def coarse_masks(self) -> Tensor:
        """Bool ``[N, T, h, w]``, by which instances are linked."""
        return self.mask_logits > 0

    @cached_property
    def _scores(self) -> npt.NDArray[np.float32]:
        there = self.coarse_masks.flatten(2).any(2)
        return np.asarray((self.scores.amax(1)[:, None] * there).cpu().numpy())

    def frame_scores(self, t: int, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        frame: npt.NDArray[np.float32] = self._scores[:, t]
        return frame

    def masks(self, t: int, rows: Sequence[int]) -> list[RunLengths]:
        return self.resize(self.mask_logits[list(rows), t])


def published_instances(scores: Tensor, mask_logits: Callable[[Tensor], Tensor], resize: MaskResize) -> QueryInstances:
    """The ten results of a video as published: no threshold, no suppression, one label each.

    Args:
        scores: of the video, ``[Q, K]``.
        mask_logits: gives those of chosen queries, ``[N, T, h, w]``.
        resize: of the masks.
    """
    queries, labels, values = best_pairs(scores)
    one_label = torch.zeros((len(queries), scores.shape[1]), device=scores.device)
    one_label[torch.arange(len(queries), device=scores.device), labels] = values
    return QueryInstances(one_label, mask_logits(queries), resize)
