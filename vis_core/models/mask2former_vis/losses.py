"""What Mask2Former-VIS and MinVIS are trained towards: matching and losses on sampled points (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.models.mask2former_vis.choices import POINTS
from vis_core.nn.matching import linear_sum_assignment
from vis_core.system.trainable import AllReduceSum

CLASS_WEIGHT, MASK_WEIGHT, DICE_WEIGHT = 2.0, 5.0, 5.0
NO_OBJECT_WEIGHT = 0.1
OVERSAMPLING, IMPORTANT_SHARE = 3, 0.75

Draw = Callable[[int, int], Tensor]
"""``draw(rows, count)`` gives points ``[rows, count, 2]``, x and y, uniform in [0, 1)."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one prediction head says of B clips.

    Attributes:
        logits: ``[B, Q, K + 1]``, the last one is "no object".
        masks: mask logits ``[B, Q, T, h, w]``.
    """

    logits: Tensor
    masks: Tensor


@dataclass(frozen=True, eq=False)
class Targets:
    """The instances of one clip.

    Attributes:
        labels: int64 ``[N]``; K: no object.
        masks: float32 ``[N, T, H, W]``, at the padded size, 0 or 1.
        open_classes: bool ``[K]``: whether objects of a class may be there without a mask, so that a query without a
            match that names it is no error.
        ignore_masks: float32 ``[M, T, H, W]``: regions in which a query without a match may name `ignore_labels`.
        ignore_labels: int64 ``[M]``.
    """

    labels: Tensor
    masks: Tensor
    open_classes: Tensor
    ignore_masks: Tensor
    ignore_labels: Tensor


@dataclass(frozen=True, eq=False)
class Losses:
    """The weighed losses of one head."""

    classes: Tensor
    mask: Tensor
    dice: Tensor


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values ``[R, C, P]`` of maps ``[R, C, h, w]`` at points ``[R, P, 2]``, x and y in 0..1; zero outside."""
    return F.grid_sample(maps, 2 * points[:, None] - 1, align_corners=False)[:, :, 0]


def matching_cost(logits: Tensor, masks: Tensor, targets: Targets, points: Tensor) -> Tensor:
    """What it costs to give each query each instance of one clip, ``[Q, N]``.

    The mask terms sum over all frames of the clip together.

    Args:
        logits: ``[Q, K + 1]``.
        masks: mask logits ``[Q, T, h, w]``.
        targets: of the clip.
        points: ``[1, P, 2]``, the same in every frame.
    """
    predicted, wanted = (
        sample(maps.flatten(0, 1)[None], points)[0].reshape(len(maps), maps.shape[1] * points.shape[1])
        for maps in (masks, targets.masks)
    )
    named = -logits.softmax(1)[:, targets.labels]
    entropy = (F.softplus(-predicted) @ wanted.T + F.softplus(predicted) @ (1 - wanted).T) / predicted.shape[1]
    inside = predicted.sigmoid()
    dice = 1 - (2 * inside @ wanted.T + 1) / (inside.sum(1)[:, None] + wanted.sum(1) + 1)
    return CLASS_WEIGHT * named + MASK_WEIGHT * entropy + DICE_WEIGHT * dice


@torch.no_grad()
def match(predictions: Predictions, targets: Sequence[Targets], draw: Draw, points: int) -> list[tuple[Tensor, Tensor]]:
    """Of each clip, matched queries in ascending order and their instances; every instance has one."""
    matches = []
    for logits, masks, wanted in zip(predictions.logits, predictions.masks, targets):
        cost = matching_cost(logits, masks, wanted, draw(1, points)).cpu().numpy()
        # A diverged training is refused by its loss, in words, not here.
        rows, columns = linear_sum_assignment(np.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=-1e6))
        matches.append(tuple(torch.from_numpy(x).to(logits.device) for x in (rows, columns)))
    return matches  # type: ignore[return-value]


def class_loss(
    predictions: Predictions,
    targets: Sequence[Targets],
    matches: Sequence[tuple[Tensor, Tensor]],
    all_reduce_sum: AllReduceSum,
) -> Tensor:
    """Cross-entropy over the classes and "no object", whose weight is 0.1; mean by weight.

    A query without a match is to say "no object", or what `Targets` excuses: its loss is that of naming any of them.
    """
    logits = predictions.logits.float()
    no_object = logits.shape[2] - 1
    allowed = torch.zeros_like(logits, dtype=torch.bool)
    allowed[..., no_object] = True
    weights = torch.full_like(logits[..., 0], NO_OBJECT_WEIGHT)
    for b, (wanted, (queries, instances)) in enumerate(zip(targets, matches)):
        allowed[b, :, :no_object] |= wanted.open_classes
        _excuse(allowed[b], predictions.masks[b], wanted)
        labels = wanted.labels[instances]
        allowed[b, queries] = F.one_hot(labels, no_object + 1).bool()
        weights[b, queries] = torch.where(labels == no_object, NO_OBJECT_WEIGHT, 1.0)
    named = logits.masked_fill(~allowed, -torch.inf).logsumexp(2)
    sums = all_reduce_sum(torch.stack((weights.sum(), weights.new_ones(()))))
    return (weights * (logits.logsumexp(2) - named)).sum() * sums[1] / sums[0]


def _excuse(allowed: Tensor, masks: Tensor, wanted: Targets) -> None:
    """Allow the queries that lie by more than half in a region to ignore to name its class."""
    if not len(wanted.ignore_labels):
        return
    found = (masks.detach() > 0).flatten(1).float()
    regions = F.interpolate(wanted.ignore_masks, masks.shape[2:], mode="area").flatten(1)
    inside = found @ regions.T > 0.5 * found.sum(1, keepdim=True)
    for region, label in enumerate(wanted.ignore_labels.tolist()):
        allowed[:, label] |= inside[:, region]


@torch.no_grad()
def important_points(maps: Tensor, draw: Draw, count: int) -> Tensor:
    """Points ``[R, count, 2]``: three quarters where the logits ``[R, 1, h, w]`` are the least sure, the rest uniform.

    The former are the best of three times as many uniform ones (PointRend, CVPR 2020, section 3.1).
    """
    candidates = draw(len(maps), OVERSAMPLING * count)
    unsure = -sample(maps, candidates)[:, 0].abs()
    important = int(IMPORTANT_SHARE * count)
    chosen = unsure.topk(important, dim=1).indices
    kept = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    return torch.cat((kept, draw(len(maps), count - important)), 1)


def mask_losses(
    predictions: Predictions,
    targets: Sequence[Targets],
    matches: Sequence[tuple[Tensor, Tensor]],
    draw: Draw,
    points: int,
    all_reduce_sum: AllReduceSum,
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy and dice loss of the matched masks, each frame of an instance by itself.

    Both are summed over instances and frames and divided by the number of instances, so they grow with the frames.
    """
    predicted = torch.cat([masks[queries] for masks, (queries, _) in zip(predictions.masks, matches)]).float()
    wanted = torch.cat([t.masks[instances] for t, (_, instances) in zip(targets, matches)])
    counts = all_reduce_sum(torch.tensor([float(sum(len(t.labels) for t in targets)), 1.0], device=predicted.device))
    instances = (counts[0] / counts[1]).clamp(min=1)
    if not len(predicted):
        nothing = 0 * predictions.masks.float().sum()  # every process of a group must have gradients
        return nothing, nothing
    maps, truth = predicted.flatten(0, 1)[:, None], wanted.flatten(0, 1)[:, None]
    at = important_points(maps.detach(), draw, points)
    u, v = sample(maps, at)[:, 0], sample(truth, at)[:, 0]
    entropy = F.binary_cross_entropy_with_logits(u, v, reduction="none").mean(1)
    inside = u.sigmoid()
    dice = 1 - (2 * (inside * v).sum(1) + 1) / (inside.sum(1) + v.sum(1) + 1)
    return entropy.sum() / instances, dice.sum() / instances


def head_losses(
    predictions: Predictions,
    targets: Sequence[Targets],
    draw: Draw,
    all_reduce_sum: AllReduceSum,
    points: int = POINTS,
) -> Losses:
    """The weighed losses of one prediction head on a batch of clips.

    Args:
        predictions: of the head.
        targets: of each clip.
        draw: of the random points: clip by clip for the matching, then twice for the mask losses.
        all_reduce_sum: sums over all processes, see `Trainable`.
        points: of a mask that are compared.
    """
    device = predictions.logits.device.type
    with torch.autocast(device, enabled=False):
        exact = Predictions(predictions.logits.float(), predictions.masks.float())
        matches = match(exact, targets, draw, points)
        classes = class_loss(exact, targets, matches, all_reduce_sum)
        mask, dice = mask_losses(exact, targets, matches, draw, points, all_reduce_sum)
    return Losses(CLASS_WEIGHT * classes, MASK_WEIGHT * mask, DICE_WEIGHT * dice)
