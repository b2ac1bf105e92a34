"""Multi-scale deformable attention (Zhu et al., ICLR 2021): each token looks at a few places of every level.

The sum over sampled places is the part that a kernel of one's own would do: `sampled_by_rows` and `sampled_by_grid` are
the same function, and `MultiScaleDeformableAttention.sampled` is where another may be put.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.nn.tracing import is_tracing

Sizes = Sequence[tuple[int, int]]
Sampling = Callable[[Tensor, Sizes, Tensor, Tensor], Tensor]


def sampled_by_grid(values: Tensor, sizes: Sizes, places: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of bilinear samples, zero outside of a map: by ``grid_sample``, level by level.

    Args:
        values: ``[B, S, heads, d]``, the pixels of all levels, one level after the other, row by row.
        sizes: height and width of each level.
        places: ``[B, N, heads, levels, points, 2]``, x and y in pixels of the level, 0 = centre of the first pixel.
        weights: ``[B, N, heads, levels, points]``.

    Returns:
        ``[B, N, heads * d]``.
    """
    batch, _, heads, channels = values.shape
    tokens, points = places.shape[1], places.shape[4]
    sampled, start = [], 0
    for level, (height, width) in enumerate(sizes):
        part = values[:, start : start + height * width]
        start += height * width
        maps = part.permute(0, 2, 3, 1).reshape(batch * heads, channels, height, width)
        scale = torch.tensor((width, height), dtype=places.dtype, device=places.device)  # new_tensor would fix a size
        grid = (2 * places[:, :, :, level] + 1) / scale - 1
        grid = grid.transpose(1, 2).flatten(0, 1)  # [B * heads, N, points, 2]
        sampled.append(F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False))
    stacked = torch.stack(sampled, 3).flatten(3)  # [B * heads, d, N, levels * points]
    weighed = stacked * weights.transpose(1, 2).reshape(batch * heads, 1, tokens, len(sizes) * points)
    return weighed.sum(3).unflatten(0, (batch, heads)).permute(0, 3, 1, 2).flatten(2)


def sampled_by_rows(values: Tensor, sizes: Sizes, places: Tensor, weights: Tensor) -> Tensor:
    """`sampled_by_grid` as sums of table rows: four neighbours a place, by ``embedding_bag``.

    Around each level lies a border of zeros, in which every place outside of it ends: one pixel wide before the first,
    two after the last, for what is next to the border. Nothing larger than the indices is made, and no step has
    less than all places of a token and head in its innermost loop, which on a CPU takes a quarter of the time. Where a
    network is traced it is `sampled_by_grid`, which graphs have an operator for.
    """
    if is_tracing():
        return sampled_by_grid(values, sizes, places, weights)
    heads = values.shape[2]
    bordered = [
        F.pad(part.unflatten(1, size), (0, 0, 0, 0, 1, 2, 1, 2)).flatten(1, 2)
        for part, size in zip(values.split([h * w for h, w in sizes], 1), sizes)
    ]
    starts = [0]
    for height, width in sizes:
        starts.append(starts[-1] + (height + 3) * (width + 3))
    points = places.shape[4]

    def of_places(numbers: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A number of each level, for each of a head's places: ``[levels * points]``."""
        return torch.tensor(numbers, dtype=dtype, device=places.device).repeat_interleave(points)

    # In the bordered map a pixel's row and column are one more: the first of its neighbours has those numbers.
    stride = of_places([width + 3 for _, width in sizes], torch.int32)
    first = of_places([start + width + 4 for start, (_, width) in zip(starts, sizes)], torch.int32)
    x, y = (part.flatten(3) for part in places.unbind(-1))  # [B, N, heads, levels * points]
    x = torch.minimum(x.clamp(min=-1), of_places([width for _, width in sizes], places.dtype))
    y = torch.minimum(y.clamp(min=-1), of_places([height for height, _ in sizes], places.dtype))
    column, row = x.detach().floor(), y.detach().floor()
    right, below = x - column, y - row
    head = torch.arange(heads, device=places.device, dtype=torch.int32)[:, None]
    index = ((row.int() * stride + column.int() + first) * heads + head)[..., None, :]
    neighbours = torch.stack((torch.zeros_like(stride), torch.ones_like(stride), stride, stride + 1)) * heads
    index = index + neighbours  # [B, N, heads, 4, levels * points]
    left, upper, lower = 1 - right, (1 - below) * weights.flatten(3), below * weights.flatten(3)
    weight = torch.stack((upper * left, upper * right, lower * left, lower * right), 3)
    sums = [
        F.embedding_bag(
            index[b].flatten(2).flatten(0, 1),
            table.flatten(0, 1),
            mode="sum",
            per_sample_weights=weight[b].flatten(2).flatten(0, 1).to(table.dtype),
        )
        for b, table in enumerate(torch.cat(bordered, 1))
    ]
    return torch.stack(sums).unflatten(1, (-1, heads)).flatten(2)


class MultiScaleDeformableAttention(nn.Module):
    """Attention of tokens to a few places about a point of their own.

    Args:
        width: channels of a token.
        levels: maps that are looked at.
        heads: of the attention; a divisor of `width`.
        points: places of each head and level.
        sampled: how samples are summed.
    """

    def __init__(
        self, width: int, levels: int = 3, heads: int = 8, points: int = 4, sampled: Sampling = sampled_by_rows
    ) -> None:
        super().__init__()
        self.levels, self.heads, self.points = levels, heads, points
        self.sampled = sampled
        self.sampling_offsets = nn.Linear(width, heads * levels * points * 2)
        self.attention_weights = nn.Linear(width, heads * levels * points)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)

    def initialise(self) -> None:
        """Offsets that point in as many directions as there are heads, the farther the higher the point's number."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.attention_weights.bias)
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        directions = torch.stack((angles.cos(), angles.sin()), 1)
        directions = directions / directions.abs().amax(1, keepdim=True)
        numbers = torch.arange(1, self.points + 1)[:, None]
        with torch.no_grad():
            offsets = (directions[:, None, None] * numbers).expand(-1, self.levels, -1, -1)
            self.sampling_offsets.bias.copy_(offsets.flatten())
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, query: Tensor, values: Tensor, points: Tensor, sizes: Sizes, padding: Tensor | None = None
    ) -> Tensor:
        """What each token finds.

        Args:
            query: ``[B, N, width]``.
            values: ``[B, S, width]``, the pixels of all levels.
            points: x and y of each token, 0..1 over the maps: ``[N, 2]``, or in each level ``[B, N, levels, 2]``. Of
                boxes, x and y of the centre, width and height: ``[B, N, levels, 4]``; offsets are then parts of them.
            sizes: height and width of each level.
            padding: bool ``[B, S]``: pixels that hold nothing.

        Returns:
            ``[B, N, width]``.
        """
        shape = (self.heads, self.levels, self.points)
        offsets = self.sampling_offsets(query).float().unflatten(2, (*shape, 2))
        weights = (
            self.attention_weights(query).float().unflatten(2, (self.heads, -1)).softmax(3).unflatten(3, shape[1:])
        )
        scale = torch.tensor([(w, h) for h, w in sizes], dtype=points.dtype, device=points.device)  # [levels, 2]
        if points.dim() == 2:
            points = points[:, None].expand(-1, self.levels, -1)
        centres = (points[..., :2] * scale - 0.5)[..., None, :, None, :]
        centres = centres.expand(*(-1,) * (centres.dim() - 2), self.points, -1).contiguous()
        if points.shape[-1] == 4:
            offsets = offsets * (points[..., 2:] * scale * (0.5 / self.points))[..., None, :, None, :]
        places = offsets + centres
        table = self.value_proj(values).float().unflatten(2, (self.heads, -1))
        if padding is not None:
            table = table.masked_fill(padding[..., None, None], 0)
        found: Tensor = self.output_proj(self.sampled(table, sizes, places, weights).to(query.dtype))
        return found


class DeformableEncoderLayer(nn.Module):
    """Deformable attention of all levels' pixels to one another, and a feed-forward part; norms follow the sums."""

    def __init__(self, width: int, levels: int, hidden: int, heads: int = 8, points: int = 4) -> None:
        super().__init__()
        self.attention = MultiScaleDeformableAttention(width, levels, heads, points)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm2 = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, positions: Tensor, points: Tensor, sizes: Sizes, padding: Tensor | None = None
    ) -> Tensor:
        """Pixels ``[B, S, width]``; the rest as in `MultiScaleDeformableAttention`, positions like the pixels."""
        x = self.norm1(x + self.attention(x + positions, x, points, sizes, padding))
        out: Tensor = self.norm2(x + self.linear2(F.relu(self.linear1(x))))
        return out
