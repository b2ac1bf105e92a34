"""The matching of two sequences of frames that the published code of GMP-VIS trains with (CVPR 2023, section 3.3).

Nodes are the frames of a slot and those of an instance, every ordered pair of different frames is an edge, and two
edges are alike as the frames at their ends are. So of n frames a matching P, all of whose rows and columns sum to 1,
has the edges' part

    p^T M p = sum_ij S_ij P_ij (n - 2 + P_ij)

by S, how much frames are alike: what is minimised, k/2 |p|^2 - p^T M p / 2 - <S, P>, is one quadratic function for each
entry, and its optimum comes from a price of each row and of each column, found in turn, each exactly.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.errors import InputError

SHARPNESS = 1000.0
"""Of the votes: the optimum is nearly the same for all pairs, and these tell them apart."""
CONVERGED = 1e-12
_MOST_SWEEPS = 1000


def frame_similarity(first: Tensor, second: Tensor, transform: nn.Linear) -> Tensor:
    """How much the frames of two sequences are alike, float64 ``[..., n, n]``.

    Args:
        first: features ``[..., n, C]``.
        second: of as many frames; leading dimensions broadcast.
        transform: of features that are normalised over the frames of their sequence.
    """
    weight, bias = transform.weight.double(), transform.bias.double()
    sides = [F.relu(F.linear(F.normalize(x.double(), dim=-2), weight, bias)) for x in (first, second)]
    return sides[0] @ sides[1].mT


def relaxed_matching(similarity: Tensor) -> Tensor:
    """The optimum, float64 ``[..., n, n]``; rows and columns sum to 1.

    The weight k of the ridge is (n - 1)^2 as published; where that is too little for a convex problem, of few frames
    that are much alike, it is 1 more than the largest similarity.

    Args:
        similarity: of `frame_similarity`, at least 0.

    Raises:
        InputError: it is not finite.
    """
    s = similarity.double()
    if not s.isfinite().all():
        raise InputError("the similarity of frames is not all finite")
    n = s.shape[-1]
    curvature = (s.amax((-2, -1), keepdim=True) + 1).clamp(min=(n - 1) ** 2) - s
    gain = n / 2 * s
    columns = gain.new_zeros((*gain.shape[:-2], 1, n))
    for _ in range(_MOST_SWEEPS):
        rows = _prices(gain + columns, curvature)
        matching = ((gain + columns + rows[..., None]) / curvature).clamp(min=0)
        if ((matching.sum(-2) - 1).abs() <= CONVERGED).all():
            break
        columns = _prices((gain + rows[..., None]).mT, curvature.mT)[..., None, :]
    return matching


def _prices(gain: Tensor, curvature: Tensor) -> Tensor:
    """Of each row the x that makes ``max(0, (gain + x) / curvature)`` sum to 1, ``[...]`` of ``[..., n]``."""
    begins, order = (-gain).sort(-1)
    weights = (1 / curvature).gather(-1, order)
    candidates = (1 + (begins * weights).cumsum(-1)) / weights.cumsum(-1)
    counts = (candidates > begins).sum(-1, keepdim=True)
    return candidates.gather(-1, counts - 1)[..., 0]


def votes(matching: Tensor, first_row_only: bool = False) -> Tensor:
    """Which frame of the second sequence each one of the first votes for, ``[..., n, n]``; a row sums to 1.

    Args:
        matching: of `relaxed_matching`.
        first_row_only: the other rows are 0, as published.
    """
    found = (SHARPNESS * matching.clamp(0, 1)).softmax(-1)
    if first_row_only:
        found[..., 1:, :] = 0
    return found
