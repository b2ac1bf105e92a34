"""Small masks of boxes, pasted into images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core import masks as run_lengths
from vis_core.masks import RunLengths

THRESHOLD = 0.5


def paste(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[RunLengths]:
    """Masks at an image's size: bilinear, nothing outside of the small mask, foreground from 0.5 on.

    Args:
        probabilities: of N small masks ``[N, h, w]``.
        boxes: that they fill, x1 y1 x2 y2 in pixels of the image; may leave it ``[N, 4]``.
        size: height and width of the image.
    """
    out = []
    for mask, box, (x, y) in zip(probabilities, boxes, _rectangles(boxes, size)):
        if x.start >= x.stop or y.start >= y.stop:
            out.append(RunLengths(size))
            continue
        part = run_lengths.encode((_sampled(mask, box, x, y) >= THRESHOLD).cpu().numpy())
        left, top, width, height = part.box
        whole = RunLengths(size, (x.start + left, y.start + top, width, height), part.runs)
        out.append(whole if part.area else RunLengths(size))
    return out


def paste_dense(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The same as bool ``[N, H, W]``."""
    out = torch.zeros((len(boxes), *size), dtype=torch.bool, device=probabilities.device)
    for row, mask, box, (x, y) in zip(out, probabilities, boxes, _rectangles(boxes, size)):
        if x.start < x.stop and y.start < y.stop:
            row[y, x] = _sampled(mask, box, x, y) >= THRESHOLD
    return out


def _rectangles(boxes: Tensor, size: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Columns and rows of the image that a pasted mask may touch."""
    finite: npt.NDArray[np.float64] = np.nan_to_num(boxes.detach().double().cpu().numpy(), nan=0.0)
    limit = np.array([size[1], size[0]])
    low = np.clip(np.floor(finite[:, :2]) - 1, 0, limit).astype(int)
    high = np.clip(np.ceil(finite[:, 2:]) + 1, 0, limit).astype(int)
    return [(slice(a, c), slice(b, d)) for (a, b), (c, d) in zip(low.tolist(), high.tolist())]


def _sampled(mask: Tensor, box: Tensor, x: slice, y: slice) -> Tensor:
    """Values of a small mask at the centres of an image's pixels, columns x of rows y."""
    x1, y1, x2, y2 = box.float().unbind()
    columns = (torch.arange(x.start, x.stop, device=mask.device) + 0.5 - x1) / (x2 - x1) * 2 - 1
    rows = (torch.arange(y.start, y.stop, device=mask.device) + 0.5 - y1) / (y2 - y1) * 2 - 1
    # What is not finite lies nowhere.
    columns, rows = (torch.nan_to_num(p, nan=-9.0, posinf=9.0, neginf=-9.0).clamp(-9, 9) for p in (columns, rows))
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    values: Tensor = F.grid_sample(mask.float()[None, None], grid[None], align_corners=False)[0, 0]
    return values
