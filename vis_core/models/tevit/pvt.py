"""PVTv2 (Wang et al., Computational Visual Media 2022) whose layers take messenger tokens beside the patches.

A token has no place: it passes convolutions as a constant image without borders would, and all else as it is. Keys are
those of mmdetection's files.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.errors import CheckpointError
from vis_core.nn.attention import Attention
from vis_core.nn.prepacked_convolution import PackableConv2d

EPS = 1e-6
HEAD_WIDTH = 64
_AT_ONCE = 2**24  # bytes
_PARTS = {"patch_embed": 0, "block": 1, "norm": 2}
_PVT = (
    (r"^proj\.", "projection."),
    (r"\.attn\.q\.", ".attn.attn.in_proj_"),
    (r"\.attn\.proj\.", ".attn.attn.out_proj."),
    (r"\.mlp\.fc1\.", ".ffn.layers.0."),
    (r"\.mlp\.dwconv\.dwconv\.", ".ffn.layers.1."),
    (r"\.mlp\.fc2\.", ".ffn.layers.4."),
)


class TokenConv2d(PackableConv2d):
    """A convolution that tokens pass too: as if each were a constant image without borders."""

    kernel_sums: Tensor | None

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, padding: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, size, stride, padding, groups=groups)
        self.register_buffer("kernel_sums", None, persistent=False)

    def pack(self) -> None:
        super().pack()
        self.kernel_sums = self.weight.detach().sum((2, 3))

    def of_tokens(self, tokens: Tensor) -> Tensor:
        """``[B, M, O]`` of tokens ``[B, M, I]``."""
        ready = self.kernel_sums
        sums = self.weight.sum((2, 3)) if ready is None or torch.is_grad_enabled() else ready
        if self.groups == 1:
            return F.linear(tokens, sums, self.bias)
        assert self.bias is not None
        return torch.addcmul(self.bias, tokens, sums[:, 0])


class PointwiseConv2d(TokenConv2d):
    """A 1x1 convolution: unless it is packed, the product of matrices that it is."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1, 1, 0)

    def forward(self, input: Tensor) -> Tensor:
        if self._packed is None or torch.is_grad_enabled():
            return F.linear(input.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        return super().forward(input)


class Embedding(nn.Module):
    """Patches of a coarser map, ``[B, h * w, D]``, and the tokens that go with them."""

    def __init__(self, inputs: int, width: int, size: int, stride: int) -> None:
        super().__init__()
        self.projection = TokenConv2d(inputs, width, size, stride, size // 2)
        self.norm = nn.LayerNorm(width, EPS)

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Patches, tokens and the size of the map, from ``[B, C, H, W]`` and tokens ``[B, M, C]``."""
        found = self.projection(images)
        size = (found.shape[2], found.shape[3])
        return self.norm(patches_of(found)), self.norm(self.projection.of_tokens(tokens)), size


class ReducedAttention(nn.Module):
    """Attention of patches and tokens to a map that is made coarser, and to the tokens.

    Without a reduction to the patches alone, as published: then nothing hears the tokens any more.
    """

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.attn = Attention(width, width // HEAD_WIDTH)
        self.reduction = reduction
        if reduction > 1:
            self.sr = TokenConv2d(width, width, reduction, reduction, 0)
            self.norm = nn.LayerNorm(width, EPS)

    def forward(self, patches: Tensor, tokens: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        keys = patches
        if self.reduction > 1:
            coarse = patches_of(self.sr(map_of(patches, size)))
            keys = self.norm(torch.cat((coarse, self.sr.of_tokens(tokens)), 1))
        width, weight, bias = patches.shape[2], self.attn.in_proj_weight, self.attn.in_proj_bias
        both = F.linear(keys, weight[width:], bias[width:]).unflatten(2, (2, self.attn.heads, -1))
        key, value = both.permute(2, 0, 3, 1, 4).unbind(0)

        def answers(to: Tensor) -> Tensor:
            query = F.linear(to, weight[:width], bias[:width]).unflatten(2, (self.attn.heads, -1)).transpose(1, 2)
            found = F.scaled_dot_product_attention(query, key, value)
            out: Tensor = self.attn.out_proj(found.transpose(1, 2).flatten(2))
            return out

        return answers(patches), answers(tokens) if tokens.shape[1] else tokens


class FeedForward(nn.Module):
    """Two linear layers with a depth-wise convolution and a GELU between; it tells patches where they are."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.layers = nn.ModuleDict(
            {
                "0": PointwiseConv2d(width, hidden),
                "1": TokenConv2d(hidden, hidden, 3, 1, 1, groups=hidden),
                "4": PointwiseConv2d(hidden, width),
            }
        )

    def forward(self, patches: Tensor, tokens: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        first, depthwise, last = self._convolutions()
        told = last.of_tokens(F.gelu(depthwise.of_tokens(first.of_tokens(tokens))))
        parts = [patches_of(last(depthwise.with_gelu(first(map_of(part, size))))) for part in self._parts(patches)]
        return parts[0] if len(parts) == 1 else torch.cat(parts), told

    def _convolutions(self) -> list[TokenConv2d]:
        return list(self.layers.values())  # type: ignore[arg-type]

    def _parts(self, patches: Tensor) -> Sequence[Tensor]:
        """On a CPU what is wide, and large, stays small enough for its caches: twice as quick on the finest map."""
        if torch.is_grad_enabled() or patches.device.type != "cpu":
            return (patches,)
        return patches.split(max(1, _AT_ONCE // (patches.shape[1] * self.hidden * patches.element_size())))


class Block(nn.Module):
    """Attention and feed-forward layer, each normalised before and added.

    Args:
        width: D.
        reduction: of the attention.
        expansion: width of the feed-forward layer in units of D.
        drop_path: share of the frames whose residual is left out in training.
        exchange: what tokens of a clip do to each other afterwards, if it has weights of its own.
    """

    def __init__(
        self, width: int, reduction: int, expansion: int, drop_path: float, exchange: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(width, EPS)
        self.attn = ReducedAttention(width, reduction)
        self.norm2 = nn.LayerNorm(width, EPS)
        self.ffn = FeedForward(width, expansion * width)
        self.exchange = exchange

    def forward(self, patches: Tensor, tokens: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return self.feed(*self.attend(patches, tokens, size), size)

    def attend(self, patches: Tensor, tokens: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Patches and tokens after the first of the two layers."""
        return self._added(patches, tokens, *self.attn(self.norm1(patches), self.norm1(tokens), size))

    def feed(self, patches: Tensor, tokens: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Patches and tokens after the second."""
        return self._added(patches, tokens, *self.ffn(self.norm2(patches), self.norm2(tokens), size))

    def _added(self, patches: Tensor, tokens: Tensor, seen: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and self.drop_path > 0:
            keep = 1 - self.drop_path
            kept = patches.new_empty((len(patches), 1, 1)).bernoulli_(keep) / keep
            seen, told = seen * kept, told * kept
        return patches + seen, tokens + told


def map_of(patches: Tensor, size: tuple[int, int]) -> Tensor:
    """``[B, D, h, w]``, channels-last, of ``[B, h * w, D]``."""
    return patches.unflatten(1, size).permute(0, 3, 1, 2)


def patches_of(maps: Tensor) -> Tensor:
    """The reverse of `map_of`."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


def is_pvt(keys: Collection[str]) -> bool:
    """Whether keys are those of a PVTv2 as its authors publish it."""
    return "patch_embed1.proj.weight" in keys and "block1.0.mlp.dwconv.dwconv.weight" in keys


def from_pvt(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a published PVTv2 under our names, without its classifier: all of `MsgShifT` but for its tokens.

    Raises:
        CheckpointError: a key is none of PVTv2's, or queries are without the keys and values that go with them.
    """
    found: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if key.startswith("head.") or ".attn.kv." in key:
            continue
        match = re.fullmatch(r"(patch_embed|block|norm)([1-9])\.(.+)", key)
        if match is None:
            raise CheckpointError(f"PVTv2: {key!r} is none of its keys")
        rest = match[3]
        if ".attn.q." in key:
            partner = tensors.get(key.replace(".attn.q.", ".attn.kv."))
            if partner is None or partner.shape[1:] != value.shape[1:]:
                raise CheckpointError(f"PVTv2: no keys and values ('attn.kv') go with {key!r}")
            value = torch.cat((value, partner))
        elif re.search(r"\.mlp\.fc[12]\.weight$", key):
            value = value[..., None, None]
        for theirs, ours in _PVT:
            rest = re.sub(theirs, ours, rest)
        found[f"layers.{int(match[2]) - 1}.{_PARTS[match[1]]}.{rest}"] = value
    return found
