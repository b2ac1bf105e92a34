"""What teaches embeddings by which the instances of two frames are matched: the matching of their graphs itself.

Edges and unmatched costs are those of `vis_core.tracking.graph_association`; of the affinity only the embeddings'
cosine, so that they do not lean on where things are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.tracking.graph_matching import relax
from vis_core.tracking.graph_pairs import neighbour_edges

RIDGE = 1.0
"""With less, mistakes have no gradient: their entries of the matching are exactly 0 or 1."""
TEMPERATURE = 0.07
_UNMATCHED = 0.15


class Graph(NamedTuple):
    """The instances of a frame, or what is remembered of those before it.

    Attributes:
        embeddings: ``[n, E]``.
        centres: ``[n, 2]``, x and y in diagonals of the image.
        numbers: int64 ``[n]``, which instance each one is; all different.
    """

    embeddings: Tensor
    centres: Tensor
    numbers: Tensor


def matching_losses(before: Graph, now: Graph, edge_weight: float = 1.0) -> tuple[Tensor, Tensor]:
    """The loss of the relaxed matching of two graphs, and the contrastive one of their embeddings.

    Of the relaxed matching P and the true one T, with births and deaths as rows and columns of zeros, the first is
    ``(<1 - T, P> / 2 - <T, P>) / n``: linear, since its logarithm teaches nothing where P is 0. The second is the
    cross-entropy of cosines over a temperature of 0.07, the mean of rows' and columns' that have a partner.

    Args:
        before: with n instances.
        now: with m instances.
        edge_weight: what edges weigh beside the affinity.
    """
    first, second = (F.normalize(graph.embeddings.float(), dim=1) for graph in (before, now))
    cosines = first @ second.T
    true = before.numbers[:, None] == now.numbers
    if not true.numel():
        nothing = 0 * (before.embeddings.sum() + now.embeddings.sum())
        return nothing, nothing
    edges = [neighbour_edges(graph.centres, embeddings) for embeddings, graph in ((first, before), (second, now))]
    degree = torch.stack([x.sum(1).mean() for x in edges]).mean()
    scale = (edge_weight / degree.clamp(min=1)).sqrt()
    matching = relax(
        scale * edges[0],
        scale * edges[1],
        cosines,
        unmatched_rows=cosines.new_full(true.shape[:1], _UNMATCHED),
        unmatched_columns=cosines.new_full(true.shape[1:], _UNMATCHED),
        ridge=RIDGE,
    ).matching
    permutation = (matching[~true].sum() / 2 - matching[true].sum()) / len(true)
    return permutation, (_contrastive(cosines, true) + _contrastive(cosines.T, true.T)) / 2


def _contrastive(cosines: Tensor, true: Tensor) -> Tensor:
    """Mean over the rows with a partner of the cross-entropy of naming it; 0 if there are none."""
    known = true.any(1)
    if not known.any():
        return 0 * cosines.sum()
    return F.cross_entropy(cosines[known] / TEMPERATURE, true[known].int().argmax(1))
