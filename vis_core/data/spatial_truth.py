"""The truth in space: what annotations of a YouTube-VIS JSON may tell beside their masks.

``positions`` (the object's middle), ``sizes`` (extents along the axes) and ``velocities``: a list with one
``[x, y, z]`` or null for each frame, metres and seconds, in the camera's optical frame (x right, y down, z forward).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError
from vis_core.files.annotation_ids import Ids
from vis_core.files.findings import is_number, shown
from vis_core.files.json_files import parse_json, read_text

Array = npt.NDArray[np.float64]

FIELDS = ("positions", "sizes", "velocities")


@dataclass(frozen=True)
class SpatialTruth:
    """One object of a video.

    Attributes:
        positions, sizes, velocities: float64 ``[T, 3]``, NaN where not known.
    """

    positions: Array
    sizes: Array
    velocities: Array


def read_spatial_truth(path: str | os.PathLike[str], video: int, length: int) -> dict[int, SpatialTruth]:
    """What a ground truth that was read, and is sound, tells of the objects of a video in space.

    Args:
        path: YouTube-VIS JSON.
        video: id of the video, as ``read_ground_truth`` gives it.
        length: frames of the video.

    Returns:
        By annotation id; empty: it tells nothing.

    Raises:
        InputError: an entry is not of that form; the text names it.
    """
    text = read_text(path, "ground truth")
    if not any(f'"{name}"' in text for name in FIELDS):
        return {}
    content = parse_json(text, os.fspath(path), "ground truth")
    videos = Ids(entry.get("id") for entry in content.get("videos") or content.get("images") or [])
    annotations = content.get("annotations") or []
    numbers = Ids(annotation.get("id") for annotation in annotations)
    out: dict[int, SpatialTruth] = {}
    for index, annotation in enumerate(annotations):
        if videos.find(annotation.get("video_id")) != video or not any(annotation.get(name) for name in FIELDS):
            continue
        number = numbers.find(annotation["id"])
        assert number is not None
        place = f"{path}: annotations[{index}]"
        out[number] = SpatialTruth(*(_read(annotation, name, length, place) for name in FIELDS))
    return out


def _read(annotation: Mapping[str, Any], name: str, length: int, place: str) -> Array:
    out = np.full((length, 3), np.nan)
    values = annotation.get(name)
    if values is None:
        return out
    if not isinstance(values, list) or len(values) != length:
        found = f"{len(values)} entries" if isinstance(values, list) else shown(values)
        raise InputError(f"{place}: {name} holds {found}; give [x, y, z] or null for each of the {length} frames")
    for frame, value in enumerate(values):
        if value is None:
            continue
        if not (isinstance(value, list) and len(value) == 3 and all(is_number(v) and math.isfinite(v) for v in value)):
            raise InputError(f"{place}: {name}[{frame}] is {shown(value)}; give [x, y, z] in metres, or null")
        out[frame] = value
    return out
