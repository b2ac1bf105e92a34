"""From kernels of things and stuff to one owner of each pixel: Video K-Net's joint merge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.models.video_knet.kernels import best_pairs
from vis_core.models.video_knet.semantic_pyramid import doubled

MOST_THINGS = 100
MIN_SHARE = 0.6
_AT_ONCE = 16  # masks at the image's size that are in memory


class MaskSizes(NamedTuple):
    """Heights and widths between mask logits and image.

    Attributes:
        padded: of the network's image.
        resized: of what of it shows the image.
        image: of the image as it came.
    """

    padded: tuple[int, int]
    resized: tuple[int, int]
    image: tuple[int, int]


def mask_probabilities(logits: Tensor, sizes: MaskSizes) -> Tensor:
    """Probabilities at the image's size ``[N, H, W]`` of logits at an eighth of the network's ``[N, h, w]``."""
    return to_image(doubled(logits[None], 4).sigmoid(), sizes)[0]


def to_image(maps: Tensor, sizes: MaskSizes) -> Tensor:
    """Maps ``[B, C, h, w]`` at the image's size, bilinear by way of the network's."""
    padded = _resized(maps, sizes.padded)[..., : sizes.resized[0], : sizes.resized[1]]
    return _resized(padded, sizes.image)


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


@dataclass(frozen=True, eq=False)
class Candidates:
    """What may own pixels: things, best first, then stuff, best first.

    Attributes:
        kernels: int64 ``[M]``.
        labels: int64 ``[M]``, of things and of stuff from 0 each.
        scores: ``[M]``.
        things: how many are things.
    """

    kernels: Tensor
    labels: Tensor
    scores: Tensor
    things: int


def candidates(probabilities: Tensor, things: int) -> Candidates:
    """The best 100 pairs of thing kernel and thing class, and every stuff kernel with its own class.

    Args:
        probabilities: ``[N + S, K]``, kernels of things, then one of each stuff class.
        things: number of thing classes; the other S are stuff.
    """
    stuff = probabilities.shape[1] - things
    count = len(probabilities) - stuff
    scores, labels, kernels = best_pairs(probabilities[:count, :things], MOST_THINGS)
    own = probabilities[count:, things:].diagonal()
    stuff_scores, order = own.sort(descending=True, stable=True)
    return Candidates(
        torch.cat((kernels, count + order)), torch.cat((labels, order)), torch.cat((scores, stuff_scores)), len(scores)
    )


class Segment(NamedTuple):
    """What owns pixels.

    Attributes:
        thing: or stuff.
        label: among things, or among stuff, from 0.
        candidate: its place among the candidates.
        kernel: its place among the kernels.
        score: of its class.
    """

    thing: bool
    label: int
    candidate: int
    kernel: int
    score: float


@dataclass(frozen=True, eq=False)
class Panoptic:
    """The segments of a frame.

    Attributes:
        owners: int64 ``[H, W]``: 1 + position in `segments`, 0 for none.
        segments: best first.
    """

    owners: Tensor
    segments: list[Segment]


def merge(found: Candidates, masks: Callable[[Tensor], Tensor], score_threshold: float) -> Panoptic:
    """Give each pixel to the candidate with the greatest product of score and mask; keep what is sure and whole.

    A thing is left out under the threshold; any segment that owns less than 0.6 of what its mask covers. Their pixels
    remain without an owner. Where there is no stuff, so do those that their owner's mask does not cover.

    Args:
        found: the candidates.
        masks: gives probabilities of the masks of kernels, ``[n, H, W]``.
        score_threshold: least score of a thing.
    """
    owner, covered = _owners(found, masks)
    areas = torch.bincount(owner.flatten(), minlength=len(found.scores)).tolist()
    order = found.scores.sort(descending=True, stable=True).indices.tolist()
    scores, labels, kernels = found.scores.tolist(), found.labels.tolist(), found.kernels.tolist()
    number = torch.zeros(len(scores) + 1, dtype=torch.int64, device=owner.device)  # the last one is nobody's
    segments: list[Segment] = []
    for i in order:
        thing = i < found.things
        if (thing and scores[i] < score_threshold) or not areas[i] or not covered[i]:
            continue
        if areas[i] / covered[i] < MIN_SHARE:
            continue
        segments.append(Segment(thing, labels[i], i, kernels[i], scores[i]))
        number[i] = len(segments)
    return Panoptic(number[owner], segments)


def _owners(found: Candidates, masks: Callable[[Tensor], Tensor]) -> tuple[Tensor, list[int]]:
    """Of each pixel the candidate that owns it, or their number; of each candidate the pixels that its mask covers.

    Of a kernel with several labels only the best one can own pixels, so that each mask is made once.
    """
    first: dict[int, int] = {}
    for i, kernel in enumerate(found.kernels.tolist()):
        first.setdefault(kernel, i)
    chosen = torch.tensor(sorted(first.values()), device=found.kernels.device)
    covered = [0] * len(found.scores)
    best = owner = None
    for part in chosen.split(_AT_ONCE):
        probabilities = masks(found.kernels[part])
        for i, area in zip(part.tolist(), (probabilities >= 0.5).flatten(1).sum(1).tolist()):
            covered[i] = area
        value, place = (probabilities * found.scores[part][:, None, None]).max(0)
        if best is None or owner is None:
            best, owner = value, part[place]
        else:
            better = value > best  # the first one at a tie
            best, owner = torch.where(better, value, best), torch.where(better, part[place], owner)
    assert best is not None and owner is not None
    if found.things == len(found.scores):
        owner = torch.where(best >= 0.5 * found.scores[owner], owner, len(found.scores))
    return owner, covered
