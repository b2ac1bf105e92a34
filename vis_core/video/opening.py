"""Frames from wherever they are: a video file, a folder of images, a YouTube-VIS or COCO JSON, a camera.

    with open_video("street.mp4") as video:
        for frame in video:
            ...

A frame that cannot be read is reported by name and left out; the rest goes on.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from vis_core.errors import InputError
from vis_core.video import images as image_files
from vis_core.video.images import MAX_PIXELS, read_image
from vis_core.video.sources import (
    DEFAULT_FPS,
    Camera,
    ImageSequence,
    VideoFile,
    VideoSource,
)


def open_video(path: str | Path | int, images: str | Path | None = None, fps: float | None = None) -> VideoSource:
    """The one video that is there; see `open_videos`.

    Raises:
        InputError: also where a JSON holds several videos.
    """
    videos = open_videos(path, images, fps)
    if len(videos) != 1:
        names = ", ".join(video.name for video in videos[:5])
        raise InputError(f"{path}: holds {len(videos)} videos ({names}...), not one; open_videos gives them all")
    return videos[0]


def open_videos(
    path: str | Path | int, images: str | Path | None = None, fps: float | None = None
) -> list[VideoSource]:
    """All videos that are there.

    Args:
        path: a video file, a folder of images, one image, a YouTube-VIS JSON, a COCO JSON (each image is a video of one
            frame), or a camera (``/dev/video0``, ``camera:0`` or ``0``).
        images: folder to which the file names of a JSON are relative; default: the JSON's own, or ``frames`` or
            ``JPEGImages`` beside it.
        fps: rate of images without stamps; default: the JSON's ``fps``, or `DEFAULT_FPS`.

    Raises:
        InputError: nothing there that can be read.
    """
    if fps is not None and not 0.01 <= fps <= 1e4:
        raise InputError(f"fps {fps} is not in [0.01, 10000]")
    file = Path(str(path))
    if isinstance(path, int):
        return [Camera(path)]
    if file.is_dir():
        return [ImageSequence.of_folder(file, fps or DEFAULT_FPS)]
    if file.is_char_device():
        return [Camera(str(file))]
    if not file.exists():
        if device := re.fullmatch(r"(?:camera:)?(\d{1,3})", str(path)):
            return [Camera(int(device[1]))]
        raise InputError(f"{path}: no such file, folder or camera")
    if not file.is_file():
        raise InputError(f"{path}: neither a file nor a folder nor a camera")
    if file.suffix.lower() == ".json":
        return list(_videos_of_json(file, None if images is None else Path(images), fps))
    if file.suffix.lower() in image_files.SUFFIXES:
        height, width = read_image(file).shape[:2]
        return [ImageSequence(file.stem, [file], (height, width), fps or DEFAULT_FPS)]
    return [VideoFile(file)]


def _videos_of_json(file: Path, root: Path | None, fps: float | None) -> list[ImageSequence]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: is no readable JSON: {error}") from error
    kind = "images" if isinstance(content, dict) and "images" in content and "videos" not in content else "videos"
    entries = content.get(kind) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InputError(
            f"{file}: has no list 'videos' with an entry, as a YouTube-VIS JSON has, nor 'images', as COCO's"
        )
    if kind == "images":
        entries = [_as_video(entry) for entry in entries]
    parsed = [_checked_entry(entry, f"{file}: {kind}[{i}]") for i, entry in enumerate(entries)]
    seen: dict[int, int] = {}
    for i, entry in enumerate(parsed):
        if (first := seen.setdefault(entry["id"], i)) != i:
            raise InputError(f"{file}: {kind}[{i}].id {entry['id']} is that of {kind}[{first}] too")
    root = _image_root(file, parsed[0]["file_names"][0]) if root is None else root
    if not root.is_dir():
        raise InputError(f"{root}: no such folder of images")
    return [
        ImageSequence(
            entry.get("name") or PurePosixPath(entry["file_names"][0]).parent.name or str(entry["id"]),
            [root / name for name in entry["file_names"]],
            (entry["height"], entry["width"]),
            fps or entry.get("fps") or DEFAULT_FPS,
            entry.get("stamps"),
            entry["id"],
        )
        for entry in parsed
    ]


def _as_video(entry: Any) -> Any:
    """An image of a COCO JSON as a video of one frame."""
    if not isinstance(entry, dict) or "file_name" not in entry:
        return entry
    name = PurePosixPath(entry["file_name"]).stem if isinstance(entry["file_name"], str) else ""
    kept = {key: entry[key] for key in ("id", "width", "height") if key in entry}
    return {**kept, "name": name, "file_names": [entry["file_name"]]}


def _checked_entry(entry: Any, place: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise InputError(f"{place}: is a {type(entry).__name__}, not an object")
    for key in ("id", "width", "height"):
        if type(entry.get(key)) is not int or (key != "id" and entry[key] <= 0):
            raise InputError(f"{place}.{key}: {entry.get(key)!r} is not a whole number{'' if key == 'id' else ' > 0'}")
    if entry["width"] * entry["height"] > MAX_PIXELS:
        raise InputError(f"{place}: {entry['width']}x{entry['height']}, at most {MAX_PIXELS} pixels are read")
    names = entry.get("file_names")
    if not isinstance(names, list) or not names:
        raise InputError(f"{place}.file_names: not a list of file names")
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name or "\0" in name:
            raise InputError(f"{place}.file_names[{i}]: {name!r} is not a file name")
        parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
        if ".." in parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor:
            raise InputError(f"{place}.file_names[{i}]: {name!r} leaves the folder of the images")
    stamps = entry.get("stamps")
    if stamps is not None:
        if not isinstance(stamps, list) or len(stamps) != len(names) or any(type(s) is not int for s in stamps):
            raise InputError(f"{place}.stamps: not a list of {len(names)} whole numbers, nanoseconds")
        if any(later <= s for s, later in pairwise(stamps)):
            raise InputError(f"{place}.stamps: do not grow")
    if entry.get("length", len(names)) != len(names):
        raise InputError(f"{place}.length: {entry['length']!r}, but there are {len(names)} file_names")
    if not isinstance(entry.get("name", ""), str):
        raise InputError(f"{place}.name: {entry['name']!r} is not text")
    rate = entry.get("fps")
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0.01 <= rate <= 1e4):
        raise InputError(f"{place}.fps: {rate!r} is not a number in [0.01, 10000]")
    return entry


def _image_root(file: Path, first: str) -> Path:
    candidates = [file.parent, *(file.parent / name for name in ("frames", "JPEGImages", "images"))]
    for folder in candidates:
        if (folder / first).is_file():
            return folder
    tried = ", ".join(str(folder) for folder in candidates)
    raise InputError(f"{file}: {first} is in none of {tried}; name the folder of the images")
