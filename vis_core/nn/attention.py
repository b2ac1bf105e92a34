"""Attention and feed-forward layers of transformers that normalise last (Vaswani et al., NeurIPS 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention, its three projections in one matrix.

    Args:
        width: of queries, keys and values.
        heads: a divisor of it.
        dropout: share of the weights that are left out in training.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
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
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        found: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return found


class NormedAttention(nn.Module):
    """Attention, added to its query, then normalised.

    Args:
        width: of queries, keys and values.
        heads: a divisor of it.
        dropout: share of the weights, and of what is added, that is left out in training.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.dropout = nn.Dropout(dropout)
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
        out: Tensor = self.norm(x + self.dropout(found))
        return out


class FeedForward(nn.Module):
    """Two linear layers, added to their input, then normalised.

    Args:
        width: of the input.
        hidden: between the layers.
        dropout: share of the hidden values, and of what is added, that is left out in training.
    """

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(self.linear1(x)))
        out: Tensor = self.norm(x + self.dropout(self.linear2(hidden)))
        return out
