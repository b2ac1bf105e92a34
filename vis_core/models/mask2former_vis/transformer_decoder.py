"""Queries that look at the pixels which their last mask covers: masked attention over a frame or a clip."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.nn.attention import FeedForward, NormedAttention
from vis_core.nn.pixel_decoder import PixelFeatures
from vis_core.nn.position_codes import axis_code, image_code
from vis_core.nn.tracing import kept


@dataclass(frozen=True, eq=False)
class QueryOutputs:
    """What the queries answer; of a clip, or with a leading dimension T of each frame by itself.

    Attributes:
        logits: ``[Q, K + 1]``, of each class and last of "no object".
        mask_embeddings: ``[Q, C]``; their product with mask features is mask logits.
        queries: ``[Q, C]``, normalised.
        auxiliary: answers before each layer of the decoder, if they were asked for.
    """

    logits: Tensor
    mask_embeddings: Tensor
    queries: Tensor
    auxiliary: tuple[QueryOutputs, ...] = ()


class DecoderLayer(nn.Module):
    """Queries look at pixels, then at one another."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.cross = NormedAttention(width, heads)
        self.own = NormedAttention(width, heads)
        self.feed_forward = FeedForward(width, hidden)

    def forward(self, x: Tensor, position: Tensor, key: Tensor, value: Tensor, attends: Tensor) -> Tensor:
        x = self.own(self.cross(x, position, key, value, attends), position)
        out: Tensor = self.feed_forward(x)
        return out


class TransformerDecoder(nn.Module):
    """Q queries through masked attention to the levels, coarse to fine, again and again.

    Args:
        classes: number of categories.
        queries: number of queries.
        width: channels.
        layers: number of layers.
        hidden: channels of their feed-forward parts.
        levels: maps that are looked at in turn.
        heads: of the attention.
    """

    def __init__(
        self,
        classes: int,
        queries: int = 100,
        width: int = 256,
        layers: int = 9,
        hidden: int = 2048,
        levels: int = 3,
        heads: int = 8,
    ) -> None:
        super().__init__()
        self.query_feat = nn.Embedding(queries, width)
        self.query_embed = nn.Embedding(queries, width)
        self.level_embed = nn.Embedding(levels, width)
        self.layers = nn.ModuleList(DecoderLayer(width, heads, hidden) for _ in range(layers))
        self.decoder_norm = nn.LayerNorm(width)
        self.class_embed = nn.Linear(width, classes + 1)
        self.mask_embed = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )

    def initialise(self) -> None:
        """As the published training starts: what the layers hold is Xavier-uniform."""
        for part in self.layers.parameters():
            if part.dim() > 1:
                nn.init.xavier_uniform_(part)

    def forward(self, features: PixelFeatures, space_time: bool, auxiliary: bool = False) -> QueryOutputs:
        """Answers of the queries.

        Args:
            features: of T frames.
            space_time: the frames are one clip, over all of which a query looks (Mask2Former-VIS); otherwise each is
                asked by itself (MinVIS).
            auxiliary: give the answers before each layer too.
        """
        frames = features.mask.shape[0]  # len() would fix it in an exported graph
        batch = 1 if space_time else frames
        memory = [
            self._memory(level, features.mask, embedding, space_time)
            for level, embedding in zip(features.levels, self.level_embed.weight)
        ]
        x = self.query_feat.weight[None].expand(batch, -1, -1)
        position = self.query_embed.weight
        earlier = []
        for i, layer in enumerate(self.layers):
            key, value, reduced = memory[i % len(memory)]
            normed = self.decoder_norm(x)
            embeddings = self.mask_embed(normed)
            if auxiliary:
                earlier.append(self._answers(normed, embeddings, space_time))
            x = layer(x, position, key, value, attended(embeddings.detach() @ reduced))
        normed = self.decoder_norm(x)
        last = self._answers(normed, self.mask_embed(normed), space_time)
        return QueryOutputs(last.logits, last.mask_embeddings, last.queries, tuple(earlier))

    def _answers(self, normed: Tensor, embeddings: Tensor, space_time: bool) -> QueryOutputs:
        parts = (self.class_embed(normed), embeddings, normed)
        return QueryOutputs(*(x[0] for x in parts) if space_time else parts)

    def _memory(
        self, level: Tensor, mask_features: Tensor, embedding: Tensor, space_time: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values ``[B, n, C]`` of a level, and mask features reduced to its size, ``[B, C, n]``.

        Reducing the features gives the masks that reducing all queries' masks would, in less work.
        """
        frames, width, height, columns = level.shape
        reduced = F.interpolate(mask_features.detach(), (height, columns), mode="bilinear", align_corners=False)
        value = level.flatten(2).transpose(1, 2) + embedding
        code = _clip_code(frames if space_time else None, height, columns, width, level.device).to(value.dtype)
        reduced = reduced.flatten(2)
        if space_time:
            value = value.flatten(0, 1)[None]
            reduced = reduced.transpose(0, 1).flatten(1)[None]
        return value + code, value, reduced


def attended(mask_logits: Tensor) -> Tensor:
    """Where a query looks: where its mask is, or everywhere if it is nowhere; bool ``[B, Q, n]``."""
    inside = mask_logits >= 0
    return inside | ~inside.any(2, keepdim=True)


@kept(32)
def _clip_code(frames: int | None, height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Position codes of a clip's pixels, frame by frame ``[T * h * w, C]``; of one frame alone without time."""
    with torch.inference_mode(False):
        code = image_code(height, width, channels, device)
        if frames is None:
            return code
        return (axis_code(frames, channels, device)[:, None] + code).flatten(0, 1)


def mask_logits(embeddings: Tensor, mask_features: Tensor) -> Tensor:
    """Mask logits ``[Q, T, h, w]`` of some queries ``[Q, C]`` from mask features ``[T, C, h, w]``."""
    return torch.einsum("qc,tchw->qthw", embeddings, mask_features)
