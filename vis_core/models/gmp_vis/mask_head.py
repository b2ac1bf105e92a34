"""The mask branch of VisTR: where a query looks on its frame, features by slot, and masks of a slot over its frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.nn.deformable_attention import sampled_by_rows
from vis_core.nn.tracing import is_tracing
from vis_core.nn.winograd import WinogradConv2d

_GROUPS = 8
_PIXELS = 16384  # that are sampled at a time on a CPU: what is made for them stays in the cache
VIDEO_WIDTH = 12


class BoxAttention(nn.Module):
    """Where each query looks on the memory of its frame: one softmax over heads and cells together."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(width, width)
        self.k_linear = nn.Linear(width, width)
        for layer in (self.q_linear, self.k_linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, queries: Tensor, memory: Tensor, padding: Tensor | None = None) -> Tensor:
        """Attention ``[T, N, heads, h, w]`` whose heads and cells sum to 1.

        Args:
            queries: of each frame ``[T, N, d]``.
            memory: of each frame ``[T, d, h, w]``.
            padding: bool ``[T, h, w]``, cells that hold nothing; None: all hold something.
        """
        query = self.q_linear(queries).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [T, heads, N, c]
        key = F.conv2d(memory, self.k_linear.weight[..., None, None], self.k_linear.bias)
        key = key.flatten(2).unflatten(1, (self.heads, -1))  # [T, heads, c, cells]
        logits = (query / math.sqrt(key.shape[2]) @ key).transpose(1, 2)  # [T, N, heads, cells]
        if padding is not None:
            logits = logits.masked_fill(padding.flatten(1)[:, None, None], -torch.inf)
        return logits.flatten(2).float().softmax(2).to(logits.dtype).unflatten(2, (self.heads, *memory.shape[2:]))


class DeformableConvolution(nn.Module):
    """3x3 convolution without bias whose taps are moved pixel by pixel (Dai et al., ICCV 2017).

    A tap's product with the weights is the same before and after it is sampled, so it is made once a pixel, and the
    samples of all taps are summed in one step.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=1)

    def forward(self, x: Tensor, offsets: Tensor) -> Tensor:
        """Of maps ``[B, C, H, W]``, float32 ``[B, D, H, W]`` in channels-last layout; nothing lies outside of a map.

        Args:
            x: the maps.
            offsets: down and right of each tap, row by row, pixels ``[B, 18, H, W]``.
        """
        (height, width), device = x.shape[2:], x.device
        y0, x0 = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
        taps = torch.arange(9, device=device)
        bases = torch.stack((x0[..., None] - 1 + taps % 3, y0[..., None] - 1 + taps // 3), -1).flatten(0, 1)
        kernels = self.weight.float().flatten(2).permute(2, 1, 0)  # [9, C, D]
        ones = offsets.new_ones((), dtype=torch.float32)
        parts = [(x.float(), offsets.float())]
        if device.type == "cpu" and not is_tracing():
            images = max(1, _PIXELS // (height * width))
            parts = list(zip(*(whole.split(images) for whole in parts[0])))
        found = []
        for part, moved in parts:
            pixels = part.permute(0, 2, 3, 1).flatten(1, 2)
            values = (pixels[:, None] @ kernels).flatten(1, 2)  # the taps' products, one map after the other
            places = moved.permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, (9, 2)).flip(3) + bases
            places = places[:, :, None, :, None]  # one head, the taps as levels, of one point each
            weights = ones.expand(places.shape[:-1])
            found.append(sampled_by_rows(values[:, :, None], [(height, width)] * 9, places, weights))
        return torch.cat(found).unflatten(1, (height, width)).permute(0, 3, 1, 2)


class MaskHead(nn.Module):
    """Features of each query at stride 4, from the memory and from where the query looks on it.

    Args:
        width: w, channels of the memory; a multiple of 16.
        heads: of the attention.
        channels: of the backbone's maps at strides 16, 8 and 4.
    """

    def __init__(self, width: int, heads: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.width = width
        widths = (width + heads, width + heads, width // 2, width // 4, width // 8)
        self.lay1, self.lay2, self.lay3, self.lay4 = (
            WinogradConv2d(inputs, outputs, 3, padding=1) for inputs, outputs in pairwise(widths)
        )
        self.gn1, self.gn2, self.gn3, self.gn4 = (_norm(outputs) for outputs in widths[1:])
        self.adapter1, self.adapter2, self.adapter3 = (
            nn.Conv2d(inputs, outputs, 1) for inputs, outputs in zip(channels, widths[2:])
        )
        self.conv_offset = nn.Conv2d(widths[4], 18, 1)
        self.dcn = DeformableConvolution(widths[4], width // 16)
        self.gn5 = _norm(width // 16)
        self.channels = width // 16
        """Of the features."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.conv_offset.weight)

    def adapted(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What is added to every query's maps, of the backbone's maps ``[T, C, H, W]`` at strides 16, 8 and 4."""
        return self.adapter1(maps[0]), self.adapter2(maps[1]), self.adapter3(maps[2])

    def of_memory(self, memory: Tensor) -> Tensor:
        """The part of the first convolution that all queries have in common, of a memory ``[T, w, h, w']``."""
        return F.conv2d(memory, self.lay1.weight[:, : self.width], self.lay1.bias, padding=1)

    def features(self, common: Tensor, attention: Tensor, adapted: Sequence[Tensor]) -> Tensor:
        """Features ``[T, N, w / 16, H / 4, W / 4]`` of queries.

        Args:
            common: of `of_memory`.
            attention: where they look ``[T, N, heads, h, w']``.
            adapted: of `adapted`.
        """
        frames, count = attention.shape[:2]
        x = F.conv2d(attention.flatten(0, 1), self.lay1.weight[:, self.width :], padding=1)
        x = F.relu(self.gn1(_added(x, common)))
        x = F.relu(self.gn2(self.lay2(x)))
        x = F.relu(self.gn3(self.lay3(_added(x, adapted[0]))))
        x = F.relu(self.gn4(self.lay4(_added(x, adapted[1]))))
        x = _added(x, adapted[2])
        x = F.relu(self.gn5(self.dcn(x, self.conv_offset(x)).to(x.dtype)))
        return x.unflatten(0, (frames, count))

    def forward(self, memory: Tensor, attention: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Features ``[T, N, w / 16, H / 4, W / 4]`` of queries; arguments as in the parts, maps of any size."""
        return self.features(self.of_memory(memory), attention, self.adapted(maps))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(_GROUPS, channels), channels)


def _added(x: Tensor, to: Tensor) -> Tensor:
    """Maps of queries ``[T * N, C, ...]``, enlarged to those of their frames ``[T, C, H, W]``, which are added."""
    if x.shape[2:] != to.shape[2:]:
        x = F.interpolate(x, to.shape[2:], mode="nearest")
    return (x.unflatten(0, (len(to), -1)) + to[:, None]).flatten(0, 1)


class DilatedConv3d(nn.Conv3d):
    """3x3x3 convolution of dilation 2 that keeps the size, as one in two dimensions over three frames side by side.

    Of few channels, that takes a fifth of the time on a CPU. In two frames or fewer none sees another.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=2, dilation=2)

    def forward(self, input: Tensor) -> Tensor:
        x, weight = input.transpose(1, 2), self.weight[:, :, 1]
        batch, frames = x.shape[:2]
        if frames > 2:
            padded = F.pad(x, (0, 0, 0, 0, 0, 0, 2, 2))
            x = torch.cat((padded[:, :-4], x, padded[:, 4:]), 2)
            weight = self.weight.transpose(1, 2).flatten(1, 2)
        out = F.conv2d(x.flatten(0, 1), weight, self.bias, padding=2, dilation=2)
        return out.unflatten(0, (batch, frames)).transpose(1, 2)


class VideoMaskHead(nn.Sequential):
    """Mask logits of a slot from its features in all frames of a clip.

    Args:
        channels: of the features.
    """

    def __init__(self, channels: int) -> None:
        layers: list[nn.Module] = []
        for inputs in (channels, VIDEO_WIDTH, VIDEO_WIDTH):
            layers += [DilatedConv3d(inputs, VIDEO_WIDTH), nn.GroupNorm(4, VIDEO_WIDTH), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Conv3d(VIDEO_WIDTH, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``[N, T, H, W]`` of features ``[N, C, T, H, W]``; frames see one another."""
        logits: Tensor = super().forward(features)
        return logits[:, 0]
