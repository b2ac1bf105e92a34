"""Region pooling, RoIAlign (He et al., ICCV 2017; aligned form of 2019): what maps hold inside of boxes, bin by bin.

A bin is the mean of bilinear samples. On feature maps in channels-last layout, a sample's four pixels are rows of a
table, and a bin is one weighted sum of rows (`embedding_bag`): nothing larger than the indices is made. Where a bin
takes a sample for each of its pixels (`sampling_ratio=0`), boxes of any size would need samples without end; there the
means of an axis are one small matrix, and a box is the product of two of them with its map.

Places are float32, whatever the type of boxes and maps, and no gradient goes to the boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.nn.tracing import is_tracing

Size = int | tuple[int, int]
Level = Tensor | Sequence[Tensor]

OPSET = 21
"""Of ONNX, the newest whose RoiAlign its runtimes have; to be that of a graph in which boxes are pooled."""

CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4  # a box of this size is pooled where the stride is 2**4 (FPN, equation 1)
_LARGEST_GATHER = 2**22  # numbers of maps that are multiplied with two matrices at a time


def roi_align(
    maps: Tensor,
    boxes: Tensor,
    batch_index: Tensor,
    size: Size,
    scale: float,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> Tensor:
    """Pool boxes from maps of one resolution.

    Args:
        maps: ``[B, C, H, W]``, quickest in channels-last layout.
        boxes: ``[R, 4]``, x1 y1 x2 y2 in pixels of the image; may lie anywhere, be empty, and be of any size.
        batch_index: ``[R]``, of whole numbers: which map each box is of.
        size: bins along a side, or height and width.
        scale: pixels of a map over pixels of the image: 1 / stride.
        sampling_ratio: samples of a bin along an axis; 0: as many as the bin has pixels of the map, rounded up. With
            0 maps may be of any type (masks), and the result is float32 if theirs is not a floating-point type.
        aligned: pixel centres at half a pixel, as it should be; False: the form of before, with boxes that are at
            least a pixel of the map wide and high.

    Returns:
        ``[R, bins, C]``, bins row by row.

    Raises:
        ValueError: a box whose right or lower edge comes before the left or upper one (looked for on the CPU only).
    """
    edges = _edges(boxes, scale, aligned)
    bins = (size, size) if isinstance(size, int) else size
    if sampling_ratio == 0:
        return _pooled_by_matrices(maps, edges, batch_index, bins)
    height, width = (torch.full_like(edges[0], extent) for extent in maps.shape[2:])
    first_row = batch_index * (maps.shape[2] * maps.shape[3])
    return _sums_of_rows(_table(maps), *_rows(edges, height, width, first_row, bins, sampling_ratio))


def pyramid_roi_align(
    levels: Sequence[Level],
    boxes: Tensor,
    batch_index: Tensor,
    size: Size,
    strides: Sequence[int] = (4, 8, 16, 32),
    sampling_ratio: int = 2,
    level: Tensor | None = None,
) -> Tensor:
    """Pool each box from a level of a pyramid; aligned.

    Args:
        levels: of each level the maps ``[B, C, H, W]``, or such maps of parts of the batch, all of one length, as
            ``[1, C, H, W]`` for each frame of a clip: then on the CPU nothing has to be joined. Quickest in
            channels-last layout.
        boxes: ``[R, 4]``, x1 y1 x2 y2 in pixels of the image; may lie anywhere, be empty, and be of any size.
        batch_index: ``[R]``, of whole numbers: which image of the batch each box is of.
        size: bins along a side, or height and width.
        strides: of each level, powers of two one after another.
        sampling_ratio: samples of a bin along an axis, at least 1.
        level: position in `levels` for each box ``[R]``, int64; None: what suits its size, `box_levels`.

    Returns:
        ``[R, bins, C]``, bins row by row.

    Raises:
        ValueError: a box whose right or lower edge comes before the left or upper one (looked for on the CPU only), or
            no samples.
    """
    if sampling_ratio < 1:
        raise ValueError(f"sampling_ratio is {sampling_ratio}: a pyramid is pooled with at least 1")
    parts = [[level] if isinstance(level, Tensor) else list(level) for level in levels]
    level = box_levels(boxes, strides) if level is None else level
    bins = (size, size) if isinstance(size, int) else size
    if is_tracing():
        joined = [torch.cat(part) for part in parts]
        return _pooled_by_operator(joined, boxes.detach().float(), batch_index, bins, strides, sampling_ratio, level)
    geometry = [(1 / stride, *part[0].shape[2:]) for stride, part in zip(strides, parts)]
    of_levels = torch.tensor(geometry, dtype=torch.float32).to(boxes.device, non_blocking=True)
    scale, height, width = of_levels[level].unbind(1)
    images = len(parts[0][0])  # of a part
    first_row = batch_index % images * (height.int() * width.int())
    which = level * len(parts[0]) + batch_index // images
    tables = [_table(maps) for part in parts for maps in part]
    if len(tables) > 1 and boxes.device.type != "cpu":  # sorting boxes by table would wait for the device
        tables, first_row = _joined(tables, which, first_row)
    edges = _edges(boxes, scale[:, None])
    if len(tables) == 1:
        return _sums_of_rows(tables[0], *_rows(edges, height, width, first_row, bins, sampling_ratio))

    order = which.argsort()
    counts = which.bincount(minlength=len(tables)).tolist()
    height, width, first_row, *edges = (x[order] for x in (height, width, first_row, *edges))
    index, weight = _rows(edges, height, width, first_row, bins, sampling_ratio)
    pooled = tables[0].new_empty(len(boxes), bins[0] * bins[1], tables[0].shape[1])
    for table, rows, *of_rows in zip(tables, order.split(counts), index.split(counts), weight.split(counts)):
        if len(rows):
            pooled.index_copy_(0, rows, _sums_of_rows(table, *of_rows))
    return pooled


def box_levels(boxes: Tensor, strides: Sequence[int] = (4, 8, 16, 32)) -> Tensor:
    """Position in `strides` of the level for each box, by the root of its area (Lin et al., CVPR 2017, equation 1).

    Args:
        boxes: ``[R, 4]``, x1 y1 x2 y2 in pixels of the image, not clipped to it.
        strides: of each level, powers of two one after another.

    Returns:
        ``[R]``, int64.
    """
    first = strides[0].bit_length() - 1
    x1, y1, x2, y2 = boxes.detach().float().unbind(1)
    side = ((x2 - x1) * (y2 - y1)).sqrt()
    level = (CANONICAL_LEVEL + torch.log2(side / CANONICAL_SIDE + 1e-8)).floor() - first
    return level.nan_to_num(0).clamp(0, len(strides) - 1).long()


def _pooled_by_operator(
    levels: Sequence[Tensor],
    boxes: Tensor,
    batch_index: Tensor,
    bins: tuple[int, int],
    strides: Sequence[int],
    sampling_ratio: int,
    level: Tensor,
) -> Tensor:
    """`pyramid_roi_align` where it is traced: ONNX has an operator for it, and each level pools its own boxes, or none.

    Under ONNX Runtime sums of table rows take three times as long, and more memory: graphs have no `embedding_bag`.
    """
    channels, rows, found = levels[0].shape[1], [], []
    for number, (maps, stride) in enumerate(zip(levels, strides)):
        own = (level == number).nonzero()[:, 0]
        rows.append(own)
        found.append(
            torch.onnx.ops.symbolic(
                "RoiAlign",
                (maps, boxes.index_select(0, own), batch_index.index_select(0, own)),
                {
                    "coordinate_transformation_mode": "half_pixel",
                    "mode": "avg",
                    "output_height": bins[0],
                    "output_width": bins[1],
                    "sampling_ratio": sampling_ratio,
                    "spatial_scale": 1 / stride,
                },
                dtype=maps.dtype,
                shape=(own.shape[0], channels, *bins),
                version=16,
            )
        )
    pooled = torch.cat(found).index_select(0, torch.cat(rows).argsort())
    return pooled.flatten(2).transpose(1, 2)


def _edges(boxes: Tensor, scale: float | Tensor, aligned: bool = True) -> list[Tensor]:
    """Top, height, left and width of boxes ``[R, 4]`` in pixels of their map, 0 = centre of the first; each ``[R]``.

    Always float32, and here and in what follows in the published operator's order: where a sample lies exactly as far
    outside as it may, the rounding decides whether it counts.
    """
    boxes = boxes.detach().float()
    if boxes.device.type == "cpu" and bool((boxes[:, 2:] < boxes[:, :2]).any()):
        raise ValueError("a box has its right edge left of its left one, or its lower edge above its upper one")
    x1, y1, x2, y2 = (boxes * scale - (0.5 if aligned else 0)).unbind(1)
    height, width = y2 - y1, x2 - x1
    return [y1, height, x1, width] if aligned else [y1, height.clamp(min=1), x1, width.clamp(min=1)]


def _bilinear(position: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
    """The two pixels next to each position along an axis with `extent` pixels, and their weights.

    Positions count up to a pixel outside of the map, as its edge; further out weights are 0. That is decided on
    floating-point numbers, which hold what no index can.

    Args:
        position: any shape ``[...]``.
        extent: broadcast to it.

    Returns:
        int32 and floating-point, both ``[..., 2]``.
    """
    live = (position >= -1) & (position <= extent)
    last = extent - 1
    position = torch.minimum(torch.where(live, position, 0).clamp(min=0), last)
    low = position.floor()
    pixels = torch.stack((low, torch.minimum(low + 1, last)), -1).int()
    part = position - low
    return pixels, torch.stack((1 - part, part), -1) * live[..., None]


def _rows(
    edges: Sequence[Tensor], height: Tensor, width: Tensor, first_row: Tensor, bins: tuple[int, int], ratio: int
) -> tuple[Tensor, Tensor]:
    """Which rows of a table of pixels make a bin, and with which weights: both ``[R, bins, 4 * ratio**2]``.

    Args:
        edges: of `_edges`.
        height: of each box's map, ``[R]``, floating-point.
        width: of each box's map.
        first_row: of each box's map in the table, ``[R]``.
        bins: along the height and along the width.
        ratio: samples of a bin along an axis.
    """
    pixels, weights = [], []
    for start, length, extent, count in zip(edges[::2], edges[1::2], (height, width), bins):
        numbers = torch.arange(count, dtype=start.dtype, device=start.device)[:, None]
        inside = torch.arange(ratio, dtype=start.dtype, device=start.device) + 0.5
        step = (length / count)[:, None, None]
        position = start[:, None, None] + numbers * step + inside * step / ratio  # [R, count, ratio]
        pixel, weight = _bilinear(position, extent[:, None, None])
        pixels.append(pixel.flatten(2))
        weights.append(weight.flatten(2) / ratio)
    rows = pixels[0] * width.int()[:, None, None] + first_row.int()[:, None, None]
    # Both are spread over the neighbours of a bin while they are small: the sum then has long inner loops.
    along = 2 * ratio
    rows, weight_y = (x.repeat_interleave(along, 2)[:, :, None] for x in (rows, weights[0]))
    columns, weight_x = (x.repeat(1, 1, along)[:, None] for x in (pixels[1], weights[1]))
    return (rows + columns).flatten(1, 2), (weight_y * weight_x).flatten(1, 2)


def _table(maps: Tensor) -> Tensor:
    """Maps ``[B, C, H, W]`` as rows of pixels ``[B * H * W, C]``, a view of maps in channels-last layout."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _joined(tables: list[Tensor], which: Tensor, first_row: Tensor) -> tuple[list[Tensor], Tensor]:
    """One table of all, and the first rows in it of maps that began at `first_row` of table `which`."""
    starts = torch.tensor([0, *(len(table) for table in tables[:-1])]).cumsum(0)
    return [torch.cat(tables)], first_row + starts.to(first_row.device, non_blocking=True)[which]


def _sums_of_rows(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """``sum_k weight[r, i, k] * table[index[r, i, k]]``, ``[R, bins, C]``."""
    sums = F.embedding_bag(
        index.flatten(0, 1), table, mode="sum", per_sample_weights=weight.flatten(0, 1).to(table.dtype)
    )
    return sums.unflatten(0, index.shape[:2])


def _pooled_by_matrices(maps: Tensor, edges: Sequence[Tensor], batch_index: Tensor, bins: tuple[int, int]) -> Tensor:
    """`roi_align` with as many samples as a bin has pixels: ``Y M X'`` for each box, ``[R, bins, C]``."""
    channels, height, width = maps.shape[1:]
    dtype = torch.promote_types(maps.dtype, torch.float32)
    at_once = max(1, _LARGEST_GATHER // (channels * height * width))
    pooled = []
    with torch.autocast(maps.device.type, enabled=False):
        for index, *some in zip(batch_index.split(at_once), *(edge.split(at_once) for edge in edges)):
            rows = _means_of_axis(some[0], some[1], bins[0], height).to(dtype)
            columns = _means_of_axis(some[2], some[3], bins[1], width).to(dtype)
            found = maps[index].to(dtype).permute(0, 2, 3, 1)
            found = (rows @ found.flatten(2)).unflatten(2, (width, channels))
            pooled.append(torch.einsum("rxw,rywc->ryxc", columns, found).flatten(1, 2))
    joined = torch.cat(pooled)
    return joined.to(maps.dtype) if maps.is_floating_point() else joined


def _means_of_axis(start: Tensor, length: Tensor, bins: int, extent: int) -> Tensor:
    """What each pixel of an axis weighs in each bin, ``[R, bins, extent]``; ceil(length / bins) samples a bin.

    Where there are several samples in a bin, they lie more than half a pixel apart: those that are not dead are so few
    that they are found from the first on, however long the box.
    """
    ratio = (length / bins).ceil()  # 0 for a box without extent, which has no samples
    divisor = ratio.clamp(min=1)
    step = length / bins
    apart = (step / divisor).double()
    count = max(bins, 2 * extent + 6)
    # One sample before the first that can live, for the rounding; no number for a box that is not finite.
    before = ((-1 - start.double()) / apart - 1.5).nan_to_num(0, 0, 0).floor().clamp(min=0)
    sample = before[:, None] + torch.arange(count, dtype=torch.float64, device=start.device)
    number = (sample / divisor.double()[:, None]).floor()
    inside = (sample - number * divisor[:, None]).to(start.dtype) + 0.5
    number = torch.where(number < bins, number, bins)  # what lies behind the last bin is put into one that is dropped
    position = start[:, None] + number.to(start.dtype) * step[:, None] + inside * step[:, None] / divisor[:, None]
    pixel, weight = _bilinear(position, torch.full_like(position[:, :1], extent))
    weight = weight * ((ratio > 0) / divisor)[:, None, None]
    where = (number.long()[..., None] * extent + pixel).flatten(1)
    matrix = start.new_zeros(len(start), (bins + 1) * extent).scatter_add_(1, where, weight.flatten(1))
    return matrix.unflatten(1, (bins + 1, extent))[:, :bins]
