"""Losses of Mask2Former-VIS and MinVIS: those of the published code, and what is excused where labels are missing."""

import pytest
import torch
from torch.nn import functional as F

from vis_core.models.mask2former_vis import losses
from vis_core.models.mask2former_vis.losses import Predictions, Targets

RANDOM = torch.Generator().manual_seed(0)
CLASSES, QUERIES, FRAMES, SIZE = 3, 5, 2, (8, 12)


def alone(x):
    """Sums over one process."""
    return x


def draw(rows, count):
    return torch.rand((rows, count, 2), generator=RANDOM)


def targets_of(count, labels=None, **other):
    parts = {
        "labels": torch.arange(count) % CLASSES if labels is None else torch.tensor(labels, dtype=torch.int64),
        "masks": (torch.rand((count, FRAMES, 32, 48), generator=RANDOM) > 0.6).float(),
        "open_classes": torch.zeros(CLASSES, dtype=torch.bool),
        "ignore_masks": torch.zeros((0, FRAMES, 32, 48)),
        "ignore_labels": torch.zeros(0, dtype=torch.int64),
    }
    return Targets(**(parts | other))


def predictions_of(clips=1):
    return Predictions(
        torch.randn((clips, QUERIES, CLASSES + 1), generator=RANDOM),
        torch.randn((clips, QUERIES, FRAMES, *SIZE), generator=RANDOM),
    )


def test_points_are_read_bilinearly_and_are_zero_outside():
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 3, 4)
    points = torch.tensor([[[0.125, 0.5], [0.25, 0.5], [0.5, 0.5], [0.0, 0.5]]])
    torch.testing.assert_close(losses.sample(ramp, points)[0, 0], torch.tensor([0.0, 0.5, 1.5, 0.0]))
    assert losses.sample(ramp + 1, torch.tensor([[[0.0, 0.5]]])).item() == pytest.approx(0.5)


def test_the_matching_cost_is_the_sum_of_its_parts():
    predictions, wanted = predictions_of(), targets_of(2)
    points = draw(1, 7)
    cost = losses.matching_cost(predictions.logits[0], predictions.masks[0], wanted, points)
    for q in range(QUERIES):
        for n in range(2):
            u, v = (losses.sample(x[None], points)[0].flatten() for x in (predictions.masks[0, q], wanted.masks[n]))
            entropy, inside = F.binary_cross_entropy_with_logits(u, v), u.sigmoid()
            dice = 1 - (2 * (inside * v).sum() + 1) / (inside.sum() + v.sum() + 1)
            named = -predictions.logits[0, q].softmax(0)[wanted.labels[n]]
            torch.testing.assert_close(cost[q, n], 2 * named + 5 * entropy + 5 * dice)


def test_every_instance_is_matched_with_a_query_of_its_own():
    predictions, wanted = predictions_of(2), [targets_of(3), targets_of(0)]
    (queries, instances), (none, _) = losses.match(predictions, wanted, draw, 16)
    assert sorted(instances.tolist()) == [0, 1, 2] and queries.tolist() == sorted(set(queries.tolist()))
    assert len(none) == 0


def matched(predictions, wanted):
    return losses.match(predictions, wanted, draw, 16)


def test_the_class_loss_is_a_weighted_cross_entropy():
    predictions, wanted = predictions_of(2), [targets_of(2), targets_of(3)]
    matches = matched(predictions, wanted)
    labels = torch.full((2, QUERIES), CLASSES)
    for row, t, (queries, instances) in zip(labels, wanted, matches):
        row[queries] = t.labels[instances]
    weight = torch.tensor([1.0] * CLASSES + [0.1])
    expected = F.cross_entropy(predictions.logits.flatten(0, 1), labels.flatten(), weight)
    torch.testing.assert_close(losses.class_loss(predictions, wanted, matches, alone), expected)


def test_an_instance_without_a_label_is_taught_as_no_object_with_its_small_weight():
    predictions, wanted = predictions_of(), [targets_of(1, [CLASSES])]
    found = losses.class_loss(predictions, wanted, matched(predictions, wanted), alone)
    nothing = [targets_of(0)]
    torch.testing.assert_close(found, losses.class_loss(predictions, nothing, matched(predictions, nothing), alone))


def test_naming_a_class_that_is_not_labelled_everywhere_is_no_error():
    wanted = targets_of(0, open_classes=torch.tensor([False, True, False]))
    matches = [(torch.zeros(0, dtype=torch.int64),) * 2]
    logits = torch.full((1, QUERIES, CLASSES + 1), -20.0)
    logits[..., 1] = 20
    predictions = Predictions(logits, torch.zeros(1, QUERIES, FRAMES, *SIZE))
    assert losses.class_loss(predictions, [wanted], matches, alone) < 1e-6
    assert losses.class_loss(predictions, [targets_of(0)], matches, alone) > 10
    named_other = Predictions(logits.roll(1, 2), predictions.masks)
    assert losses.class_loss(named_other, [wanted], matches, alone) > 10


def test_a_match_of_an_open_class_still_has_to_be_named():
    wanted = [targets_of(1, [1], open_classes=torch.tensor([False, True, False]))]
    predictions = predictions_of()
    ((queries, _),) = matches = matched(predictions, wanted)
    logits = torch.full((1, QUERIES, CLASSES + 1), -20.0)
    logits[..., CLASSES] = 20
    assert losses.class_loss(Predictions(logits, predictions.masks), wanted, matches, alone) > 10
    logits[0, queries] = logits[0, queries].roll(-2, 1)
    assert losses.class_loss(Predictions(logits, predictions.masks), wanted, matches, alone) < 1e-6


def test_a_query_that_lies_in_a_region_to_ignore_may_name_its_class():
    region = torch.zeros(1, FRAMES, 32, 48)
    region[:, :, :, :24] = 1
    wanted = targets_of(0, ignore_masks=region, ignore_labels=torch.tensor([2]))
    matches = [(torch.zeros(0, dtype=torch.int64),) * 2]
    masks = torch.full((1, QUERIES, FRAMES, *SIZE), -1.0)
    masks[:, 0, :, :, :6] = 1  # all of it inside
    masks[:, 1, :, :, 6:] = 1  # outside
    logits = torch.full((1, QUERIES, CLASSES + 1), -20.0)
    logits[:, 2:, CLASSES] = 20
    logits[:, 0, 2] = 20
    logits[:, 1, CLASSES] = 20
    assert losses.class_loss(Predictions(logits, masks), [wanted], matches, alone) < 1e-6
    logits[:, :2] = logits[:, :2].flip(1)
    assert losses.class_loss(Predictions(logits, masks), [wanted], matches, alone) > 1


def test_three_quarters_of_the_points_are_the_least_sure_of_three_times_as_many():
    maps = torch.randn((4, 1, *SIZE), generator=RANDOM)
    drawn = []

    def recorded(rows, count):
        drawn.append(draw(rows, count))
        return drawn[-1]

    points = losses.important_points(maps, recorded, 20)
    assert [x.shape[1] for x in drawn] == [60, 5] and points.shape == (4, 20, 2)
    assert torch.equal(points[:, 15:], drawn[1])
    kept, all_ = (losses.sample(maps, x)[:, 0].abs().sort(1).values for x in (points[:, :15], drawn[0]))
    torch.testing.assert_close(kept, all_[:, :15])


def test_mask_losses_are_summed_over_frames_and_divided_by_instances(monkeypatch):
    fixed = draw(1, 9)
    monkeypatch.setattr(losses, "important_points", lambda maps, *_: fixed.expand(len(maps), -1, -1))
    predictions, wanted = predictions_of(2), [targets_of(2), targets_of(1)]
    matches = matched(predictions, wanted)
    mask, dice = losses.mask_losses(predictions, wanted, matches, draw, 9, alone)
    entropies, dices = [], []
    for masks, t, (queries, instances) in zip(predictions.masks, wanted, matches):
        for q, n in zip(queries, instances):
            for frame in range(FRAMES):
                u, v = (losses.sample(x[None, None, frame], fixed)[0, 0] for x in (masks[q], t.masks[n]))
                entropies.append(F.binary_cross_entropy_with_logits(u, v))
                dices.append(1 - (2 * (u.sigmoid() * v).sum() + 1) / (u.sigmoid().sum() + v.sum() + 1))
    torch.testing.assert_close(mask, sum(entropies) / 3)
    torch.testing.assert_close(dice, sum(dices) / 3)


def test_a_batch_without_instances_has_a_class_loss_and_gradients_everywhere():
    predictions = predictions_of()
    predictions.logits.requires_grad_()
    predictions.masks.requires_grad_()
    found = losses.head_losses(predictions, [targets_of(0)], draw, alone, 16)
    assert found.mask == found.dice == 0 and found.classes > 0
    (found.classes + found.mask + found.dice).backward()
    assert not predictions.masks.grad.any() and predictions.logits.grad.any()


def test_two_processes_share_the_losses_of_one_with_all_clips(monkeypatch):
    fixed = draw(1, 9)
    monkeypatch.setattr(losses, "important_points", lambda maps, *_: fixed.expand(len(maps), -1, -1))
    predictions, wanted = predictions_of(2), [targets_of(3), targets_of(1)]

    def same(rows, count):
        return fixed.expand(rows, -1, -1)

    parts = [
        (Predictions(predictions.logits[b : b + 1], predictions.masks[b : b + 1]), wanted[b : b + 1]) for b in (0, 1)
    ]
    whole = losses.head_losses(predictions, wanted, same, alone, 9)
    counts = []
    for p, t in parts:  # what each process adds to the sums, in the order of the calls
        counts.append([])
        losses.head_losses(p, t, same, lambda x, to=counts[-1]: (to.append(x), x)[1], 9)
    summed = [a + b for a, b in zip(*counts)]
    shares = []
    for p, t in parts:
        given = iter(summed)
        shares.append(losses.head_losses(p, t, same, lambda _, given=given: next(given), 9))
    for name in ("classes", "mask", "dice"):
        mean = sum(getattr(share, name) for share in shares) / 2
        torch.testing.assert_close(mean, getattr(whole, name))
