"""Two graphs of instances, and which of their nodes belong together: what every way of linking by graphs shares."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vis_core.tracking.assignment import assign
from vis_core.tracking.graph_matching import match_graphs

_Floats = npt.NDArray[np.float64]
_Indices = npt.NDArray[np.intp]

LARGEST = 100
"""Nodes of a graph at most; larger ones are matched without edges."""

_NEARNESS = 0.15  # standard deviation, in diagonals of the image


def neighbour_edges(centres: Tensor, embeddings: Tensor | None = None) -> Tensor:
    """Weights of the edges between instances, ``[n, n]``: strong between neighbours, the more so if they look alike.

    Args:
        centres: x and y in diagonals of the image ``[n, 2]``.
        embeddings: of unit length ``[n, E]``; None: looks do not count.
    """
    squares = (centres[:, None] - centres).square().sum(2)
    weights = torch.exp(-squares / (2 * _NEARNESS**2))
    if embeddings is not None:
        weights = weights * (1 + embeddings @ embeddings.T) / 2
    return weights * (1 - torch.eye(len(weights), dtype=weights.dtype, device=weights.device))


class Graphs(NamedTuple):
    """Two graphs of n and of m nodes, as a matching problem.

    Attributes:
        affinity: ``[n, m]``.
        unmatched1: cost of leaving each node of the first one unmatched ``[n]``.
        unmatched2: the same of the second one ``[m]``.
        edges1: ``[n, n]``.
        edges2: ``[m, m]``.
    """

    affinity: _Floats
    unmatched1: _Floats
    unmatched2: _Floats
    edges1: _Floats
    edges2: _Floats

    @property
    def worth(self) -> _Floats:
        """What matching a pair saves ``[n, m]``."""
        return self.affinity + self.unmatched1[:, None] + self.unmatched2

    def chosen(self, rows: _Indices, columns: _Indices) -> Graphs:
        """Of some of the nodes of either."""
        return Graphs(
            self.affinity[np.ix_(rows, columns)],
            self.unmatched1[rows],
            self.unmatched2[columns],
            self.edges1[np.ix_(rows, rows)],
            self.edges2[np.ix_(columns, columns)],
        )


def matched_pairs(graphs: Graphs, edge_weight: float = 1.0, prune: bool = True) -> list[tuple[int, int]]:
    """Pairs of nodes that belong together, each worth more than none.

    Graphs of more than `LARGEST` nodes are matched without edges, which a warning tells once.

    Args:
        graphs: the problem.
        edge_weight: what edges weigh beside the affinity; 0: none, plain assignment.
        prune: leave out what can be matched with nothing, which would only take from its neighbours.
    """
    rows, columns = (np.arange(length) for length in graphs.affinity.shape)
    if prune:
        worthwhile = graphs.worth > 0
        rows, columns = np.flatnonzero(worthwhile.any(1)), np.flatnonzero(worthwhile.any(0))
        graphs = graphs.chosen(rows, columns)
    worth, largest = graphs.worth, max(graphs.affinity.shape)
    if largest > LARGEST:
        warnings.warn(
            f"graph of {largest} nodes is matched without its edges: they are used up to {LARGEST}",
            RuntimeWarning,
            stacklevel=3,
        )
    if edge_weight == 0 or min(worth.shape) < 2 or largest > LARGEST:
        pairs = assign(worth.clip(0), worth > 0)
    else:
        pairs = [(row, column) for row, column in _matched(graphs, edge_weight) if worth[row, column] > 0]
    return [(int(rows[row]), int(columns[column])) for row, column in pairs]


def _matched(graphs: Graphs, weight: float) -> list[tuple[int, int]]:
    mean_degree = (graphs.edges1.sum(1).mean() + graphs.edges2.sum(1).mean()) / 2
    scale = np.sqrt(weight / max(1.0, mean_degree))
    columns = match_graphs(
        torch.from_numpy(scale * graphs.edges1),
        torch.from_numpy(scale * graphs.edges2),
        torch.from_numpy(graphs.affinity),
        unmatched_rows=torch.from_numpy(graphs.unmatched1),
        unmatched_columns=torch.from_numpy(graphs.unmatched2),
    ).columns.tolist()
    return [(row, column) for row, column in enumerate(columns) if column >= 0]
