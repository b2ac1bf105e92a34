"""Graph matching: the recorded optima and gradients, all matchings of small graphs, and what a user may rely on."""

from itertools import permutations

import numpy as np
import pytest
import torch

from vis_core.errors import InputError, OptionError
from vis_core.tracking import graph_matching
from vis_core.tracking.graph_matching import match_graphs, relax

COUNTS = {"case_1_square": 13, "case_2_partial": 11, "case_3_ties": 7, "case_4_gradients": 7}


def named(*cases):
    return [pytest.param(case, index, id=f"{case}-{index}") for case in cases for index in range(COUNTS[case])]


class Recorded:
    """One recorded problem."""

    def __init__(self, shared, case, index):
        folder = shared / "parity" / "graph_matching" / case
        self.inputs, self.expected = (
            {key.split("/", 1)[1]: torch.from_numpy(arrays[key]) for key in arrays if key.startswith(f"{index}/")}
            for arrays in (np.load(folder / "inputs.npz"), np.load(folder / "expected.npz"))
        )
        self.graphs = [self.inputs[key] for key in ("A1", "A2", "B")]
        self.costs = {key: self.inputs[key] for key in ("unmatched_rows", "unmatched_columns") if key in self.inputs}
        self.ridge = float(self.inputs["ridge"])

    def relax(self):
        return relax(*self.graphs, ridge=self.ridge, **self.costs)

    def match(self):
        return match_graphs(*self.graphs, ridge=self.ridge, **self.costs)


def cost(columns, edges1, edges2, affinity, unmatched_rows=None, unmatched_columns=None):
    """Of a discrete matching, by the definition."""
    matching = (columns[:, None] == torch.arange(affinity.shape[1])).double()
    total = 0.5 * ((edges1 @ matching - matching @ edges2) ** 2).sum() - (affinity * matching).sum()
    if unmatched_rows is not None:
        total += unmatched_rows @ (1 - matching.sum(1)) + unmatched_columns @ (1 - matching.sum(0))
    return total


@pytest.mark.parametrize(("case", "index"), named("case_1_square", "case_2_partial", "case_3_ties"))
def test_the_relaxed_optimum_is_the_recorded_one_with_a_certificate(shared, case, index):
    recorded = Recorded(shared, case, index)
    found, expected = recorded.relax(), recorded.expected
    torch.testing.assert_close(found.objective, expected["objective"], atol=1e-6, rtol=1e-6)
    assert found.converged
    assert found.gap <= 1e-6 * (1 + found.objective.abs())
    if expected["unique"]:
        torch.testing.assert_close(found.matching, expected["P"], atol=1e-4, rtol=0)
        torch.testing.assert_close(found.matching.sum(1), expected["row_sums"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("case", "index"), named("case_4_gradients"))
def test_the_gradient_is_the_recorded_one(shared, case, index):
    recorded = Recorded(shared, case, index)
    for part in recorded.graphs:
        part.requires_grad_()
    found = recorded.relax()
    torch.testing.assert_close(found.matching.detach(), recorded.expected["P"], atol=1e-4, rtol=0)
    gradients = torch.autograd.grad((found.matching * recorded.inputs["cotangent"]).sum(), recorded.graphs)
    for name, gradient in zip(("A1", "A2", "B"), gradients):
        torch.testing.assert_close(gradient, recorded.expected[f"grad_{name}"], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("case", "index"), named("case_1_square", "case_2_partial"))
def test_the_discrete_matching_is_at_least_as_good_as_the_recorded_and_all_its_peers(shared, case, index):
    recorded = Recorded(shared, case, index)
    found = recorded.match()
    torch.testing.assert_close(found.objective, cost(found.columns, *recorded.graphs, **recorded.costs))
    used = found.columns[found.columns >= 0]
    assert len(used.unique()) == len(used)
    if not recorded.costs:
        assert len(used) == len(found.columns)
    if recorded.expected["unique"]:
        for peer in ("refined", "discrete", "hungarian", "rrwm", "sm", "ipfp"):
            if f"{peer}/objective" in recorded.expected:
                assert found.objective <= recorded.expected[f"{peer}/objective"] + 1e-6, peer


@pytest.mark.parametrize(("case", "index"), named("case_1_square", "case_2_partial", "case_3_ties"))
def test_where_the_active_set_fails_the_splitting_alone_comes_as_near(shared, monkeypatch, case, index):
    recorded = Recorded(shared, case, index)
    monkeypatch.setattr(graph_matching, "polish", lambda *_: None)
    found = recorded.relax()
    torch.testing.assert_close(found.objective, recorded.expected["objective"], atol=1e-6, rtol=1e-6)
    assert found.converged
    assert found.gap <= 1e-6 * (1 + found.objective.abs())


def geometry(random, *shape):
    """Distances between random points of the plane ``[..., n, n]``."""
    points = torch.rand(*shape, 2, generator=random, dtype=torch.float64)
    return (points[..., :, None, :] - points[..., None, :, :]).square().sum(-1).sqrt()


def problem(seed, n, m, *batch):
    """Two random graphs, their affinity, and the costs of the unmatched."""
    random = torch.Generator().manual_seed(seed)
    affinity = torch.randn(*batch, n, m, generator=random, dtype=torch.float64) / 2
    costs = {
        "unmatched_rows": torch.rand(*batch, n, generator=random, dtype=torch.float64) / 2,
        "unmatched_columns": torch.rand(*batch, m, generator=random, dtype=torch.float64) / 2,
    }
    return [geometry(random, *batch, n), geometry(random, *batch, m), affinity], costs


def all_matchings(n, m, partial):
    """Every matching, as columns ``[n]`` with -1 for none."""
    free = [-1] * n if partial else []
    return set(permutations([*range(m), *free], n))


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_no_discrete_matching_costs_less_than_the_relaxed_optimum_less_its_gap(seed, partial):
    graphs, costs = problem(seed, 4, 4 - partial)
    costs = costs if partial else {}
    least = min(cost(torch.tensor(columns), *graphs, **costs) for columns in all_matchings(*graphs[2].shape, partial))
    relaxed, matched = relax(*graphs, ridge=0.0, **costs), match_graphs(*graphs, **costs)
    assert relaxed.objective - relaxed.gap <= least
    assert least <= matched.objective + 1e-12


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_no_single_move_improves_the_discrete_matching(seed, partial):
    graphs, costs = problem(seed, 5, 5 + partial)
    costs = costs if partial else {}
    matched = match_graphs(*graphs, **costs)
    columns = matched.columns.tolist()
    for row in range(5):
        for column in range(-1 if partial else 0, graphs[2].shape[1]):
            moved = list(columns)
            if column in columns and column >= 0:
                moved[columns.index(column)] = columns[row]
            moved[row] = column
            assert cost(torch.tensor(moved), *graphs, **costs) >= matched.objective - 1e-8


@pytest.mark.parametrize("ridge", [1e-2, 1.0])
@pytest.mark.parametrize("partial", [False, True])
def test_the_gradient_is_that_of_finite_differences_in_edges_affinity_and_costs(partial, ridge):
    (edges1, edges2, affinity), costs = problem(3, 3, 3 + partial, 2)

    def solved(edges1, edges2, affinity, *costs):
        # Symmetric whatever is changed, as edges have to be.
        parts = [(edges + edges.mT) / 2 * (1 - torch.eye(edges.shape[-1])) for edges in (edges1, edges2)]
        named_costs = dict(zip(("unmatched_rows", "unmatched_columns"), costs))
        return relax(*parts, affinity, ridge=ridge, max_gap=1e-12, **named_costs).matching

    inputs = [edges1, edges2, affinity, *(costs.values() if partial else ())]
    assert torch.autograd.gradcheck(solved, [part.requires_grad_() for part in inputs], eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("partial", [False, True])
def test_problems_solved_together_are_solved_as_alone(partial):
    graphs, costs = problem(5, 6, 6 + partial, 2, 3)
    costs = costs if partial else {}
    graphs[2].requires_grad_()
    together, matched = relax(*graphs, **costs), match_graphs(*graphs, **costs)
    assert together.matching.shape == (2, 3, 6, 6 + partial)
    assert together.gap.shape == together.converged.shape == matched.objective.shape == (2, 3)
    cotangent = torch.arange(together.matching[0, 0].numel(), dtype=torch.float64).reshape(6, -1)
    (gradient,) = torch.autograd.grad((together.matching * cotangent).sum(), graphs[2])
    for place in np.ndindex(2, 3):
        parts = [part[place].detach() for part in graphs]
        parts[2].requires_grad_()
        own = {name: values[place] for name, values in costs.items()}
        alone = relax(*parts, **own)
        torch.testing.assert_close(together.matching[place], alone.matching, atol=1e-7, rtol=0)
        assert matched.columns[place].tolist() == match_graphs(*parts, **own).columns.tolist()
        (expected,) = torch.autograd.grad((alone.matching * cotangent).sum(), parts[2])
        torch.testing.assert_close(gradient[place], expected, atol=1e-6, rtol=1e-6)


def test_a_batch_of_hard_and_easy_problems_is_solved_to_the_last(monkeypatch):
    graphs, costs = problem(6, 6, 6, 4)
    expected = relax(*graphs, **costs)
    polish, tried = graph_matching.polish, []

    def fails_for_some(problem, guess, *first):
        if first:
            return None
        tried.append(problem)
        return None if len(tried) in (2, 4, 5) else polish(problem, guess)

    monkeypatch.setattr(graph_matching, "polish", fails_for_some)
    found = relax(*graphs, **costs)
    assert len(tried) > 5
    assert found.converged.all()
    assert found.iterations[1] > found.iterations[0]
    torch.testing.assert_close(found.matching, expected.matching, atol=1e-6, rtol=0)


def test_what_the_assignment_nearly_solves_needs_no_splitting_and_has_the_same_optimum(monkeypatch):
    random = torch.Generator().manual_seed(7)
    points = torch.rand(30, 2, generator=random, dtype=torch.float64)
    moved = points + 0.01 * torch.randn(30, 2, generator=random, dtype=torch.float64)
    edges = [torch.exp(-torch.cdist(x, x).square() / 0.1) - torch.eye(30, dtype=torch.float64) for x in (points, moved)]
    affinity = 1 - 3 * torch.cdist(points, moved)
    costs = dict.fromkeys(("unmatched_rows", "unmatched_columns"), torch.full((30,), 0.1, dtype=torch.float64))
    quick = relax(*edges, affinity, **costs)
    assert quick.iterations == 0 and quick.converged
    monkeypatch.setattr(graph_matching, "FIRST_ROUNDS", 0)
    full = relax(*edges, affinity, **costs)
    assert full.iterations > 0
    torch.testing.assert_close(quick.matching, full.matching, atol=1e-8, rtol=0)


def test_nodes_in_another_order_are_matched_alike():
    (edges1, edges2, affinity), costs = problem(7, 7, 9)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    moved = edges1[order][:, order], edges2, affinity[order]
    moved_costs = {**costs, "unmatched_rows": costs["unmatched_rows"][order]}
    expected, found = match_graphs(edges1, edges2, affinity, **costs), match_graphs(*moved, **moved_costs)
    torch.testing.assert_close(found.relaxed.matching, expected.relaxed.matching[order], atol=1e-6, rtol=0)
    torch.testing.assert_close(found.objective, expected.objective)


def test_single_precision_is_solved_in_double_and_given_back_in_single():
    graphs, _ = problem(8, 30, 30)
    rough = [part.float() for part in graphs]
    found, exact = relax(*rough), relax(*(part.double() for part in rough))
    assert found.matching.dtype == torch.float32
    assert found.objective.dtype == found.gap.dtype == torch.float64
    assert found.converged
    torch.testing.assert_close(found.matching, exact.matching.float())


@pytest.mark.parametrize(("n", "m"), [(0, 3), (2, 0), (0, 0)])
def test_where_one_side_is_empty_nothing_is_matched(n, m):
    graphs, costs = problem(0, n, m, 2)
    relaxed, matched = relax(*graphs, **costs), match_graphs(*graphs, **costs)
    assert relaxed.matching.shape == (2, n, m)
    assert relaxed.converged.all()
    assert matched.columns.tolist() == [[-1] * n] * 2
    expected = costs["unmatched_rows"].sum(-1) + costs["unmatched_columns"].sum(-1)
    torch.testing.assert_close(matched.objective, expected)


def test_pairs_that_are_worse_than_none_are_not_matched():
    graphs, costs = problem(0, 4, 3)
    graphs[2] = torch.full((4, 3), -2.0, dtype=torch.float64)
    matched = match_graphs(*graphs, **costs)
    assert matched.columns.tolist() == [-1] * 4
    assert not matched.relaxed.matching.any()


def test_graphs_that_make_no_sense_are_refused_by_name():
    (edges1, edges2, affinity), costs = problem(0, 4, 4)
    rows, columns = costs.values()
    with pytest.raises(InputError, match=r"edges2 has shape \[3, 4\]"):
        relax(edges1, edges2[:3], affinity)
    with pytest.raises(InputError, match="4 rows and 3 columns"):
        relax(edges1, edges2[:3, :3], affinity[:, :3])
    with pytest.raises(InputError, match="edges1 is not finite and symmetric"):
        relax(edges1.triu(), edges2, affinity)
    with pytest.raises(InputError, match="diagonal of zeros"):
        relax(edges1 + torch.eye(4), edges2, affinity)
    with pytest.raises(InputError, match="edges2 is not finite"):
        relax(edges1, edges2 * torch.nan, affinity)
    with pytest.raises(InputError, match="affinity"):
        relax(edges1, edges2, affinity / 0)
    with pytest.raises(InputError, match="unmatched_columns has shape"):
        relax(edges1, edges2, affinity, unmatched_rows=rows, unmatched_columns=columns[:2])
    with pytest.raises(OptionError, match="both or neither"):
        match_graphs(edges1, edges2, affinity, unmatched_rows=rows)
    with pytest.raises(OptionError, match="ridge is -1"):
        relax(edges1, edges2, affinity, ridge=-1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("n", "m"), [(6, 8), (30, 30)])
def test_a_device_gives_the_numbers_of_the_host(n, m):
    graphs, costs = problem(9, n, m, 3)
    results = []
    for device in ("cpu", "cuda"):
        parts = [part.to(device).requires_grad_() for part in graphs]
        found = relax(*parts, **{name: values.to(device) for name, values in costs.items()}, ridge=1.0)
        assert found.matching.device.type == found.gap.device.type == device
        gradients = torch.autograd.grad(found.matching.square().sum(), parts)
        results.append([values.cpu() for values in (found.matching, found.objective, *gradients)])
    for host, device in zip(*results):
        torch.testing.assert_close(device, host, atol=1e-6, rtol=1e-6)
