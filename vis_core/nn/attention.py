"""Attention and feed-forward layers of transformers that normalise last (Vaswani et al., NeurIPS 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention, its three projections in one matrix."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, attends: Tensor | None = None) -> Tensor:
        """Of ``[B, n, C]`` tensors; attends: bool ``[B, n of query, n of key]``."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases)
        )
        mask = None if attends is None else attends[:, None]
        found: Tensor = self.out_proj(
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        )
        return found


class NormedAttention(nn.Module):
    """Attention, added to its query, then normalised."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        attends: Tensor | None = None,
    ) -> Tensor:
        """Attention of queries x at their positions to others, or to themselves."""
        query = x + position
        found = self.attention(query, query if key is None else key, x if value is None else value, attends)
        out: Tensor = self.norm(x + found)
        return out


class FeedForward(nn.Module):
    """Two linear layers, added to their input, then normalised."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x + self.linear2(F.relu(self.linear1(x))))
        return out
