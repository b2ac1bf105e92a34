"""What EfficientVIS is trained towards: which instance each query is, stage by stage, and what its answers cost.

Classes and boxes are matched and taught as in Sparse R-CNN (Sun et al., CVPR 2021), a tracklet's frames together; masks
as in QueryInst (Fang et al., ICCV 2021). With one frame and no masks the losses are Sparse R-CNN's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from vis_core.system.trainable import AllReduceSum

MASK_WEIGHT = 2.0
_SMALLEST_DICE = 1e-5


@dataclass(frozen=True, eq=False)
class TaughtClip:
    """What the stages say of a clip, and whom they are taught.

    Attributes:
        targets: of the clip.
        outputs: of each stage.
        matches: of each stage.
        masks: of each stage the mask logits ``[T, n, 28, 28]`` of the matched queries; None: masks are not taught.
    """

    targets: Targets
    outputs: Sequence[StageOutputs]
    matches: Sequence[Match]
    masks: Sequence[Tensor] | None


@dataclass(frozen=True, eq=False)
class Losses:
    """The weighed losses of one stage."""

    classes: Tensor
    l1: Tensor
    giou: Tensor
    dice: Tensor
    mask: Tensor


def clip_losses(clips: Sequence[TaughtClip], all_reduce_sum: AllReduceSum) -> list[Losses]:
    """The weighed losses of each stage on the clips of a batch.

    Classes and boxes are divided by the frames in which the matched instances are present, mask cross-entropy by all
    frames of the matched instances, each of the whole batch and at least 1.

    Args:
        clips: with the same number of stages.
        all_reduce_sum: sums over all processes, see `Trainable`.
    """
    device = clips[0].targets.boxes.device
    stages = range(len(clips[0].outputs))
    present, frames = (
        torch.stack([torch.stack([count(clip, stage) for clip in clips]).sum() for stage in stages])
        for count in (_present_frames, _frames)
    )
    counts = all_reduce_sum(torch.cat((present, frames, present.new_ones(1))))
    present, frames = (counts[:-1] / counts[-1]).clamp(min=1).chunk(2)
    found = []
    with torch.autocast(device.type, enabled=False):
        for stage in stages:
            sums = torch.stack([_summed_losses(clip, stage) for clip in clips]).sum(0)
            classes, l1, giou, dice = sums[:4] / present[stage]
            found.append(
                Losses(
                    CLASS_WEIGHT * classes,
                    L1_WEIGHT * l1,
                    GIOU_WEIGHT * giou,
                    DICE_WEIGHT * dice,
                    MASK_WEIGHT * sums[4] / frames[stage],
                )
            )
    return found


def _present_frames(clip: TaughtClip, stage: int) -> Tensor:
    return clip.targets.present[clip.matches[stage].instances].sum().float()


def _frames(clip: TaughtClip, stage: int) -> Tensor:
    return clip.targets.boxes.new_tensor(clip.matches[stage].instances.numel() * clip.targets.present.shape[1])


def _summed_losses(clip: TaughtClip, stage: int) -> Tensor:
    """Sums of the class, L1, GIoU, dice and mask losses of a stage, ``[5]``, neither weighed nor divided."""
    out, match, targets = clip.outputs[stage], clip.matches[stage], clip.targets
    classes = class_loss(out, match, targets)
    l1, giou = box_losses(out, match, targets)
    dice = mask = classes.new_zeros(())
    if clip.masks is not None:
        dice, mask = mask_losses(clip.masks[stage], out, match, targets)
    return torch.stack((classes, l1, giou, dice, mask))


def mask_losses(logits: Tensor, out: StageOutputs, match: Match, targets: Targets) -> tuple[Tensor, Tensor]:
    """Sum of dice losses over the frames where instances are present, of mean cross-entropies over all frames.

    Args:
        logits: of the masks of the matched queries, ``[T, n, 28, 28]``.
        out: whose boxes the masks are in.
        match: of the stage.
        targets: of the clip.
    """
    logits = logits.float()
    present = targets.present[match.instances].T
    wanted = mask_targets(out, match, targets, logits.shape[-1])
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean((2, 3)).sum()
    return dice_losses(logits.sigmoid()[present], wanted[present], _SMALLEST_DICE).sum(), entropy


@torch.no_grad()
def mask_targets(out: StageOutputs, match: Match, targets: Targets, side: int) -> Tensor:
    """What the matched instances' masks hold in the boxes of the stage, 0 or 1, float32 ``[T, n, side, side]``."""
    frames = torch.arange(targets.present.shape[1], device=match.instances.device)
    index = (match.instances * len(frames) + frames[:, None]).flatten()  # [T, n]
    boxes = out.boxes[:, match.queries].flatten(0, 1)
    present = targets.present[match.instances].T
    inside = masks_in_boxes(targets.masks.flatten(0, 1), boxes, index, side).unflatten(0, present.shape)
    return (inside & present[..., None, None]).float()
