"""The best assignment: no other one is worth more, whatever is allowed."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from vis_core.tracking.assignment import assign


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("levels", [0, 3])
def test_no_other_assignment_is_worth_more(share, levels):
    random = np.random.default_rng(int(10 * share) + levels)
    for rows, columns in random.integers(0, 12, (60, 2)):
        worth = random.random((rows, columns)) if not levels else random.integers(1, levels + 1, (rows, columns)) / 4
        allowed = random.random((rows, columns)) < share
        found = assign(worth, allowed)
        masked = np.where(allowed, worth, 0)
        best = linear_sum_assignment(masked, maximize=True)
        assert sum(worth[pair] for pair in found) == pytest.approx(masked[best].sum(), abs=1e-12)
        assert all(allowed[pair] for pair in found)
        for side in zip(*found):
            assert len(set(side)) == len(side)
        if not levels:  # no two are worth the same
            assert found == [(i, j) for i, j in zip(*best) if allowed[i, j]]


def test_a_crowd_that_wants_the_same_few_is_shared_out():
    worth = np.add.outer(np.linspace(0.1, 0.2, 40), np.linspace(0.9, 0.1, 30))
    found = assign(worth, worth > 0)
    assert len(found) == 30 and sum(worth[pair] for pair in found) == pytest.approx(
        worth[linear_sum_assignment(worth, maximize=True)].sum()
    )
