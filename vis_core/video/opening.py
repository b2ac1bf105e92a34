"""Frames from wherever they are: a video file, a folder of images, a YouTube-VIS or COCO JSON, a camera.

    with open_video("street.mp4") as video:
        for frame in video:
            ...

A frame that cannot be read is reported by name and left out; the rest goes on.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path, PurePosixPath

from vis_core.data.faults import Faults, summary
from vis_core.errors import InputError
from vis_core.files.annotation_content import AnnotationContent, Entry, read_content
from vis_core.files.findings import Findings, InputWarning
from vis_core.files.image_folders import find_images, given_folder
from vis_core.files.json_files import parse_json, read_text
from vis_core.files.names import is_address
from vis_core.video import images as image_files
from vis_core.video.images import MAX_PIXELS, read_pixels
from vis_core.video.orientation import reading_of
from vis_core.video.sources import (
    DEFAULT_FPS,
    Camera,
    ImageSequence,
    VideoFile,
    VideoSource,
)
from vis_core.video.streams import RECONNECT, open_address


def open_video(
    path: str | Path | int,
    images: str | Path | None = None,
    fps: float | None = None,
    orientation: str = "auto",
    value_range: str | None = None,
    reconnect: float = RECONNECT,
) -> VideoSource:
    """The one video that is there; see `open_videos`.

    Raises:
        InputError: also where a JSON holds several videos.
    """
    videos = open_videos(path, images, fps, orientation, value_range, reconnect)
    if len(videos) != 1:
        names = ", ".join(video.name for video in videos[:5])
        raise InputError(f"{path}: holds {len(videos)} videos ({names}...), not one; open_videos gives them all")
    return videos[0]


def open_videos(
    path: str | Path | int,
    images: str | Path | None = None,
    fps: float | None = None,
    orientation: str = "auto",
    value_range: str | None = None,
    reconnect: float = RECONNECT,
) -> list[VideoSource]:
    """All videos that are there.

    Args:
        path: a video file, a folder of images, one image, a YouTube-VIS JSON, a COCO JSON (each image is a video of one
            frame), a camera (``/dev/video0``, ``camera:0`` or ``0``), or an address (``rtsp://...``, ``https://...``):
            a live stream, or a file where it tells its length.
        images: folder to which the file names of a JSON are relative; default: the first usual one beside it, such as
            ``frames``, ``JPEGImages`` or ``val2017``, that has one of them.
        fps: rate of images without stamps; default: the JSON's ``fps``, or `DEFAULT_FPS`.
        orientation: images as they are ``stored``, or ``turned`` by EXIF; ``auto``: as the sizes in a JSON tell, else
            turned, as viewers do.
        value_range: how 16 bits of images become 8: ``MIN,MAX``, or ``auto``; None: by their upper 8.
        reconnect: for how long a live stream that breaks off is connected to again, seconds; 0: the video ends there.

    Raises:
        InputError: nothing there that can be read, or images of 16 bits that need a range.
        OptionError: no such orientation or range.
    """
    if fps is not None and not 0.01 <= fps <= 1e4:
        raise InputError(f"fps {fps} is not in [0.01, 10000]")
    file = Path(str(path))
    if isinstance(path, int):
        return [Camera(path)]
    if is_address(str(path)):
        return [open_address(str(path), reconnect)]
    if file.is_dir():
        return [_of_images(file, fps or DEFAULT_FPS, orientation, value_range)]
    if file.is_char_device():
        return [Camera(str(file))]
    if not file.exists():
        if device := re.fullmatch(r"(?:camera:)?(\d{1,3})", str(path)):
            return [Camera(int(device[1]))]
        raise InputError(f"{path}: no such file, folder or camera")
    if not file.is_file():
        raise InputError(f"{path}: neither a file nor a folder nor a camera")
    if file.suffix.lower() == ".json":
        root = None if images is None else Path(images)
        return list(_videos_of_json(file, root, fps, orientation, value_range))
    if file.suffix.lower() in image_files.SUFFIXES:
        return [_of_images(file, fps or DEFAULT_FPS, orientation, value_range)]
    return [VideoFile(file)]


def _of_images(path: Path, fps: float, orientation: str, value_range: str | None) -> ImageSequence:
    """A folder of images, or one image."""
    turned = orientation != "stored"
    if path.is_dir():
        video = ImageSequence.of_folder(path, fps, turned, value_range)
    else:
        size = read_pixels(path, turned).shape[:2]
        video = ImageSequence(path.stem, [path], size, fps, turned=turned, value_range=value_range)
    reading = reading_of([(video.size, video.files)], "turned" if orientation == "auto" else orientation)
    video.notes += [reading.note] if reading.note else []
    video.find_range()
    return video


def _videos_of_json(
    file: Path, images: Path | None, fps: float | None, orientation: str, value_range: str | None
) -> list[ImageSequence]:
    findings, notices = Findings(str(file), ""), Faults()
    content = read_content(
        parse_json(read_text(file, "annotations"), str(file), "annotations"),
        findings,
        notices.note,
        folder=file.parent,
        images=images,
        labelled=False,
        max_pixels=MAX_PIXELS,
    )
    findings.raise_errors()
    assert content is not None
    if found := notices.findings():
        warnings.warn(f"{file}: {summary(found)}", InputWarning, stacklevel=3)
    names = [entry.file_names for entry in content.entries.values()]
    if images is None:
        root, tried = find_images(file, names)
        if root is None:
            shown_folders = ", ".join(folder.relative_to(file.parent).as_posix() for folder in tried[:6])
            raise InputError(f"{file}: {names[0][0]} is in none of {shown_folders}, ...; name the folder by --images")
    else:
        root = given_folder(images, names)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder of images")
    entries = list(content.entries.values())
    files = [[root / name for name in entry.file_names] for entry in entries]
    reading = reading_of([(entry.size, its) for entry, its in zip(entries, files)], orientation)
    videos = []
    for entry, its, size, turned in zip(entries, files, reading.sizes, reading.turned):
        rate = fps or entry.fps or DEFAULT_FPS
        video = ImageSequence(_name(entry, content), its, size, rate, entry.stamps, entry.id, turned, value_range)
        video.categories = dict(content.categories)
        videos.append(video)
    for first in videos[:1]:
        first.notes += [reading.note] if reading.note else []
        first.find_range()
    return videos


def _name(entry: Entry, content: AnnotationContent) -> str:
    first = PurePosixPath(entry.file_names[0])
    return first.stem if content.kind == "image" else entry.name or first.parent.name or str(entry.id)
