"""Graph matching: the recorded optima and gradients, the best matchings of small graphs, and what a user may rely on."""

from itertools import permutations

import numpy as np
import pytest
import torch

from vis_core.errors import InputError, OptionError
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
