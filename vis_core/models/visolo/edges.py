"""Masks whose edges follow the image's: the fast guided filter (He and Sun, arXiv 1505.00996)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.models.visolo.detection import Detections, occupied_parts

_STRIDE = 4  # of the mask logits
_SMOOTHNESS = 1e-3  # variance of a normalised image from which on a mask's edges follow the image's
_REACH = 3  # cells of the logits beyond a mask, as far as the filter sees


def guided(found: Detections, image: Tensor, mask_threshold: float) -> Detections:
    """Detections whose masks' edges follow the image's.

    Around each logit, over 3x3 of them, the mask's probability is taken for a linear function of the image's colours,
    by least squares; the functions, averaged over 3x3 and interpolated, tell the probability of each pixel from its
    colour. Where the colours say nothing, what remains is the probability, smoothed.

    Args:
        found: with masks ``[N, h, w]`` and logits ``[N, h/4, w/4]``; a mask of which nothing would be left stays.
        image: the network's input, float ``[1, 3, h, w]``.
        mask_threshold: of a mask's probability.
    """
    if not len(found):
        return found
    image = image.float()
    guide = _Guide.of(image)
    masks = found.masks.clone()
    for rows, y, x in occupied_parts(found.logits, mask_threshold, _REACH):
        lines = guide.lines(found.logits[rows, y, x].sigmoid(), y, x)
        lines = F.interpolate(lines, scale_factor=_STRIDE, mode="bilinear", align_corners=False)
        fine = rows, *(slice(_STRIDE * along.start, _STRIDE * along.stop) for along in (y, x))
        lines[:, :3] *= image[:, :, fine[1], fine[2]]
        part = lines.sum(1) > mask_threshold
        masks[fine] = torch.where(part.flatten(1).any(1)[:, None, None], part, masks[fine])
    return replace(found, masks=masks)


@dataclass(frozen=True, eq=False)
class _Guide:
    """What the filter knows of an image.

    Attributes:
        colours: at the logits' stride, ``[3, h/4, w/4]``.
        mean: of the colours around each place, ``[3, h/4, w/4]``.
        inverse: of their covariance, ``[3, 3, h/4, w/4]``.
    """

    colours: Tensor
    mean: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, image: Tensor) -> _Guide:
        """That of a float32 image ``[1, 3, h, w]``."""
        colours = F.avg_pool2d(image, _STRIDE)[0]
        mean = _mean(colours)
        first, second = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]
        rr, rg, rb, gg, gb, bb = (_mean(colours[first] * colours[second]) - mean[first] * mean[second]).unbind()
        rr, gg, bb = rr + _SMOOTHNESS, gg + _SMOOTHNESS, bb + _SMOOTHNESS
        pairs = (gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg)
        determinant = rr * pairs[0] + rg * pairs[1] + rb * pairs[2]
        cofactors = torch.stack((*pairs, rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg))
        return cls(colours, mean, (cofactors / determinant)[[0, 1, 2, 1, 3, 4, 2, 4, 5]].unflatten(0, (3, 3)))

    def lines(self, probabilities: Tensor, y: slice, x: slice) -> Tensor:
        """Slope by colour (three channels) and offset of each place's linear function, ``[N, 4, h, w]``.

        Args:
            probabilities: ``[N, h, w]`` in these rows and columns.
            y: rows of the logits.
            x: columns of the logits.
        """
        mean = self.mean[:, y, x]
        both = torch.cat((probabilities[:, None] * self.colours[:, y, x], probabilities[:, None]), 1)
        both = _mean(both.flatten(0, 1)).unflatten(0, (-1, 4))
        shared = both[:, :3] - both[:, 3:] * mean
        slope = (self.inverse[:, :, y, x] * shared[:, None]).sum(2)
        offset = both[:, 3:] - (slope * mean).sum(1, keepdim=True)
        return _mean(torch.cat((slope, offset), 1).flatten(0, 1)).unflatten(0, (-1, 4))


def _mean(x: Tensor) -> Tensor:
    """Mean over the 3x3 places about each of maps ``[K, h, w]``; beyond the edge is what is at it."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    x = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    return (x[..., :-2] + x[..., 1:-1] + x[..., 2:]) / 9
