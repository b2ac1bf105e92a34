"""From a backbone's maps to mask features and three maps for the decoder; every frame by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.nn.deformable_attention import DeformableEncoderLayer, MultiScaleDeformableAttention
from vis_core.nn.position_codes import image_code
from vis_core.nn.tracing import kept

GROUPS = 32


@dataclass(frozen=True, eq=False)
class PixelFeatures:
    """What of T frames does not depend on the clip that they are part of.

    Attributes:
        mask: mask features ``[T, C, H/4, W/4]``.
        levels: maps ``[T, C, h, w]`` at strides 32, 16 and 8.
    """

    mask: Tensor
    levels: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.mask)

    def __getitem__(self, frames: slice) -> PixelFeatures:
        """Those of some of the frames."""
        return PixelFeatures(self.mask[frames], tuple(level[frames] for level in self.levels))

    @staticmethod
    def concatenate(parts: Sequence[PixelFeatures]) -> PixelFeatures:
        """Those of several clips, one after the other."""
        if len(parts) == 1:
            return parts[0]
        levels = tuple(torch.cat(maps) for maps in zip(*(part.levels for part in parts)))
        return PixelFeatures(torch.cat([part.mask for part in parts]), levels)

    def nbytes(self) -> int:
        """Size, bytes."""
        return sum(x.nbytes for x in (self.mask, *self.levels))


class GroupNormConv(nn.Conv2d):
    """Convolution without bias, followed by a group norm."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2, bias=False)
        self.norm = nn.GroupNorm(GROUPS, outputs)

    def forward(self, input: Tensor) -> Tensor:
        normed: Tensor = self.norm(super().forward(input))
        return normed


class PixelDecoder(nn.Module):
    """Deformable encoder over the maps at strides 32, 16 and 8, and mask features at stride 4.

    Args:
        channels: of the backbone's maps at strides 4, 8, 16 and 32.
        width: of what comes out.
        layers: of the encoder.
        hidden: channels of its feed-forward part.
    """

    def __init__(self, channels: Sequence[int], width: int = 256, layers: int = 6, hidden: int = 1024) -> None:
        super().__init__()
        self.width = width
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, 1), nn.GroupNorm(GROUPS, width)) for c in reversed(channels[1:])
        )
        levels = len(self.input_proj)
        self.level_embed = nn.Parameter(torch.zeros(levels, width))
        self.layers = nn.ModuleList(DeformableEncoderLayer(width, levels, hidden) for _ in range(layers))
        self.lateral = GroupNormConv(channels[0], width, 1)
        self.output = GroupNormConv(width, width, 3)
        self.mask_features = nn.Conv2d(width, width, 1)

    def initialise(self) -> None:
        """As the published training starts."""
        nn.init.normal_(self.level_embed)
        for part in self.layers.parameters():
            if part.dim() > 1:
                nn.init.xavier_uniform_(part)
        for module in self.modules():
            if isinstance(module, MultiScaleDeformableAttention):
                module.initialise()
        for name, part in self.input_proj.named_parameters():
            if name.endswith("0.weight"):
                nn.init.xavier_uniform_(part)
            elif name.endswith("0.bias"):
                nn.init.zeros_(part)
        for conv in (self.lateral, self.output, self.mask_features):
            nn.init.kaiming_uniform_(conv.weight, a=1)
        assert self.mask_features.bias is not None
        nn.init.zeros_(self.mask_features.bias)

    def forward(self, maps: Sequence[Tensor]) -> PixelFeatures:
        """Features of the backbone's maps at strides 4, 8, 16 and 32."""
        if len(maps[0]) > 1 and not torch.is_grad_enabled():  # one frame's tensors stay in the CPU's cache
            frames = [self._features([m[t : t + 1] for m in maps]) for t in range(len(maps[0]))]
            return PixelFeatures.concatenate(frames)
        return self._features(maps)

    def _features(self, maps: Sequence[Tensor]) -> PixelFeatures:
        levels = [projection(m) for projection, m in zip(self.input_proj, reversed(maps[1:]))]
        sizes = tuple((m.shape[2], m.shape[3]) for m in levels)
        codes, points = _places(sizes, self.width, levels[0].device)
        counts = [h * w for h, w in sizes]
        embedding = torch.cat([e.expand(n, -1) for e, n in zip(self.level_embed, counts)])
        positions = (codes + embedding).to(levels[0].dtype)
        x = torch.cat([m.flatten(2).transpose(1, 2) for m in levels], 1)
        for layer in self.layers:
            x = layer(x, positions, points, sizes)
        out = [part.transpose(1, 2).unflatten(2, size) for part, size in zip(x.split(counts, 1), sizes)]
        finest = F.interpolate(out[-1], maps[0].shape[2:], mode="bilinear", align_corners=False)
        mask: Tensor = self.mask_features(F.relu(self.output(self.lateral(maps[0]) + finest)))
        return PixelFeatures(mask, tuple(out))


@kept(8)
def _places(sizes: tuple[tuple[int, int], ...], width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Position codes ``[N, width]`` and points ``[N, 2]`` (x, y in 0..1) of all pixels of all levels."""
    with torch.inference_mode(False):
        codes, points = [], []
        for h, w in sizes:
            codes.append(image_code(h, w, width, device))
            y, x = ((torch.arange(n, device=device) + 0.5) / n for n in (h, w))
            points.append(torch.stack((x[None].expand(h, w), y[:, None].expand(h, w)), 2).flatten(0, 1))
        return torch.cat(codes), torch.cat(points)
