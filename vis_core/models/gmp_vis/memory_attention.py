"""Global temporal aggregation: what is found in a frame looks at what was remembered of the tracks.

The paper (GMP-VIS, CVPR 2023) names the module without what is needed to rebuild it; this is one of our own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.nn.attention import Attention, FeedForward
from vis_core.nn.position_codes import angle_code

OLDEST = 255
MEMORY_FEATURES = 8  # of a track, the last ones


class MemoryAttention(nn.Module):
    """Attention of N instances of a frame to the memory, and a feed-forward part; as it begins, a norm alone.

    Args:
        width: of a feature.
        hidden: of the feed-forward part.
        heads: of the attention.
    """

    def __init__(self, width: int, hidden: int = 1024, heads: int = 8) -> None:
        super().__init__()
        self.width = width
        self.attention = Attention(width, heads)
        self.norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden)

    def initialise(self) -> None:
        """What is added to the features begins at zero."""
        for layer in (self.attention.out_proj, self.feed_forward.linear2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        features: Tensor,
        memory: Tensor | None = None,
        ages: Tensor | None = None,
        remembers: Tensor | None = None,
    ) -> Tensor:
        """Features ``[N, width]`` that know of the memory.

        Args:
            features: ``[N, width]``, of one frame.
            memory: ``[M, width]``, of earlier frames, as they were before this module; None: there is none.
            ages: ``[M]``, frames since each was stored.
            remembers: bool ``[1]``: whether the memory holds anything; None: it does if it is there and not empty.
        """
        x = features
        if memory is not None and ages is not None and (remembers is not None or len(memory)):
            keys = memory + angle_code(ages.to(memory.dtype).clamp(max=OLDEST), self.width)
            seen = x + self.attention(x[None], keys[None], keys[None])[0]
            x = seen if remembers is None else torch.where(remembers, seen, x)
        known: Tensor = self.feed_forward(self.norm(x))
        return known


class MatchingEmbedding(nn.Module):
    """From features to what instances are matched by, ``[N, channels]`` of unit length.

    Args:
        width: of a feature.
        channels: of an embedding.
        temporal: whether features look at the memory first.
        hidden: see `MemoryAttention`.
        heads: see `MemoryAttention`.
    """

    def __init__(
        self, width: int, channels: int = 64, temporal: bool = True, hidden: int = 1024, heads: int = 8
    ) -> None:
        super().__init__()
        self.aggregation = MemoryAttention(width, hidden, heads) if temporal else None
        self.projection = nn.Linear(width, channels)

    def initialise(self) -> None:
        """As untrained."""
        if self.aggregation is not None:
            self.aggregation.initialise()
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(
        self,
        features: Tensor,
        memory: Tensor | None = None,
        ages: Tensor | None = None,
        remembers: Tensor | None = None,
    ) -> Tensor:
        """As of `MemoryAttention`."""
        if self.aggregation is not None:
            features = self.aggregation(features, memory, ages, remembers)
        return F.normalize(self.projection(features), dim=1)
