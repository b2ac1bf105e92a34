"""What TeViT is trained towards: that of QueryInst (Fang et al., ICCV 2021), a query being one instance of a clip.

Matching and losses of classes and boxes are those of `vis_core.nn.region_losses`. Masks are taught in the frames that
show the instance alone, and there the one of its class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.nn.region_losses import (
    CLASS_WEIGHT,
    DICE_WEIGHT,
    GIOU_WEIGHT,
    L1_WEIGHT,
    Match,
    Targets,
    box_losses,
    class_loss,
    dice_losses,
    masks_in_boxes,
)
from vis_core.nn.region_queries import StageOutputs
from vis_core.system.trainable import PADDED_TO, AllReduceSum

SMALLEST_PROBABILITY = 1e-12
_SMALLEST_DICE = 2e-5


class Positives(NamedTuple):
    """The queries in the frames that show their instances, frame by frame, in each in ascending order.

    Attributes:
        frames: of the clip, int64 ``[P]``.
        queries: int64 ``[P]``.
        instances: int64 ``[P]``.
    """

    frames: Tensor
    queries: Tensor
    instances: Tensor

    @staticmethod
    def of(match: Match, targets: Targets) -> Positives:
        """Those of a match."""
        order = match.queries.argsort()
        queries, instances = match.queries[order], match.instances[order]
        frames, which = targets.present[instances].T.nonzero(as_tuple=True)
        return Positives(frames, queries[which], instances[which])


@dataclass(frozen=True, eq=False)
class TaughtClip:
    """What the stages say of a clip, and whom they are taught.

    Attributes:
        targets: of the clip.
        outputs: of each stage.
        matches: of each stage.
        positives: of each stage.
    """

    targets: Targets
    outputs: Sequence[StageOutputs]
    matches: Sequence[Match]
    positives: Sequence[Positives]

    @cached_property
    def padded_masks(self) -> Tensor:
        """The instances' masks at the size of the network's image with its padding, bool ``[G, T, h, w]``."""
        height, width = self.targets.size
        return F.pad(self.targets.masks, (0, -width % PADDED_TO, 0, -height % PADDED_TO))


@dataclass(frozen=True, eq=False)
class Losses:
    """The weighed losses of one stage."""

    classes: Tensor
    l1: Tensor
    giou: Tensor
    dice: Tensor


def batch_losses(clips: Sequence[TaughtClip], masks: Sequence[Tensor], all_reduce_sum: AllReduceSum) -> list[Losses]:
    """The weighed losses of each stage on the clips of a batch, divided by the number of positives.

    That is the mean over the processes, and at least 1. As published, the losses of classes and boxes are divided by
    less where there are less; without any positive, by an epsilon, and one empty batch outweighs all others.

    Args:
        clips: with the same number of stages.
        masks: of each stage the mask logits ``[P, K, 28, 28]`` of the positives, clip by clip.
        all_reduce_sum: sums over all processes, see `Trainable`.
    """
    labels = [[clip.targets.labels[positives.instances] for positives in clip.positives] for clip in clips]
    found = masks[0].new_tensor([sum(map(len, of_stage)) for of_stage in zip(*labels)], dtype=torch.float32)
    counts = all_reduce_sum(torch.cat((found, found.new_ones(1))))
    divisors = (counts[:-1] / counts[-1]).clamp(min=1)
    losses = []
    with torch.autocast(found.device.type, enabled=False):
        for stage, divisor in enumerate(divisors):
            sums = torch.stack([_summed_losses(clip, stage) for clip in clips]).sum(0)
            truth = torch.cat([mask_targets(clip, stage, masks[stage].shape[-1]) for clip in clips])
            of_class = torch.cat([of_stage[stage] for of_stage in labels])
            dice = mask_loss(masks[stage], of_class, truth)
            classes, l1, giou = sums / divisor
            losses.append(
                Losses(CLASS_WEIGHT * classes, L1_WEIGHT * l1, GIOU_WEIGHT * giou, DICE_WEIGHT * dice / divisor)
            )
    return losses


def _summed_losses(clip: TaughtClip, stage: int) -> Tensor:
    """Sums of the class, L1 and GIoU losses of a stage, ``[3]``, neither weighed nor divided."""
    parts = clip.outputs[stage], clip.matches[stage], clip.targets
    return torch.stack((class_loss(*parts), *box_losses(*parts)))


def mask_loss(logits: Tensor, labels: Tensor, truth: Tensor) -> Tensor:
    """Sum of the dice losses of positives.

    Args:
        logits: of the masks of all classes ``[P, K, side, side]``.
        labels: int64 ``[P]``.
        truth: ``[P, side, side]``, 0 or 1.
    """
    of_class = logits[torch.arange(len(labels), device=labels.device), labels]
    return dice_losses(of_class.float().sigmoid(), truth, _SMALLEST_DICE).sum()


@torch.no_grad()
def mask_targets(clip: TaughtClip, stage: int, side: int) -> Tensor:
    """What instances' masks hold in the boxes of the positives, 0 or 1, float32 ``[P, side, side]``.

    Boxes end where the padded image does.
    """
    frames, queries, instances = clip.positives[stage]
    masks = clip.padded_masks
    height, width = masks.shape[2:]
    boxes = clip.outputs[stage].boxes[frames, queries].float()
    boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
    return masks_in_boxes(masks.flatten(0, 1), boxes, instances * masks.shape[1] + frames, side).float()
