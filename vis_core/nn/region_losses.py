"""What queries that look into boxes are trained towards: which instance each one is, and what its answers cost.

Classes and boxes are matched and taught as in Sparse R-CNN (Sun et al., CVPR 2021), the frames of a clip together;
masks as in QueryInst (Fang et al., ICCV 2021). The answers are those of `vis_core.nn.region_queries`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.errors import VisError
from vis_core.nn.boxes import box_area, generalised_iou
from vis_core.nn.losses import focal_loss
from vis_core.nn.matching import linear_sum_assignment
from vis_core.nn.region_queries import StageOutputs
from vis_core.nn.roi_align import roi_align

CLASS_WEIGHT, L1_WEIGHT, GIOU_WEIGHT, DICE_WEIGHT = 2.0, 5.0, 2.0, 8.0


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

    @staticmethod
    def of(
        labels: npt.NDArray[np.int64],
        masks: npt.NDArray[np.bool_],
        exhaustive: npt.NDArray[np.bool_],
        ignore_masks: npt.NDArray[np.bool_],
        ignore_labels: npt.NDArray[np.int64],
        device: torch.device,
    ) -> Targets:
        """Those of a training clip, as `vis_core.data.clips.TrainingClip` has them; boxes are those of the masks."""

        def tensor(x: npt.NDArray[Any]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(x)).to(device)

        on_device = tensor(masks)
        present, boxes = mask_boxes(on_device)
        return Targets(
            labels=tensor(labels),
            present=present,
            boxes=boxes,
            masks=on_device,
            open_classes=~tensor(exhaustive),
            ignore_masks=tensor(ignore_masks),
            ignore_labels=tensor(ignore_labels),
        )

    def of_frames(self, run: slice) -> Targets:
        """The same instances in some of the frames."""
        return Targets(
            labels=self.labels,
            present=self.present[:, run],
            boxes=self.boxes[:, run],
            masks=self.masks[:, run].contiguous(),  # it is read mask by mask in every stage
            open_classes=self.open_classes,
            ignore_masks=self.ignore_masks[:, run],
            ignore_labels=self.ignore_labels,
        )

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


def mask_boxes(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Whether masks bool ``[..., H, W]`` have a pixel, and their boxes ``[..., 4]``: x1 y1 x2 y2, ends exclusive."""
    edges = []
    for axis in (-2, -1):  # over the rows: which columns have a pixel
        lines = masks.any(axis).int()
        first, last = lines.argmax(-1), lines.shape[-1] - lines.flip(-1).argmax(-1)
        edges.append((first, last))
    (x1, x2), (y1, y2) = edges
    return masks.flatten(-2).any(-1), torch.stack((x1, y1, x2, y2), -1).float()


def matching_costs(out: StageOutputs, targets: Targets, smallest_probability: float = 1e-8) -> Tensor:
    """Class, L1 and GIoU terms of what it costs to give each query each instance, ``[3, N, G]``, not yet weighed.

    Each is a mean over the frames in which the instance is present; 0 if there are none.

    Args:
        out: of a stage.
        targets: of the clip.
        smallest_probability: what is added before a logarithm is taken.
    """
    probabilities = out.logits.float().sigmoid()[:, :, targets.labels]  # [T, N, G]
    named = 0.25 * (1 - probabilities) ** 2 * -(probabilities + smallest_probability).log()
    kept_silent = 0.75 * probabilities**2 * -(1 - probabilities + smallest_probability).log()
    boxes, wanted = out.boxes.float()[:, :, None], targets.boxes.transpose(0, 1)[:, None]
    distance = ((boxes - wanted) / targets.sides).abs().sum(-1)
    terms = torch.stack((named - kept_silent, distance, -generalised_iou(boxes, wanted)))
    present = targets.present.T[:, None]
    return torch.where(present, terms, 0).sum(1) / present.sum(0).clamp(min=1)


@torch.no_grad()
def match_stages(
    outputs: Sequence[StageOutputs],
    targets: Targets,
    held: Match | None = None,
    smallest_probability: float = 1e-8,
) -> list[Match]:
    """Of each stage by itself, the assignment of least cost of queries to the instances that are in the clip.

    Args:
        outputs: of each stage.
        targets: of the clip.
        held: of the clip before: these pairs stay, even where the instance has left; the others choose among the rest.
        smallest_probability: see `matching_costs`.

    Raises:
        VisError: a box or a class of a stage is infinite or not a number.
    """
    costs = torch.stack([weighed_costs(matching_costs(out, targets, smallest_probability)) for out in outputs])
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


def weighed_costs(terms: Tensor) -> Tensor:
    """Costs ``[N, G]`` of the terms of `matching_costs`."""
    weights = terms.new_tensor([CLASS_WEIGHT, L1_WEIGHT, GIOU_WEIGHT])[:, None, None]
    return (weights * terms).sum(0)


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
        excused |= in_ignored_regions(out.boxes.detach().float(), targets)
        excused[:, match.queries] &= ~present[..., None]
    return torch.where(excused, 0, focal_loss(logits, wanted)).sum()


def in_ignored_regions(boxes: Tensor, targets: Targets) -> Tensor:
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


@torch.no_grad()
def masks_in_boxes(masks: Tensor, boxes: Tensor, index: Tensor, side: int) -> Tensor:
    """Which bins of boxes masks cover by half or more, bool ``[R, side, side]``.

    Args:
        masks: bool ``[B, H, W]``.
        boxes: ``[R, 4]``, x1 y1 x2 y2 in pixels of the masks.
        index: int64 ``[R]``: the mask of each box.
        side: bins along a side.
    """
    if not len(boxes):
        return masks.new_zeros((0, side, side))
    pooled = roi_align(masks[:, None], boxes, index, side, 1.0, sampling_ratio=0)
    return (pooled[..., 0] >= 0.5).unflatten(1, (side, side))


def dice_losses(predicted: Tensor, truth: Tensor, smallest: float) -> Tensor:
    """Dice loss (Milletari et al., 3DV 2016) of each mask, ``[R]``.

    Args:
        predicted: probabilities ``[R, h, w]``.
        truth: 0 or 1, ``[R, h, w]``.
        smallest: added to the denominator.
    """
    squares = (predicted**2).sum((1, 2)) + (truth**2).sum((1, 2))
    return 1 - 2 * (predicted * truth).sum((1, 2)) / (squares + smallest)
