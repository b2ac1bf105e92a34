"""A calibrated camera: from pixels to rays, and from points to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError, printable

Array = npt.NDArray[np.float64]

_COEFFICIENTS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (0, 4, 5, 8, 12, 14), "equidistant": (0, 4)}
"""Numbers of coefficients by the distortion models of ``sensor_msgs/CameraInfo``."""
_SAME_SHAPE = 0.01
"""By how much the aspects of two images of one view may differ: rounding of odd sizes."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with lens distortion.

    Attributes:
        size: height and width of its images, pixels.
        matrix: float64 ``[3, 3]``, of the images as they are.
        distortion: float64 ``[N]``, coefficients as of OpenCV; none for a rectified image.
        fisheye: whether they are those of OpenCV's fisheye model.
    """

    size: tuple[int, int]
    matrix: Array
    distortion: Array
    fisheye: bool = False

    @classmethod
    def calibrated(
        cls,
        size: tuple[int, int],
        matrix: Sequence[float],
        model: str = "",
        distortion: Sequence[float] = (),
        projection: Sequence[float] = (),
        binning: tuple[int, int] = (0, 0),
        region: tuple[int, int, int, int] = (0, 0, 0, 0),
        rectified: bool = False,
    ) -> Camera:
        """A camera from the fields of ``sensor_msgs/CameraInfo``.

        Args:
            size: ``height`` and ``width``, of the sensor's full image.
            matrix: ``k``, 9 values.
            model: ``distortion_model``.
            distortion: ``d``.
            projection: ``p``, 12 values; used where the image is rectified.
            binning: ``binning_x`` and ``binning_y``; 0 stands for 1.
            region: ``roi``: x, y, width, height in the full image, before binning; no width or height: all of it.
            rectified: the image is free of distortion already.

        Raises:
            InputError: an entry cannot be; the text names it.
        """
        k = _values("k", matrix, 9).reshape(3, 3)
        d = np.asarray(distortion, np.float64)
        if rectified:
            k, d = _values("p", projection, 12).reshape(3, 4)[:, :3], np.zeros(0)
        elif not d.any():
            d = np.zeros(0)
        elif model not in _COEFFICIENTS or d.size not in _COEFFICIENTS[model]:
            known = ", ".join(_COEFFICIENTS)
            raise InputError(
                f"camera info: distortion_model {printable(model, 40)!r} with {d.size} coefficients is not known "
                f"({known}); rectify the images"
            )
        elif not np.isfinite(d).all():
            raise InputError(f"camera info: d holds {d.tolist()}, not finite numbers")
        if min(k[0, 0], k[1, 1]) <= 0:
            focal = f"{k[0, 0]:g} and {k[1, 1]:g}"
            raise InputError(f"camera info: focal lengths of {focal} pixels; is the camera calibrated?")
        x, y, width, height = region
        if not (width and height):
            x, y, (height, width) = 0, 0, size
        if min(x, y) < 0 or x + width > size[1] or y + height > size[0] or min(width, height) < 1:
            raise InputError(f"camera info: roi {region} is not inside the image of {size[1]}x{size[0]}")
        steps = np.array([max(binning[0], 1), max(binning[1], 1)], np.float64)
        k = k.copy()
        k[:2, 2] -= (x, y)
        k[:2] /= steps[:, None]
        return cls((int(height // steps[1]), int(width // steps[0])), k, d, model == "equidistant" and d.size > 0)

    def of_size(self, size: tuple[int, int]) -> Camera:
        """The same view in images of another size.

        Raises:
            InputError: of another aspect: then it is not the same view.
        """
        if size == self.size:
            return self
        scale = np.array([size[1] / self.size[1], size[0] / self.size[0]])
        if abs(scale[0] / scale[1] - 1) > _SAME_SHAPE:
            raise InputError(
                f"camera info is of images of {self.size[1]}x{self.size[0]}, the image has {size[1]}x{size[0]}: "
                "no scale makes one of the other"
            )
        matrix = self.matrix.copy()
        # Pixel centres lie at whole numbers, edges half a pixel beside them.
        matrix[:2, 2] = (matrix[:2, 2] + 0.5) * scale - 0.5
        matrix[0, :2] *= scale[0]
        matrix[1, 1] *= scale[1]
        return replace(self, size=size, matrix=matrix)

    @cached_property
    def rays(self) -> npt.NDArray[np.float32]:
        """float32 ``[H, W, 2]``: x and y of each pixel's ray where it has z = 1."""
        height, width = self.size
        pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float64)
        return self.rays_of(pixels.reshape(-1, 2)).reshape(height, width, 2).astype(np.float32)

    @cached_property
    def ray_planes(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """float32 ``[H, W]`` each: x and y of `rays`."""
        return np.ascontiguousarray(self.rays[..., 0]), np.ascontiguousarray(self.rays[..., 1])

    def rays_of(self, pixels: Array) -> Array:
        """x and y of rays with z = 1, ``[N, 2]``, through pixels ``[N, 2]`` (x, y)."""
        if not self.distortion.size:
            focal, centre = self.matrix[[0, 1], [0, 1]], self.matrix[:2, 2]
            return (pixels - centre) / focal
        undistort = cv2.fisheye.undistortPoints if self.fisheye else cv2.undistortPoints
        return undistort(pixels[:, None], self.matrix, self.distortion)[:, 0].astype(np.float64)

    def project(self, points: Array) -> Array:
        """Pixels ``[N, 2]`` (x, y) of points ``[N, 3]`` in front of the camera, metres in its optical frame."""
        if not self.distortion.size:
            return points[:, :2] / points[:, 2:] * self.matrix[[0, 1], [0, 1]] + self.matrix[:2, 2]
        none = np.zeros(3)
        project = cv2.fisheye.projectPoints if self.fisheye else cv2.projectPoints
        found, _ = project(points[:, None], none, none, self.matrix, self.distortion)
        return found[:, 0].astype(np.float64)


def _values(name: str, values: Sequence[float], count: int) -> Array:
    array = np.asarray(values, np.float64)
    if array.size != count or not np.isfinite(array).all():
        raise InputError(f"camera info: {name} {array.tolist()[:12]} are not {count} finite numbers")
    return array
