"""Picture strips of incidents: ground truth beside prediction, as JPEG data for a page.

Needs OpenCV, which is imported when the first strip is drawn.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from vis_core.errors import InputError, MissingDependencyError
from vis_core.evaluation.inputs.tracks import Result, Results, Track, Video
from vis_core.evaluation.reports.incidents import Incident
from vis_core.files.image_folders import inner_name

Image = npt.NDArray[np.uint8]

_WIDTH = 240
_TINT = 0.45
_QUALITY = 80
_SHOWN = 4
"""Results of a kind that are drawn."""


def strip(
    incident: Incident, results: Results, images: Path, categories: Mapping[int, str] = MappingProxyType({})
) -> list[tuple[int, str]]:
    """Pictures of an incident's frames: ground truth above, prediction below.

    Args:
        incident: what to show.
        results: all results; those matched are drawn, and those of any class that cover the track or are near it in
            class and sure, each under the name of its class.
        images: folder of the videos' frames.
        categories: name of each class.

    Returns:
        For each frame its position and an address ``data:image/jpeg;base64,...``.

    Raises:
        InputError: the video names no images, or one that leaves the folder, cannot be read, or is not of the video's
            size.
        MissingDependencyError: OpenCV is not installed.
    """
    video = incident.video
    if not video.file_names:
        raise InputError(f"video {video.id}: the ground truth names no images")
    drawn = _answers(results.tracks[video.id], incident)
    names = [categories.get(result.category, str(result.category)) for result in drawn]
    return [(frame, _picture(video, frame, incident.track, drawn, names, images)) for frame in incident.frames]


def _answers(results: tuple[Result, ...], incident: Incident) -> list[Result]:
    """What was answered: matched, else covering the track in any class, else surely of its class elsewhere; a few."""
    seen = [r for r in results if any(r.areas[frame] > 0 for frame in incident.frames)]
    covering = [r for r in seen if any(_covers(r, incident, frame) for frame in incident.frames)]
    alike = [r for r in seen if incident.category in (-1, r.category)]
    few = [*sorted(covering, key=lambda r: -r.score)[:_SHOWN]]
    if not incident.results:
        few += sorted(alike, key=lambda r: -r.score)[:_SHOWN]
    return list({id(r): r for r in (*incident.results, *few)}.values())


def _covers(result: Result, incident: Incident, frame: int) -> bool:
    """Whether a result covers a tenth of the track, or lies in it by a half."""
    track, size = incident.track, [*incident.video.size]
    mine, theirs = track.masks[frame], result.masks[frame]
    if mine is None or theirs is None:
        return False
    both = coco_mask.merge([{"size": size, "counts": m} for m in (mine, theirs)], intersect=True)
    common = float(coco_mask.area(both))
    return common > 0.1 * track.areas[frame] or common > 0.5 * result.areas[frame]


def _picture(
    video: Video, frame: int, track: Track, results: Sequence[Result], names: Sequence[str], images: Path
) -> str:
    try:
        import cv2

        from vis_core.video.images import read_image
        from vis_core.video.orientation import exif_cause, reading_of
        from vis_core.video.overlay import track_color
    except ImportError as error:
        text = "pictures need OpenCV; pip install opencv-python-headless"
        raise MissingDependencyError(text) from error

    if inner_name(video.file_names[frame]) is None:
        raise InputError(f"{video.file_names[frame]}: leaves the folder of the images, {images}")
    path = images / video.file_names[frame]
    reading = reading_of([(video.size, [images / name for name in video.file_names])])
    image = read_image(path, reading.turned[0])
    if image.shape[:2] != video.size:
        height, width = image.shape[:2]
        text = f"{width}x{height}, but video {video.id} is {video.size[1]}x{video.size[0]}"
        raise InputError(f"{path}: {text}{exif_cause(path, video.size)}")
    above, below = image, image.copy()
    _tint(above, track.masks[frame], video.size, (255, 255, 255))
    for result in results:
        _tint(below, result.masks[frame], video.size, track_color(result.entry))
    height = max(1, round(video.size[0] * _WIDTH / video.size[1]))
    small = [cv2.resize(item, (_WIDTH, height), interpolation=cv2.INTER_AREA) for item in (above, below)]
    for result, name in zip(results, names):
        _name(small[1], result.masks[frame], video.size, name, track_color(result.entry))
    gap = np.full((4, _WIDTH, 3), 255, np.uint8)
    stacked: Any = np.concatenate((small[0], gap, small[1]))[:, :, ::-1]
    good, data = cv2.imencode(".jpg", stacked, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not good:
        raise InputError(f"{path}: the picture could not be encoded")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _name(image: Any, mask: bytes | None, size: tuple[int, int], name: str, color: tuple[int, int, int]) -> None:
    """Write the name of a class above a mask of an image that was made smaller since."""
    import cv2

    if mask is None:
        return
    x, y, *_ = coco_mask.toBbox({"size": [*size], "counts": mask}) * _WIDTH / size[1]
    (width, _), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.36, 1)
    at = (max(1, min(int(x), _WIDTH - width - 1)), max(10, int(y) - 3))
    for ink, thickness in (((0, 0, 0), 3), (color, 1)):
        cv2.putText(image, name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.36, ink, thickness, cv2.LINE_AA)


def _tint(image: Image, mask: bytes | None, size: tuple[int, int], color: tuple[int, int, int]) -> None:
    """Colour a mask of an image, with a full line around it."""
    if mask is None:
        return
    dense = coco_mask.decode({"size": [*size], "counts": mask}) != 0
    inner = dense.copy()
    width = max(1, round(max(size) / 240))
    for axis in (0, 1):
        for shift in (-width, width):
            inner &= np.roll(dense, shift, axis)
    blended = (1 - _TINT) * image[dense] + _TINT * np.array(color)
    image[dense] = blended.astype(np.uint8)
    image[dense & ~inner] = color
