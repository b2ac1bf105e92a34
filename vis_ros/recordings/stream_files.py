"""Recorded streams as files: what a node published, with arrival times, one JSON line a message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from vis_core.errors import InputError
from vis_core.structures import Instances


@contextmanager
def new_stream(path: Path, force: bool = False) -> Iterator[TextIO]:
    """A new file for a recorded stream.

    Raises:
        InputError: it is there already, and may not be replaced.
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        stream = path.open("w" if force else "x", encoding="utf-8")
    except FileExistsError as error:
        raise InputError(f"{path}: is there already; --force replaces it") from error
    with stream:
        yield stream


def write_stream_message(stream: TextIO, instances: Instances, arrival: int, frame: int | None = None) -> None:
    """Append one message to a recorded stream: a JSON line of stamp, arrival (nanoseconds) and visible tracks.

    Args:
        stream: to write to.
        instances: of one image.
        arrival: when they came.
        frame: position in its video of the frame that the image is, -1 if it is none; None: only its stamp tells.
    """
    keys = ("track_id", "category_id", "score", "segmentation")
    tracks = [{key: track[key] for key in keys} for track in instances.to_coco()]
    place = {} if frame is None else {"frame": frame}
    stream.write(json.dumps({"stamp": instances.stamp, "arrival": arrival, **place, "tracks": tracks}) + "\n")
    stream.flush()
