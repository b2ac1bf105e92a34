"""Where an object is and how large, from its mask and a depth image.

A depth camera sees the near side of an object. Its position here is the middle of the whole: as deep as what is seen
of it, and at least as deep as it is wide or high, whichever is less. That is exact for balls, and for what
stands on a square or round base and is at least as high as that is wide, and off by half the difference for the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError
from vis_core.masks import RunLengths
from vis_core.spatial.camera import Array, Camera
from vis_core.structures import Instances

_BAND = 0.05
"""Metres, and share of the distance, by which an object's pixels may lie nearer or farther than its size says."""
_WHOLE = 0.05
"""Share of its outline that may be hidden of an object that counts as whole."""
_RING = 3
"""Width of the ring around a mask in which something nearer hides the object, pixels."""
_RING_SHAPE = np.ones((2 * _RING + 1, 2 * _RING + 1), np.uint8)
_MOST_PIXELS = 3000
"""Of the box of a mask that are looked at; of a larger one every second, or third... in each direction."""
_OUTLIERS = (0.2, 0.2, 1.0)
"""Percent at either end of x, y and z that do not count to an object's extents."""
_SMOOTH = (5, 5)
"""Window in which depth is averaged over an object's own pixels, against noise."""


@dataclass(frozen=True)
class Measurement:
    """One object in one image, in the optical frame of the camera (z forward, x right, y down), metres.

    Attributes:
        position: float64 ``[3]``, its middle.
        covariance: float64 ``[3, 3]`` of the position.
        points: float32 ``[N, 3]``, of its visible surface, some thousands at most.
        whole: whether nothing hides a part of it, as far as the depth image and the image's border tell.
    """

    position: Array
    covariance: Array
    points: npt.NDArray[np.float32]
    whole: bool


def metres(depth: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """A depth image in metres, float32 ``[H, W]``, NaN where there is no depth (0, NaN, inf, negative).

    Args:
        depth: ``[H, W]``, uint16 in millimetres or float in metres (REP 118).

    Raises:
        InputError: of another form.
    """
    if depth.ndim != 2 or depth.dtype not in (np.uint16, np.float32, np.float64):
        raise InputError(f"depth image: {depth.dtype} {depth.shape}; give [H, W], uint16 millimetres or float metres")
    out = depth.astype(np.float32)
    if depth.dtype == np.uint16:
        out *= np.float32(1e-3)
    out[~((out > 0) & np.isfinite(out))] = np.nan
    return out


def measure(
    mask: RunLengths,
    depth: npt.NDArray[np.float32],
    camera: Camera,
    up: npt.ArrayLike = (0.0, -1.0, 0.0),
    least_points: int = 30,
) -> Measurement | None:
    """Position and extents of what a mask shows.

    The depth comes from the mask without its edge, where pixels mix with the background; what lies farther from its
    median than the object is large belongs to something else, seen through it or in front of it.

    Args:
        mask: in an image of the depth image's view, of its size or another.
        depth: float32 ``[H, W]``, metres, NaN where there is none; see `metres`.
        camera: of the depth image.
        up: direction in its optical frame in which objects stand; by itself a camera is taken as level.
        least_points: with fewer pixels that have a depth there is no measurement.

    Returns:
        The measurement; None: too few pixels have a depth.
    """
    if not mask.area:
        return None
    box, inside = _crop(mask, depth.shape)
    x, y, width, height = box
    stride = max(1, round(math.sqrt(width * height / _MOST_PIXELS)))
    # In one piece: what follows looks at them many times.
    inside = np.ascontiguousarray(inside[::stride, ::stride])
    part = np.s_[y : y + height : stride, x : x + width : stride]
    distances = np.ascontiguousarray(depth[part])
    known = distances[_eroded(inside)]
    known = known[known == known]  # NaN is not
    least = max(least_points // stride**2, 3)
    if known.size < least:
        return None
    middle = float(np.partition(known, known.size // 2)[known.size // 2])
    focal = (float(camera.matrix[0, 0]), float(camera.matrix[1, 1]))
    band = min(width / focal[0], height / focal[1]) * middle + _BAND * (1 + middle)
    own = (distances >= middle - band) & (distances <= middle + band) & inside
    count = int(np.count_nonzero(own))
    if count < least:
        return None
    z = _smoothed(distances, own)
    points = np.empty((3, count), np.float32)
    for axis in (0, 1):
        points[axis] = (camera.ray_planes[axis][part] * z)[own]
    points[2] = z[own]
    hidden = _hidden_share(depth, (x, y, stride), inside, middle - band)
    return _measurement(points, np.asarray(up, np.float64), hidden, (focal[0] / stride, focal[1] / stride))


def measure_instances(
    instances: Instances, depth: npt.NDArray[np.float32], camera: Camera, up: npt.ArrayLike = (0.0, -1.0, 0.0)
) -> dict[int, Measurement]:
    """What is seen of the tracks of an image, by track id; those with too few pixels are not there. As of `measure`."""
    return {
        int(instances.track_ids[row]): measurement
        for row in np.flatnonzero(instances.visible).tolist()
        if (measurement := measure(instances.masks[row], depth, camera, up)) is not None
    }


def _measurement(points: npt.NDArray[np.float32], up: Array, hidden: float, focal: tuple[float, float]) -> Measurement:
    """The middle of the whole behind the points ``[3, N]`` of its near side."""
    count = points.shape[1]
    sight = _sight(points.sum(axis=1, dtype=np.float64) / count, up)
    seen = sight.astype(np.float32) @ points  # its z is the line of sight
    low, high = np.empty(3), np.empty(3)
    for axis, share in enumerate(_OUTLIERS):
        end = int(share / 100 * count)
        values = seen[axis]
        if end:
            values.partition((end, count - 1 - end))
            low[axis], high[axis] = values[end], values[count - 1 - end]
        else:
            low[axis], high[axis] = values.min(), values.max()
    # Points are the middles of pixels.
    extents = high - low
    extents[:2] += low[2] / focal
    depth = max(extents[2], min(extents[0], extents[1]))
    centre = (low + high) / 2
    centre[2] = low[2] + depth / 2
    # What is assumed and not seen is a guess of a quarter; what is hidden moves the middle by up to half an extent, in
    # one image as in the next, so that it is taken for more than it hides of the outline.
    guess = (depth - extents[2]) / 4
    spread = np.array([0.01 + 0.01 * extents[0], 0.01 + 0.01 * extents[1], 0.01 + 0.002 * low[2]])
    spread[2] += guess
    if hidden >= _WHOLE:
        spread += min(4 * hidden, 1) * extents / 2
    covariance = (sight.T * spread**2) @ sight
    return Measurement(sight.T @ centre, covariance, points.T, hidden < _WHOLE)


def _sight(direction: Array, up: Array) -> Array:
    """Rotation ``[3, 3]`` to an upright frame whose z axis points at what lies in a direction, as level as may be.

    In numbers, not arrays: of three elements these cost ten times as much.
    """
    a, b, c = direction.tolist()
    i, j, k = up.tolist()
    share = (a * i + b * j + c * k) / (i * i + j * j + k * k)
    p, q, r = a - share * i, b - share * j, c - share * k
    if p * p + q * q + r * r < (a * a + b * b + c * c) / 4:  # seen from above, or from below
        p, q, r = a, b, c
    length = math.sqrt(p * p + q * q + r * r)
    p, q, r = p / length, q / length, r / length
    # Right of it, which is the cross product of down and forward.
    u, v, w = k * q - j * r, i * r - k * p, j * p - i * q
    if u * u + v * v + w * w < 1e-12:
        u, v, w = 1 - p * p, -p * q, -p * r
    length = math.sqrt(u * u + v * v + w * w)
    u, v, w = u / length, v / length, w / length
    return np.array([[u, v, w], [q * w - r * v, r * u - p * w, p * v - q * u], [p, q, r]])


def _crop(mask: RunLengths, size: tuple[int, ...]) -> tuple[tuple[int, int, int, int], npt.NDArray[np.bool_]]:
    """Box and pixels of a mask in an image of another size of the same view."""
    if mask.size == size:
        return mask.box, mask.crop() != 0
    resized = cv2.resize(mask.dense().view(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_NEAREST) != 0
    return (0, 0, size[1], size[0]), resized


def _eroded(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A mask without its edge; all of it where little else would be left."""
    width = max(1, round(0.05 * min(inside.shape)))
    padded = _padded(inside, width)  # outside is not inside, for the border of the crop too
    shape = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    core = cv2.erode(padded, shape)[width:-width, width:-width] != 0
    return core if np.count_nonzero(core) > np.count_nonzero(inside) / 4 else inside


def _padded(inside: npt.NDArray[np.bool_], width: int) -> npt.NDArray[np.uint8]:
    """A mask as uint8 with a margin of nothing around it."""
    height, length = inside.shape
    out = np.zeros((height + 2 * width, length + 2 * width), np.uint8)
    out[width:-width, width:-width] = inside
    return out


def _smoothed(distances: npt.NDArray[np.float32], own: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Depth averaged over the pixels of the object around each of them."""
    known = np.where(own, distances, np.float32(0))
    total = cv2.boxFilter(known, cv2.CV_32F, _SMOOTH, normalize=False, borderType=cv2.BORDER_CONSTANT)
    count = cv2.boxFilter(own.view(np.uint8), cv2.CV_32F, _SMOOTH, normalize=False, borderType=cv2.BORDER_CONSTANT)
    smoothed: npt.NDArray[np.float32] = cv2.divide(total, count).astype(np.float32, copy=False)  # 0 of none is 0
    return smoothed


def _hidden_share(
    depth: npt.NDArray[np.float32], part: tuple[int, int, int], inside: npt.NDArray[np.bool_], near: float
) -> float:
    """Share of an outline beside which something nearer than `near` metres, or the end of the image, is.

    `part` is where the mask begins, x and y, and of how many pixels it has one.
    """
    height, width = depth.shape
    padded = _padded(inside, _RING)
    ring = cv2.dilate(padded, _RING_SHAPE) - padded
    x, y, step = part
    rows = _within(y - _RING * step, step, ring.shape[0], height)
    columns = _within(x - _RING * step, step, ring.shape[1], width)
    beside, seen = depth[rows[0], columns[0]] < near, ring[rows[1], columns[1]]
    whole = int(np.count_nonzero(ring))
    outside = whole - int(np.count_nonzero(seen))
    return (outside + int(np.count_nonzero(beside & (seen != 0)))) / max(whole, 1)


def _within(start: int, step: int, count: int, end: int) -> tuple[slice, slice]:
    """Of so many places from a start on, those from 0 to an end: the places, and which they are."""
    first = max(0, -(start // step))
    last = min(count, (end - 1 - start) // step + 1)
    return slice(start + first * step, max(start + (last - 1) * step + 1, 0), step), slice(first, max(last, first))
