"""Swin transformer (Liu et al., ICCV 2021) as a backbone: maps at strides 4, 8, 16 and 32."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class SwinVariant:
    """Sizes of a published Swin transformer."""

    width: int
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    window: int


VARIANTS = {
    "tiny": SwinVariant(96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "small": SwinVariant(96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
    "base": SwinVariant(128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
    "large": SwinVariant(192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}
_OTHER_REGION = -100.0


class PatchEmbed(nn.Module):
    """One token for each 4 x 4 pixels, ``[B, H/4, W/4, C]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, 4, 4)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.norm(self.proj(images).permute(0, 2, 3, 1))
        return tokens


class PatchMerging(nn.Module):
    """Half the resolution, twice the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        merged: Tensor = self.reduction(self.norm(torch.cat(corners, 3)))
        return merged


class WindowAttention(nn.Module):
    """Attention among the tokens of a window, with a learnt bias for each offset between two of them."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        place = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        dy, dx = (place[:, :, None] - place[:, None, :]) + (window - 1)
        self.register_buffer("relative_position_index", dy * (2 * window - 1) + dx, persistent=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def bias(self) -> Tensor:
        """``[1, heads, window^2, window^2]``."""
        count = self.window**2
        table = self.relative_position_bias_table[self.relative_position_index.flatten()]
        return table.view(count, count, self.heads).permute(2, 0, 1)[None]

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """Of windows ``[B, window^2, C]``; mask: ``[B or 1, 1, window^2, window^2]``, added to the logits."""
        q, k, v = self.qkv(windows).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.bias() if mask is None else self.bias() + mask
        found: Tensor = self.proj(
            F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype)).transpose(1, 2).flatten(2)
        )
        return found


class MLP(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Window attention and MLP, each with a residual connection.

    Args:
        width: channels.
        heads: of the attention.
        window: side of a window.
        shifted: whether windows lie half a window farther.
        drop_path: share of the samples whose residual is left out in training.
    """

    def __init__(self, width: int, heads: int, window: int, shifted: bool, drop_path: float) -> None:
        super().__init__()
        self.window, self.shift, self.drop_path = window, window // 2 if shifted else 0, drop_path
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Of tokens ``[B, H, W, C]``; mask: of the shifted windows, ``[windows, 1, window^2, window^2]``."""
        batch, height, width, channels = x.shape
        w = self.window
        padded = F.pad(self.norm1(x), (0, 0, 0, -width % w, 0, -height % w))
        if self.shift:
            padded = padded.roll((-self.shift, -self.shift), (1, 2))
        rows, columns = padded.shape[1] // w, padded.shape[2] // w
        windows = padded.view(batch, rows, w, columns, w, channels).transpose(2, 3).reshape(-1, w * w, channels)
        found = self.attn(windows, mask.repeat(batch, 1, 1, 1) if self.shift else None)
        found = found.view(batch, rows, columns, w, w, channels).transpose(2, 3).reshape(padded.shape)
        if self.shift:
            found = found.roll((self.shift, self.shift), (1, 2))
        x = x + self._dropped(found[:, :height, :width])
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _dropped(self, residual: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return residual
        keep = 1 - self.drop_path
        return residual * (residual.new_empty((len(residual), 1, 1, 1)).bernoulli_(keep) / keep)


class Stage(nn.Module):
    """Blocks at one resolution, and the way to the next."""

    def __init__(self, width: int, heads: int, window: int, drop_paths: list[float], last: bool) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            Block(width, heads, window, i % 2 == 1, drop_path) for i, drop_path in enumerate(drop_paths)
        )
        self.downsample = None if last else PatchMerging(width)

    def forward(self, x: Tensor) -> Tensor:
        mask = region_mask(x.shape[1], x.shape[2], self.window, x.device)
        for block in self.blocks:
            x = block(x, mask)
        return x


def region_mask(height: int, width: int, window: int, device: torch.device) -> Tensor:
    """What shifted windows add to the attention: -100 between tokens that were not neighbours before the shift.

    Returns:
        float32 ``[windows, 1, window^2, window^2]`` of a map of that size, padded to whole windows.
    """
    shift = window // 2
    regions = torch.zeros(height + -height % window, width + -width % window, device=device)
    parts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for i, high in enumerate(parts):
        for j, wide in enumerate(parts):
            regions[high, wide] = 3 * i + j
    rows, columns = regions.shape[0] // window, regions.shape[1] // window
    regions = regions.view(rows, window, columns, window).transpose(1, 2).reshape(rows * columns, -1)
    return torch.where(regions[:, None, :] == regions[:, :, None], 0.0, _OTHER_REGION)[:, None]


class SwinTransformer(nn.Module):
    """Swin transformer whose four maps are normalised each by a norm of its own.

    Args:
        variant: its sizes.
        drop_path: share of the residuals left out in training, in the last block; less in earlier ones.
    """

    def __init__(self, variant: SwinVariant, drop_path: float = 0.3) -> None:
        super().__init__()
        self.channels = tuple(variant.width * 2**i for i in range(4))
        self.patch_embed = PatchEmbed(variant.width)
        drop_paths = torch.linspace(0, drop_path, sum(variant.depths), device="cpu").tolist()
        self.layers = nn.ModuleList()
        for i, (depth, heads) in enumerate(zip(variant.depths, variant.heads)):
            taken, drop_paths = drop_paths[:depth], drop_paths[depth:]
            self.layers.append(Stage(self.channels[i], heads, variant.window, taken, last=i == 3))
            self.add_module(f"norm{i}", nn.LayerNorm(self.channels[i]))

    def initialise(self) -> None:
        """Bias tables near zero; the rest stays as PyTorch begins it."""
        for module in self.modules():
            if isinstance(module, WindowAttention):
                nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of each stage of normalised images ``[B, 3, H, W]``."""
        x = self.patch_embed(images)
        maps = []
        for i, stage in enumerate(self.layers):
            assert isinstance(stage, Stage)
            x = stage(x)
            maps.append(self.get_submodule(f"norm{i}")(x).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                x = stage.downsample(x)
        return maps
