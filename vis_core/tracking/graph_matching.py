"""Matching two graphs: quadratic assignment in the form of Koopmans and Beckmann, by its convex relaxation.

Nodes are the instances of a frame, edges their pairs. With edge weights A1 ``[n, n]`` and A2 ``[m, m]``, node affinity
B ``[n, m]`` and a ridge mu, a matching P ``[n, m]`` costs

    f(P) = 1/2 ||A1 P - P A2||^2 - <B, P> + mu/2 ||P||^2

over doubly stochastic P, or, where nodes may stay unmatched at a price of their own, over P whose rows and columns sum
to at most 1, with the prices of what is unmatched added. GMP-VIS (CVPR 2023) poses association so. The solver is a
splitting method (ADMM) whose answer an active-set method makes exact; what it gives is certified by the gap of linear
minimisation. Everything is computed in float64; the splitting runs batched on the device of the input, the rest on the
host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vis_core.errors import InputError, OptionError
from vis_core.tracking.graph_relaxation import ActiveSet, Floats, Problem, Splitting, Support, polish

TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6)
SPLITTING_ALONE = 1e-8


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Optimum of the relaxation; leading dimensions are those of the affinity.

    Attributes:
        matching: ``[..., n, m]``, at least 0; differentiable in edges, affinity and unmatched costs.
        objective: its cost, float64 ``[...]``, with the ridge and with the costs of what is unmatched.
        gap: how far the cost may be above the least one, float64 ``[...]``.
        iterations: of the splitting method, int64 ``[...]``.
        converged: whether the gap is as small as asked, bool ``[...]``.
    """

    matching: Tensor
    objective: Tensor
    gap: Tensor
    iterations: Tensor
    converged: Tensor


@dataclass(frozen=True, eq=False)
class _Solution:
    """What was found for one problem."""

    problem: Problem
    support: Support
    matching: np.ndarray[Any, np.dtype[np.float64]]
    gap: float
    iterations: int
    converged: bool


def relax(
    edges1: Tensor,
    edges2: Tensor,
    affinity: Tensor,
    *,
    ridge: float = 1e-3,
    unmatched_rows: Tensor | None = None,
    unmatched_columns: Tensor | None = None,
    max_gap: float = 1e-6,
) -> Relaxed:
    """The best relaxed matching of two graphs, or of a batch of pairs of graphs of equal size.

    The gradient is that of the optimum, by implicit differentiation on its support; it takes the entries of the edges
    as independent.

    Args:
        edges1: ``[..., n, n]``, symmetric.
        edges2: ``[..., m, m]``, symmetric.
        affinity: ``[..., n, m]``, greater for pairs that belong together.
        ridge: weight of the squared matching. 0: the optimum may not be unique; 1 suits training, where the gradient
            should reach pairs that are nearly matched.
        unmatched_rows: ``[..., n]``, the cost of leaving a row unmatched. Given with `unmatched_columns`, sums of rows
            and columns may be less than 1; without both, n = m and they are 1.
        unmatched_columns: ``[..., m]``.
        max_gap: the gap aimed at, in units of 1 + the objective's magnitude.

    Raises:
        InputError: shapes that do not belong together, edges that are not symmetric, numbers that are not finite.
        OptionError: a negative ridge, or unmatched costs of one side only.
    """
    if (unmatched_rows is None) != (unmatched_columns is None):
        raise OptionError("unmatched_rows and unmatched_columns: give both or neither")
    if not ridge >= 0:
        raise OptionError(f"ridge is {ridge}, but must be at least 0")
    partial = unmatched_rows is not None and unmatched_columns is not None
    constant = torch.zeros(affinity.shape[:-2], dtype=torch.float64, device=affinity.device)
    worth = affinity.double()
    _check_shapes(edges1, edges2, affinity, partial)
    if unmatched_rows is not None and unmatched_columns is not None:
        worth = worth + unmatched_rows[..., :, None] + unmatched_columns[..., None, :]
        constant = (unmatched_rows.double().sum(-1) + unmatched_columns.double().sum(-1)).detach()
    for name, values in (("edges1", edges1), ("edges2", edges2), ("affinity and unmatched costs", worth)):
        if not torch.isfinite(values).all():
            raise InputError(f"{name}: not all numbers are finite")
    if not worth.numel():
        counts = torch.zeros_like(constant, dtype=torch.int64)
        return Relaxed(torch.zeros_like(affinity), constant, torch.zeros_like(constant), counts, counts == 0)
    n, m = affinity.shape[-2:]
    flat = [edges1.double().reshape(-1, n, n), edges2.double().reshape(-1, m, m), worth.reshape(-1, n, m)]
    with torch.no_grad():
        offset = constant.reshape(-1).tolist()
        solutions = _solve(*(part.detach() for part in flat), ridge, partial, max_gap, offset)
    matching = _Optimum.apply(*flat, solutions).reshape(affinity.shape).to(affinity.dtype)

    def gathered(values: list[Any], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=affinity.device).reshape(constant.shape)

    objective = gathered([solution.problem.objective(solution.matching) for solution in solutions], torch.float64)
    return Relaxed(
        matching,
        objective + constant,
        gathered([solution.gap for solution in solutions], torch.float64),
        gathered([solution.iterations for solution in solutions], torch.int64),
        gathered([solution.converged for solution in solutions], torch.bool),
    )


def _check_shapes(edges1: Tensor, edges2: Tensor, affinity: Tensor, partial: bool) -> None:
    """Raise where shapes do not belong together or edges are not symmetric."""
    (*batch, n, m) = affinity.shape
    if edges1.shape != (*batch, n, n) or edges2.shape != (*batch, m, m):
        shapes = ", ".join(str(tuple(part.shape)) for part in (edges1, edges2, affinity))
        raise InputError(f"edges and affinity have shapes {shapes}; expected [..., n, n], [..., m, m], [..., n, m]")
    if not partial and n != m:
        raise InputError(f"{n} rows and {m} columns cannot all be matched; give unmatched_rows and unmatched_columns")
    for name, edges in (("edges1", edges1), ("edges2", edges2)):
        if edges.numel() and (edges - edges.mT).abs().max() > 1e-5 * edges.abs().max():
            raise InputError(f"{name} is not symmetric")


def _solve(
    edges1: Tensor, edges2: Tensor, worth: Tensor, ridge: float, partial: bool, max_gap: float, offset: list[float]
) -> list[_Solution]:
    """Solve problems ``[b, ...]``: the splitting for all together, then each made exact, until every gap is small."""
    problems = [Problem(*parts, ridge, partial) for parts in zip(*(x.cpu().numpy() for x in (edges1, edges2, worth)))]
    best: dict[int, _Solution] = {}
    unsolved = list(range(len(problems)))
    splitting = Splitting(edges1, edges2, worth, ridge, partial)
    for tolerance in (*TOLERANCES, SPLITTING_ALONE):
        alone = tolerance == SPLITTING_ALONE
        steps = splitting.run(tolerance, 20_000 if alone else 2_000).tolist()
        rough = splitting.matching().cpu().numpy()
        for place, row in enumerate(unsolved):
            problem, guess = problems[row], Support.of(rough[place], tolerance, partial)
            polished = None if alone else polish(problem, guess)
            matching, support = polished or (rough[place], guess)
            matching = problem.feasible(matching)
            gap = problem.gap(matching)
            if row not in best or gap < best[row].gap:
                limit = max_gap * (1 + abs(problem.objective(matching) + offset[row]))
                best[row] = _Solution(problem, support, matching, gap, steps[place], gap <= limit)
        still = [place for place, row in enumerate(unsolved) if not best[row].converged]
        if not still:
            break
        if len(still) < len(unsolved):
            splitting.keep(still)
        unsolved = [unsolved[place] for place in still]
    return [best[row] for row in range(len(problems))]


class _Optimum(torch.autograd.Function):
    """The optima that were found, as a function of edges ``[b, n, n]``, ``[b, m, m]`` and worth ``[b, n, m]``."""

    @staticmethod
    def forward(ctx: Any, edges1: Tensor, edges2: Tensor, worth: Tensor, solutions: list[_Solution]) -> Tensor:
        ctx.solutions = solutions
        return torch.from_numpy(np.stack([solution.matching for solution in solutions])).to(worth.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        parts = [_pull_back(*pair) for pair in zip(ctx.solutions, gradient.cpu().numpy())]
        edges1, edges2, worth = (torch.from_numpy(np.stack(part)).to(gradient.device) for part in zip(*parts))
        return edges1, edges2, worth, None


def _pull_back(solution: _Solution, gradient: Floats) -> tuple[Floats, Floats, Floats]:
    """The gradient in edges ``[n, n]``, ``[m, m]`` and worth from the one in the matching, both ``[n, m]``."""
    problem, matching = solution.problem, solution.matching
    change, _, _ = ActiveSet(problem).solve(solution.support, gradient, 0.0)
    residual = problem.edges1 @ matching - matching @ problem.edges2
    change_residual = problem.edges1 @ change - change @ problem.edges2
    of_edges1 = -(residual @ change.T + change_residual @ matching.T)
    of_edges2 = change.T @ residual + matching.T @ change_residual
    return of_edges1, of_edges2, change
