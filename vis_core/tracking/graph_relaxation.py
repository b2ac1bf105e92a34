"""The two methods that solve the relaxed matching of two graphs: a splitting method that comes near, and an active set.

Both minimise 1/2 ||A1 P - P A2||^2 - <B, P> + mu/2 ||P||^2 over P >= 0 whose rows and columns sum to 1, or to at most 1
(`partial`); see `vis_core.tracking.graph_matching`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vis_core.nn.matching import linear_sum_assignment

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

OVER_RELAXATION = 1.6
CHECKED_EVERY = 20
ADAPTED_UNTIL = 1000
DENSE_UNKNOWNS = 160  # up to here, a step as one matrix of unknowns by unknowns is quicker than one by eigenvectors
ROUNDS = 120
BOLD_ROUNDS = 15
TINY = 1e-10
LU_UNKNOWNS = 100  # up to here one elimination is quicker
CHOLESKY_RIDGE = 1e-4


@dataclass(frozen=True, eq=False)
class Problem:
    """One problem: edges ``[n, n]`` and ``[m, m]``, symmetric, and the worth of each pair ``[n, m]``."""

    edges1: Floats
    edges2: Floats
    worth: Floats
    ridge: float
    partial: bool

    def objective(self, matching: Floats) -> float:
        """The cost of a matching."""
        residual = self.edges1 @ matching - matching @ self.edges2
        linear = float((self.worth * matching).sum())
        return 0.5 * float((residual**2).sum()) - linear + 0.5 * self.ridge * float((matching**2).sum())

    def gradient(self, matching: Floats) -> Floats:
        """Of the cost."""
        residual = self.edges1 @ matching - matching @ self.edges2
        return self.edges1 @ residual - residual @ self.edges2 - self.worth + self.ridge * matching

    def gap(self, matching: Floats) -> float:
        """How far the cost of an allowed matching may be above the least one, by linear minimisation."""
        gradient = self.gradient(matching)
        reachable = np.minimum(gradient, 0) if self.partial else gradient
        return float((gradient * matching).sum() - reachable[linear_sum_assignment(reachable)].sum())

    def feasible(self, matching: Floats) -> Floats:
        """An allowed matching near the given one."""
        near = np.maximum(matching, 0)
        near = near / np.maximum(near.sum(1, keepdims=True), 1)
        near = near / np.maximum(near.sum(0, keepdims=True), 1)
        if not self.partial:
            rows, columns = np.maximum(1 - near.sum(1), 0), np.maximum(1 - near.sum(0), 0)
            if rows.sum() > 0:
                near = near + rows[:, None] * (columns / rows.sum())
        return near


@dataclass(frozen=True, eq=False)
class Support:
    """Where an optimum lies.

    Attributes:
        entries: ``[n, m]``, those that are not held at 0.
        rows: ``[n]``, whose sum is held at 1.
        columns: ``[m]``, likewise.
    """

    entries: Bools
    rows: Bools
    columns: Bools

    @classmethod
    def of(cls, matching: Floats, tolerance: float, partial: bool) -> Support:
        """That of a matching known to a tolerance."""
        entries = matching > tolerance
        if partial:
            least = 1 - 10 * tolerance
            return cls(entries, matching.sum(1) > least, matching.sum(0) > least)
        entries[np.arange(len(entries)), matching.argmax(1)] = True
        entries[matching.argmax(0), np.arange(entries.shape[1])] = True
        return cls(entries, np.ones(entries.shape[0], np.bool_), np.ones(entries.shape[1], np.bool_))


class ActiveSet:
    """Quadratic programs on a support, where the constraints are equations."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.squared1, self.squared2 = problem.edges1 @ problem.edges1, problem.edges2 @ problem.edges2

    def solve(self, support: Support, linear: Floats, total: float) -> tuple[Floats, Floats, Floats]:
        """The least of 1/2 <X, H X> - <linear, X> on the support, with held rows and columns summing to `total`.

        Returns:
            X ``[n, m]``, and the multipliers of the rows ``[n]`` and columns ``[m]``.

        Raises:
            np.linalg.LinAlgError: there is no such X, or no single one.
        """
        n, m = linear.shape
        i, j = np.nonzero(support.entries)
        rows, columns = np.nonzero(support.rows)[0], np.nonzero(support.columns)[0]
        quadratic = self._quadratic(i, j)
        sums = np.concatenate((rows[:, None] == i, columns[:, None] == j)).astype(np.float64)
        if len(i) > LU_UNKNOWNS and self.problem.ridge >= CHOLESKY_RIDGE:
            entries, multipliers = _by_cholesky(quadratic, sums, linear[i, j], total)
        else:
            entries, multipliers = _by_elimination(quadratic, sums, linear[i, j], total)
        solution, of_rows, of_columns = np.zeros((n, m)), np.zeros(n), np.zeros(m)
        solution[i, j], of_rows[rows], of_columns[columns] = entries, *np.split(multipliers, [len(rows)])
        return solution, of_rows, of_columns

    def _quadratic(self, i: Indices, j: Indices) -> Floats:
        """Second derivatives of the cost between entries (i, j) ``[s, s]``."""
        form = self.problem.edges1.take(i, 0).take(i, 1)
        form *= (-2 * self.problem.edges2).take(j, 0).take(j, 1)
        for shared, others, squared in ((j, i, self.squared1), (i, j, self.squared2)):
            places = np.flatnonzero(shared[:, None] == shared)
            first, second = np.divmod(places, len(shared))
            form.reshape(-1)[places] += squared[others[first], others[second]]
        np.einsum("ii->i", form)[:] += self.problem.ridge + TINY
        return form


def _by_elimination(quadratic: Floats, sums: Floats, linear: Floats, total: float) -> tuple[Floats, Floats]:
    """Minimiser ``[s]`` and multipliers ``[k]`` of a quadratic program with the equations sums X = total."""
    held, count = sums.shape
    system = np.zeros((count + held, count + held))
    system[:count, :count], system[count:, :count], system[:count, count:] = quadratic, sums, sums.T
    np.einsum("ii->i", system)[count:] = -TINY
    found = np.linalg.solve(system, np.concatenate((linear, np.full(held, total))))
    return found[:count], found[count:]


def _by_cholesky(quadratic: Floats, sums: Floats, linear: Floats, total: float) -> tuple[Floats, Floats]:
    """The same in half the time, for what is surely positive definite."""
    from scipy.linalg import cho_factor, solve_triangular  # loading it takes long, and few programs match graphs

    factor, _ = cho_factor(quadratic.T, lower=True, overwrite_a=True, check_finite=False)
    right = np.concatenate((sums, linear[None])).T
    half = solve_triangular(factor, right, lower=True, overwrite_b=True, check_finite=False)
    of_sums, of_linear = half[:, :-1], half[:, -1]
    system = of_sums.T @ of_sums
    np.einsum("ii->i", system)[:] += TINY
    multipliers = np.linalg.solve(system, of_sums.T @ of_linear - total)
    rest = of_linear - of_sums @ multipliers
    return solve_triangular(factor, rest, trans="T", lower=True, check_finite=False), multipliers


def polish(problem: Problem, guess: Support, rounds: int = ROUNDS) -> tuple[Floats, Support] | None:
    """The optimum and its support, from a guess of the support; None if it is not reached in so many rounds.

    The first rounds change many constraints at once. After them only the most violated one changes, since sets of
    changes can follow each other in a cycle.
    """
    active = ActiveSet(problem)
    entries, rows, columns = guess.entries.copy(), guess.rows.copy(), guess.columns.copy()
    most = max(problem.worth.shape) // 2 + 1
    for round_ in range(rounds):
        support = Support(entries, rows, columns)
        try:
            matching, of_rows, of_columns = active.solve(support, problem.worth, 1.0)
        except np.linalg.LinAlgError:
            return None
        reduced = problem.gradient(matching) + of_rows[:, None] + of_columns
        sums = np.concatenate((matching.sum(1), matching.sum(0)))
        held, multipliers = np.concatenate((rows, columns)), np.concatenate((of_rows, of_columns))
        # Violations, each by how much; 0: none.
        negative = np.where(entries & (matching < -TINY), -matching, 0)
        missing = np.where(~entries & (reduced < -1e-8), -reduced, 0)
        exceeding = np.where(~held & (sums > 1 + 1e-9), sums - 1, 0)
        loose = np.where(held & (multipliers < -1e-9), -multipliers, 0) if problem.partial else np.zeros(len(held))
        if not (negative.any() or missing.any() or exceeding.any() or loose.any()):
            return matching, support
        if round_ < BOLD_ROUNDS:
            if round_ >= 3 and negative.any():
                missing[:] = 0
            elif np.count_nonzero(missing) > most:
                missing[missing < np.partition(missing, -most, axis=None)[-most]] = 0
        else:
            broken = negative.any() or exceeding.any()
            first, second = (negative, exceeding) if broken else (missing, loose)
            if broken:
                missing, loose = np.zeros_like(missing), np.zeros_like(loose)
            greatest = max(first.max(), second.max())
            first[first < greatest], second[second < greatest] = 0, 0
        entries = (entries & (negative == 0)) | (missing > 0)
        held = (held & (loose == 0)) | (exceeding > 0)
        rows, columns = held[: len(rows)], held[len(rows) :]
    return None


class Splitting:
    """Alternating directions: a step to the optimum among matrices with the right sums, one to what is not negative.

    In the partial form the matching has one more row and column, for what the sums of the others lack of 1; their
    corner stays 0. The one state is X + Y: what is at least 0 in it is the matching, what is below 0 its scaled
    multipliers. In the eigenvectors of the edges the quadratic form is diagonal.
    """

    def __init__(self, edges1: Tensor, edges2: Tensor, worth: Tensor, ridge: float, partial: bool) -> None:
        values1, vectors1 = torch.linalg.eigh(edges1)
        values2, vectors2 = torch.linalg.eigh(edges2)
        curvature = (values1[:, :, None] - values2[:, None, :]).square_().add_(ridge)
        self.size = n, m = worth.shape[1:]
        scale = 0.1 * worth.abs().mean((1, 2)) * max(n, m) ** 0.5
        self.rho = (0.2 * curvature.mean((1, 2)) + scale).clamp_min(1e-6)
        self.state = torch.full_like(worth, 1 / max(n, m))
        if partial:
            vectors1, vectors2, curvature, worth, self.state = map(
                _extended, (vectors1, vectors2, curvature, worth, self.state)
            )
            vectors1[:, n, n] = vectors2[:, m, m] = 1
            curvature[:, n, m] = torch.inf
            self.state[:, :n, m] = max(0, 1 - m / n)
            self.state[:, n, :m] = max(0, 1 - n / m)
        self.vectors1, self.vectors2, self.curvature, self.worth = vectors1, vectors2, curvature, worth
        self.steps = torch.zeros(len(worth), dtype=torch.int64, device=worth.device)

    def keep(self, rows: list[int]) -> None:
        """Go on with these problems of the batch only."""
        for name in ("vectors1", "vectors2", "curvature", "worth", "rho", "state", "steps"):
            setattr(self, name, getattr(self, name)[rows])

    def matching(self) -> Tensor:
        """``[b, n, m]``, at least 0; its sums are nearly right."""
        n, m = self.size
        return self.state[:, :n, :m].clamp_min(0)

    def run(self, tolerance: float, limit: int) -> Tensor:
        """Step until nothing moves by more than the tolerance, `limit` steps at most; all steps so far ``[b]``."""
        dense = self.state[0].numel() <= DENSE_UNKNOWNS
        step = self._small_step() if dense else self._large_step()
        state = self.state.flatten(1)[:, None] if dense else self.state
        for taken in range(CHECKED_EVERY, limit + 1, CHECKED_EVERY):
            for _ in range(CHECKED_EVERY):
                before, state = state, step(state)
            old, new = before.clamp_min(0), state.clamp_min(0)
            dual = (new - old).abs().amax((1, 2))
            primal = ((state - before + OVER_RELAXATION * old) / OVER_RELAXATION - new).abs().amax((1, 2))
            if max(float(primal.amax()), float(dual.amax())) < tolerance:
                break
            if taken % (2 * CHECKED_EVERY) == 0 and taken <= ADAPTED_UNTIL:
                factor = 1 + (primal > 10 * dual).to(primal) - 0.5 * (dual > 10 * primal).to(primal)
                if (factor != 1).any():
                    self.rho = self.rho * factor
                    state = new + (state - new) / factor[:, None, None]
                    step = self._small_step() if dense else self._large_step()
        self.steps = self.steps + taken
        self.state = state.reshape(self.state.shape)
        return self.steps

    def _small_step(self) -> Callable[[Tensor], Tensor]:
        """A step from ``[b, 1, unknowns]`` as one product with a matrix of them all, for the present rho."""
        inverse = 1 / (self.curvature + self.rho[:, None, None])
        (n, m), (rows, columns) = self.size, inverse.shape[1:]
        unknowns = rows * columns
        vectors = self.vectors1[:, :, None, :, None] * self.vectors2[:, None, :, None, :]
        vectors = vectors.reshape(-1, unknowns, unknowns)
        whole = vectors * inverse.reshape(-1, 1, unknowns) @ vectors.mT
        entries = whole.reshape(-1, rows, columns, unknowns)
        sums = torch.cat((entries[:, :n].sum(2), entries[:, :, :m].sum(1)), 1)
        entries = sums.reshape(-1, n + m, rows, columns)
        system = torch.cat((entries[:, :, :n].sum(3), entries[:, :, :, :m].sum(2)), 2)
        if rows == n:
            system = _solvable(system, torch.cat((system.new_ones(1, n, 1), -system.new_ones(1, m, 1)), 1))
        prices = torch.linalg.solve(system, sums)
        operator = whole - sums.mT @ prices
        shift = self.worth.reshape(-1, 1, unknowns) @ operator + prices.sum(1, keepdim=True)
        shift *= OVER_RELAXATION
        operator *= OVER_RELAXATION * self.rho[:, None, None]
        operator.diagonal(0, 1, 2).sub_(OVER_RELAXATION / 2)

        def step(state: Tensor) -> Tensor:
            return torch.baddbmm(torch.add(shift, state, alpha=1 - OVER_RELAXATION / 2), state.abs(), operator)

        return step

    def _large_step(self) -> Callable[[Tensor], Tensor]:
        """A step from ``[b, rows, columns]`` by eigenvectors, without any matrix of unknowns by unknowns."""
        inverse = 1 / (self.curvature + self.rho[:, None, None])
        n, (rows, columns) = self.size[0], inverse.shape[1:]
        vectors1, vectors2 = self.vectors1, self.vectors2
        # The equations of the sums are rotated as the matching is.
        ones1, ones2 = vectors1.sum(1)[:, :, None], vectors2.sum(1)[:, None, :]
        mixed = ones1 * inverse * ones2
        upper = torch.cat((torch.diag_embed((inverse * ones2.square()).sum(2)), mixed), 2)
        lower = torch.cat((mixed.mT, torch.diag_embed((inverse * ones1.square()).sum(1))), 2)
        system = torch.cat((upper, lower), 1)
        if rows == n:
            multipliers = torch.linalg.inv(_solvable(system, torch.cat((ones1, -ones2.mT), 1)))
        else:  # no equation for what is lacking
            free = torch.zeros(rows + columns, dtype=torch.bool, device=system.device)
            free[[n, -1]] = True
            system = system.masked_fill(free[:, None] | free, 0)
            system.diagonal(0, 1, 2)[:, free] = 1
            multipliers = torch.linalg.inv(system).masked_fill(free[:, None] | free, 0)
        shift = -(multipliers @ torch.cat((ones1, ones2.mT), 1))
        linear = vectors1.mT @ self.worth @ vectors2 * inverse
        weight = inverse * self.rho[:, None, None]
        left, right, back, forth = vectors1.mT.contiguous(), vectors2, OVER_RELAXATION * vectors1, vectors2.mT

        def step(state: Tensor) -> Tensor:
            size = state.abs()
            inner = torch.addcmul(linear, torch.bmm(torch.bmm(left, size), right), weight)
            sums = torch.cat((torch.bmm(inner, ones2.mT), torch.bmm(inner.mT, ones1)), 1)
            prices = torch.baddbmm(shift, multipliers, sums)
            price = torch.addcmul(prices[:, :rows] * ones2, ones1, prices[:, rows:].mT)
            inner = torch.addcmul(inner, inverse, price, value=-1)
            base = torch.add(state * (1 - OVER_RELAXATION / 2), size, alpha=-OVER_RELAXATION / 2)
            return torch.baddbmm(base, torch.bmm(back, inner), forth)

        return step


def _extended(matrices: Tensor) -> Tensor:
    """``[b, n, m]`` with one more row and column of zeros."""
    return torch.nn.functional.pad(matrices, (0, 1, 0, 1))


def _solvable(system: Tensor, direction: Tensor) -> Tensor:
    """The equations of the sums ``[b, n + m, n + m]``, made regular where nothing may be lacking.

    Rows and columns then have one total, so that the system is singular in a direction ``[b, n + m, 1]``, of rows
    against columns; along it nothing happens.
    """
    scale = system.diagonal(0, 1, 2).mean(1)[:, None, None] / system.shape[1]
    return system + scale * direction * direction.mT
