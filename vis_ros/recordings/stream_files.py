"""Recorded streams as files: what a node published, with arrival times, one JSON line a message."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TextIO, cast

from vis_core.errors import OptionError
from vis_core.files.atomic import errors_name
from vis_core.files.outputs import check_file, say_nothing
from vis_core.files.results_info import info_path
from vis_core.structures import Instances


@contextmanager
def new_stream(path: Path, force: bool = False, tell: Callable[[str], None] = say_nothing) -> Iterator[TextIO]:
    """A new file for a recorded stream; one that is there is replaced with the first message, and not before.

    Args:
        path: of the file.
        force: replace one that is there.
        tell: is told what of a killed run is removed.

    Raises:
        InputError: it is there already and may not be replaced, or cannot be written.
        OptionError: another recording writes there.
    """
    check_file(path, force, tell)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with errors_name(path), path.open("x", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield stream
        return
    with path.open("rb") as former:
        try:
            fcntl.flock(former, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OptionError(f"{path}: another recording writes there; give another name, or wait") from None
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with errors_name(path), partial.open("x", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield cast(TextIO, _Replacing(stream, path))
    finally:
        partial.unlink(missing_ok=True)


class _Replacing:
    """A text file that takes the place of another when its first message is complete.

    Args:
        stream: under its temporary name.
        path: of the file to replace.
    """

    def __init__(self, stream: TextIO, path: Path) -> None:
        self._stream, self._path, self._placed = stream, path, False

    def write(self, text: str) -> int:
        """Take a part of a message."""
        return self._stream.write(text)

    def flush(self) -> None:
        """Have what was written in the file, and the file in its place."""
        self._stream.flush()
        if not self._placed:
            info_path(self._path).unlink(missing_ok=True)  # the companion of what was there
            Path(self._stream.name).replace(self._path)
            self._placed = True


def write_stream_message(
    stream: TextIO,
    instances: Instances,
    arrival: int,
    frame: int | None = None,
    class_names: Mapping[int, str] = MappingProxyType({}),
) -> None:
    """Append one message to a recorded stream: a JSON line.

    It holds ``sequence`` (the instances' index), ``stamp`` and ``arrival`` (nanoseconds), and the visible tracks.

    Args:
        stream: to write to.
        instances: of one image.
        arrival: when they came.
        frame: position in its video of the frame that the image is, -1 if it is none; None: only its stamp tells.
        class_names: by label, as far as they are known.
    """
    keys = ("track_id", "category_id", "score", "segmentation")
    tracks = [{key: track[key] for key in keys} for track in instances.to_coco()]
    for track in tracks:
        if (label := track["category_id"] - 1) in class_names:
            track["class_name"] = class_names[label]
    place = {} if frame is None else {"frame": frame}
    told = {"sequence": instances.index, "stamp": instances.stamp, "arrival": arrival, **place, "tracks": tracks}
    stream.write(json.dumps(told) + "\n")
    stream.flush()
