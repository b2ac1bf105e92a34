"""What EfficientVIS is trained towards: which instance each query is, stage by stage, and what its answers cost.

Classes and boxes are matched and taught as in Sparse R-CNN (Sun et al., CVPR 2021), a tracklet's frames together; masks
as in QueryInst (Fang et al., ICCV 2021). With one frame and no masks the losses are Sparse R-CNN's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from vis_core.errors import VisError
from vis_core.nn.boxes import box_area, generalised_iou
from vis_core.nn.losses import focal_loss
from vis_core.nn.region_queries import StageOutputs
from vis_core.nn.roi_align import roi_align
from vis_core.system.trainable import AllReduceSum

CLASS_WEIGHT, L1_WEIGHT, GIOU_WEIGHT, DICE_WEIGHT, MASK_WEIGHT = 2.0, 5.0, 2.0, 8.0, 2.0
_SMALLEST_PROBABILITY = 1e-8
_SMALLEST_DICE = 1e-5


class Match(NamedTuple):
    """Which queries are which instances.

    Attributes:
        queries: int64 ``[n]``.
        instances: int64 ``[n]``, ascending.
    """

    queries: Tensor
    instances: Tensor


@dataclass(frozen=True, eq=False)
class Targets:
    """The instances of one clip.

    Attributes:
        labels: int64 ``[G]``.
        present: bool ``[G, T]``; an instance may be in none of the frames.
        boxes: float32 ``[G, T, 4]``: x1 y1 x2 y2 of what is visible, right and lower edge exclusive, pixels of the
            network's image.
        masks: bool ``[G, T, H, W]``, at the size of the network's image without its padding.
        open_classes: bool ``[K]``: whether objects of a class may be there without a mask, so that a query without a
            match that names it is no error.
        ignore_masks: bool ``[M, T, H, W]``: regions in which what is no instance's may be named `ignore_labels`.
        ignore_labels: int64 ``[M]``.
    """

    labels: Tensor
    present: Tensor
    boxes: Tensor
    masks: Tensor
    open_classes: Tensor
    ignore_masks: Tensor
    ignore_labels: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's image without its padding."""
        return self.masks.shape[2], self.masks.shape[3]

    @property
    def sides(self) -> Tensor:
        """Width, height, width, height: what boxes are divided by."""
        height, width = self.size
        return self.boxes.new_tensor([width, height, width, height])

    @cached_property
    def ignore_areas(self) -> Tensor:
        """Area of the regions above and left of each corner of a pixel, float32 ``[T, M, H + 1, W + 1]``."""
        return F.pad(self.ignore_masks.transpose(0, 1).float(), (1, 0, 1, 0)).cumsum(2).cumsum(3)


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


def matching_costs(out: StageOutputs, targets: Targets) -> Tensor:
    """Class, L1 and GIoU terms of what it costs to give each query each instance, ``[3, N, G]``, not yet weighed.

    Each is a mean over the frames in which the instance is present; 0 if there are none.
    """
    probabilities = out.logits.float().sigmoid()[:, :, targets.labels]  # [T, N, G]
    named = 0.25 * (1 - probabilities) ** 2 * -(probabilities + _SMALLEST_PROBABILITY).log()
    kept_silent = 0.75 * probabilities**2 * -(1 - probabilities + _SMALLEST_PROBABILITY).log()
    boxes, wanted = out.boxes.float()[:, :, None], targets.boxes.transpose(0, 1)[:, None]
    distance = ((boxes - wanted) / targets.sides).abs().sum(-1)
    terms = torch.stack((named - kept_silent, distance, -generalised_iou(boxes, wanted)))
    present = targets.present.T[:, None]
    return torch.where(present, terms, 0).sum(1) / present.sum(0).clamp(min=1)


@torch.no_grad()
def match_stages(outputs: Sequence[StageOutputs], targets: Targets, held: Match | None = None) -> list[Match]:
    """Of each stage by itself, the assignment of least cost of queries to the instances that are in the clip.

    Args:
        outputs: of each stage.
        targets: of the clip.
        held: of the clip before: these pairs stay, even where the instance has left; the others choose among the rest.

    Raises:
        VisError: a box or a class of a stage is infinite or not a number.
    """
    weights = targets.boxes.new_tensor([CLASS_WEIGHT, L1_WEIGHT, GIOU_WEIGHT])[:, None, None]
    costs = torch.stack([(weights * matching_costs(out, targets)).sum(0) for out in outputs])
    sound = costs.flatten(1).isfinite().all(1) & torch.stack([out.boxes.isfinite().all() for out in outputs])
    for stage, good in enumerate(sound.tolist()):
        if not good:
            raise VisError(
                f"stage {stage}: a box or a class is infinite or not a number: the training has diverged. Lower "
                "optimizer.learning_rate or lengthen schedule.warm_up"
            )
    free = torch.ones(costs.shape[1], dtype=torch.bool)
    new = targets.present.any(1).cpu()
    if held is not None:
        free[held.queries.cpu()], new[held.instances.cpu()] = False, False
    queries, instances = free.nonzero()[:, 0], new.nonzero()[:, 0]
    matches = []
    for cost in costs.cpu():
        rows, columns = map(torch.from_numpy, linear_sum_assignment(cost[queries][:, instances].numpy()))
        found = Match(queries[rows].to(costs.device), instances[columns].to(costs.device))
        if held is not None:
            found = Match(*(torch.cat(pair) for pair in zip(held, found)))
        order = found.instances.argsort()
        matches.append(Match(found.queries[order], found.instances[order]))
    return matches


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


def class_loss(out: StageOutputs, match: Match, targets: Targets) -> Tensor:
    """Sum of the focal losses of all classes of all queries in all frames, but for what `Targets` excuses.

    A query is to name its instance's label in the frames where that is present, and nothing else.
    """
    logits = out.logits.float()
    present = targets.present[match.instances].T  # [T, n]
    wanted = torch.zeros_like(logits)
    wanted[:, match.queries, targets.labels[match.instances]] = present.float()
    excused = targets.open_classes.expand(logits.shape).clone()
    excused[:, match.queries] = False
    if len(targets.ignore_labels):
        excused |= _in_ignored_regions(out.boxes.detach().float(), targets)
        excused[:, match.queries] &= ~present[..., None]
    return torch.where(excused, 0, focal_loss(logits, wanted)).sum()


def _in_ignored_regions(boxes: Tensor, targets: Targets) -> Tensor:
    """Of which classes a region to ignore holds more than half of a box, bool ``[T, N, K]``; boxes ``[T, N, 4]``."""
    x1, y1, x2, y2 = ((boxes / targets.sides).clamp(0, 1) * 2 - 1).unbind(-1)
    corners = torch.stack([torch.stack(pair, -1) for pair in ((x2, y2), (x1, y1), (x1, y2), (x2, y1))], 1)
    # Between the corners of a pixel, the area above and left is bilinear: what is read there is exact.
    areas = F.grid_sample(targets.ignore_areas, corners, align_corners=True)  # [T, M, 4, N]
    inside = areas[:, :, 0] + areas[:, :, 1] - areas[:, :, 2] - areas[:, :, 3]
    regions = (inside > 0.5 * box_area(boxes)[:, None]).float().transpose(1, 2)
    return regions @ F.one_hot(targets.ignore_labels, len(targets.open_classes)).float() > 0


def box_losses(out: StageOutputs, match: Match, targets: Targets) -> tuple[Tensor, Tensor]:
    """Sums over the frames where instances are present: of normalised L1 distances, and of 1 - GIoU."""
    present = targets.present[match.instances]
    boxes = out.boxes.float()[:, match.queries].transpose(0, 1)[present]
    wanted = targets.boxes[match.instances][present]
    distance = ((boxes - wanted) / targets.sides).abs()
    return distance.sum(), (1 - generalised_iou(boxes, wanted)).sum()


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
    predicted, truth = logits.sigmoid()[present], wanted[present]
    squares = (predicted**2).sum((1, 2)) + (truth**2).sum((1, 2))
    return (1 - 2 * (predicted * truth).sum((1, 2)) / (squares + _SMALLEST_DICE)).sum(), entropy


@torch.no_grad()
def mask_targets(out: StageOutputs, match: Match, targets: Targets, side: int) -> Tensor:
    """What the matched instances' masks hold in the boxes of the stage, 0 or 1, float32 ``[T, n, side, side]``."""
    frames = torch.arange(targets.present.shape[1], device=match.instances.device)
    index = (match.instances * len(frames) + frames[:, None]).flatten()  # [T, n]
    boxes = out.boxes[:, match.queries].flatten(0, 1)
    if not len(boxes):
        return boxes.new_zeros((len(frames), 0, side, side))
    pooled = roi_align(targets.masks.flatten(0, 1)[:, None], boxes, index, side, 1.0, sampling_ratio=0)
    inside = (pooled[..., 0] >= 0.5).unflatten(0, (len(frames), -1)).unflatten(2, (side, side))
    return (inside & targets.present[match.instances].T[..., None, None]).float()
