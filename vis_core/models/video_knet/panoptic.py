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


def merge(
    found: Candidates,
    masks: Callable[[Tensor], Tensor],
    peaks: Tensor,
    score_threshold: float,
    size: tuple[int, int],
) -> Panoptic:
    """Give each pixel to the candidate with the greatest product of score and mask; keep what is sure and whole.

    A thing is left out under the threshold; any segment that owns less than 0.6 of what its mask covers. Their pixels
    remain without an owner. Where there is no stuff, so do those that their owner's mask does not cover, and what is
    under the threshold owns none.

    Args:
        found: the candidates.
        masks: gives probabilities of the masks of kernels, ``[n, H, W]``.
        peaks: of each kernel the greatest probability of its mask ``[N + S]``.
        score_threshold: least score of a thing.
        size: height and width of the masks.
    """
    stuff = found.things < len(found.scores)
    first: dict[int, int] = {}  # of a kernel with several labels only the best one can own pixels
    for i, (kernel, score) in enumerate(zip(found.kernels.tolist(), found.scores.tolist())):
        if stuff or score >= score_threshold:
            first.setdefault(kernel, i)
    owner, covered = _owners(found, sorted(first.values()), masks, peaks, size)
    if not stuff:
        owner = torch.where(covered.at_owner, owner, len(found.scores))
    areas = torch.bincount(owner.flatten(), minlength=len(found.scores)).tolist()
    scores, labels, kernels = found.scores.tolist(), found.labels.tolist(), found.kernels.tolist()
    number = torch.zeros(len(scores) + 1, dtype=torch.int64, device=owner.device)  # the last one is nobody's
    segments: list[Segment] = []
    for i in found.scores.sort(descending=True, stable=True).indices.tolist():
        thing, area = i < found.things, covered.areas.get(i, 0)
        if (thing and scores[i] < score_threshold) or not areas[i] or not area or areas[i] / area < MIN_SHARE:
            continue
        segments.append(Segment(thing, labels[i], i, kernels[i], scores[i]))
        number[i] = len(segments)
    return Panoptic(number[owner], segments)


class _Covered(NamedTuple):
    """What masks cover.

    Attributes:
        areas: of the candidates that were looked at, the pixels that their masks cover.
        at_owner: bool ``[H, W]``: whether the mask of a pixel's owner covers it.
    """

    areas: dict[int, int]
    at_owner: Tensor


def _owners(
    found: Candidates,
    chosen: list[int],
    masks: Callable[[Tensor], Tensor],
    peaks: Tensor,
    size: tuple[int, int],
) -> tuple[Tensor, _Covered]:
    """Of each pixel the candidate that owns it, int64 ``[H, W]``.

    Candidates come by what they can reach at most, until none can win the least sure pixel any more.
    """
    device = found.scores.device
    best = torch.full(size, -1.0, device=device)
    owner = torch.full(size, len(found.scores), dtype=torch.int64, device=device)
    areas: dict[int, int] = {}
    reach = found.scores * peaks[found.kernels] * (1 + 1e-5)  # beyond what rounding adds
    left = torch.tensor(chosen, dtype=torch.int64, device=device)
    left = left[reach[left].argsort(descending=True)]
    for start in range(0, len(left), _AT_ONCE):
        part = left[start : start + _AT_ONCE].sort().values
        if float(reach[part].max()) < float(best.min()):
            break
        probabilities = masks(found.kernels[part])
        areas |= zip(part.tolist(), (probabilities >= 0.5).flatten(1).sum(1).tolist())
        value, place = (probabilities * found.scores[part][:, None, None]).max(0)
        candidate = part[place]
        better = (value > best) | ((value == best) & (candidate < owner))  # the first one at a tie
        best, owner = torch.where(better, value, best), torch.where(better, candidate, owner)
    scores = torch.cat((found.scores, found.scores.new_ones(1)))
    return owner, _Covered(areas, best >= 0.5 * scores[owner])
