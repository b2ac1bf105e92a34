"""Synthetic videos with depth: balls and boxes that move over a floor before a wall, with exact poses and velocities.

    video = depth_video([Solid("ball", (0.4, 0.4, 0.4), (0.0, 0.5, 3.0), (0.5, 0.0, 0.0))], length=30)
    video.depth[0]      # metres
    video.positions[0]  # of each solid, in the camera's optical frame: x right, y down, z forward

NumPy only; the same arguments give the same video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core import masks
from vis_core.errors import OptionError
from vis_core.masks import RunLengths
from vis_core.spatial.camera import Array, Camera
from vis_core.structures import Frame

CLASS_NAMES = ("ball", "box")
_COLOURS = ((214, 96, 77), (67, 147, 195), (90, 174, 97), (244, 165, 30), (153, 112, 171))
_FLOOR, _WALL = 1.2, 8.0
"""How far the floor is below the camera and the wall before it, metres."""


@dataclass(frozen=True)
class Solid:
    """A ball or a box on a straight path.

    Attributes:
        kind: ``ball`` or ``box``.
        size: extents along x, y, z while its yaw is 0, metres; a ball's are equal.
        position: of its middle at first, metres, in the camera's optical frame.
        velocity: metres a second.
        yaw: turn around the upright axis at first, radians.
        turn: radians a second.
    """

    kind: str
    size: tuple[float, float, float]
    position: tuple[float, float, float]
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0
    turn: float = 0.0


@dataclass(frozen=True, eq=False)
class DepthVideo:
    """A video with depth, and its truth.

    Attributes:
        camera: its pinhole camera.
        frames: uint8 ``[T, H, W, 3]``, RGB.
        depth: float32 ``[T, H, W]``, metres along the optical axis.
        object_image: uint8 ``[T, H, W]``, which solid a pixel shows: 0 = none, else 1 + its place.
        labels: int64 ``[N]``, index into `CLASS_NAMES` of each solid.
        positions, velocities: float64 ``[T, N, 3]`` and ``[N, 3]``, in the camera's optical frame.
        sizes: float64 ``[T, N, 3]``, extents along its axes.
        stamps: int64 ``[T]``, nanoseconds.
    """

    camera: Camera
    frames: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    object_image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    positions: Array
    velocities: Array
    sizes: Array
    stamps: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> Frame:
        """The image at a position."""
        return Frame(self.frames[index], int(self.stamps[index]), index)

    def mask(self, index: int, item: int) -> RunLengths:
        """What is seen of a solid in a frame; empty where nothing is."""
        return masks.encode(self.object_image[index] == item + 1)

    def truth(self, name: str = "scene") -> dict[str, Any]:
        """A YouTube-VIS JSON of the video under a name, with the truth in space; see `vis_core.data.spatial_truth`."""
        length, height, width = self.object_image.shape
        video = {"id": 1, "name": name, "width": width, "height": height, "length": length}
        video |= {"file_names": [f"{name}/{t:05d}.jpg" for t in range(length)], "stamps": self.stamps.tolist()}
        annotations = []
        for item, label in enumerate(self.labels.tolist()):
            seen = [mask if mask.area else None for mask in (self.mask(t, item) for t in range(length))]
            annotation = {"id": item + 1, "video_id": 1, "category_id": label + 1, "iscrowd": 0}
            annotation |= {"height": height, "width": width, "length": length}
            annotation["segmentations"] = [mask and masks.to_coco(mask) for mask in seen]
            annotation["bboxes"] = [mask and [float(v) for v in mask.box] for mask in seen]
            annotation["areas"] = [mask and mask.area for mask in seen]
            annotation["positions"] = self.positions[:, item].tolist()
            annotation["sizes"] = self.sizes[:, item].tolist()
            annotation["velocities"] = [self.velocities[item].tolist()] * length
            annotations.append(annotation)
        categories = [{"id": i, "name": kind} for i, kind in enumerate(CLASS_NAMES, 1)]
        return {"categories": categories, "videos": [video], "annotations": annotations}


def depth_video(
    solids: Sequence[Solid],
    length: int,
    size: tuple[int, int] = (240, 320),
    field_of_view: float = 60.0,
    fps: float = 30.0,
    first_stamp: int = 1_700_000_000_000_000_000,
) -> DepthVideo:
    """Render solids.

    Args:
        solids: those that are seen, at most 255.
        length: frames.
        size: height and width, pixels.
        field_of_view: across the width, degrees.
        fps: frames a second.
        first_stamp: of the first frame, nanoseconds.

    Raises:
        OptionError: an argument is out of range.
    """
    for solid in solids:
        if solid.kind not in CLASS_NAMES:
            raise OptionError(f"solid: kind {solid.kind!r} is none of {', '.join(CLASS_NAMES)}")
    if not (1 <= length <= 100_000 and min(size) >= 8 and len(solids) <= 255 and 1 <= field_of_view <= 170):
        raise OptionError("depth_video: needs 1 to 100000 frames of at least 8x8 pixels, 255 solids at most")
    height, width = size
    focal = width / 2 / np.tan(np.radians(field_of_view) / 2)
    camera = Camera.calibrated(size, [focal, 0, (width - 1) / 2, 0, focal, (height - 1) / 2, 0, 0, 1])
    rays = np.dstack([camera.rays.astype(np.float64), np.ones(size)])
    times = np.arange(length) / fps
    start = np.array([solid.position for solid in solids]).reshape(-1, 3)
    velocities = np.array([solid.velocity for solid in solids]).reshape(-1, 3)
    positions = start + times[:, None, None] * velocities
    rendered = [_render(solids, positions[t], times[t], rays) for t in range(length)]
    frames, depth, objects = (np.stack(parts) for parts in zip(*rendered, strict=True))
    labels = np.array([CLASS_NAMES.index(solid.kind) for solid in solids], np.int64)
    stamps = first_stamp + np.rint(times * 1e9).astype(np.int64)
    sizes = np.array([[_extents(solid, time) for solid in solids] for time in times]).reshape(length, -1, 3)
    return DepthVideo(camera, frames, depth, objects, labels, positions, velocities, sizes, stamps)


def _extents(solid: Solid, time: float) -> tuple[float, float, float]:
    """Along the camera's axes, of a ball as of a box that is turned."""
    x, y, z = solid.size
    if solid.kind == "ball":
        return x, y, z
    yaw = solid.yaw + time * solid.turn
    cosine, sine = abs(np.cos(yaw)), abs(np.sin(yaw))
    return cosine * x + sine * z, y, sine * x + cosine * z


def _render(
    solids: Sequence[Solid], positions: Array, time: float, rays: Array
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Image, depth and object image at a time, in seconds."""
    with np.errstate(divide="ignore"):
        floor = np.where(rays[..., 1] > 0, _FLOOR / rays[..., 1], np.inf)
    depth = np.minimum(floor, _WALL)
    point = rays * depth[..., None]
    checks = (np.floor(point[..., 0]) + np.floor(point[..., 2]) + (depth < _WALL)) % 2
    image = (120 + 40 * checks)[..., None] * np.array([0.95, 1.0, 0.9])
    objects = np.zeros(depth.shape, np.uint8)
    for item, (solid, position) in enumerate(zip(solids, positions, strict=True)):
        if solid.kind == "ball":
            hit, light = _ball(rays, position, solid.size[0] / 2)
        else:
            hit, light = _box(rays, position, np.array(solid.size) / 2, solid.yaw + time * solid.turn)
        nearer = hit < depth
        depth[nearer] = hit[nearer]
        objects[nearer] = item + 1
        colour = np.array(_COLOURS[item % len(_COLOURS)])
        image[nearer] = colour * light[nearer][:, None]
    return image.clip(0, 255).astype(np.uint8), depth.astype(np.float32), objects


def _ball(rays: Array, centre: Array, radius: float) -> tuple[Array, Array]:
    """Depth at which each ray meets a ball (inf: nowhere), and how light it is there."""
    a, b = np.square(rays).sum(-1), rays @ centre
    inside = b**2 - a * (centre @ centre - radius**2)
    hit = np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)
    hit[hit <= 0] = np.inf
    facing = -np.where(np.isfinite(hit), ((rays[..., 1] * np.where(np.isfinite(hit), hit, 0)) - centre[1]) / radius, 0)
    return hit, 0.75 + 0.25 * facing


def _box(rays: Array, centre: Array, half: Array, yaw: float) -> tuple[Array, Array]:
    """The same of a box that is turned around the upright axis."""
    turn = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    directions, origin = rays @ turn.T, -(turn @ centre)
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.stack([(-half - origin) / directions, (half - origin) / directions])
    enter, leave = np.fmin(*ends), np.fmax(*ends)
    first, last = enter.max(-1), leave.min(-1)
    hit = np.where((first <= last) & (first > 0), first, np.inf)
    return hit, np.array([0.7, 1.0, 0.85])[enter.argmax(-1)]
