"""What exported networks leave to NumPy: logistic function, and products in one thread."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
_SMALL = (
    1 << 18
)  # multiplications up to which OpenBLAS stays in one thread; its others spin for 20 ms when they are done


def sigmoid(x: Floats) -> Floats:
    """``1 / (1 + exp(-x))``, element by element."""
    with np.errstate(over="ignore"):
        out = np.exp(-x)
    out += 1
    return np.reciprocal(out, out=out)


def logit(probability: float) -> float:
    """The number whose logistic function is this; of 0 and 1 minus and plus infinity."""
    if not 0 < probability < 1:
        return -math.inf if probability <= 0 else math.inf
    return math.log(probability / (1 - probability))


def product(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> Floats:
    """The matrix product of float32 ``[N, K]`` and ``[K, M]``, cut so small that no other threads are woken for it."""
    count, length = first.shape
    out = np.empty((count, second.shape[1]), np.float32)
    rows = max(_SMALL // max(length * 8, 1), 1)
    for top in range(0, count, rows):
        part = first[top : top + rows]
        columns = max(_SMALL // max(part.size, 1), 8)
        for left in range(0, second.shape[1], columns):
            np.matmul(part, second[:, left : left + columns], out=out[top : top + rows, left : left + columns])
    return out
