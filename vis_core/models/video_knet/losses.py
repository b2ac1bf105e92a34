"""What Video K-Net is trained towards: which kernel is which instance, and what classes and masks cost.

A clip's masks are taken as one image, its frames one below the other, so that frames and clips are taught alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.nn.losses import focal_loss
from vis_core.nn.matching import linear_sum_assignment
from vis_core.system.trainable import AllReduceSum

CLASS_WEIGHT, MASK_WEIGHT, DICE_WEIGHT = 2.0, 1.0, 4.0
_SMALLEST_PROBABILITY = 1e-12
_SMALLEST_SQUARES = 1e-3


class Match(NamedTuple):
    """Which kernels are which instances.

    Attributes:
        kernels: int64 ``[n]``, ascending.
        instances: int64 ``[n]``.
    """

    kernels: Tensor
    instances: Tensor


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a stage says of B frames or clips.

    Attributes:
        logits: of the classes ``[B, N, K]``; None: it names nothing.
        masks: logits ``[B, N, h, w]`` at the size of the targets.
    """

    logits: Tensor | None
    masks: Tensor


@dataclass(frozen=True, eq=False)
class Targets:
    """The instances of one frame or clip.

    Attributes:
        labels: int64 ``[G]``, of things.
        masks: float32 ``[G, h, w]``, 0..1: the share of a pixel that an instance covers.
        open_classes: bool ``[K]``: whether objects of a class may be there without a mask, so that a kernel without a
            match that names it is no error.
        ignore_masks: float32 ``[M, h, w]``: regions in which a kernel without a match may name `ignore_labels`.
        ignore_labels: int64 ``[M]``.
        stuff: float32 ``[S, h, w]``, as `masks`, of each stuff class; None: the network knows none.
        stuff_present: bool ``[S]``.
    """

    labels: Tensor
    masks: Tensor
    open_classes: Tensor
    ignore_masks: Tensor
    ignore_labels: Tensor
    stuff: Tensor | None = None
    stuff_present: Tensor | None = None


class MaskLosses(NamedTuple):
    """Weighed losses of the masks of one stage."""

    mask: Tensor
    dice: Tensor


def soft_masks(masks: Tensor, padded: tuple[int, int], stride: int) -> Tensor:
    """Shares of the pixels of a smaller image that masks cover, float32 ``[..., h, w]``.

    Args:
        masks: bool ``[..., H, W]``, without padding.
        padded: height and width with padding, right and bottom.
        stride: of the smaller image.
    """
    margin = (0, padded[1] - masks.shape[-1], 0, padded[0] - masks.shape[-2])
    flat = F.pad(masks.float(), margin).reshape(1, -1, *padded)
    size = (padded[0] // stride, padded[1] // stride)
    if not flat.shape[1]:
        return masks.new_zeros((*masks.shape[:-2], *size), dtype=torch.float32)
    return F.interpolate(flat, size, mode="bilinear", align_corners=False).reshape(*masks.shape[:-2], *size)


def matching_cost(logits: Tensor | None, masks: Tensor, targets: Targets, clamped: bool) -> Tensor:
    """What it costs to give each kernel each instance ``[N, G]``.

    Args:
        logits: ``[N, K]``; None: by masks alone.
        masks: logits ``[N, h, w]``.
        targets: of the frame or clip.
        clamped: keep mask probabilities from 0, as the published online system does.
    """
    inside, wanted = masks.flatten(1).sigmoid(), targets.masks.flatten(1)
    in_dice, in_mask = (inside.clamp(min=1e-3), inside.clamp(min=1e-2)) if clamped else (inside, inside)
    squares = in_dice.square().sum(1)[:, None] + wanted.square().sum(1) + 2 * _SMALLEST_SQUARES
    dice = -2 * in_dice @ wanted.T / squares
    mask = -(in_mask @ wanted.T + (1 - in_mask) @ (1 - wanted).T) / wanted.shape[1]
    cost = DICE_WEIGHT * dice + MASK_WEIGHT * mask
    if logits is None:
        return cost
    probabilities = logits[:, targets.labels].sigmoid()
    named = -0.25 * (1 - probabilities) ** 2 * (probabilities + _SMALLEST_PROBABILITY).log()
    silent = -0.75 * probabilities**2 * (1 - probabilities + _SMALLEST_PROBABILITY).log()
    return cost + CLASS_WEIGHT * (named - silent)


@torch.no_grad()
def match(predictions: Predictions, targets: Sequence[Targets], things: int, clamped: bool) -> list[Match]:
    """Of each frame or clip, the assignment of least cost; an instance has a kernel as long as there are any.

    Args:
        predictions: of a stage.
        targets: of each frame or clip.
        things: number of kernels of things, the first ones, which alone are assigned.
        clamped: see `matching_cost`.
    """
    matches = []
    for b, wanted in enumerate(targets):
        logits = None if predictions.logits is None else predictions.logits[b, :things].float()
        cost = matching_cost(logits, predictions.masks[b, :things].float(), wanted, clamped).cpu().numpy()
        # A diverged training is refused by its loss, in words, not here.
        rows, columns = linear_sum_assignment(np.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=-1e6))
        matches.append(Match(*(torch.from_numpy(x).to(wanted.labels.device) for x in (rows, columns))))
    return matches


def averaged(count: Tensor | float, like: Tensor, all_reduce_sum: AllReduceSum) -> Tensor:
    """A count of this process's share of the batch, averaged over all processes, at least 1."""
    pair = torch.stack((torch.as_tensor(count, dtype=torch.float32, device=like.device), like.new_ones(()).float()))
    total, processes = all_reduce_sum(pair)
    return (total / processes).clamp(min=1)


def positives(
    predictions: Predictions, targets: Sequence[Targets], matches: Sequence[Match], things: int
) -> tuple[Tensor, Tensor]:
    """Mask logits ``[P, h, w]`` of the matched kernels and of present stuff, and what they are to be ``[P, h, w]``.

    Args:
        predictions: of a stage.
        targets: of each frame or clip.
        matches: of the same.
        things: number of kernels of things; those of stuff follow, where the stage has any.
    """
    found, wanted = [], []
    for masks, target, matched in zip(predictions.masks, targets, matches):
        found.append(masks[matched.kernels])
        wanted.append(target.masks[matched.instances])
        if target.stuff is not None and target.stuff_present is not None and len(masks) > things:
            found.append(masks[things:][target.stuff_present])
            wanted.append(target.stuff[target.stuff_present])
    return torch.cat(found).float(), torch.cat(wanted)


def mask_losses(
    predictions: Predictions,
    targets: Sequence[Targets],
    matches: Sequence[Match],
    things: int,
    all_reduce_sum: AllReduceSum,
) -> MaskLosses:
    """Cross-entropy and dice loss, means over the positives of the batch; see `positives`."""
    logits, wanted = positives(predictions, targets, matches, things)
    count = averaged(len(logits), logits, all_reduce_sum)
    if not len(logits):
        nothing = 0 * predictions.masks.float().sum()  # every process of a group must have gradients
        return MaskLosses(nothing, nothing)
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean((1, 2))
    inside, truth = logits.flatten(1).sigmoid(), wanted.flatten(1)
    squares = inside.square().sum(1) + truth.square().sum(1) + 2 * _SMALLEST_SQUARES
    dice = 1 - 2 * (inside * truth).sum(1) / squares
    return MaskLosses(MASK_WEIGHT * entropy.sum() / count, DICE_WEIGHT * dice.sum() / count)


def class_loss(
    predictions: Predictions,
    targets: Sequence[Targets],
    matches: Sequence[Match],
    things: int,
    all_reduce_sum: AllReduceSum,
) -> Tensor:
    """Focal loss of all classes of all kernels, divided by the positives of the batch.

    A kernel of things is taught the thing classes only, one of stuff its own class only. A kernel without a match is to
    name nothing, but for what `Targets` excuses.

    Args:
        predictions: of a stage that names.
        targets: of each frame or clip.
        matches: of the same.
        things: number of kernels of things.
        all_reduce_sum: see `Trainable`.
    """
    assert predictions.logits is not None
    logits = predictions.logits.float()
    stuff = logits.shape[1] - things
    classes = logits.shape[2] - stuff  # of things
    wanted, weights = torch.zeros_like(logits), torch.zeros_like(logits)
    weights[:, :things, :classes] = 1
    weights[:, things:, classes:] = torch.eye(stuff, device=logits.device)
    for b, (target, matched) in enumerate(zip(targets, matches)):
        weights[b, :things, :classes] *= ~_excused(predictions.masks[b, :things].detach(), target, matched)
        wanted[b, matched.kernels, target.labels[matched.instances]] = 1
        if stuff and target.stuff_present is not None:
            wanted[b, things:, classes:] = target.stuff_present.float().diag()
    count = averaged(wanted.sum(), logits, all_reduce_sum)
    return CLASS_WEIGHT * (weights * focal_loss(logits, wanted)).sum() / count


def _excused(masks: Tensor, targets: Targets, matched: Match) -> Tensor:
    """Which kernels may name which thing classes though they are none, bool ``[N, K]``."""
    excused = targets.open_classes.expand(len(masks), -1).clone()
    if len(targets.ignore_labels):
        found = (masks > 0).flatten(1).float()
        inside = found @ targets.ignore_masks.flatten(1).T > 0.5 * found.sum(1, keepdim=True)
        for region, label in enumerate(targets.ignore_labels.tolist()):
            excused[:, label] |= inside[:, region]
    excused[matched.kernels] = False
    return excused


def pixel_labels(targets: Targets, matched: Match, things: int, none: int) -> Tensor:
    """The class of each pixel int64 ``[h, w]``: stuff, over it the instances by ascending kernels, later over earlier.

    Args:
        targets: of a frame.
        matched: of the same.
        things: number of thing classes; those of stuff follow.
        none: of a pixel without a class.
    """
    found = torch.full(targets.masks.shape[1:], none, dtype=torch.int64, device=targets.masks.device)
    if targets.stuff is not None:
        for label, mask in enumerate(targets.stuff, things):
            found[mask != 0] = label
    for instance in matched.instances.tolist():
        found[targets.masks[instance] != 0] = targets.labels[instance]
    return found


def semantic_loss(
    logits: Tensor, targets: Sequence[Targets], matches: Sequence[Match], all_reduce_sum: AllReduceSum
) -> Tensor:
    """Focal loss of the classes of all pixels, each by itself, divided by the number of pixels that have one.

    Args:
        logits: ``[B, K, h, w]`` at the size of the targets.
        targets: of each frame.
        matches: of the same.
        all_reduce_sum: see `Trainable`.
    """
    logits, classes = logits.float(), logits.shape[1]
    labels = torch.stack([pixel_labels(t, m, classes, classes) for t, m in zip(targets, matches)])
    wanted = F.one_hot(labels, classes + 1)[..., :classes].permute(0, 3, 1, 2).to(logits.dtype)
    open_classes = torch.stack([t.open_classes for t in targets])[:, :, None, None]
    excused = open_classes & (labels == classes)[:, None]
    for b, target in enumerate(targets):
        for label, region in zip(target.ignore_labels.tolist(), target.ignore_masks):
            excused[b, label] |= (region > 0) & (labels[b] == classes)
    count = averaged((labels < classes).sum(), logits, all_reduce_sum)
    return (focal_loss(logits, wanted) * ~excused).sum() / count
