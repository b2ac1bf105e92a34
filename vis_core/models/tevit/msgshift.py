"""MsgShifT, the backbone of TeViT: a PVTv2-B1 whose frames tell each other of themselves by messenger tokens.

Each frame has a few tokens beside its patches. They pass all of its layers, and after each block they are shifted along
the time of the clip, a group of them by one frame forth, the others by one back, two forth and two back: so a frame
hears of its neighbours without a single parameter for it. Keys are those of the published files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vis_core.models.tevit.choices import MESSENGERS, SHIFTS
from vis_core.models.tevit.pvt import EPS, HEAD_WIDTH, Block, Embedding, map_of
from vis_core.nn.attention import Attention
from vis_core.nn.backbones.swin import MLP
from vis_core.nn.prepacked_convolution import pack_convolutions

STEPS = (1, -1, 2, -2)  # frames that the groups of tokens move by
REDUCTIONS = (8, 4, 2, 1)
EXPANSIONS = (8, 8, 4, 4)


@dataclass(frozen=True, eq=False)
class FirstBlock:
    """What of frames depends on each alone: they passed the first embedding and block, but for its shift.

    Attributes:
        patches: ``[B, h * w, D]``.
        messengers: ``[B, M, D]``.
        size: h, w of the map.
    """

    patches: Tensor
    messengers: Tensor
    size: tuple[int, int]

    @staticmethod
    def of(frames: Sequence[FirstBlock]) -> FirstBlock:
        """Frames of one size, one after the other."""
        patches, messengers = (torch.cat(x) for x in zip(*((f.patches, f.messengers) for f in frames)))
        return FirstBlock(patches, messengers, frames[0].size)

    def nbytes(self) -> int:
        """Size, bytes."""
        return self.patches.nbytes + self.messengers.nbytes


@dataclass(frozen=True, eq=False)
class MessengerMemory:
    """The tokens of past frames that reach the next one of a stream, after the first block of each stage.

    Attributes:
        one: of each stage, the group that moves by one frame, of the last frame, ``[1, M / 4, D]``.
        two: the group that moves by two, of the last frame, and of the one before it if there was one.
    """

    one: tuple[Tensor, ...]
    two: tuple[tuple[Tensor, ...], ...]

    def nbytes(self) -> int:
        """Size, bytes."""
        return sum(x.nbytes for group in (self.one, *self.two) for x in group)


class MessengerAttention(nn.Module):
    """Attention and a feed-forward layer among all tokens of a clip: an ablation of the paper."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPS)
        self.attention = Attention(width, width // HEAD_WIDTH)
        self.norm2 = nn.LayerNorm(width, EPS)
        self.mlp = MLP(width)

    def forward(self, tokens: Tensor, frames: int) -> Tensor:
        """Of ``[B * T, M, D]``, the frames of a clip one after the other."""
        clips = tokens.reshape(-1, frames * tokens.shape[1], tokens.shape[2])
        normed = self.norm1(clips)
        clips = clips + self.attention(normed, normed, normed)
        clips = clips + self.mlp(self.norm2(clips))
        return clips.view_as(tokens)


class Stage(nn.ModuleList):
    """Embedding, blocks and norm of one resolution, under the published numbers."""

    def __init__(self, embedding: Embedding, blocks: Iterable[Block], width: int) -> None:
        super().__init__((embedding, nn.ModuleList(blocks), nn.LayerNorm(width, EPS)))

    def blocks(self) -> list[Block]:
        """In order."""
        return list(self[1])  # type: ignore[call-overload, no-any-return]


Exchange = Callable[[Tensor, int, int], Tensor]
"""What becomes of the tokens ``[B, M, D]`` after a block, by the numbers of stage and block."""


class MsgShifT(nn.Module):
    """PVTv2 with messenger tokens.

    Args:
        tokens: M of a frame, a multiple of 4.
        widths: D of the stages, multiples of 64.
        depths: blocks of the stages.
        messengers: what tokens do between blocks: they are shifted along time, or attend to each other; or there are
            none. An ablation of the paper.
        shift: what takes the place of a token whose frame lies outside the clip: that of the clip's other end, as
            published, or the frame's own.
        drop_path: share of the frames whose residual is left out in training, in the last block; less in earlier ones.

    Raises:
        ValueError: an argument is none of these.
    """

    def __init__(
        self,
        tokens: int = 32,
        widths: Sequence[int] = (64, 128, 320, 512),
        depths: Sequence[int] = (2, 2, 2, 2),
        messengers: str = "shift",
        shift: str = "cyclic",
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if messengers not in MESSENGERS or shift not in SHIFTS:
            raise ValueError(f"messengers {messengers!r} are none of {MESSENGERS}, or shift {shift!r} of {SHIFTS}")
        if tokens < 0 or tokens % len(STEPS):
            raise ValueError(f"{tokens} messenger tokens are not {len(STEPS)} groups of one size")
        if any(width % HEAD_WIDTH for width in widths) or not len(widths) == len(depths) == len(REDUCTIONS):
            raise ValueError(f"widths {widths} and depths {depths} are not those of 4 stages of {HEAD_WIDTH}s")
        self.channels, self.shift = tuple(widths), shift
        self.messengers = messengers if tokens else "none"
        self.msg_tokens = nn.Parameter(torch.zeros(1, tokens, 3)) if self.messengers != "none" else None
        rates = iter(torch.linspace(0, drop_path, sum(depths), device="cpu").tolist())
        self.layers = nn.ModuleList()
        for i, (width, depth) in enumerate(zip(widths, depths)):
            embedding = Embedding(widths[i - 1], width, 3, 2) if i else Embedding(3, width, 7, 4)
            blocks = [
                Block(width, REDUCTIONS[i], EXPANSIONS[i], next(rates), self._exchange_after(i, j, depths))
                for j in range(depth)
            ]
            self.layers.append(Stage(embedding, blocks, width))

    def _exchange_after(self, stage: int, block: int, depths: Sequence[int]) -> MessengerAttention | None:
        """What has weights after a block: attention, if anything hears the tokens later."""
        last = REDUCTIONS.index(1) - 1
        heard = (stage, block) < (last, depths[last] - 1)
        return MessengerAttention(self.channels[stage]) if heard and self.messengers == "attention" else None

    def stages(self) -> list[Stage]:
        """In order."""
        return list(self.layers)  # type: ignore[arg-type]

    def initialise(self) -> None:
        """As PVTv2 starts; tokens are near zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)):
                nn.init.trunc_normal_(module.weight, std=0.02)
            elif isinstance(module, nn.Conv2d):
                outputs = module.weight[:, 0].numel() // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / outputs))
            elif isinstance(module, Attention):
                nn.init.trunc_normal_(module.in_proj_weight, std=0.02)
                nn.init.zeros_(module.in_proj_bias)
            if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
                nn.init.zeros_(module.bias)
        if self.msg_tokens is not None:
            nn.init.trunc_normal_(self.msg_tokens, std=0.02)

    def prepare(self) -> None:
        """Make inference quicker; the weights are final, and on their device."""
        pack_convolutions(self)

    def forward(self, images: Tensor, frames: int) -> list[Tensor]:
        """Maps ``[B * T, D, h, w]`` at strides 4, 8, 16 and 32, channels-last.

        Args:
            images: normalised ``[B * T, 3, H, W]``, the frames of a clip one after the other.
            frames: T of a clip.
        """
        return self.rest(self.first_block(images), frames)

    def first_block(self, images: Tensor) -> FirstBlock:
        """What of frames ``[B, 3, H, W]`` depends on each alone."""
        if self.msg_tokens is None:
            tokens = images.new_zeros(len(images), 0, 3)
        else:
            tokens = self.msg_tokens.expand(len(images), -1, -1)
        stage = self.stages()[0]
        patches, tokens, size = stage[0](images, tokens)
        patches, tokens = stage.blocks()[0](patches, tokens, size)
        return FirstBlock(patches, tokens, size)

    def rest(self, first: FirstBlock, frames: int) -> list[Tensor]:
        """Maps as `forward` gives them of the frames of clips.

        Raises:
            ValueError: the frames are not whole clips.
        """
        count = first.patches.shape[0]
        if count % frames:
            raise ValueError(f"{count} frames are not clips of {frames}")
        return self._rest(first, lambda tokens, i, j: self.exchanged(tokens, frames, i, j))

    def exchanged(self, tokens: Tensor, frames: int, stage: int, block: int) -> Tensor:
        """Tokens ``[B * T, M, D]`` of clips of T frames as they enter what follows a block."""
        blocks = self.stages()[stage].blocks()
        if self.messengers == "shift":
            return shifted(tokens, frames, direction(block, len(blocks)), self.shift)
        exchange = blocks[block].exchange
        return tokens if exchange is None else exchange(tokens, frames)

    def rest_streamed(self, first: FirstBlock, memory: MessengerMemory | None) -> tuple[list[Tensor], MessengerMemory]:
        """Maps of one frame that hears of the past alone, and what the next one is given: an approximation.

        Once in each stage, after its first block, the groups that move forth come from the frames before as they were
        there; the others, and those of frames that there were not, are the frame's own.

        Args:
            first: of one frame.
            memory: of the frame before; None: there was none.

        Raises:
            ValueError: there are more frames, or tokens attend to each other, which takes a whole clip.
        """
        if len(first.patches) != 1 or self.messengers == "attention":
            raise ValueError("streamed frames come one by one, and their messengers do not attend to each other")
        one: list[Tensor] = []
        two: list[Tensor] = []

        def exchange(tokens: Tensor, stage: int, block: int) -> Tensor:
            if block or not tokens.shape[1] or not direction(block, len(self.stages()[stage].blocks())):
                return tokens
            groups = list(tokens.chunk(len(STEPS), 1))
            if memory is not None:
                received = memory.one[len(one)], memory.two[-1][len(two)] if len(memory.two) > 1 else groups[2]
            else:
                received = groups[0], groups[2]
            one.append(groups[0].clone())
            two.append(groups[2].clone())
            return torch.cat((received[0], groups[1], received[1], groups[3]), 1)

        maps = self._rest(first, exchange)
        return maps, MessengerMemory(tuple(one), (tuple(two), *(memory.two[:1] if memory else ())))

    def _rest(self, first: FirstBlock, exchange: Exchange) -> list[Tensor]:
        patches, tokens, size = first.patches, first.messengers, first.size
        maps: list[Tensor] = []
        for i, stage in enumerate(self.stages()):
            embedding, _, norm = stage
            if REDUCTIONS[i] == 1:  # nothing hears tokens from here on
                tokens = tokens[:, :0]
            if i:
                patches, tokens, size = embedding(maps[-1], tokens)
            for j, block in enumerate(stage.blocks()):
                if i or j:
                    patches, tokens = block(patches, tokens, size)
                tokens = exchange(tokens, i, j)
            patches, tokens = norm(patches), norm(tokens)
            maps.append(map_of(patches, size))
        return maps


def direction(block: int, blocks: int) -> int:
    """Which way tokens move after a block of a stage, 1 or -1: in the end they are home again; 0: they stay."""
    return 0 if block == blocks - 1 and blocks % 2 else 1 - 2 * (block % 2)


def shifted(tokens: Tensor, frames: int, way: int, shift: str) -> Tensor:
    """Tokens ``[B * T, M, D]`` of clips of T frames, their groups moved along time.

    Args:
        way: 1, or -1 for the steps backwards, 0 for none.
        shift: one of `choices.SHIFTS`.
    """
    if not way or frames == 1 or not tokens.shape[1]:
        return tokens
    groups = tokens.unflatten(0, (-1, frames)).chunk(len(STEPS), 2)
    moved = [_moved(group, way * step, shift) for group, step in zip(groups, STEPS)]
    return torch.cat(moved, 2).flatten(0, 1)


def _moved(group: Tensor, step: int, shift: str) -> Tensor:
    """``new[t] = old[t - step]`` of ``[B, T, ...]``."""
    frames = group.shape[1]
    if shift == "cyclic":
        return group.roll(step, 1)
    parts = (group[:, :step], group[:, : frames - step]) if step > 0 else (group[:, -step:], group[:, step:])
    return torch.cat(parts, 1)
