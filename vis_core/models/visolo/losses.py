"""What VISOLO is trained towards: which instance each cell of the grid holds, and the three losses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.models.visolo.network import GRID
from vis_core.nn.losses import focal_loss
from vis_core.system.trainable import AllReduceSum

CELLS = GRID[0] * GRID[1]
_REGION = 0.2  # of an instance's extent that makes a cell its own


def grid_instances(
    masks: npt.NDArray[np.bool_], published_extents: bool = True, grid: tuple[int, int] = GRID
) -> npt.NDArray[np.int64]:
    """Which instance each cell is to predict, its index or -1; int64 ``[T, 252]``.

    An instance claims the cells around its centre of mass, a fifth of its extent in either direction; of two claims the
    nearer centre wins, the earlier one where they are as near.

    Args:
        masks: bool ``[N, T, H, W]``.
        published_extents: measure an extent from the picture's edge to the bottom or right end of the mask, as the
            published code does, not between its ends.
        grid: its rows and columns.
    """
    count, frames, height, width = masks.shape
    cell = height / grid[0], width / grid[1]
    cells = np.full((frames, *grid), -1, np.int64)
    nearest = np.full((frames, *grid), np.inf)
    rows, columns = np.count_nonzero(masks, 3), np.count_nonzero(masks, 2)
    for item in range(count):
        for t in range(frames):
            spans, center = [], []
            for counts, size, cells_along in ((rows[item, t], cell[0], grid[0]), (columns[item, t], cell[1], grid[1])):
                total = counts.sum()
                if not total:
                    break
                where = np.flatnonzero(counts)
                middle = float(counts @ np.arange(len(counts))) / total
                extent = where[-1] + 1 - (0 if published_extents else where[0])
                reach = _REGION * extent / 2
                first, last = (int(np.clip(np.floor((middle + s * reach) / size), 0, cells_along - 1)) for s in (-1, 1))
                spans.append(slice(first, last + 1))
                center.append(middle)
            else:
                part = t, spans[0], spans[1]
                y = (np.arange(spans[0].start, spans[0].stop)[:, None] + 0.5) * cell[0]
                x = (np.arange(spans[1].start, spans[1].stop) + 0.5) * cell[1]
                distance = (y - center[0]) ** 2 + (x - center[1]) ** 2
                closer = distance < nearest[part]
                nearest[part][closer] = distance[closer]
                cells[part][closer] = item
    return cells.reshape(frames, -1)


def labels_known(
    cells: npt.NDArray[np.int64],
    masks: npt.NDArray[np.bool_],
    exhaustive: npt.NDArray[np.bool_],
    ignore_masks: npt.NDArray[np.bool_],
    ignore_labels: npt.NDArray[np.int64],
    grid: tuple[int, int] = GRID,
) -> npt.NDArray[np.bool_]:
    """Where the category of a cell is known, and so has a loss; bool ``[C, T, 252]``.

    Not known: a class that is not labelled exhaustively, save in cells that hold an instance or whose centre lies on
    one; and cells whose centre lies in a region to ignore, for its class, save those that hold an instance.

    Args:
        cells: int64 ``[T, 252]``, of `grid_instances`.
        masks: bool ``[N, T, H, W]``.
        exhaustive: bool ``[C]``.
        ignore_masks: bool ``[M, T, H, W]``.
        ignore_labels: int64 ``[M]``.
        grid: its rows and columns.
    """
    height, width = masks.shape[2:]
    y = ((np.arange(grid[0]) + 0.5) * height / grid[0]).astype(int)
    x = ((np.arange(grid[1]) + 0.5) * width / grid[1]).astype(int)
    centers = (slice(None), *np.ix_(y, x))
    frames = len(cells)
    covered = np.zeros((frames, *grid), np.bool_)
    for mask in masks:
        covered |= mask[centers]
    known = exhaustive[:, None, None] | covered.reshape(1, frames, -1)
    for mask, label in zip(ignore_masks, ignore_labels):
        known[label] &= ~mask[centers].reshape(frames, -1)
    known |= cells >= 0
    return known


def category_loss(logits: Tensor, targets: Tensor, known: Tensor, all_reduce_sum: AllReduceSum) -> Tensor:
    """Focal loss summed over classes and cells, by the number of positives of a frame; mean over clips and frames.

    Args:
        logits: ``[B, T, C, 252]``.
        targets: of the same shape, 0 or 1.
        known: of the same shape, whether an entry counts.
        all_reduce_sum: sums over all processes.
    """
    batch, frames = logits.shape[:2]
    positives = targets.sum((2, 3)).clamp(min=1)
    each = (focal_loss(logits, targets) * known).sum((2, 3)) / positives
    clips, processes = _totals(logits, batch, all_reduce_sum)
    return each.sum() * processes / (clips * frames)


def mask_loss(
    features: Tensor,
    kernels: Tensor,
    cells: Sequence[npt.NDArray[np.int64]],
    masks: Sequence[Tensor],
    all_reduce_sum: AllReduceSum,
    max_cells: int | None = None,
    stride: int = 1,
    other_instance_weight: float = 1.0,
) -> Tensor:
    """Dice loss of the masks of the positive cells.

    Mean over the cells of a frame, then over the clips that have any in that frame, then over the frames that have any.

    Args:
        features: mask features ``[B, T, d, H/4, W/4]``.
        kernels: ``[B, T, d, 252]``.
        cells: of each clip, int64 ``[T, 252]``, of `grid_instances`.
        masks: of each clip, float ``[N, T, H / stride, W / stride]``.
        all_reduce_sum: sums over all processes.
        max_cells: of a frame that are used, evenly taken; None: all, as published.
        stride: at which the masks are compared, 1 (as published), 2 or 4.
        other_instance_weight: what a predicted pixel that belongs to another instance weighs in the size of the
            prediction; 1, as published, makes it no worse than one of the background, and a rider and their horse one
            mask.
    """
    batch, frames = features.shape[:2]
    present = torch.tensor(np.stack([(c >= 0).any(1) for c in cells]), device=features.device)
    _, processes = _totals(features, batch, all_reduce_sum)
    clips_with = all_reduce_sum(present.sum(0).to(features.dtype))
    frames_with = (clips_with > 0).sum().clamp(min=1)
    loss = features.new_zeros((), dtype=torch.float32)
    by_frame = features.flatten(0, 1).unbind(), kernels.flatten(0, 1).unbind()
    for b in range(batch):
        for t in range(frames):
            chosen = np.flatnonzero(cells[b][t] >= 0)
            if not len(chosen):
                continue
            if max_cells is not None and len(chosen) > max_cells:
                chosen = chosen[np.linspace(0, len(chosen) - 1, max_cells).round().astype(int)]
            feature, kernel = (maps[b * frames + t] for maps in by_frame)
            with torch.autocast(feature.device.type, enabled=False):  # coordinates cancel: not in half precision
                logits = torch.einsum("dhw,dn->nhw", feature.float(), kernel[:, chosen].float())
            if stride != 4:
                scale = 4 // stride
                logits = F.interpolate(logits[None], scale_factor=scale, mode="bilinear", align_corners=False)[0]
            predicted = logits.float().sigmoid()
            wanted = masks[b][cells[b][t][chosen], t]
            overlap = (predicted * wanted).sum((1, 2))
            size = predicted.square().sum((1, 2)) + wanted.square().sum((1, 2))
            if other_instance_weight != 1:
                others = masks[b][:, t].amax(0) - wanted
                size = size + (other_instance_weight - 1) * (predicted.square() * others).sum((1, 2))
            loss = loss + (1 - 2 * overlap / (size + 1e-7)).mean() / clips_with[t] / frames_with
    # Without any instance there are still gradients, of zero: every process of a group must have them.
    return loss * processes + 0 * (by_frame[0][0][0, 0, 0] + by_frame[1][0][0, 0])


def tracking_loss(logits: Tensor, targets: Tensor, all_reduce_sum: AllReduceSum) -> Tensor:
    """Focal loss of grid similarity, over the rows that have a positive.

    Divided per clip and pair by the number of such rows; mean over the clips and pairs that have any.

    Args:
        logits: ``[B, P, 252, 252]`` of P pairs of frames.
        targets: of the same shape, 1 where both cells hold one instance.
        all_reduce_sum: sums over all processes.
    """
    rows = targets.any(3)
    each = (focal_loss(logits, targets.to(logits.dtype)).sum(3) * rows).sum(2) / rows.sum(2).clamp(min=1)
    _, processes = _totals(logits, len(logits), all_reduce_sum)
    pairs = all_reduce_sum(rows.any(2).sum().to(logits.dtype)).clamp(min=1)
    return each.sum() * processes / pairs


def _totals(like: Tensor, batch: int, all_reduce_sum: AllReduceSum) -> tuple[Tensor, Tensor]:
    """Clips of all processes, and the number of processes."""
    sums = all_reduce_sum(torch.tensor([float(batch), 1.0], device=like.device))
    return sums[0], sums[1]
