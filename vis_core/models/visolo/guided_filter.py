"""Masks whose edges follow the image's: the fast guided filter (He and Sun, arXiv 1505.00996)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.models.visolo.detection import Detections, Masks, occupied_parts
from vis_core.models.visolo.instances import tight_boxes
from vis_core.nn.arrays import sigmoid

_Map = npt.NDArray[np.float32]
_STRIDE = 4  # of the mask logits
_SMOOTHNESS = 1e-3  # variance of a normalised image from which on a mask's edges follow the image's
_REACH = 3  # cells of the logits beyond a mask, as far as the filter sees


def guided(found: Detections, image: _Map, mask_threshold: float) -> Detections:
    """Detections whose masks' edges follow the image's.

    Around each logit, over 3x3 of them, the mask's probability is taken for a linear function of the image's colours,
    by least squares; the functions, averaged over 3x3 and interpolated, tell the probability of each pixel from its
    colour. Where the colours say nothing, what remains is the probability, smoothed.

    Args:
        found: with masks ``[N, h, w]`` and logits ``[N, h/4, w/4]``; a mask of which nothing would be left
            stays.
        image: the network's input ``[3, h, w]``.
        mask_threshold: of a mask's probability.
    """
    if not len(found):
        return found
    guide = _Guide.of(image)
    masks = found.masks.copy()
    for row, y, x in occupied_parts(found.logits, mask_threshold, _REACH):
        lines = guide.lines(sigmoid(found.logits[row, y, x]), y, x)
        fine_lines = cv2.resize(lines, None, fx=_STRIDE, fy=_STRIDE, interpolation=cv2.INTER_LINEAR)
        fine = tuple(slice(_STRIDE * along.start, _STRIDE * along.stop) for along in (y, x))
        part = np.einsum("ijk,ijk->ij", fine_lines, guide.image[fine]) > mask_threshold
        if part.any():
            masks[row][fine] = part
    return replace(found, masks=masks)


@dataclass(frozen=True, eq=False)
class _Guide:
    """What the filter knows of an image.

    Attributes:
        image: its colours and a 1, ``[h, w, 4]``.
        colours: the same at the logits' stride, ``[h/4, w/4, 4]``.
        mean: of the colours around each place, ``[h/4, w/4, 3]``.
        inverse: of their covariance, ``[h/4, w/4, 3, 3]``.
    """

    image: _Map
    colours: _Map
    mean: _Map
    inverse: _Map

    @classmethod
    def of(cls, image: _Map) -> _Guide:
        """That of a float32 image ``[3, h, w]``."""
        height, width = (n // _STRIDE for n in image.shape[1:])
        r, g, b = (cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in image)
        mr, mg, mb = (_mean(plane) for plane in (r, g, b))
        rr, gg, bb = (_mean(x * x) - m * m + _SMOOTHNESS for x, m in ((r, mr), (g, mg), (b, mb)))
        rg, rb, gb = _mean(r * g) - mr * mg, _mean(r * b) - mr * mb, _mean(g * b) - mg * mb
        first, second, third = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
        fourth, fifth, sixth = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
        determinant = rr * first + rg * second + rb * third
        cofactors = np.stack((first, second, third, second, fourth, fifth, third, fifth, sixth), 2)
        inverse = (cofactors / determinant[:, :, None]).reshape(height, width, 3, 3)
        whole, colours = (cv2.merge((*planes, np.ones_like(planes[0]))) for planes in (image, (r, g, b)))
        return cls(whole, colours, np.stack((mr, mg, mb), 2), inverse)

    def lines(self, probabilities: _Map, y: slice, x: slice) -> _Map:
        """Slope by colour (three channels) and offset of each place's linear function, ``[h, w, 4]``.

        Args:
            probabilities: ``[h, w]`` in these rows and columns.
            y: rows of the logits.
            x: columns of the logits.
        """
        mean = self.mean[y, x]
        both = _mean(probabilities[:, :, None] * self.colours[y, x])
        shared = both[:, :, :3] - both[:, :, 3:] * mean
        lines = np.empty_like(both)
        slope = np.einsum("ijkl,ijl->ijk", self.inverse[y, x], shared, out=lines[:, :, :3])
        lines[:, :, 3] = both[:, :, 3] - np.einsum("ijk,ijk->ij", slope, mean)
        return _mean(lines)


def _mean(x: _Map) -> _Map:
    """Mean over the 3x3 places about each of a map ``[h, w]`` or ``[h, w, C]``; beyond the edge is what is at it."""
    return cv2.blur(x, (3, 3), borderType=cv2.BORDER_REPLICATE)  # type: ignore[return-value]


def without_specks(masks: Masks, min_part: float) -> Masks:
    """Masks ``[N, h, w]`` without parts that have less than the share `min_part` of the largest part's pixels.

    A speck elsewhere in the picture stretches the box, and with it the place where a track is looked for next.
    """
    dense = masks.copy()
    for mask, (left, top, right, bottom) in zip(dense, tight_boxes(masks).astype(int)):
        inside = mask[top:bottom, left:right]
        if not inside.size:
            continue
        count, parts, about, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
        areas = about[1:, cv2.CC_STAT_AREA]
        if count > 2 and areas.min() < min_part * areas.max():
            inside &= np.concatenate(([False], areas >= min_part * areas.max()))[parts]
    return dense
