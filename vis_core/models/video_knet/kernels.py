"""K-Net's kernels (Zhang et al., NeurIPS 2021): one kernel is one object, its mask their product with a feature map.

A stage refines kernels by what their masks cover. It never makes its transformed feature map: as pooling and masks are
linear in the features, the transform is applied to pooled features and to mask kernels instead. Same numbers, up to
rounding.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.nn.attention import Attention, FeedForward

RARE = -math.log(99)
"""Logit of a class whose probability is 1 percent."""


def covered_sums(features: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the features of the pixels that masks cover, hard, and the number of these pixels.

    Args:
        features: ``[B, C, h, w]``.
        masks: logits ``[B, N, h, w]``.

    Returns:
        ``[B, N, C]`` and ``[B, N, 1]``.
    """
    covered = (masks.sigmoid() > 0.5).flatten(2).to(features.dtype)
    return covered @ features.flatten(2).transpose(1, 2), covered.sum(2, keepdim=True)


class KernelUpdate(nn.Module):
    """Kernels and what their masks cover, merged through two gates (K-Net, section 3.3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dynamic_layer = nn.Linear(width, 2 * width)
        self.input_layer = nn.Linear(width, 2 * width)
        self.input_gate = nn.Linear(width, width)
        self.update_gate = nn.Linear(width, width)
        self.norm_in = nn.LayerNorm(width)
        self.norm_out = nn.LayerNorm(width)
        self.input_norm_in = nn.LayerNorm(width)
        self.input_norm_out = nn.LayerNorm(width)
        self.fc_layer = nn.Linear(width, width)
        self.fc_norm = nn.LayerNorm(width)

    def forward(self, pooled: Tensor, kernels: Tensor) -> Tensor:
        """Of pooled features and kernels, both ``[B, N, C]``."""
        pooled_in, pooled_out = self.dynamic_layer(pooled).chunk(2, -1)
        kernel_in, kernel_out = self.input_layer(kernels).chunk(2, -1)
        both = kernel_in * pooled_in
        kernel_gate = self.input_norm_in(self.input_gate(both)).sigmoid()
        pooled_gate = self.norm_in(self.update_gate(both)).sigmoid()
        merged = pooled_gate * self.norm_out(pooled_out) + kernel_gate * self.input_norm_out(kernel_out)
        return F.relu(self.fc_norm(self.fc_layer(merged)))


class KernelLink(nn.Module):
    """Kernels that look at those of the frame before.

    Args:
        width: channels of a kernel.
        heads: of the attention.
        hidden: channels of the feed-forward part.
        updated: the former kernels are first renewed by what the masks of this frame cover.
    """

    def __init__(self, width: int, heads: int, hidden: int, updated: bool) -> None:
        super().__init__()
        self.update = KernelUpdate(width) if updated else None
        self.attention = Attention(width, heads)
        self.norm = nn.LayerNorm(width)
        self.ffn = FeedForward(width, hidden)

    def forward(self, kernels: Tensor, previous: Tensor, pooled: Tensor) -> Tensor:
        """Of kernels, those of the frame before and pooled features, all ``[B, N, C]``."""
        if self.update is not None:
            previous = self.update(pooled, previous)
        linked: Tensor = self.ffn(self.norm(kernels + self.attention(kernels, previous, previous)))
        return linked


class KernelStage(nn.Module):
    """One refinement of kernels, their classes and masks (K-Net, figure 2).

    Args:
        width: channels of a kernel.
        classes: number of categories; None: the stage names nothing.
        heads: of the attention among the kernels.
        hidden: channels of the feed-forward part.
    """

    def __init__(self, width: int, classes: int | None, heads: int = 8, hidden: int = 2048) -> None:
        super().__init__()
        self.feat_transform = nn.Linear(width, width)
        self.kernel_update = KernelUpdate(width)
        self.attention = Attention(width, heads)
        self.attention_norm = nn.LayerNorm(width)
        self.ffn = FeedForward(width, hidden)
        self.mask_fcs = _normed_linear(width)
        self.fc_mask = nn.Linear(width, width)
        if classes is not None:
            self.cls_fcs = _normed_linear(width)
            self.fc_cls = nn.Linear(width, classes)

    def initialise(self) -> None:
        """As the published training starts the frames' stages: Xavier-uniform matrices, classes at 1 percent."""
        xavier_uniform(self)
        nn.init.constant_(self.fc_cls.bias, RARE)

    def pooled(self, features: Tensor, masks: Tensor) -> Tensor:
        """Sums of the transformed features that masks cover ``[B, N, C]``; see `covered_sums`."""
        sums, counts = covered_sums(features, masks)
        return sums @ self.feat_transform.weight.T + counts * self.feat_transform.bias

    def forward(self, pooled: Tensor, kernels: Tensor) -> Tensor:
        """Refined kernels, of pooled features and kernels, all ``[B, N, C]``."""
        x = self.kernel_update(pooled, kernels)
        refined: Tensor = self.ffn(self.attention_norm(x + self.attention(x, x, x)))
        return refined

    def class_logits(self, kernels: Tensor) -> Tensor:
        """``[B, N, K]``, each class by itself."""
        logits: Tensor = self.fc_cls(self.cls_fcs(kernels))
        return logits

    def masks(self, kernels: Tensor, features: Tensor) -> Tensor:
        """Mask logits ``[B, N, h, w]`` of kernels ``[B or 1, N, C]`` in features ``[B, C, h, w]``."""
        return filtered(features, *self.mask_filters(kernels))

    def mask_filters(self, kernels: Tensor) -> tuple[Tensor, Tensor]:
        """What `filtered` takes, of kernels ``[B, N, C]``: filters of that shape, and biases ``[B, N, 1]``."""
        mask_kernels = self.fc_mask(self.mask_fcs(kernels))
        return mask_kernels @ self.feat_transform.weight, mask_kernels @ self.feat_transform.bias[:, None]


def filtered(features: Tensor, filters: Tensor, biases: Tensor) -> Tensor:
    """Mask logits ``[B, N, h, w]`` of features ``[B, C, h, w]``, by what `KernelStage.mask_filters` gives."""
    return (filters @ features.flatten(2) + biases).unflatten(2, features.shape[2:])


def xavier_uniform(module: nn.Module) -> None:
    """Begin every matrix of a module Xavier-uniform (Glorot and Bengio, AISTATS 2010)."""
    for part in module.parameters():
        if part.dim() > 1:
            nn.init.xavier_uniform_(part)


def _normed_linear(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width, bias=False), nn.LayerNorm(width), nn.ReLU())


class StageOutputs(NamedTuple):
    """What a stage says of B frames, or of a clip.

    Attributes:
        logits: of the classes ``[B, N, K]``; None: not asked for.
        masks: logits ``[B, N, h, w]``.
        kernels: ``[B, N, C]``.
    """

    logits: Tensor | None
    masks: Tensor
    kernels: Tensor


def best_pairs(probabilities: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs of kernel and class, whatever their scores; a kernel may come with several classes.

    Args:
        probabilities: ``[N, K]``.
        count: of pairs at most.

    Returns:
        Their scores, labels and kernels, by descending score; of equal ones the lower kernel and class first.
    """
    scores, order = probabilities.flatten().sort(descending=True, stable=True)
    order = order[:count]
    return scores[:count], order % probabilities.shape[1], order // probabilities.shape[1]
