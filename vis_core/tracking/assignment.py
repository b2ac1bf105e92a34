"""The best assignment of two sets to each other, of which some pairs may not be."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.nn.matching import linear_sum_assignment


def assign(worth: npt.NDArray[np.floating[Any]], allowed: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Pairs of row and column with the greatest sum of worth, each row and each column in one pair at most.

    A pair that is not allowed is worth no more than none, 0: it must not displace one that is.

    Args:
        worth: ``[N, M]``; of allowed pairs at least 0.
        allowed: ``[N, M]``.
    """
    pairs = linear_sum_assignment(np.where(allowed, worth, 0), maximize=True)
    return [(int(row), int(column)) for row, column in zip(*pairs) if allowed[row, column]]
