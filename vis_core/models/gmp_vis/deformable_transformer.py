"""Deformable DETR (Zhu et al., ICLR 2021) with box refinement: pixels of all levels, and queries that find boxes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vis_core.nn.attention import FeedForward, NormedAttention
from vis_core.nn.deformable_attention import DeformableEncoderLayer, MultiScaleDeformableAttention, Sizes

_LEAST = 1e-5


class Perceptron(nn.Sequential):
    """Linear layers with ReLUs between them, all but the last of one width."""

    def __init__(self, width: int, outputs: int, layers: int = 3) -> None:
        parts: list[nn.Module] = []
        for _ in range(layers - 1):
            parts += [nn.Linear(width, width), nn.ReLU()]
        super().__init__(*parts, nn.Linear(width, outputs))

    @property
    def last(self) -> nn.Linear:
        """The last layer."""
        layer = self[-1]
        assert isinstance(layer, nn.Linear)
        return layer


class Encoder(nn.Module):
    """Layers of deformable attention among the pixels of all levels."""

    def __init__(self, width: int, hidden: int, layers: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DeformableEncoderLayer(width, levels, hidden, heads, points) for _ in range(layers))

    def forward(
        self,
        pixels: Tensor,
        positions: Tensor,
        sizes: Sizes,
        ratios: Tensor | None = None,
        padding: Tensor | None = None,
    ) -> Tensor:
        """Pixels ``[B, S, width]`` as they see one another.

        Args:
            pixels: of all levels, one level after the other, row by row.
            positions: their codes, of the same shape or ``[S, width]``.
            sizes: height and width of each level.
            ratios: ``[B, levels, 2]``, share of each level, in x and y, that is not padding; None: all.
            padding: bool ``[B, S]``.
        """
        points = reference_points(sizes, pixels.device, ratios)
        for layer in self.layers:
            pixels = layer(pixels, positions, points, sizes, padding)
        return pixels


def reference_points(sizes: Sizes, device: torch.device, ratios: Tensor | None = None) -> Tensor:
    """Centres of the pixels of all levels, x and y in 0..1: ``[S, 2]``; with ratios ``[B, S, levels, 2]``, in each.

    Args:
        sizes: height and width of each level.
        device: of the result.
        ratios: as of `Encoder`.
    """
    points = []
    for level, (height, width) in enumerate(sizes):
        y, x = (torch.arange(n, device=device, dtype=torch.float32) + 0.5 for n in (height, width))
        cells = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), 2).flatten(0, 1)
        whole = torch.tensor([width, height], dtype=torch.float32, device=device)  # new_tensor would fix a traced size
        points.append(cells / whole if ratios is None else cells / (ratios[:, level, None] * whole))
    joined = torch.cat(points, -2)
    return joined if ratios is None else joined[:, :, None] * ratios[:, None]


class DecoderLayer(nn.Module):
    """Queries look at one another, then at a few places about their boxes; norms follow the sums."""

    def __init__(self, width: int, hidden: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        self.self_attention = NormedAttention(width, heads)
        self.cross_attention = MultiScaleDeformableAttention(width, levels, heads, points)
        self.cross_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden)

    def forward(
        self, x: Tensor, positions: Tensor, references: Tensor, pixels: Tensor, sizes: Sizes, padding: Tensor | None
    ) -> Tensor:
        """Queries ``[B, Q, width]``; references ``[B, Q, levels, 2 or 4]``."""
        x = self.self_attention(x, positions)
        found = self.cross_attention(x + positions, pixels, references, sizes, padding)
        out: Tensor = self.feed_forward(self.cross_norm(x + found))
        return out


class Decoded(NamedTuple):
    """What each of L layers of the decoder says.

    Attributes:
        queries: ``[L, B, Q, width]``.
        boxes: ``[L, B, Q, 4]``: x and y of the centre, width, height, 0..1. Their gradient goes through what the layer
            itself changes.
    """

    queries: Tensor
    boxes: Tensor


class Decoder(nn.Module):
    """Layers that find boxes, each from the box of the one before."""

    def __init__(self, width: int, hidden: int, layers: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, hidden, levels, heads, points) for _ in range(layers))
        self.boxes = nn.ModuleList(Perceptron(width, 4) for _ in range(layers))

    def initialise_boxes(self) -> None:
        """The first layer makes boxes of a side of 0.12, the others leave them as they are."""
        for number, layer in enumerate(self.boxes):
            assert isinstance(layer, Perceptron)
            nn.init.zeros_(layer.last.weight)
            nn.init.zeros_(layer.last.bias)
            if number == 0:
                nn.init.constant_(layer.last.bias[2:], -2.0)

    def forward(
        self,
        queries: Tensor,
        positions: Tensor,
        references: Tensor,
        pixels: Tensor,
        sizes: Sizes,
        ratios: Tensor | None = None,
        padding: Tensor | None = None,
    ) -> Decoded:
        """What the queries find.

        Args:
            queries: ``[B, Q, width]``, as they begin.
            positions: ``[B, Q, width]``, what tells them apart.
            references: points or boxes that they begin with, ``[B, Q, 2]`` or ``[B, Q, 4]``, like `Decoded.boxes`.
            pixels: of the encoder ``[B, S, width]``.
            sizes: height and width of each level.
            ratios: as of `Encoder`.
            padding: bool ``[B, S]``.
        """
        if ratios is None:
            ratios = references.new_ones((1, len(sizes), 2))
        x, layers = queries, []
        for layer, head in zip(self.layers, self.boxes):
            scale = torch.cat([ratios] * (references.shape[-1] // 2), -1)
            x = layer(x, positions, references[:, :, None] * scale[:, None], pixels, sizes, padding)
            boxes = refined(head(x).float(), references)
            references = boxes.detach()
            layers.append((x, boxes))
        return Decoded(*map(torch.stack, zip(*layers)))


def refined(change: Tensor, references: Tensor) -> Tensor:
    """Boxes ``[..., 4]`` in 0..1, changed in the logistic domain; a point ``[..., 2]`` has no size to change."""
    known = references.shape[-1]
    near = references.clamp(0, 1)
    start = (near.clamp(min=_LEAST) / (1 - near).clamp(min=_LEAST)).log()
    return torch.cat((change[..., :known] + start, change[..., known:]), -1).sigmoid()


def initialise(*parts: nn.Module) -> None:
    """First weights of encoders and decoders, as published: boxes begin about their points, small."""
    for part in parts:
        for parameter in part.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in part.modules():
            if isinstance(module, MultiScaleDeformableAttention):
                module.initialise()
            elif isinstance(module, Decoder):
                module.initialise_boxes()
