"""Queries that look into boxes: which instance each is taught to be, and what is excused where labels are missing."""

import pytest
import torch

from tests.vis_core.nn.region_targets import LEFT, MIDDLE, NOWHERE, RIGHT, box_masks, outputs_of, wanted_of
from vis_core.errors import VisError
from vis_core.nn.region_losses import (
    Match,
    class_loss,
    in_ignored_regions,
    mask_boxes,
    match_stages,
    matching_costs,
)

RANDOM = torch.Generator().manual_seed(0)


def test_boxes_of_masks_hold_their_pixels_and_absent_ones_say_so():
    masks = box_masks([[LEFT, NOWHERE], [RIGHT, [47, 31, 48, 32]]])
    present, boxes = mask_boxes(masks)
    assert present.tolist() == [[True, False], [True, True]]
    assert boxes[0, 0].tolist() == LEFT and boxes[1].tolist() == [RIGHT, [47, 31, 48, 32]]


def test_costs_are_means_over_the_frames_where_an_instance_is_and_absent_ones_cost_nothing():
    wanted = wanted_of([2, 0], [[LEFT, NOWHERE], [NOWHERE, NOWHERE]])
    out = outputs_of([[LEFT, RIGHT], [[0, 0, 1e4, 1e4], LEFT]], torch.randn((2, 2, 3), generator=RANDOM))
    terms = matching_costs(out, wanted)
    p = out.logits[0, :, 2].sigmoid()
    torch.testing.assert_close(terms[0, :, 0], -0.25 * (1 - p) ** 2 * p.log() + 0.75 * p**2 * (1 - p).log())
    assert terms[1, 0, 0] == 0 and terms[2, 0, 0] == -1
    torch.testing.assert_close(terms[1, 1, 0], torch.tensor(30 / 48 + 10 / 32 + 34 / 48 + 20 / 32))
    assert not terms[:, :, 1].any()


def test_pairs_of_the_clip_before_stay_and_new_instances_take_free_queries():
    wanted = wanted_of([0, 1, 1, 0], [[NOWHERE], [LEFT], [MIDDLE], [NOWHERE]])
    boxes = [[LEFT, MIDDLE, RIGHT, MIDDLE]]  # queries 0 and 1 would be the better ones
    (free,) = match_stages([outputs_of(boxes)], wanted)
    assert free.instances.tolist() == [1, 2] and free.queries.tolist() == [0, 1]
    held = Match(torch.tensor([2, 1]), torch.tensor([1, 0]))
    (kept,) = match_stages([outputs_of(boxes)], wanted, held)
    assert kept.instances.tolist() == [0, 1, 2] and kept.queries.tolist() == [1, 2, 3]


def test_more_instances_than_queries_leave_some_without():
    wanted = wanted_of([0, 0, 0], [[RIGHT], [LEFT], [MIDDLE]])
    (match,) = match_stages([outputs_of([[MIDDLE, LEFT]])], wanted)
    assert match.instances.tolist() == [1, 2] and match.queries.tolist() == [1, 0]
    held = Match(torch.tensor([0, 1]), torch.tensor([0, 1]))
    (kept,) = match_stages([outputs_of([[MIDDLE, LEFT]])], wanted, held)
    assert kept.instances.tolist() == [0, 1] and kept.queries.tolist() == [0, 1]


@pytest.mark.parametrize(("count", "bad"), [(0, torch.inf), (0, torch.nan), (1, torch.inf), (1, torch.nan), (1, 1e30)])
def test_a_box_that_has_diverged_is_refused_with_its_stage(count, bad):
    wanted = wanted_of([0] * count, [[LEFT, LEFT]] * count)
    good = outputs_of([[LEFT, RIGHT], [LEFT, RIGHT]])
    ill = outputs_of([[LEFT, RIGHT], [LEFT, [0, 0, bad, bad]]])
    with pytest.raises(VisError, match=r"stage 1: .*diverged"):
        match_stages([good, ill], wanted)


def test_a_class_that_has_diverged_is_refused_with_its_stage():
    wanted = wanted_of([0], [[LEFT]])
    out = outputs_of([[LEFT]], torch.full((1, 1, 3), torch.nan))
    with pytest.raises(VisError, match=r"stage 0: .*diverged"):
        match_stages([out], wanted)


def test_a_query_names_its_instance_in_the_frames_where_that_is_and_nothing_elsewhere():
    wanted = wanted_of([2], [[LEFT, NOWHERE]])
    match = Match(torch.tensor([1]), torch.tensor([0]))
    logits = torch.full((2, 2, 3), -20.0)
    logits[0, 1, 2] = 20
    boxes = [[LEFT, LEFT]] * 2
    assert class_loss(outputs_of(boxes, logits), match, wanted) < 1e-6
    logits[1, 1, 2] = 20
    assert class_loss(outputs_of(boxes, logits), match, wanted) > 10
    logits[:, 1, 2] = -20
    assert class_loss(outputs_of(boxes, logits), match, wanted) > 4


def test_naming_a_class_that_is_not_labelled_everywhere_is_an_error_of_matched_queries_alone():
    wanted = wanted_of([0], [[LEFT, NOWHERE]], open_classes=torch.tensor([False, True, False]))
    boxes, match = [[LEFT, RIGHT]] * 2, Match(torch.tensor([0]), torch.tensor([0]))
    logits = torch.full((2, 2, 3), -20.0)
    logits[0, 0, 0] = 20
    logits[:, 1, 1] = 20
    assert class_loss(outputs_of(boxes, logits), match, wanted) < 1e-6
    for query, label in ((1, 2), (0, 1)):
        wrong = logits.clone()
        wrong[1, query, label] = 20
        assert class_loss(outputs_of(boxes, wrong), match, wanted) > 10


def test_a_box_that_lies_by_more_than_half_in_a_region_to_ignore_may_name_its_classes():
    regions = torch.zeros((3, 2, 32, 48), dtype=torch.bool)
    regions[0, 0, :, :24] = True
    regions[1, 1] = True
    regions[2, :, 30:] = True
    wanted = wanted_of([0], [[LEFT, NOWHERE]], ignore_masks=regions, ignore_labels=torch.tensor([1, 2, 1]))
    boxes = torch.tensor([[LEFT, [19, 4, 28, 9], [20, 4, 29, 9], [-1e6, -1e6, 1e6, 1e6]]] * 2)
    inside = in_ignored_regions(boxes, wanted)
    expected = torch.zeros_like(inside)
    expected[0, :2, 1] = True  # 5 of 9 columns, then 4
    expected[1, :3, 2] = True  # what is larger than the picture is not in it
    assert torch.equal(inside, expected)
    match = Match(torch.tensor([0]), torch.tensor([0]))
    logits = torch.full((2, 4, 3), -20.0)
    logits[0, 0, 0] = 20
    for t, query, label, error in (
        (0, 1, 1, False),
        (0, 1, 2, True),
        (0, 2, 1, True),
        (1, 2, 2, False),
        (0, 0, 1, True),  # it is an instance there
        (1, 0, 2, False),  # its instance is not there; what is left of it may be what is ignored
    ):
        named = logits.clone()
        named[t, query, label] = 20
        assert (class_loss(outputs_of(boxes, named), match, wanted) > 10) == error, (t, query, label)


def test_shares_of_boxes_in_regions_are_exact():
    regions = torch.rand((2, 2, 32, 48), generator=RANDOM) > 0.5
    wanted = wanted_of([], [], ignore_masks=regions, ignore_labels=torch.tensor([0, 2]))
    corners = torch.rand((2, 50, 2, 2), generator=RANDOM) * torch.tensor([60.0, 40.0]) - 5
    boxes = torch.cat((corners.amin(2), corners.amax(2)), 2)
    pixels = torch.arange(48.0)
    overlap = [
        (torch.minimum(boxes[..., k + 2, None], pixels + 1) - torch.maximum(boxes[..., k, None], pixels)).clamp(min=0)
        for k in (0, 1)
    ]
    areas = torch.einsum("tny,tnx,mtyx->tnm", overlap[1][..., :32], overlap[0], regions.float())
    expected = areas > 0.5 * (boxes[..., 2] - boxes[..., 0]).mul(boxes[..., 3] - boxes[..., 1])[..., None]
    found = in_ignored_regions(boxes, wanted)
    assert torch.equal(found[..., [0, 2]], expected) and expected.any() and not expected.all()
    assert not found[..., 1].any()
