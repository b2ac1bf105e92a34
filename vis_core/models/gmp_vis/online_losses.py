"""What the online GMP-VIS is trained towards in a frame: which query is which instance, its class, box and mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.errors import VisError
from vis_core.nn.boxes import box_iou, centres_from_corners, corners_from_centres, generalised_iou
from vis_core.nn.losses import focal_loss
from vis_core.nn.matching import linear_sum_assignment
from vis_core.nn.region_losses import Match, Targets, in_ignored_regions

NOTHING_WEIGHT = 0.1
L1_WEIGHT, GIOU_WEIGHT = 5.0, 2.0
L1_COST, IOU_COST = 5.0, 2.0


@dataclass(frozen=True, eq=False)
class Said:
    """What a layer says of the T frames of a clip.

    Attributes:
        logits: of the classes, the last one nothing, ``[T, Q, K + 1]``.
        boxes: ``[T, Q, 4]``: x and y of the centre, width, height, 0..1.
    """

    logits: Tensor
    boxes: Tensor


@torch.no_grad()
def match(said: Said, targets: Targets) -> list[Match]:
    """Of each frame the assignment of least cost of queries to the instances in it.

    The cost of a pair is that of VisTR's matching, of one frame: 5 times the mean distance of the boxes' four numbers,
    less the probability of the class and twice the IoU.

    Raises:
        VisError: a box or a class is infinite or not a number.
    """
    named = said.logits.float().softmax(2)[:, :, targets.labels]  # [T, Q, G]
    boxes = corners_from_centres(said.boxes.float())[:, :, None]
    wanted = (targets.boxes / targets.sides).transpose(0, 1)[:, None]
    distance = (said.boxes.float()[:, :, None] - centres_from_corners(wanted)).abs().mean(3)
    costs = L1_COST * distance - named - IOU_COST * box_iou(boxes, wanted)
    if not (costs.isfinite().all() and said.boxes.isfinite().all()):
        raise VisError(
            "a box or a class is infinite or not a number: the training has diverged. Lower optimizer.learning_rate or "
            "lengthen schedule.warm_up"
        )
    matches = []
    for cost, present in zip(costs.cpu().numpy(), targets.present.T.cpu().numpy()):
        instances = np.flatnonzero(present)
        queries, columns = linear_sum_assignment(cost[:, instances])
        order = np.argsort(columns)
        pair = queries[order], instances[columns[order]]
        matches.append(Match(*(torch.from_numpy(x).to(costs.device) for x in pair)))
    return matches


def class_loss(said: Said, matches: Sequence[Match], targets: Targets) -> tuple[Tensor, Tensor]:
    """Sum of the weighed cross-entropies of all queries, and of their weights: of one that is to say nothing 0.1.

    Such a one may also name what `Targets` excuses: its loss is that of naming any of it.
    """
    logits = said.logits.float()
    nothing = logits.shape[2] - 1
    allowed = torch.zeros_like(logits, dtype=torch.bool)
    allowed[..., nothing] = True
    allowed[..., :nothing] |= targets.open_classes
    if len(targets.ignore_labels):
        corners = corners_from_centres(said.boxes.detach().float()) * targets.sides
        allowed[..., :nothing] |= in_ignored_regions(corners, targets)
    weights = torch.full_like(logits[..., 0], NOTHING_WEIGHT)
    for t, found in enumerate(matches):
        allowed[t, found.queries] = F.one_hot(targets.labels[found.instances], nothing + 1).bool()
        weights[t, found.queries] = 1.0
    named = logits.masked_fill(~allowed, -torch.inf).logsumexp(2)
    return (weights * (logits.logsumexp(2) - named)).sum(), weights.sum()


def box_losses(said: Said, matches: Sequence[Match], targets: Targets) -> tuple[Tensor, Tensor]:
    """Sums over the matched queries: of the distances of the boxes' four numbers, and of 1 - GIoU."""
    boxes = torch.cat([said.boxes[t, found.queries] for t, found in enumerate(matches)]).float()
    wanted = torch.cat([targets.boxes[found.instances, t] for t, found in enumerate(matches)]) / targets.sides
    distance = (boxes - centres_from_corners(wanted)).abs().sum()
    return distance, (1 - generalised_iou(corners_from_centres(boxes), wanted)).sum()


def mask_losses(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the focal and of the dice losses of masks.

    Args:
        logits: ``[n, h, w]``.
        wanted: bool ``[n, H, W]``; the logits are enlarged to their size.
    """
    large = F.interpolate(logits.float()[:, None], wanted.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    truth = wanted.float()
    probabilities = large.sigmoid()
    common = (probabilities * truth).sum((1, 2))
    dice = 1 - (2 * common + 1) / (probabilities.sum((1, 2)) + truth.sum((1, 2)) + 1)
    return focal_loss(large, truth).mean((1, 2)).sum(), dice.sum()
