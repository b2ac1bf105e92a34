"""One-to-one matching of least cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.errors import MissingDependencyError

Indices = npt.NDArray[np.intp]


def linear_sum_assignment(cost: Any, maximize: bool = False) -> tuple[Indices, Indices]:
    """Rows and columns of the pairs with the least (greatest) sum, as ``scipy.optimize.linear_sum_assignment``.

    SciPy's package is loaded when first asked for: that takes a quarter of the time in which a program starts, and many
    never ask.

    Args:
        cost: ``[N, M]``.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise MissingDependencyError("SciPy is needed for this and not installed: pip install scipy") from error
    rows, columns = linear_sum_assignment(cost, maximize)
    return rows, columns
