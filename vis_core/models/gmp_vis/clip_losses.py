"""What VisTR is trained towards (Wang et al., CVPR 2021): which slot is which instance of a clip, and in which frames.

A slot's query in a frame that does not show its instance is to say "nothing". Masks are taught as in the online system.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.errors import VisError
from vis_core.models.gmp_vis.frame_graphs import frame_similarity, relaxed_matching, votes
from vis_core.nn.boxes import box_area, centres_from_corners, corners_from_centres
from vis_core.nn.matching import linear_sum_assignment
from vis_core.nn.region_losses import Match, Targets, in_ignored_regions

NOTHING_WEIGHT = 0.1
L1_WEIGHT, GIOU_WEIGHT = 5.0, 2.0
L1_COST, IOU_COST = 5.0, 2.0
CROP = 64
_SMALLEST = 1e-6  # of an area, in the clip's: what keeps the overlap of empty boxes finite


class Said(NamedTuple):
    """What a layer says of a clip.

    Attributes:
        logits: of the channels ``[T, N, K + 2]``: no class, the classes, nothing.
        boxes: ``[T, N, 4]``: x and y of the centre, width, height, 0..1.
    """

    logits: Tensor
    boxes: Tensor


class Sights(NamedTuple):
    """The instances of a clip frame by frame, in the form of what is said.

    Attributes:
        channels: int64 ``[G, T]``, 0 in frames that do not show the instance.
        boxes: ``[G, T, 4]``, zeros there.
    """

    channels: Tensor
    boxes: Tensor

    @staticmethod
    def of(targets: Targets) -> Sights:
        """Those of a clip."""
        channels = torch.where(targets.present, targets.labels[:, None] + 1, 0)
        boxes = centres_from_corners(targets.boxes / targets.sides)
        return Sights(channels, torch.where(targets.present[..., None], boxes, 0))


class Taught(NamedTuple):
    """The queries that are taught an instance.

    Attributes:
        frames: int64 ``[P]``.
        slots: int64 ``[P]``.
        instances: int64 ``[P]``.
    """

    frames: Tensor
    slots: Tensor
    instances: Tensor

    @staticmethod
    def of(match: Match, targets: Targets, by_position: bool = False) -> Taught:
        """Those of a match of slots, frame after frame of one pair after the other: the frames that show the instance.

        Args:
            match: of slots and instances.
            targets: of the clip.
            by_position: the published code looks up the frames of the instance whose number is the pair's position.
        """
        rows = torch.arange(len(match.instances), device=match.instances.device) if by_position else match.instances
        pairs, frames = targets.present[rows].nonzero(as_tuple=True)
        return Taught(frames, match.queries[pairs], match.instances[pairs])


@torch.no_grad()
def match(said: Said, targets: Targets) -> Match:
    """The assignment of least cost of slots to the instances that any frame shows, slots ascending.

    The cost of a pair is 5 times the mean distance of the boxes' numbers, less the mean probability of the channel and
    twice the mean IoU, each over all frames, those that do not show the instance too.

    Raises:
        VisError: a box or a class is infinite or not a number.
    """
    sights = Sights.of(targets)
    frames = torch.arange(len(said.logits), device=said.logits.device)[:, None]
    channels, boxes = sights.channels.T, sights.boxes.transpose(0, 1)[:, None]  # [T, G], [T, 1, G, 4]
    named = said.logits.float().softmax(2).transpose(1, 2)[frames, channels].transpose(1, 2)  # [T, N, G]
    found = said.boxes.float()[:, :, None]
    distance, (iou, _) = (found - boxes).abs().mean(3), _overlaps(found, boxes)
    cost = (L1_COST * distance - named - IOU_COST * iou).mean(0)
    if not (cost.isfinite().all() and said.boxes.isfinite().all()):
        raise VisError(
            "a box or a class is infinite or not a number: the training has diverged. Lower optimizer.learning_rate or "
            "lengthen schedule.warm_up"
        )
    return _cheapest(cost, targets.present.any(1).nonzero()[:, 0])


@torch.no_grad()
def published_match(embeddings: Tensor, crops: Tensor, transform: nn.Linear) -> Match:
    """The assignment that the code of GMP-VIS learns from, as it is: the pairs that are least alike.

    How much a slot and an instance are alike is the vote of the first frame for itself. Crops are read as if they were
    sorted by frame, but they are sorted by instance.

    Args:
        embeddings: of the queries ``[T, N, C]``.
        crops: of the instances ``[G, T, C]``, see `crops`.
        transform: of the network.
    """
    instances, frames = crops.shape[:2]
    misread = crops.flatten(0, 1).unflatten(0, (frames, instances)).transpose(0, 1)
    similarity = frame_similarity(embeddings.transpose(0, 1)[:, None], misread, transform)
    alike = votes(relaxed_matching(similarity), first_row_only=True)[..., 0, 0]
    return _cheapest(alike, torch.arange(instances, device=alike.device))


def crops(images: Tensor, targets: Targets) -> Tensor:
    """What the published code compares embeddings with: the first 64 numbers of each sight's image ``[G, T, 64]``.

    That is the top of a square around the box, as wide as the box is; where it would begin beyond the image's left or
    upper edge, it begins as far on this side of it. What is less than 64 numbers is filled up with zeros.

    Args:
        images: normalised ``[T, 3, H, W]``.
        targets: of the clip.
    """
    found = images.new_zeros((*targets.present.shape, CROP))
    boxes = (Sights.of(targets).boxes * targets.sides).long().tolist()
    for g, t in targets.present.nonzero().tolist():
        x, y, width, _ = boxes[g][t]
        half = width // 2
        part = images[t, :, abs(y - half) : y + half, abs(x - half) : x + half].permute(1, 2, 0).flatten()[:CROP]
        found[g, t, : len(part)] = part
    return found


def class_loss(said: Said, taught: Taught, match: Match, targets: Targets) -> tuple[Tensor, Tensor]:
    """Sum of the weighed cross-entropies of all queries, and of their weights: of one that is to say nothing 0.1.

    Such a one may also name what `Targets` excuses: its loss is that of naming any of it. A slot that is an instance
    is no other one in the frames that do not show it: there, only regions to ignore excuse it.
    """
    logits = said.logits.float()
    last = logits.shape[2] - 1
    allowed = torch.zeros_like(logits, dtype=torch.bool)
    allowed[..., 1:last] = targets.open_classes
    allowed[:, match.queries] = False
    if len(targets.ignore_labels):
        corners = corners_from_centres(said.boxes.detach().float()) * targets.sides
        allowed[..., 1:last] |= in_ignored_regions(corners, targets)
    allowed[..., last] = True
    weights = torch.full_like(logits[..., 0], NOTHING_WEIGHT)
    where = taught.frames, taught.slots
    channels = Sights.of(targets).channels[taught.instances, taught.frames]
    allowed[where], weights[where] = F.one_hot(channels, last + 1).bool(), 1.0
    named = logits.masked_fill(~allowed, -torch.inf).logsumexp(2)
    return (weights * (logits.logsumexp(2) - named)).sum(), weights.sum()


def box_losses(said: Said, taught: Taught, targets: Targets) -> tuple[Tensor, Tensor]:
    """Sums over the taught queries: of the distances of the boxes' four numbers, and of 1 - GIoU."""
    boxes = said.boxes.float()[taught.frames, taught.slots]
    wanted = Sights.of(targets).boxes[taught.instances, taught.frames]
    return (boxes - wanted).abs().sum(), (1 - _overlaps(boxes, wanted)[1]).sum()


def _cheapest(cost: Tensor, instances: Tensor) -> Match:
    """The assignment of least cost ``[N, G]`` of slots to some of the instances, slots ascending."""
    slots, columns = linear_sum_assignment(cost[:, instances].cpu().numpy())
    return Match(torch.from_numpy(slots).to(cost.device), instances[torch.from_numpy(columns).to(cost.device)])


def _overlaps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU ``[...]`` of boxes ``[..., 4]`` by centre and sides, which broadcast, as published."""
    first, second = corners_from_centres(first), corners_from_centres(second)
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    union = box_area(first) + box_area(second) - common
    ends = torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])
    hull = box_area(torch.cat(ends, -1))
    iou = (common + _SMALLEST) / (union + _SMALLEST)
    return iou, iou - (hull - union + _SMALLEST) / (hull + _SMALLEST)
