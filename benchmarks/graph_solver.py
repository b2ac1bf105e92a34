"""Cost of the matchings found, and milliseconds, of `vis_core.tracking.graph_matching` beside pygmtools.

    OMP_NUM_THREADS=1 python benchmarks/graph_solver.py [--nodes 5 --nodes 10] [--problems 12]

The peers are RRWM, SM and IPFP of pygmtools 0.6.0, NumPy, default settings; it is no part of the project:
`pip install pygmtools==0.6.0`, for instance with `--target FOLDER` and FOLDER in PYTHONPATH. Problems: random points of
the plane, the second graph their noisy copy in another order; edges are distances, gaussians of them, or 0 and 1, in
turn; affinity is the cosine of noisy features. All methods take turns with the same problem, on one thread; the figure
of a problem is the least of all rounds, in CPU time, since a neighbour's load only ever adds, and the table has the
means over problems. The peers' times count building their matrix of all pairs of pairs, and assignment; ours count the
relaxation to its certified gap, assignment and descent. A peer is also given our descent, whose time is then left out.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated

import numpy as np
import torch
import typer
from conditions import Quick, tell
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from vis_core.tracking.graph_matching import descend, match_graphs
from vis_core.tracking.graph_relaxation import Problem

PEERS = ("rrwm", "sm", "ipfp")
KINDS = ("distances", "gaussians", "0 and 1")
EQUAL = 1e-6
console = Console(width=160)


def random_problem(nodes: int, number: int) -> Problem:
    """Two graphs of as many nodes, one the other's noisy copy."""
    random = np.random.default_rng((nodes, number))
    points, features = random.random((nodes, 2)), random.standard_normal((nodes, 16))
    order = random.permutation(nodes)
    moved = points[order] + 0.03 * random.standard_normal((nodes, 2))
    changed = features[order] + 1.5 * random.standard_normal((nodes, 16))
    features, changed = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (features, changed))
    kind = KINDS[number % len(KINDS)]
    return Problem(edges(points, kind), edges(moved, kind), features @ changed.T, 0.0, partial=False)


def edges(points: np.ndarray, kind: str) -> np.ndarray:
    """Edge weights of points ``[n, 2]``."""
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    if kind == "distances":
        return distances
    weights = np.exp(-((distances / 0.15) ** 2) / 2) if kind == "gaussians" else np.where(distances < 0.35, 1.0, 0.0)
    np.fill_diagonal(weights, 0)
    return weights


def peer_columns(solver: Callable[..., np.ndarray], problem: Problem) -> np.ndarray:
    """The column of each row by a method of pygmtools."""
    nodes = len(problem.worth)
    pairs = np.kron(problem.edges2, problem.edges1)
    pairs[np.diag_indices_from(pairs)] += problem.worth.flatten(order="F")
    soft = np.asarray(solver(pairs, nodes, nodes)).reshape(nodes, nodes)
    return linear_sum_assignment(soft, maximize=True)[1]


def our_columns(problem: Problem) -> np.ndarray:
    """The column of each row by the project's method."""
    parts = (torch.from_numpy(part) for part in (problem.edges1, problem.edges2, problem.worth))
    return match_graphs(*parts).columns.numpy()


def cost(problem: Problem, columns: np.ndarray) -> float:
    """Of a matching."""
    return problem.objective((columns[:, None] == np.arange(len(columns))).astype(np.float64))


def main(
    nodes: Annotated[list[int] | None, typer.Option(help="a side; 5, 10, 20, 40 and 70 if not given")] = None,
    problems: Annotated[int, typer.Option(help="of each size")] = 12,
    rounds: Annotated[int, typer.Option(help="how often each is measured")] = 3,
    quick: Quick = False,
) -> None:
    """Measure graph matching beside pygmtools."""
    if quick:
        nodes, problems, rounds = [5, 10], 3, 1
    methods: dict[str, Callable[[Problem], np.ndarray]] = {"ours": our_columns}
    try:
        import pygmtools
    except ImportError as error:
        console.print(f"[yellow]the peers are left out[/]: {error}; pip install pygmtools==0.6.0")
    else:
        pygmtools.set_backend("numpy")
        methods |= {name: partial(peer_columns, getattr(pygmtools, name)) for name in PEERS}
    peers = [name for name in methods if name != "ours"]
    if os.environ.get("OMP_NUM_THREADS") != "1":
        console.print("[yellow]OMP_NUM_THREADS is not 1: NumPy may use more threads than one[/]")
    torch.set_num_threads(1)
    table = Table("nodes", "method", "ms", "ms / ours", "ours better / equal / worse", "same, with our descent")
    for count in nodes or (5, 10, 20, 40, 70):
        seconds = {name: np.full(problems, np.inf) for name in methods}
        differences = {name: np.zeros((2, problems)) for name in peers}
        for number in range(problems):
            problem, found = random_problem(count, number), {}
            for _ in range(rounds):
                for name, method in methods.items():
                    start = time.process_time()
                    found[name] = method(problem)
                    seconds[name][number] = min(seconds[name][number], time.process_time() - start)
            tell(f"{count} nodes: problem {number + 1} of {problems}")
            least = cost(problem, found["ours"])
            for name in peers:
                costs = cost(problem, found[name]), cost(problem, descend(problem, found[name]))
                differences[name][:, number] = np.subtract(costs, least)
        for name in methods:
            ratio = seconds[name].mean() / seconds["ours"].mean()
            verdicts = [verdict(each) for each in differences[name]] if name in differences else ["", ""]
            table.add_row(str(count), name, f"{1e3 * seconds[name].mean():.2f}", f"{ratio:.2f}", *verdicts)
    console.print(table)


def verdict(differences: np.ndarray) -> str:
    """How often the other one costs more, as much, and less."""
    better, worse = (differences > EQUAL).sum(), (differences < -EQUAL).sum()
    return f"{better} / {len(differences) - better - worse} / {worse}"


if __name__ == "__main__":
    typer.run(main)
