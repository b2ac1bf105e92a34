"""The published matching of frames: recorded optima, and what makes them optima."""

import pytest
import torch

from tests.vis_core.models.gmp_vis.recorded_clips import Case, recorded_weights
from vis_core.errors import InputError
from vis_core.models.gmp_vis.frame_graphs import frame_similarity, relaxed_matching, votes


@pytest.fixture(scope="module")
def recorded_transform(shared, fill):
    layer = torch.nn.Linear(64, 64).requires_grad_(False)
    layer.load_state_dict(recorded_weights(shared, fill, 24, "gmm.cross_graph."))
    return layer


@pytest.fixture(scope="module")
def identity():
    layer = torch.nn.Linear(64, 64).requires_grad_(False)
    torch.nn.init.eye_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    return layer


def test_sequences_are_matched_as_recorded(shared, recorded_transform, identity):
    case = Case(shared, "case_7_matching")
    loose, exact = "match_gt, voted, voted_all_rows", "relaxed"
    for i in range(5):
        transform = recorded_transform if case.inputs[f"{i}/own_weights"] else identity
        similarity = frame_similarity(case.tensor(f"{i}/a"), case.tensor(f"{i}/b"), transform)
        relaxed = relaxed_matching(similarity)
        case.close(f"{i}/similarity", similarity)
        case.close(f"{i}/relaxed", relaxed, exact)
        case.close(f"{i}/relaxed_published", relaxed, exact)
        for name, first_row_only in (("", True), ("_all_rows", False)):
            found = votes(relaxed, first_row_only)
            case.close(f"{i}/voted{name}", found, loose)
            case.close(f"{i}/score{name}", found.trace(), loose)
    assert not case.unchecked


def test_a_batch_is_matched_pair_by_pair(identity):
    random = torch.Generator().manual_seed(1)
    slots, instances = (torch.randn(count, 7, 64, generator=random) for count in (4, 3))
    found = relaxed_matching(frame_similarity(slots[:, None], instances[None], identity))
    assert found.shape == (4, 3, 7, 7)
    for i, slot in enumerate(slots):
        for j, instance in enumerate(instances):
            alone = relaxed_matching(frame_similarity(slot, instance, identity))
            torch.testing.assert_close(found[i, j], alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 36])
def test_no_other_matching_is_better_however_few_frames_and_however_alike(frames, identity):
    """Optimality: along every move of a unit from one entry to another of a row and back in another row."""
    torch.manual_seed(frames)
    like = torch.randn(64)
    similarity = frame_similarity(like + 0.3 * torch.randn(frames, 64), like + 0.3 * torch.randn(frames, 64), identity)
    found = relaxed_matching(similarity)
    for sums in (found.sum(0), found.sum(1)):
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-9)
    ridge = max(float(similarity.max()) + 1, (frames - 1) ** 2)
    gradient = ridge * found - similarity * (frames / 2 + found)
    cheapest = gradient[:, None, :, None] + gradient[None, :, None, :]  # into (i, j) and (k, l), out of (i, l), (k, j)
    change = cheapest - cheapest.transpose(2, 3)
    possible = (found[:, None, None, :] > 1e-9) & (found[None, :, :, None] > 1e-9)
    assert change[possible].min() > -1e-6


def test_similarities_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="not all finite"):
        relaxed_matching(torch.full((3, 3), torch.nan))
