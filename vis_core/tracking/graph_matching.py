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
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vis_core.errors import InputError, OptionError
from vis_core.tracking.assignment import assign
from vis_core.tracking.graph_relaxation import ActiveSet, Floats, Problem, Splitting, Support, polish

Columns = npt.NDArray[np.int64]

LEAST_ROUNDED = 1e-6
LEAST_GAIN = 1e-9
# Of the splitting, before its answer is made exact: with more nodes the rounds of the active set are dearer.
COARSEST = 1e-2
REFINEMENTS = 4
SPLITTING_ALONE = 1e-8
# Where nodes may stay unmatched, the optimum is often near the assignment by worth alone, which is asked first.
FIRST_ROUNDS = 6


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
class Matched:
    """A discrete matching; leading dimensions are those of the affinity.

    Attributes:
        columns: the column of each row, -1: none, int64 ``[..., n]``.
        objective: its cost without ridge, float64 ``[...]``, with the costs of what is unmatched.
        relaxed: the relaxation that it was made from.
    """

    columns: Tensor
    objective: Tensor
    relaxed: Relaxed


@dataclass(frozen=True, eq=False)
class _Solution:
    """What was found for one problem."""

    problem: Problem
    support: Support
    matching: Floats
    objective: float
    gap: float
    iterations: int
    converged: bool


def relax(
    edges1: Tensor,
    edges2: Tensor,
    affinity: Tensor,
    *,
    unmatched_rows: Tensor | None = None,
    unmatched_columns: Tensor | None = None,
    ridge: float = 1e-3,
    max_gap: float = 1e-6,
) -> Relaxed:
    """The best relaxed matching of two graphs, or of a batch of pairs of graphs of equal size.

    The gradient is that of the optimum, by implicit differentiation on its support; it takes the entries of the edges
    as independent.

    Args:
        edges1: ``[..., n, n]``, symmetric with a diagonal of zeros.
        edges2: ``[..., m, m]``, likewise.
        affinity: ``[..., n, m]``, greater for pairs that belong together.
        unmatched_rows: ``[..., n]``, the cost of leaving a row unmatched. Given with `unmatched_columns`, sums of rows
            and columns may be less than 1; without both, n = m and they are 1.
        unmatched_columns: ``[..., m]``.
        ridge: weight of the squared matching. 0: the optimum may not be unique; 1 suits training, where the gradient
            should reach pairs that are nearly matched.
        max_gap: the gap aimed at, in units of 1 + the objective's magnitude.

    Raises:
        InputError: shapes that do not belong together, edges that are not symmetric, numbers that are not finite.
        OptionError: a ridge that is negative, or unmatched costs of one side only.
    """
    if not ridge >= 0:
        raise OptionError(f"ridge is {ridge}, but must be at least 0")
    partial = unmatched_rows is not None
    _check(edges1, edges2, affinity, unmatched_rows, unmatched_columns)
    worth, constant = _worth(affinity, unmatched_rows, unmatched_columns)
    if not torch.isfinite(worth).all():
        raise InputError("affinity and unmatched costs are not all finite")
    if not worth.numel():
        zero, none = torch.zeros_like(constant), torch.zeros_like(constant, dtype=torch.int64)
        return Relaxed(worth.to(affinity.dtype), constant, zero, none, none == 0)
    first, second, values = (part.double().reshape(-1, *part.shape[-2:]) for part in (edges1, edges2, worth))
    with torch.inference_mode():
        solutions = _solve(
            first.detach(), second.detach(), values.detach(), ridge, partial, max_gap, constant.reshape(-1).tolist()
        )
    matching = _Optimum.apply(first, second, values, solutions).reshape(affinity.shape).to(affinity.dtype)

    def gathered(values: list[Any], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=affinity.device).reshape(constant.shape)

    return Relaxed(
        matching,
        gathered([solution.objective for solution in solutions], torch.float64),
        gathered([solution.gap for solution in solutions], torch.float64),
        gathered([solution.iterations for solution in solutions], torch.int64),
        gathered([solution.converged for solution in solutions], torch.bool),
    )


def match_graphs(
    edges1: Tensor,
    edges2: Tensor,
    affinity: Tensor,
    *,
    unmatched_rows: Tensor | None = None,
    unmatched_columns: Tensor | None = None,
    ridge: float = 1e-3,
    max_gap: float = 1e-6,
) -> Matched:
    """A good discrete matching: the relaxed one, rounded by assignment, then improved move by move.

    Arguments and errors are those of `relax`.
    """
    costs = {"unmatched_rows": unmatched_rows, "unmatched_columns": unmatched_columns}
    partial = unmatched_rows is not None
    with torch.no_grad():
        relaxed = relax(edges1, edges2, affinity, **costs, ridge=ridge, max_gap=max_gap)
        worth, constant = _worth(affinity, unmatched_rows, unmatched_columns)
    (*batch, n, m) = affinity.shape
    columns, objectives = np.full((constant.numel(), n), -1, np.int64), constant.cpu().numpy().reshape(-1).copy()
    if worth.numel():
        arrays = [part.detach().double().cpu().numpy() for part in (edges1, edges2, worth, relaxed.matching)]
        arrays = [array.reshape(-1, *array.shape[-2:]) for array in arrays]
        for row, (first, second, values, soft) in enumerate(zip(*arrays)):
            problem = Problem(first, second, values, 0.0, partial)
            columns[row] = descend(problem, rounded(soft, partial))
            objectives[row] += problem.objective(np.asarray(columns[row][:, None] == np.arange(m), np.float64))
    found = torch.from_numpy(columns).reshape(*batch, n).to(affinity.device)
    return Matched(found, torch.from_numpy(objectives).reshape(batch).to(affinity.device), relaxed)


def rounded(matching: Floats, partial: bool) -> Columns:
    """The column of each row ``[n]``, -1: none, with the greatest sum of the relaxed matching ``[n, m]``."""
    columns = np.full(len(matching), -1, np.int64)
    allowed = matching > LEAST_ROUNDED if partial else np.ones(matching.shape, np.bool_)
    for row, column in assign(matching, allowed):
        columns[row] = column
    return columns


def descend(problem: Problem, columns: Columns) -> Columns:
    """The matching ``[n]`` improved by the best of all moves, the ridge apart, until none lowers the cost.

    A move gives a row another column, whose owner gets the row's old one in exchange; or it leaves a row unmatched. In
    the partial form every node may be matched with a dummy without edges, so that all moves are exchanges.
    """
    n, m = problem.worth.shape
    size = n + m if problem.partial else n
    edges1, edges2, node = np.zeros((3, size, size))
    edges1[:n, :n], edges2[:m, :m] = problem.edges1, problem.edges2
    # What a pair costs alone: with all edges of both its nodes unanswered.
    node[:n, :m] = 0.5 * ((problem.edges1**2).sum(1)[:, None] + (problem.edges2**2).sum(0)) - problem.worth
    order = np.full(size, -1)
    order[:n] = np.where(columns < 0, m + np.arange(n), columns)
    order[n:] = np.setdiff1d(np.arange(size), order[:n])
    while True:
        answered = edges2[order][:, order]
        product = edges1 @ answered
        price = node[:, order] - 2 * product
        own = price.diagonal()
        change = price + price.T - own[:, None] - own - 4 * edges1 * answered
        first, second = np.unravel_index(change.argmin(), change.shape)
        if change[first, second] > -LEAST_GAIN:
            return np.where(order[:n] < m, order[:n], -1)
        order[[first, second]] = order[[second, first]]


def _check(
    edges1: Tensor, edges2: Tensor, affinity: Tensor, unmatched_rows: Tensor | None, unmatched_columns: Tensor | None
) -> None:
    """Raise where the parts of a problem are not what `relax` asks for."""
    (*batch, n, m) = affinity.shape
    if (unmatched_rows is None) != (unmatched_columns is None):
        raise OptionError("unmatched_rows and unmatched_columns: give both or neither")
    expected = {"edges1": (edges1, [n, n]), "edges2": (edges2, [m, m])}
    if unmatched_rows is not None and unmatched_columns is not None:
        expected |= {"unmatched_rows": (unmatched_rows, [n]), "unmatched_columns": (unmatched_columns, [m])}
    elif n != m:
        raise InputError(f"{n} rows and {m} columns cannot all be matched; give unmatched_rows and unmatched_columns")
    for name, (values, shape) in expected.items():
        if list(values.shape) != [*batch, *shape]:
            raise InputError(
                f"{name} has shape {list(values.shape)}; an affinity of {[*batch, n, m]} asks for {[*batch, *shape]}"
            )
    for name, edges in (("edges1", edges1), ("edges2", edges2)):
        if edges.numel():
            fault = (edges - edges.mT).abs().amax() + edges.diagonal(0, -2, -1).abs().amax()
            if not fault <= 1e-5 * edges.abs().amax():  # nor is it where a number is not finite
                raise InputError(f"{name} is not finite and symmetric with a diagonal of zeros")


def _worth(affinity: Tensor, unmatched_rows: Tensor | None, unmatched_columns: Tensor | None) -> tuple[Tensor, Tensor]:
    """What each pair is worth, ``[..., n, m]``, and the cost of matching nothing, ``[...]``, in float64."""
    if unmatched_rows is None or unmatched_columns is None:
        return affinity.double(), torch.zeros(affinity.shape[:-2], dtype=torch.float64, device=affinity.device)
    of_rows, of_columns = unmatched_rows.double(), unmatched_columns.double()
    worth = affinity.double() + of_rows[..., :, None] + of_columns[..., None, :]
    return worth, (of_rows.sum(-1) + of_columns.sum(-1)).detach()


def _solve(
    edges1: Tensor, edges2: Tensor, worth: Tensor, ridge: float, partial: bool, max_gap: float, offset: list[float]
) -> list[_Solution]:
    """Solve problems ``[b, ...]``: the splitting for all together, then each made exact, until every gap is small."""
    arrays = zip(edges1.cpu().numpy(), edges2.cpu().numpy(), worth.cpu().numpy())
    problems = [Problem(first, second, values, ridge, partial) for first, second, values in arrays]
    best: dict[int, _Solution] = {}

    def keep(row: int, found: tuple[Floats, Support], steps: int) -> bool:
        """Take what was found for a problem if it is better than what there was; whether its gap is small enough."""
        problem, matching = problems[row], problems[row].feasible(found[0])
        gap = problem.gap(matching)
        if row not in best or gap < best[row].gap:
            objective = problem.objective(matching) + offset[row]
            converged = gap <= max_gap * (1 + abs(objective))
            best[row] = _Solution(problem, found[1], matching, objective, gap, steps, converged)
        return best[row].converged

    def settled(row: int) -> bool:
        """Whether a problem is solved from the assignment by worth alone."""
        found = polish(problems[row], _assigned(problems[row]), FIRST_ROUNDS) if partial else None
        return found is not None and keep(row, found, 0)

    unsolved = [row for row in range(len(problems)) if not settled(row)]
    if not unsolved:
        return [best[row] for row in range(len(problems))]
    splitting = Splitting(edges1[unsolved], edges2[unsolved], worth[unsolved], ridge, partial)
    first = min(COARSEST, 1 / worth[0].numel())
    for tolerance in (*(first / 10**power for power in range(REFINEMENTS)), SPLITTING_ALONE):
        alone = tolerance == SPLITTING_ALONE
        steps = splitting.run(tolerance, 20_000 if alone else 2_000).tolist()
        rough = splitting.matching().cpu().numpy()
        still = []
        for place, row in enumerate(unsolved):
            guess = Support.of(rough[place], tolerance, partial)
            polished = None if alone else polish(problems[row], guess)
            if not keep(row, polished or (rough[place], guess), steps[place]):
                still.append(place)
        if not still:
            break
        if len(still) < len(unsolved):
            splitting.keep(still)
        unsolved = [unsolved[place] for place in still]
    return [best[row] for row in range(len(problems))]


def _assigned(problem: Problem) -> Support:
    """The support of the assignment of greatest worth, edges apart."""
    matching = np.zeros(problem.worth.shape)
    for row, column in assign(problem.worth.clip(0), problem.worth > 0):
        matching[row, column] = 1
    return Support.of(matching, COARSEST, partial=True)


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
