"""Random views of an image: the geometry of a moving camera, and the colours of another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Number = TypeVar("Number", bound=np.unsignedinteger[Any])


@dataclass(frozen=True)
class Augmentation:
    """How clips are varied; lengths are fractions of the picture's side.

    Attributes:
        flip: probability that a clip is mirrored.
        zoom: least and greatest side of the window that is seen, 1 = the largest that fits; above 1 there is a border.
        stretch: greatest factor between the scales of width and height, beyond what the network's size asks for.
        motion: greatest shift between frames.
        scaling: greatest relative change of scale between frames.
        rotation: greatest rotation between frames and of a whole clip, degrees.
        shear: greatest shear, degrees.
        perspective: greatest change of scale across the picture.
        brightness: greatest shift, of 255.
        contrast: greatest relative change.
        saturation: greatest relative change.
        hue: greatest shift, degrees.
        grey: probability that a clip has no colour.
        blur: probability that a frame is blurred.
        noise: greatest standard deviation of noise, of 255.
        copy_paste: mean number of instances of other items pasted into a clip.
        touch: probability that one of them is put onto an instance that is there, in its size.
        company: probability that one of those stands beside it and moves with it, as walkers do.
        erase: probability that a rectangle of a clip is covered.
        mosaic: probability that a clip is made of four items side by side.
    """

    flip: float = 0.5
    zoom: tuple[float, float] = (0.5, 1.25)
    stretch: float = 1.25
    motion: float = 0.15
    scaling: float = 0.15
    rotation: float = 8.0
    shear: float = 4.0
    perspective: float = 0.08
    brightness: float = 0.12
    contrast: float = 0.3
    saturation: float = 0.4
    hue: float = 8.0
    grey: float = 0.05
    blur: float = 0.15
    noise: float = 0.02
    copy_paste: float = 1.0
    touch: float = 0.0
    company: float = 0.0
    erase: float = 0.1
    mosaic: float = 0.0


NO_AUGMENTATION = Augmentation(
    0.0, (1.0, 1.0), 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
)


def window(
    random: np.random.Generator,
    augmentation: Augmentation,
    source: tuple[int, int],
    target: tuple[int, int],
    around: tuple[float, float] | None,
) -> Matrix:
    """Matrix ``[3, 3]`` from source pixels to target pixels of a random window.

    Its aspect ratio lies between that of the whole source, which the network's resize stretches, and that of the
    target, which is not stretched.

    Args:
        source: height and width of the source.
        target: height and width of the result.
        around: x, y of the source near which a window that is smaller than the source is placed; None: anywhere.
    """
    height, width = source
    mix = random.uniform(-0.15, 1.15)
    aspect = (width / height) ** mix * (target[1] / target[0]) ** (1 - mix)
    if augmentation == NO_AUGMENTATION:
        aspect = width / height
    aspect *= augmentation.stretch ** random.uniform(-1, 1)
    zoom = np.exp(random.uniform(*np.log(augmentation.zoom)))
    seen_width = zoom * min(width, height * aspect)
    seen_height = zoom * min(height, width / aspect)
    center = []
    for i, (length, seen) in enumerate(((width, seen_width), (height, seen_height))):
        low, high = sorted((seen / 2, length - seen / 2))
        if around is None:
            center.append(random.uniform(low, high))
        else:
            center.append(float(np.clip(around[i] + random.uniform(-0.4, 0.4) * seen, low, high)))
    scale = np.array([target[1] / seen_width, target[0] / seen_height])
    if random.random() < augmentation.flip:
        scale[0] = -scale[0]
    matrix = np.diag([*scale, 1.0])
    matrix[:2, 2] = np.array([target[1], target[0]]) / 2 - scale * center
    return matrix


class Motion:
    """A path of small warps of the target, one for each frame of a clip.

    Args:
        target: height and width of the result.
        amount: of the greatest shifts, rotations... of the augmentation, from 0.
    """

    def __init__(
        self, random: np.random.Generator, augmentation: Augmentation, target: tuple[int, int], amount: float
    ) -> None:
        self._target = target
        a = augmentation
        self._limits = np.array([a.motion, a.motion, a.scaling, a.scaling / 3, a.rotation, a.shear, a.perspective])
        self._limits = np.concatenate((self._limits, [a.perspective]))
        self._start = 0.4 * self._draw(random)
        self._velocity = amount * self._draw(random)
        self._jitter = 0.15 * amount

    def _draw(self, random: np.random.Generator) -> npt.NDArray[np.float64]:
        return random.uniform(-1, 1, 8) * self._limits

    def at(self, time: float, random: np.random.Generator) -> Matrix:
        """Matrix ``[3, 3]`` of the target at a time in -0.5..0.5."""
        x, y, scaling, stretch, rotation, shear, tilt_x, tilt_y = (
            self._start + self._velocity * time + self._jitter * self._draw(random)
        )
        height, width = self._target
        to_unit = np.array([[2 / width, 0, -1], [0, 2 / width, -height / width], [0, 0, 1.0]])
        angle = np.deg2rad(rotation)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        scale = np.diag([np.exp(scaling + stretch), np.exp(scaling - stretch), 1.0])
        slant = np.array([[1, np.tan(np.deg2rad(shear)), 0], [0, 1, 0], [tilt_x, tilt_y, 1]])
        shift = np.array([[1, 0, 2 * x], [0, 1, 2 * y * height / width], [0, 0, 1.0]])
        warp: Matrix = np.linalg.inv(to_unit) @ shift @ turn @ scale @ slant @ to_unit
        return warp


def warp_image(image: npt.NDArray[np.uint8], matrix: Matrix, target: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A uint8 image seen through a matrix from its pixels to those of the target; grey where there is none."""
    shrink = 1 / np.sqrt(max(abs(np.linalg.det(matrix[:2, :2])), 1e-6))
    if shrink > 1.6:  # antialias
        factor = 1 / shrink
        image = np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix @ np.diag([shrink, shrink, 1.0])
    fill = (124, 116, 104)
    return np.asarray(
        cv2.warpPerspective(image, _pixel_centers(matrix), target[::-1], flags=cv2.INTER_LINEAR, borderValue=fill),
        np.uint8,
    )


def warp_objects(objects: npt.NDArray[Number], matrix: Matrix, target: tuple[int, int]) -> npt.NDArray[Number]:
    """An object image, uint8 or uint16, through the same matrix, by the nearest pixel; 0 where there is none."""
    return np.asarray(
        cv2.warpPerspective(objects, _pixel_centers(matrix), target[::-1], flags=cv2.INTER_NEAREST, borderValue=0),
        objects.dtype,
    )


def warp_opacity(alpha: npt.NDArray[np.uint8], matrix: Matrix, target: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Opacity 0..255 through the same matrix, by bilinear interpolation; 0 where there is none."""
    return np.asarray(
        cv2.warpPerspective(alpha, _pixel_centers(matrix), target[::-1], flags=cv2.INTER_LINEAR, borderValue=0),
        np.uint8,
    )


def _pixel_centers(matrix: Matrix) -> Matrix:
    """The matrix for coordinates in which the center of the first pixel is 0, as OpenCV's are, not 0.5."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    moved: Matrix = np.linalg.inv(half) @ matrix @ half
    return moved


class Colours:
    """One camera's colours: the same for all frames of a clip, up to a little flicker."""

    def __init__(self, random: np.random.Generator, augmentation: Augmentation) -> None:
        a = self._augmentation = augmentation
        self._contrast = 1 + a.contrast * random.uniform(-1, 1)
        self._brightness = 255 * a.brightness * random.uniform(-1, 1)
        self._saturation = 1 + a.saturation * random.uniform(-1, 1)
        if random.random() < a.grey:
            self._saturation = 0.0
        self._hue = a.hue * random.uniform(-1, 1)

    def apply(self, image: npt.NDArray[np.uint8], random: np.random.Generator) -> npt.NDArray[np.uint8]:
        """The image uint8 ``[H, W, 3]`` in these colours, at times blurred, with some noise."""
        a = self._augmentation
        contrast = self._contrast * (1 + 0.15 * a.contrast * random.uniform(-1, 1))
        # Luminance weights mix the channels for saturation; a rotation about grey turns the hue.
        grey = np.full((3, 3), 1 / 3) * [[0.9], [1.5], [0.6]]
        colour = grey.T * (1 - self._saturation) + np.eye(3) * self._saturation
        if self._hue:
            angle = np.deg2rad(self._hue)
            cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
            turn = np.full((3, 3), 1 / 3) * (1 - np.cos(angle)) + np.eye(3) * np.cos(angle) + np.sin(angle) * cross
            colour = turn @ colour
        matrix = np.concatenate((contrast * colour, np.full((3, 1), 128 * (1 - contrast) + self._brightness)), 1)
        if not np.array_equal(matrix[:, :3], np.eye(3)) or matrix[:, 3].any():
            image = np.asarray(cv2.transform(image, matrix), np.uint8)
        if random.random() < a.blur:
            image = _blurred(image, random)
        if a.noise:
            strength = 255 * a.noise * random.random()
            noise = np.empty(image.shape, np.int16)
            cv2.setRNGSeed(int(random.integers(1 << 30)))
            cv2.randn(noise, np.zeros(3), np.full(3, strength))
            image = np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), np.uint8)
        return image


def _blurred(image: npt.NDArray[np.uint8], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    if random.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), random.uniform(0.4, 1.8)), np.uint8)
    size = int(random.integers(3, 10))  # motion blur: a line
    kernel = np.zeros((size, size), np.float32)
    angle, middle = random.uniform(0, np.pi), (size - 1) / 2
    reach = middle * np.array([np.cos(angle), np.sin(angle)])
    start, end = np.rint(middle - reach).astype(int), np.rint(middle + reach).astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)
