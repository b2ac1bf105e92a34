"""Losses that systems share."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss of each entry (Lin et al., ICCV 2017)."""
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probabilities = logits.sigmoid()
    wrong = probabilities + targets - 2 * probabilities * targets  # 1 - p for a positive, p for a negative
    return loss * wrong**gamma * (alpha * targets + (1 - alpha) * (1 - targets))
