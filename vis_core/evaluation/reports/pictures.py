"""Picture strips of incidents: ground truth beside prediction, as JPEG data for a page.

Needs OpenCV, which is imported when the first strip is drawn.
"""

from __future__ import annotations

import base64
from pathlib import Path
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


def strip(incident: Incident, results: Results, images: Path) -> list[tuple[int, str]]:
    """Pictures of an incident's frames: ground truth above, prediction below.

    Args:
        incident: what to show.
        results: all results; of the prediction all those matched, else those of the class, are drawn.
        images: folder of the videos' frames.

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
    theirs = results.tracks[video.id]
    drawn = incident.results or _near(theirs, incident)
    return [(frame, _picture(video, frame, incident.track, drawn, images)) for frame in incident.frames]


def _near(results: tuple[Result, ...], incident: Incident) -> tuple[Result, ...]:
    """The few surest results of the track's class: what was answered where something was missed."""
    of_class = [r for r in results if incident.category in (-1, r.category)]
    visible = [r for r in of_class if any(r.areas[frame] > 0 for frame in incident.frames)]
    return tuple(sorted(visible, key=lambda r: -r.score)[:5])


def _picture(video: Video, frame: int, track: Track, results: tuple[Result, ...], images: Path) -> str:
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
    gap = np.full((4, _WIDTH, 3), 255, np.uint8)
    stacked: Any = np.concatenate((small[0], gap, small[1]))[:, :, ::-1]
    good, data = cv2.imencode(".jpg", stacked, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not good:
        raise InputError(f"{path}: the picture could not be encoded")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


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
