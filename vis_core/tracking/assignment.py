"""The best assignment of two sets to each other, of which some pairs may not be.

By shortest augmenting paths (Crouse, On Implementing 2D Rectangular Assignment Algorithms, IEEE TAES 2016), in NumPy:
who is who in a frame is a small question; SciPy answers large ones faster, and takes half a second and 50 MiB to load.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def assign(worth: npt.NDArray[np.floating[Any]], allowed: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Pairs of row and column with the greatest sum of worth, each row and each column in one pair at most.

    A pair that is not allowed is worth no more than none, 0: it must not displace one that is.

    Args:
        worth: ``[N, M]``; of allowed pairs at least 0.
        allowed: ``[N, M]``.
    """
    rows, columns = np.flatnonzero(allowed.any(1)), np.flatnonzero(allowed.any(0))
    if not len(rows):
        return []
    chosen = np.ix_(rows, columns)
    gain = np.where(allowed[chosen], worth[chosen], 0).astype(np.float64)
    if len(rows) > len(columns):
        taken = list(zip(_columns_of_rows(gain.T), range(len(columns))))
    else:
        taken = list(enumerate(_columns_of_rows(gain)))
    pairs = ((int(rows[i]), int(columns[j])) for i, j in taken)
    return sorted(pair for pair in pairs if allowed[pair])


def _columns_of_rows(gain: npt.NDArray[np.float64]) -> list[int]:
    """The column of each row in the assignment of greatest gain ``[N, M]``, N at most M."""
    best = gain.argmax(1)
    if len(set(best.tolist())) == len(best):
        return [int(column) for column in best]
    of_row = gain.max(1)  # prices: of each pair at most 0 is left, of those that are taken 0
    of_column = np.zeros(gain.shape[1])
    row_of, column_of = np.full(gain.shape[1], -1), [-1] * len(gain)
    for start in range(len(gain)):
        length, came_from = np.full(len(row_of), np.inf), np.full(len(row_of), -1)
        seen, row, reached = np.zeros(len(row_of), np.bool_), start, 0.0
        while True:
            through = reached + of_row[row] + of_column - gain[row]
            shorter = ~seen & (through < length)
            length[shorter], came_from[shorter] = through[shorter], row
            column = int(np.where(seen, np.inf, length).argmin())
            reached, seen[column] = float(length[column]), True
            if row_of[column] < 0:
                break
            row = int(row_of[column])
        spared, held = np.where(seen, reached - length, 0), seen & (row_of >= 0)
        of_row[start] -= reached
        of_row[row_of[held]] -= spared[held]
        of_column += spared
        row = -1
        while row != start:  # back along the path, each row takes the column that it was on the way to
            row = int(came_from[column])
            row_of[column] = row
            column_of[row], column = column, column_of[row]
    return column_of
