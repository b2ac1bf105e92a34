"""The network of VisTR (Wang et al., CVPR 2021), which the code of GMP-VIS extends: a clip is one sequence.

All tokens of all frames see one another; each frame has as many queries as there are slots, and a slot is one instance
in all frames. Masks are made slot by slot, and see all frames too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.models.gmp_vis.deformable_transformer import Perceptron
from vis_core.models.gmp_vis.mask_head import BoxAttention, MaskHead, VideoMaskHead
from vis_core.nn.attention import FeedForward, NormedAttention
from vis_core.nn.position_codes import angle_code

EMBEDDING = 64
_POOLED = 8  # cells a side of the masks that the second classifier sees
_TURN = 6.283185307179586
_EPSILON = 1e-6


class EncoderLayer(nn.Module):
    """Attention of all tokens to one another, and a feed-forward part; norms follow the sums."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = NormedAttention(width, heads, dropout)
        self.feedforward = FeedForward(width, hidden, dropout)

    def forward(self, x: Tensor, position: Tensor, attends: Tensor | None) -> Tensor:
        """Tokens ``[1, S, d]``; attends: bool ``[1, 1, S]``."""
        out: Tensor = self.feedforward(self.self_attention(x, position, attends=attends))
        return out


class DecoderLayer(nn.Module):
    """Attention of all queries to one another, then to all tokens, and a feed-forward part; norms follow the sums."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = NormedAttention(width, heads, dropout)
        self.cross_attention = NormedAttention(width, heads, dropout)
        self.feedforward = FeedForward(width, hidden, dropout)

    def forward(self, x: Tensor, place: Tensor, key: Tensor, value: Tensor, attends: Tensor | None) -> Tensor:
        """Queries ``[1, n, d]`` at their places; key and value: tokens ``[1, S, d]``, with and without positions."""
        x = self.cross_attention(self.self_attention(x, place), place, key, value, attends)
        out: Tensor = self.feedforward(x)
        return out


@dataclass(frozen=True, eq=False)
class ClipStates:
    """What the transformer gives of a clip.

    Attributes:
        queries: after each layer of the decoder ``[layers, T, N, d]``.
        memory: the encoder's output ``[T, d, h, w]``.
        padding: bool ``[T, h, w]``, cells that hold nothing; None: all hold something.
    """

    queries: Tensor
    memory: Tensor
    padding: Tensor | None


@dataclass(frozen=True, eq=False)
class ClipOutputs:
    """What the network says of a clip of T frames and N slots.

    Attributes:
        logits: of the channels, ``[T, N, classes + 2]``; the first is no class, the last is "nothing".
        boxes: centre, width and height, 0..1 of the frame with its padding ``[T, N, 4]``.
        masks: logits at stride 4 ``[N, T, h, w]``.
        embeddings: ``[T, N, 64]``; None: the network has none.
        mask_logits: of the channels by the masks alone, as `logits`; None: see `ClipNetwork.second_logits`.
    """

    logits: Tensor
    boxes: Tensor
    masks: Tensor
    embeddings: Tensor | None
    mask_logits: Tensor | None


class ClipNetwork(nn.Module):
    """All modules.

    Channel 1 + i of the classifier is class i; channel 0 is taught by the frames that an instance is not in, as
    published, and the last channel is "nothing".

    Args:
        backbone: with maps at strides 4, 8, 16 and 32.
        clip_length: T, which the learned queries fix.
        classes: without the other two channels.
        slots: N, queries of a frame.
        matching: with the parts that GMP-VIS adds: embeddings, and a classifier of masks, which VisTR's files lack.
        width: d, channels of a token; a multiple of 48, for the position's three axes and the mask head.
        heads: of the attention.
        hidden: width of the feed-forward parts.
        layers: of the encoder, and of the decoder.
        dropout: in their layers, in training; published: 0.1.
    """

    def __init__(
        self,
        backbone: nn.Module,
        clip_length: int = 36,
        classes: int = 40,
        slots: int = 10,
        matching: bool = True,
        width: int = 384,
        heads: int = 8,
        hidden: int = 2048,
        layers: int = 6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.clip_length, self.classes, self.slots, self.width = clip_length, classes, slots, width
        self.backbone = backbone
        channels: Sequence[int] = backbone.channels  # type: ignore[assignment]
        self.input_proj = nn.Conv2d(channels[3], width, 1)
        self.encoder = nn.ModuleList(EncoderLayer(width, heads, hidden, dropout) for _ in range(layers))
        self.decoder = nn.ModuleList(DecoderLayer(width, heads, hidden, dropout) for _ in range(layers))
        self.decoder_norm = nn.LayerNorm(width)
        self.query_embed = nn.Embedding(clip_length * slots, width)
        self.class_embed = nn.Linear(width, classes + 2)
        self.bbox_embed = Perceptron(width, 4)
        self.bbox_attention = BoxAttention(width, heads)
        self.mask_head = MaskHead(width, heads, channels[2::-1])
        self.insmask_head = VideoMaskHead(self.mask_head.channels)
        self.matching = matching
        if matching:
            self.proposal2matching = nn.Linear(width, EMBEDDING)
            self.cross_graph = nn.Linear(EMBEDDING, EMBEDDING)
            self.fc = nn.Linear(_POOLED * _POOLED, classes + 2)

    def initialise(self) -> None:
        """Weights as the published training starts, but for what comes from other models."""
        for part in (self.encoder, self.decoder):
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        for layer in (*self.encoder, *self.decoder):
            for module in layer.modules():
                if isinstance(module, NormedAttention):
                    nn.init.zeros_(module.attention.out_proj.bias)
        if self.matching:
            nn.init.eye_(self.cross_graph.weight)
            nn.init.zeros_(self.cross_graph.bias)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The backbone's maps at strides 4, 8, 16 and 32 of normalised images ``[T, 3, H, W]``."""
        maps: list[Tensor] = self.backbone(images)
        return maps

    def tokens(self, coarsest: Tensor) -> Tensor:
        """Tokens ``[T, d, h, w]`` of the backbone's last maps; each frame's are its own."""
        tokens: Tensor = self.input_proj(coarsest.to(self.input_proj.weight.dtype))
        return tokens

    def adapted(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What the mask head adds to every slot's maps at strides 16, 8 and 4, of all of the backbone's maps."""
        kind = self.mask_head.adapter1.weight.dtype
        return self.mask_head.adapted([x.to(kind) for x in maps[2::-1]])

    def states(self, tokens: Tensor, padding: Tensor | None = None) -> ClipStates:
        """The transformer's states of a clip of T frames.

        Args:
            tokens: ``[T, d, h, w]``.
            padding: bool ``[T, H, W]``, pixels of the images that hold nothing; None: all hold something.
        """
        if padding is not None:
            padding = F.interpolate(padding[:, None].float(), tokens.shape[2:], mode="nearest")[:, 0] > 0
        attends = None if padding is None else ~padding.flatten()[None, None]
        position = video_code(tokens, padding)
        x = _sequence(tokens)
        for layer in self.encoder:
            x = layer(x, position, attends)
        key, place = x + position, self.query_embed.weight[None]
        queries, states = torch.zeros_like(place), []
        for layer in self.decoder:
            queries = layer(queries, place, key, x, attends)
            states.append(self.decoder_norm(queries))
        (height, width), kind = tokens.shape[2:], self.class_embed.weight.dtype
        memory = x[0].unflatten(0, (self.clip_length, height, width)).permute(0, 3, 1, 2)
        of_frames = torch.stack(states)[:, 0].unflatten(1, (self.clip_length, self.slots))
        return ClipStates(of_frames.to(kind), memory.to(kind), padding)

    def run_in(self, kind: torch.dtype) -> None:
        """Let backbone and transformer compute in a type; the heads keep theirs."""
        parts = (self.backbone, self.input_proj, self.encoder, self.decoder, self.decoder_norm, self.query_embed)
        for part in parts:
            part.to(kind)

    def logits(self, queries: Tensor) -> Tensor:
        """Of the channels ``[..., classes + 2]``, of queries ``[..., d]``."""
        logits: Tensor = self.class_embed(queries)
        return logits

    def boxes(self, queries: Tensor) -> Tensor:
        """Centre, width and height, 0..1 of the frame with its padding ``[..., 4]``, of queries ``[..., d]``."""
        boxes: Tensor = self.bbox_embed(queries)
        return boxes.sigmoid()

    def embeddings(self, states: ClipStates) -> Tensor | None:
        """``[T, N, 64]``, of the mean over the decoder's layers; None: the network has none."""
        return self.proposal2matching(states.queries.mean(0)) if self.matching else None

    def masks(self, states: ClipStates, adapted: Sequence[Tensor], slots: Sequence[int]) -> Tensor:
        """Mask logits ``[n, T, h, w]`` at stride 4 of some slots, one after the other.

        Args:
            states: of the clip.
            adapted: of `adapted`, of its frames.
            slots: their numbers.
        """
        queries, common = states.queries[-1][:, list(slots)], self.mask_head.of_memory(states.memory)
        attention = self.bbox_attention(queries, states.memory, states.padding)
        logits = [queries.new_empty((0, len(queries), *adapted[2].shape[2:]))]
        for i in range(len(slots)):
            features = self.mask_head.features(common, attention[:, i : i + 1], adapted)  # [T, 1, C, h, w]
            logits.append(self.insmask_head(features.permute(1, 2, 0, 3, 4)))
        return torch.cat(logits)

    def second_logits(self, masks: Tensor) -> Tensor | None:
        """Of the channels ``[T, N, classes + 2]``, by masks ``[N, T, h, w]`` alone.

        None: the network has no such part, or the masks are of one of the small sizes that it was not made for.
        """
        if not self.matching or not all(_is_pooled(side) for side in masks.shape[2:]):
            return None
        sizes, paddings = zip(*(_pooling(side, _POOLED) for side in masks.shape[2:]))
        pooled = F.max_pool2d(masks.transpose(0, 1), sizes, sizes, paddings)
        logits: Tensor = self.fc(pooled.flatten(2))
        return logits

    def forward(self, images: Tensor, padding: Tensor | None = None) -> ClipOutputs:
        """All of a clip.

        Args:
            images: normalised ``[T, 3, H, W]``, zeros where they are padded.
            padding: bool ``[T, H, W]``, pixels that hold nothing; None: all hold something.
        """
        maps = self.maps(images)
        states = self.states(self.tokens(maps[3]), padding)
        masks = self.masks(states, self.adapted(maps), range(self.slots))
        last = states.queries[-1]
        return ClipOutputs(
            self.logits(last), self.boxes(last), masks, self.embeddings(states), self.second_logits(masks)
        )


def video_code(tokens: Tensor, padding: Tensor | None = None) -> Tensor:
    """Code of each token ``[1, T * h * w, d]``: a third of the channels for time, y and x each, each one turn.

    Args:
        tokens: ``[T, d, h, w]``, for the sizes.
        padding: bool ``[T, h, w]``, cells that are not counted; None: all are.
    """
    frames, width, *size = tokens.shape
    if padding is None:
        axes = [torch.arange(1, n + 1, device=tokens.device) for n in (frames, *size)]
        counts = list(torch.meshgrid(*axes, indexing="ij"))
        lasts: list[Tensor | int] = [frames, *size]
    else:
        counts = [(~padding).cumsum(axis) for axis in range(3)]
        lasts = [count.narrow(axis, -1, 1) for axis, count in enumerate(counts)]
    codes = [angle_code(count / (last + _EPSILON) * _TURN, width // 3) for count, last in zip(counts, lasts)]
    return torch.cat(codes, 3).flatten(0, 2)[None].to(tokens.dtype)


def _sequence(maps: Tensor) -> Tensor:
    """Frame by frame and row by row, ``[1, T * h * w, C]``."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)[None]


def _pooling(side: int, cells: int) -> tuple[int, int]:
    """Size and padding of the pools that divide a side into cells."""
    size = -(-side // cells)
    return size, (cells * size - side + 1) // 2


def _is_pooled(side: int) -> bool:
    """Whether the published code takes this side: it divides it into 1 to 8 cells, though it uses the 8 alone."""
    return all(2 * padding <= size for size, padding in (_pooling(side, n) for n in range(1, _POOLED + 1)))
