"""Boxes: their forms, what is decoded from a network's answer, and overlaps that stay numbers."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from vis_core.nn.boxes import (
    box_area,
    box_iou,
    centres_from_corners,
    corners_from_centres,
    decode_deltas,
    generalised_iou,
)


def drawn(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    first = torch.rand(*shape, 2, generator=random) * 10
    return torch.cat((first, first + torch.rand(*shape, 2, generator=random) * 8), -1)


def test_the_two_forms_are_one_another():
    assert corners_from_centres(torch.tensor([[5.0, 6, 4, 2]])).tolist() == [[3, 5, 7, 7]]
    boxes = drawn(3, 4)
    torch.testing.assert_close(corners_from_centres(centres_from_corners(boxes)), boxes)


def test_a_change_moves_by_halves_and_grows_by_exponents():
    box = torch.tensor([10.0, 20, 14, 30])  # 4 wide, 10 high, about 12, 25
    deltas = torch.tensor([1.0, -0.5, math.log(2), math.log(0.5)])
    np.testing.assert_allclose(decode_deltas(box, deltas), [14 - 4, 22.5 - 2.5, 14 + 4, 22.5 + 2.5], rtol=1e-6)


def test_a_side_grows_by_at_most_6250_and_shrinks_without_bound_unless_asked():
    box = torch.tensor([0.0, 0, 2, 2])
    sides = centres_from_corners(decode_deltas(box, torch.tensor([0.0, 0, 1e6, -30])))[2:]
    np.testing.assert_allclose(sides, [12500, 0], rtol=1e-5, atol=1e-6)
    limited = decode_deltas(box, torch.tensor([0.0, 0, 1e6, -30]), change=(-math.log(5), math.log(5)))
    np.testing.assert_allclose(centres_from_corners(limited)[2:], [10, 0.4], rtol=1e-5)


@pytest.mark.parametrize(("case", "stage"), [("case_3_stage", 2), ("case_10_levels", 4)])
@torch.no_grad()
def test_boxes_of_a_stage_are_the_recorded_ones(shared, fill, case, stage):
    """From the queries that leave the stage, by its layers, and from the boxes that enter it."""
    folder = shared / "parity/efficientvis"
    prefix = f"head.head_series.{stage}."
    weights = {
        key.removeprefix(prefix): torch.tensor(x)
        for key, x in fill(folder / "manifest_small.json").items()
        if key.startswith((f"{prefix}reg_module", f"{prefix}bboxes_delta"))
    }
    layers = [layer for _ in range(3) for layer in (nn.Linear(32, 32, bias=False), nn.LayerNorm(32), nn.ReLU())]
    predict = nn.ModuleDict({"reg_module": nn.Sequential(*layers), "bboxes_delta": nn.Linear(32, 4)})
    predict.load_state_dict(weights)
    given, expected = np.load(folder / case / "inputs.npz"), np.load(folder / case / "expected.npz")
    deltas = predict["bboxes_delta"](predict["reg_module"](torch.tensor(expected["object"])))
    found = decode_deltas(torch.tensor(given["boxes"]), deltas)
    np.testing.assert_allclose(found, expected["boxes"], rtol=1e-3, atol=0.01)


def test_overlaps_of_all_pairs():
    a = torch.tensor([[0.0, 0, 4, 4], [0, 0, 2, 2], [10, 10, 12, 12]])
    b = torch.tensor([[2.0, 2, 6, 6], [0, 0, 4, 4]])
    assert box_area(a).tolist() == [16, 4, 4]
    iou, giou = box_iou(a[:, None], b), generalised_iou(a[:, None], b)
    np.testing.assert_allclose(iou, [[4 / 28, 1], [0, 0.25], [0, 0]])
    apart = [(36 - 28) / 36, 0, (36 - 20) / 36, 0, (100 - 20) / 100, (144 - 20) / 144]
    np.testing.assert_allclose(giou, iou - torch.tensor(apart).view(3, 2), rtol=1e-6)


def test_overlaps_of_box_with_box_are_those_of_all_pairs():
    a, b = drawn(5, 6), drawn(5, 6, seed=1)
    for overlap in (box_iou, generalised_iou):
        pairs = overlap(a[:, :, None], b[:, None])
        torch.testing.assert_close(overlap(a, b), pairs.diagonal(dim1=1, dim2=2))
        assert (pairs <= 1).all() and (pairs >= -1).all()
    assert (generalised_iou(a, b) <= box_iou(a, b) + 1e-6).all()
    torch.testing.assert_close(generalised_iou(a, a), torch.ones(5, 6))


def test_gradients_are_those_of_the_formulas():
    a, b = drawn(6).double().requires_grad_(), drawn(6, seed=1).double().requires_grad_()
    for overlap in (box_iou, generalised_iou):
        assert torch.autograd.gradcheck(overlap, (a, b))
    deltas = torch.randn(6, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(decode_deltas, (a, deltas))


@pytest.mark.parametrize(
    ("first", "second", "iou", "giou"),
    [
        ([3, 3, 3, 3], [3, 3, 3, 3], 0, 0),  # a point and itself
        ([3, 3, 3, 3], [5, 4, 5, 4], 0, -1),
        ([1, 2, 1, 6], [1, 4, 1, 9], 0, 0),  # on one line
        ([1, 2, 1, 6], [0, 0, 4, 8], 0, 0),
        ([9, 9, 9, 9], [0, 0, 4, 8], 0, 32 / 81 - 1),
    ],
)
def test_boxes_without_area_give_numbers_and_so_do_their_gradients(first, second, iou, giou):
    boxes = [torch.tensor(box, dtype=torch.float32).requires_grad_() for box in (first, second)]
    for overlap, expected in ((box_iou, iou), (generalised_iou, giou)):
        found = overlap(*boxes)
        assert found.item() == pytest.approx(expected)
        found.backward()
        assert all(torch.isfinite(box.grad).all() for box in boxes)


def test_what_is_not_finite_is_not_hidden():
    box, far = torch.tensor([0.0, 0, 4, 4]), torch.tensor([-math.inf, 0, math.inf, 4])
    assert generalised_iou(box, far).isnan()
    assert box_iou(box, torch.tensor([math.nan, 0, 4, 4])).isnan()
    assert generalised_iou(box, torch.tensor([math.nan, 0, 4, 4])).isnan()
