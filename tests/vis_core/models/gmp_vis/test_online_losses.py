"""Matching and losses of single frames, against the formulas."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vis_core.errors import VisError
from vis_core.models.gmp_vis.online_losses import Said, box_losses, class_loss, mask_losses, match
from vis_core.nn.region_losses import Match, Targets

SIZE = (40, 80)


def targets(masks, labels=(0, 1), exhaustive=(True, True, True), ignore_masks=(), ignore_labels=()):
    ignored = np.array(ignore_masks, bool).reshape(-1, masks.shape[1], *SIZE)
    return Targets.of(
        np.array(labels, np.int64),
        masks,
        np.array(exhaustive),
        ignored,
        np.array(ignore_labels, np.int64),
        torch.device("cpu"),
    )


def two_boxes(frames=2):
    """An instance on the left, and one on the right that is not in the second frame."""
    masks = np.zeros((2, frames, *SIZE), bool)
    masks[0, :, 10:30, 0:20] = True
    masks[1, 0, 0:40, 40:80] = True
    return masks


def said(queries=4, frames=2, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((frames, queries, classes + 1), generator=generator)
    return Said(logits, torch.rand((frames, queries, 4), generator=generator) * 0.5 + 0.2)


def test_each_instance_in_a_frame_gets_the_query_whose_pairing_costs_least():
    out, wanted = said(), targets(two_boxes())
    matches = match(out, wanted)
    assert [found.instances.tolist() for found in matches] == [[0, 1], [0]]
    boxes = torch.tensor([[10, 20, 20, 20], [60, 20, 40, 40.0]]) / torch.tensor([80, 40, 80, 40.0])
    for t, found in enumerate(matches):
        cost = np.zeros((4, 2))
        for query in range(4):
            for item in range(2):
                p = out.logits[t, query].softmax(0)[item]
                distance = (out.boxes[t, query] - boxes[item]).abs().mean()
                (ax, ay, aw, ah), (bx, by, bw, bh) = out.boxes[t, query].tolist(), boxes[item].tolist()
                wide = min(ax + aw / 2, bx + bw / 2) - max(ax - aw / 2, bx - bw / 2)
                high = min(ay + ah / 2, by + bh / 2) - max(ay - ah / 2, by - bh / 2)
                common = max(wide, 0) * max(high, 0)
                cost[query, item] = -p + 5 * distance - 2 * common / (aw * ah + bw * bh - common)
        pairs = zip(found.queries.tolist(), found.instances.tolist())
        chosen = sum(cost[pair] for pair in pairs)
        if t == 0:
            best = min(cost[a, 0] + cost[b, 1] for a in range(4) for b in range(4) if a != b)
        else:
            best = cost[:, 0].min()
        assert chosen == pytest.approx(best, abs=1e-5)


def test_the_classes_loss_is_the_weighed_cross_entropy():
    out, wanted = said(), targets(two_boxes())
    matches = match(out, wanted)
    names = torch.full((2, 4), 3)
    for t, found in enumerate(matches):
        names[t, found.queries] = wanted.labels[found.instances]
    weight = torch.tensor([1, 1, 1, 0.1])
    total, weights = class_loss(out, matches, wanted)
    expected = F.cross_entropy(out.logits.flatten(0, 1), names.flatten(), weight)
    torch.testing.assert_close(total / weights, expected)


def test_what_may_be_there_unmarked_is_no_error():
    out = said()
    out.logits[:] = torch.tensor([0, 0, 9.0, 0])  # all name the third class
    matches = [Match(torch.tensor([], dtype=torch.int64), torch.tensor([], dtype=torch.int64))] * 2
    nothing = np.zeros((0, 2, *SIZE), bool)
    strict, _ = class_loss(out, matches, targets(nothing, ()))
    open_class, _ = class_loss(out, matches, targets(nothing, (), (True, True, False)))
    everywhere = np.ones((1, 2, *SIZE), bool)
    crowd, _ = class_loss(out, matches, targets(nothing, (), ignore_masks=everywhere, ignore_labels=[2]))
    other, _ = class_loss(out, matches, targets(nothing, (), ignore_masks=everywhere, ignore_labels=[0]))
    assert strict > 5 and other > 5 and open_class < 0.01 and crowd < 0.01


def test_the_boxes_losses_are_sums_over_what_is_matched():
    wanted = targets(two_boxes())
    boxes = torch.zeros(2, 3, 4)
    boxes[0, 2] = torch.tensor([0.125, 0.5, 0.25, 0.5])  # the first instance, exactly
    boxes[0, 1] = torch.tensor([0.75, 0.5, 0.3, 1.0])  # the second is wider
    matches = [
        Match(torch.tensor([2, 1]), torch.tensor([0, 1])),
        Match(torch.tensor([], dtype=torch.int64), torch.tensor([], dtype=torch.int64)),
    ]
    distance, overlap = box_losses(Said(torch.zeros(2, 3, 4), boxes), matches, wanted)
    torch.testing.assert_close(distance, torch.tensor(0.2))
    torch.testing.assert_close(overlap, torch.tensor(1 - 0.3 / 0.5))


def test_the_masks_losses_are_those_of_masks_enlarged_to_the_truth():
    torch.manual_seed(0)
    logits, wanted = torch.randn(2, 10, 20), torch.from_numpy(two_boxes()[:, 0])
    large = F.interpolate(logits[:, None], SIZE, mode="bilinear", align_corners=False)[:, 0]
    p, y = large.sigmoid(), wanted.float()
    entropy = -(y * p.log() + (1 - y) * (1 - p).log())
    focal = (0.25 * y + 0.75 * (1 - y)) * (y * (1 - p) + (1 - y) * p) ** 2 * entropy
    dice = 1 - (2 * (p * y).sum((1, 2)) + 1) / (p.sum((1, 2)) + y.sum((1, 2)) + 1)
    found = mask_losses(logits, wanted)
    torch.testing.assert_close(found, (focal.mean((1, 2)).sum(), dice.sum()), rtol=1e-4, atol=1e-5)


def test_a_diverged_training_is_refused_in_words():
    out = said()
    out.boxes[1, 2, 0] = torch.nan
    with pytest.raises(VisError, match=r"diverged.*learning_rate"):
        match(out, targets(two_boxes()))
