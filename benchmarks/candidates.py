"""What a network says of a frame before any threshold: the masks of its best cells or queries, of any way to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.structures import Frame

CELLS = 20
Runs = Mapping[str, Callable[..., tuple[Tensor, ...]]]


@dataclass(frozen=True)
class Candidates:
    """Of one frame.

    Attributes:
        scores: best class score of each ``[N]``.
        kernels: what a mask is made by, ``[N, d]``.
        features: what it is made from ``[d, h, w]``.
    """

    scores: Tensor
    kernels: Tensor
    features: Tensor

    def best(self) -> Tensor:
        """Of the highest scores."""
        return self.scores.topk(min(CELLS, len(self.scores))).indices

    def masks(self, chosen: Tensor) -> Tensor:
        """Of some, bool at the size of the network's input ``[M, 4 h, 4 w]``."""
        logits = (self.kernels[chosen] @ self.features.flatten(1)).unflatten(1, self.features.shape[1:])
        return F.interpolate(logits[None], scale_factor=4, mode="bilinear", align_corners=False)[0] > 0


def has_candidates(graphs: Mapping[str, Any]) -> bool:
    """Whether the graphs of a system are of a form that is understood here: grid cells, or queries."""
    return set(graphs) == {"frame", "window"} and graphs["window"].outputs[1] in ("mask_kernels", "mask_embeddings")


@torch.inference_mode()
def candidates(segmenter: Any, runs: Runs, frames: Sequence[Frame]) -> list[Candidates]:
    """What pieces of a network say of each frame while a segmenter runs on them.

    Args:
        segmenter: built for PyTorch, of a system that `has_candidates`.
        runs: of each graph, on tensors.
        frames: of one stream.
    """
    cells = segmenter.model.graphs()["window"].outputs[1] == "mask_kernels"
    features: list[Tensor] = []
    found: list[Candidates] = []

    def frame(*inputs: Tensor) -> tuple[Tensor, ...]:
        given = runs["frame"](*inputs)
        features.append(given[0][0].clone())
        return given

    def window(*inputs: Tensor) -> tuple[Tensor, ...]:
        given = runs["window"](*inputs)
        scores, kernels = (x.clone().reshape(-1, x.shape[-1]) for x in given[:2])
        if cells:  # sigmoids ``[C, N]`` and kernels ``[d, N]``; else logits ``[Q, C + 1]`` and embeddings ``[Q, d]``
            scores, kernels = scores.amax(0), kernels.T
        else:
            scores = scores.softmax(1)[:, :-1].amax(1)
        found.extend(Candidates(scores, kernels, each) for each in features[len(found) :])
        return given

    segmenter.reset()
    segmenter.model.use_exported({"frame": frame, "window": window})
    try:
        for _ in segmenter.run(frames, prefetch=False):
            pass
    finally:
        segmenter.model.use_exported({})
        segmenter.reset()
    return found


def agreement(wanted: Sequence[Candidates], found: Sequence[Candidates]) -> tuple[list[float], list[float]]:
    """IoU of the masks of those wanted that are best, where either is not empty, and differences of their scores."""
    overlaps: list[float] = []
    differences: list[float] = []
    for one, other in zip(wanted, found, strict=True):
        best = one.best()
        first, second = one.masks(best), other.masks(best)
        union = (first | second).sum((1, 2))
        overlaps += ((first & second).sum((1, 2)) / union)[union > 0].tolist()
        differences += (one.scores[best] - other.scores[best]).abs().tolist()
    return overlaps, differences


def fifth_percentile(overlaps: Sequence[float]) -> float:
    """Of IoUs, 1 of none."""
    return float(np.percentile(overlaps, 5)) if overlaps else 1.0
