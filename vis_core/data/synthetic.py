"""Synthetic videos with exact ground truth: textured shapes that move, cross, hide each other, leave and come back.

    videos = [synthetic_video(seed, length=60) for seed in range(8)]
    write_youtube_vis(videos, "synthetic")  # synthetic/instances.json, synthetic/frames/

NumPy and OpenCV only; the same arguments give the same video.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vis_core import masks
from vis_core.errors import OptionError
from vis_core.files.atomic import atomic_write
from vis_core.masks import RunLengths
from vis_core.structures import Frame, Instances
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.video.images import write_image

CLASS_NAMES = ("disc", "box", "star")
"""The classes; a shape's class shows in its outline alone, not in colour, texture or size."""

_MAX_SIDE = 8192
_TEXTURE = 96
_OUTLINE_BITS = 4  # outlines are drawn to 1/16 of a pixel
_SUFFIXES = (".jpg", ".png")


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticVideo:
    """A video and its ground truth.

    Attributes:
        name: of the video.
        frames: uint8 ``[T, H, W, 3]``, RGB.
        object_image: uint8 ``[T, H, W]``, which object a pixel shows: 0 = background, else 1 + object.
        labels: int64 ``[N]``, index into `CLASS_NAMES` of each object; a later object passes in front of earlier ones.
        stamps: int64 ``[T]``, nanoseconds.
        fps: frames per second.
    """

    name: str
    frames: npt.NDArray[np.uint8]
    object_image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    stamps: npt.NDArray[np.int64]
    fps: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.frames.shape[1], self.frames.shape[2]

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> Frame:
        """The frame at a position."""
        return Frame(self.frames[index], int(self.stamps[index]), index)

    def track(self, item: int) -> list[RunLengths | None]:
        """The visible mask of an object in each frame; None where no pixel of it is seen."""
        encoded = (masks.encode(image == item + 1) for image in self.object_image)
        return [mask if mask.area else None for mask in encoded]

    def instances(self) -> list[Instances]:
        """What a segmenter without fault would answer, frame by frame; tracks are numbered as they appear, from 1."""
        lifecycle = TrackLifecycle(max_lost_frames=None, max_lost_tracks=None)
        tracks = [self.track(item) for item in range(len(self.labels))]
        one_hot = np.eye(len(CLASS_NAMES))[self.labels]
        ids: dict[int, int] = {}
        answers = []
        for t in range(len(self)):
            seen = [item for item, track in enumerate(tracks) if track[t]]
            found = [mask for item in seen if (mask := tracks[item][t])]
            answer = lifecycle.update(
                self.frame(t), [ids.get(item) for item in seen], np.ones(len(seen)), one_hot[seen], found
            )
            ids.update(zip(seen, answer.track_ids.tolist(), strict=False))  # lost tracks follow those seen
            answers.append(answer)
        return answers


def synthetic_video(
    seed: int,
    length: int = 60,
    size: tuple[int, int] = (360, 640),
    objects: int = 5,
    fps: float = 10.0,
    name: str | None = None,
    radius: tuple[float, float] = (0.09, 0.2),
) -> SyntheticVideo:
    """A video of shapes whose paths cross near its middle, over a ground that the camera pans across.

    Args:
        seed: what the video is drawn from.
        length: number of frames.
        size: height and width, pixels.
        objects: number of shapes, 0 to 255; their classes are as even as can be.
        fps: frames per second; the motion in a video does not depend on it.
        name: default ``synthetic_SEED``.
        radius: least and greatest of the shapes, as a part of the shorter side.

    Raises:
        OptionError: a value out of range.
    """
    for what, value, low, high in (
        ("length", length, 1, 100_000),
        ("height", size[0], 16, _MAX_SIDE),
        ("width", size[1], 16, _MAX_SIDE),
        ("objects", objects, 0, 255),
        ("fps", fps, 0.01, 1e4),
        ("least radius", radius[0], 0.01, 0.5),
        ("greatest radius", radius[1], radius[0], 0.5),
    ):
        if not low <= value <= high:
            raise OptionError(f"synthetic video: {what} {value} is not in [{low}, {high}]")
    random = np.random.default_rng(seed)
    ground = _Ground(random, size, length)
    labels = random.permutation(np.arange(objects) % len(CLASS_NAMES)).astype(np.int64)
    shapes = [_Shape(random, int(label), i, objects, size, length, radius) for i, label in enumerate(labels)]
    frames = np.empty((length, *size, 3), np.uint8)
    object_image = np.zeros((length, *size), np.uint8)
    for t in range(length):
        image = ground.image(t)
        for i, shape in enumerate(shapes):
            shape.draw(t, i + 1, image, object_image[t])
        # A lens blurs and a sensor has noise; the ground truth is that of the sharp picture.
        blurred = cv2.GaussianBlur(image, (0, 0), 0.6).astype(np.int16)
        noise = random.integers(-4, 5, (*size, 1), np.int16)
        frames[t] = np.clip(blurred + noise, 0, 255)
    stamps = np.rint(np.arange(length) * (1e9 / fps)).astype(np.int64)
    return SyntheticVideo(name or f"synthetic_{seed}", frames, object_image, labels, stamps, fps)


def write_youtube_vis(videos: Sequence[SyntheticVideo], folder: str | Path, suffix: str = ".jpg") -> Path:
    """Write frames and a YouTube-VIS JSON; returns the path of the JSON, ``instances.json``.

    Images go to ``frames/NAME/00000.jpg``. Videos carry ``fps`` and ``stamps`` (nanoseconds) beside the usual fields.
    An object that is never seen gets no annotation; a frame in which it is not seen holds null.

    Args:
        videos: with different names.
        folder: made if it is not there.
        suffix: ``.jpg`` (quality 95) or ``.png``.

    Raises:
        OptionError: another suffix, or two videos of one name.
        InputError: an image that OpenCV cannot write.
        OSError: a folder or file that cannot be written.
    """
    if suffix not in _SUFFIXES:
        raise OptionError(f"synthetic videos: suffix {suffix!r} is none of {', '.join(_SUFFIXES)}")
    names = [video.name for video in videos]
    for name in names:
        if names.count(name) > 1 or not name or Path(name).name != name:
            raise OptionError(f"synthetic videos: {name!r} is not the name of one video that can be a folder's")
    folder = Path(folder)
    content: dict[str, Any] = {
        "info": {"description": "synthetic shapes with exact visible masks"},
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASS_NAMES)],
        "videos": [],
        "annotations": [],
    }
    for video_id, video in enumerate(videos, 1):
        content["videos"].append(_video_entry(video, video_id, suffix))
        for item in range(len(video.labels)):
            if (entry := _annotation(video, video_id, item)) is not None:
                content["annotations"].append({"id": len(content["annotations"]) + 1, **entry})
        for file_name, image in zip(content["videos"][-1]["file_names"], video.frames, strict=True):
            write_image(folder / "frames" / file_name, image)
    path = folder / "instances.json"
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content), "utf-8")
    return path


def _video_entry(video: SyntheticVideo, video_id: int, suffix: str) -> dict[str, Any]:
    height, width = video.size
    return {
        "id": video_id,
        "name": video.name,
        "width": width,
        "height": height,
        "length": len(video),
        "file_names": [f"{video.name}/{t:05d}{suffix}" for t in range(len(video))],
        "fps": video.fps,
        "stamps": video.stamps.tolist(),
    }


def _annotation(video: SyntheticVideo, video_id: int, item: int) -> dict[str, Any] | None:
    track = video.track(item)
    if not any(track):
        return None
    return {
        "video_id": video_id,
        "category_id": int(video.labels[item]) + 1,
        "iscrowd": 0,
        "height": video.size[0],
        "width": video.size[1],
        "length": len(video),
        "segmentations": [mask and masks.to_coco(mask) for mask in track],
        "bboxes": [mask and [float(v) for v in mask.box] for mask in track],
        "areas": [mask and mask.area for mask in track],
    }


class _Ground:
    """A mottled ground, larger than the picture, across which the camera moves."""

    def __init__(self, random: np.random.Generator, size: tuple[int, int], length: int) -> None:
        self._size = size
        margin = max(8, min(size) // 8)
        height, width = size[0] + 2 * margin, size[1] + 2 * margin
        picture = np.full((height, width, 3), random.uniform(85, 150, 3), np.float32)
        for cells, strength in ((3, 26.0), (8, 18.0), (24, 12.0), (90, 9.0)):
            coarse = random.standard_normal((cells, cells * 2, 3)).astype(np.float32)
            coarse = 0.75 * coarse.mean(2, keepdims=True) + 0.25 * coarse  # mottled in lightness more than in colour
            picture += strength * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        self._picture = picture.clip(15, 240).astype(np.uint8)
        start, end = random.uniform(0, 2 * margin, (2, 2))
        self._places = np.linspace(start, end, max(length, 2))

    def image(self, t: int) -> npt.NDArray[np.uint8]:
        """The ground in frame t."""
        height, width = self._size
        moved = np.array([[1, 0, -self._places[t, 0]], [0, 1, -self._places[t, 1]]])
        return np.asarray(cv2.warpAffine(self._picture, moved, (width, height)), np.uint8)


class _Shape:
    """A textured shape on its path."""

    def __init__(
        self,
        random: np.random.Generator,
        label: int,
        item: int,
        objects: int,
        size: tuple[int, int],
        length: int,
        radius: tuple[float, float],
    ) -> None:
        height, width = size
        self._outline = _outline(random, label)
        self._texture = _texture(random)
        self._radius = min(size) * random.uniform(*radius)
        # Every path passes near the middle of the picture about half-way through, each in a direction of its own.
        time = np.linspace(0, 1, length) - random.uniform(0.35, 0.65)
        direction = 2 * np.pi * (item + random.uniform(-0.3, 0.3)) / max(objects, 1)
        travel = random.choice((0.3, 0.8, 1.5)) * random.uniform(0.8, 1.2)
        sway = 0.06 * np.sin(2 * np.pi * (random.uniform(0.5, 2) * time + random.uniform()))
        along, across = travel * time, sway
        middle = random.uniform(0.35, 0.65, 2)
        self._x = width * (middle[0] + along * np.cos(direction) - across * np.sin(direction))
        self._y = height * (middle[1] + along * np.sin(direction) + across * np.cos(direction))
        self._angle = random.uniform(0, 2 * np.pi) + random.uniform(-2.5, 2.5) * time
        self._scale = 1 + 0.2 * np.sin(2 * np.pi * (time + random.uniform()))

    def draw(self, t: int, value: int, image: npt.NDArray[np.uint8], objects: npt.NDArray[np.uint8]) -> None:
        """Paint frame t's shape over the picture, and its value over the object image."""
        scale = self._radius * self._scale[t]
        cosine, sine = scale * np.cos(self._angle[t]), scale * np.sin(self._angle[t])
        place = np.array([[cosine, -sine, self._x[t]], [sine, cosine, self._y[t]]])
        outline = self._outline @ place[:, :2].T + place[:, 2]
        height, width = objects.shape
        left, top = np.floor(outline.min(0)).astype(int) - 1
        right, bottom = np.ceil(outline.max(0)).astype(int) + 2
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if left >= right or top >= bottom:
            return
        region = np.s_[top:bottom, left:right]
        place[:, 2] -= (left, top)
        inside = np.zeros((bottom - top, right - left), np.uint8)
        corners = np.rint((outline - (left, top)) * (1 << _OUTLINE_BITS)).astype(np.int32)
        cv2.fillPoly(inside, [corners], 1, cv2.LINE_8, _OUTLINE_BITS)
        # The texture covers [-1, 1] in both directions of the shape's own frame.
        half = _TEXTURE / 2
        to_shape = np.array([[1 / half, 0, -1], [0, 1 / half, -1], [0, 0, 1]])
        pixels = cv2.warpAffine(
            self._texture, place @ to_shape, inside.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        cv2.copyTo(pixels, inside, image[region])
        objects[region][inside != 0] = value


def _outline(random: np.random.Generator, label: int) -> npt.NDArray[np.float64]:
    """Corners ``[K, 2]`` of a shape of about radius 1."""
    stretch = random.uniform(0.65, 1.0)
    if CLASS_NAMES[label] == "box":
        return np.array([[-1, -stretch], [1, -stretch], [1, stretch], [-1, stretch]]) * 0.85
    if CLASS_NAMES[label] == "disc":
        angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        return np.stack((np.cos(angles), stretch * np.sin(angles)), 1)
    angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    reach = np.where(np.arange(10) % 2, 0.45, 1.15)
    return np.stack((reach * np.cos(angles), reach * np.sin(angles)), 1)


def _texture(random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """uint8 ``[96, 96, 3]``: two tones in stripes, checks or blots, with a soft shade."""
    hue = random.uniform(0, 180)
    tones = np.array([[[hue, random.uniform(110, 220), 225], [hue + random.uniform(-25, 25), 200, 135]]]) % (
        180,
        256,
        256,
    )
    dark, light = cv2.cvtColor(tones.astype(np.uint8), cv2.COLOR_HSV2RGB)[0].astype(np.float32)
    y, x = np.mgrid[:_TEXTURE, :_TEXTURE] / _TEXTURE
    waves = random.uniform(2, 5)
    kind = random.integers(3)
    if kind == 0:
        pattern = np.sin(2 * np.pi * waves * x)
    elif kind == 1:
        pattern = np.sin(2 * np.pi * waves * x) * np.sin(2 * np.pi * waves * y) * 2
    else:
        coarse = random.standard_normal((12, 12)).astype(np.float32)
        pattern = 1.5 * cv2.resize(coarse, (_TEXTURE, _TEXTURE), interpolation=cv2.INTER_CUBIC)
    share = (0.5 + 0.9 * pattern).clip(0, 1)[..., None]
    shade = (1.1 - 0.35 * y)[..., None]
    texture: npt.NDArray[np.uint8] = ((dark + (light - dark) * share) * shade).clip(0, 255).astype(np.uint8)
    return texture
