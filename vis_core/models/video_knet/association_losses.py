"""What the online system is taught beside masks and classes: who is who in two frames, and whose a pixel is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.models.video_knet.losses import Match, Targets, pixel_labels

TRACK_WEIGHT, RANK_WEIGHT = 0.25, 0.1
MARGIN = 0.1
NEGATIVES = 3  # at most, for each positive
_NOTHING = -1e30  # stays out of a sum of exponentials, and has a gradient
_IGNORED = -100


def contrastive_loss(products: Tensor, same: Tensor) -> Tensor:
    """Of each instance that the other frame shows, that it is more like itself there than like any other (QDTrack).

    Args:
        products: dot products of embeddings of two frames ``[n, m]``.
        same: bool ``[n, m]``: of one instance.

    Returns:
        The weighed mean over these instances; 0 if there are none.
    """
    unlike = products.masked_fill(same, _NOTHING).logsumexp(1)
    alike = (-products).masked_fill(~same, _NOTHING).logsumexp(1)
    seen = same.any(1)
    return TRACK_WEIGHT * (F.softplus(unlike + alike) * seen).sum() / seen.sum().clamp(min=1)


def cosine_loss(cosines: Tensor, same: Tensor) -> Tensor:
    """Mean squared error of cosines ``[n, m]``: 1 of one instance, at most 0.1 of two.

    Where pairs of two instances are many, those with the largest errors count, three for each pair of one.
    """
    errors = (torch.where(same, cosines, cosines - MARGIN).clamp(0, 1) - same.to(cosines.dtype)).square()
    counts = torch.ones_like(same)
    alike = int(same.sum())
    if (same.numel() - alike) / (alike + 1) > NEGATIVES:
        counts = same.clone()
        chosen = errors.detach().masked_fill(same, -1).flatten().topk(NEGATIVES * alike).indices
        counts.view(-1)[chosen] = True
    return (errors * counts).sum() / counts.sum().clamp(min=1)


def association_losses(key: Tensor, reference: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """The contrastive and the cosine loss of embeddings of two frames; both 0 where they share no instance.

    Args:
        key: ``[n, C]``.
        reference: ``[m, C]``.
        same: bool ``[n, m]``: of one instance.
    """
    if not same.any():
        nothing = 0 * (key.sum() + reference.sum())
        return nothing, nothing
    cosines = F.normalize(key, dim=1) @ F.normalize(reference, dim=1).T
    return contrastive_loss(key @ reference.T, same), cosine_loss(cosines, same)


def exclusive_semantic_loss(
    logits: Tensor, targets: Sequence[Targets], matches: Sequence[Match], things: int
) -> Tensor:
    """Cross-entropy of the one class of each pixel, mean over all pixels, also those without one, which add nothing.

    Args:
        logits: ``[B, K, h, w]`` at the size of the targets.
        targets: of each frame.
        matches: of the same.
        things: number of thing classes.
    """
    labels = torch.stack([pixel_labels(t, m, things, _IGNORED) for t, m in zip(targets, matches)])
    return F.cross_entropy(logits.float(), labels, reduction="none", ignore_index=_IGNORED).mean()


def rank_loss(masks: Tensor, targets: Sequence[Targets], matches: Sequence[Match]) -> Tensor:
    """Cross-entropy of whose each pixel is among the kernels, mean over all pixels, also those that are nobody's.

    Args:
        masks: logits of the kernels of things ``[B, N, h, w]`` at the size of the targets.
        targets: of each frame.
        matches: of the same.
    """
    owners = torch.full((len(masks), *masks.shape[2:]), _IGNORED, dtype=torch.int64, device=masks.device)
    for owner, target, matched in zip(owners, targets, matches):
        for kernel, instance in zip(matched.kernels.tolist(), matched.instances.tolist()):
            owner[target.masks[instance] != 0] = kernel
    return RANK_WEIGHT * F.cross_entropy(masks.float(), owners, reduction="none", ignore_index=_IGNORED).mean()
