"""Making rosbag2 recordings of frames, through ``rosbags``.

    write_bag(open_video("street.mp4"), "street_bag")

No ROS installation is needed.
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import unquote

import cv2
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from vis_core.errors import InputError, OptionError
from vis_core.files.atomic import errors_name
from vis_core.files.outputs import LOCK, locked, say_nothing
from vis_core.structures import Frame
from vis_ros.recordings.bags import COMPRESSED_IMAGE, IMAGE, typestore
from vis_ros.recordings.recording import STORAGE_SUFFIXES, Topic

DEFAULT_TOPIC = "/camera/image_raw"

Encoding = Literal["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "jpeg", "png"]
Storage = Literal["sqlite3", "mcap"]
Compression = Literal["none", "zstd"]

_RAW = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_RGB2BGR),
    "rgba8": (4, cv2.COLOR_RGB2RGBA),
    "bgra8": (4, cv2.COLOR_RGB2BGRA),
    "mono8": (1, cv2.COLOR_RGB2GRAY),
}
_JPEG_QUALITY = 90
_REPLACED = ".replaced"


def write_bag(
    frames: Iterable[Frame],
    path: str | Path,
    *,
    topic: str = DEFAULT_TOPIC,
    encoding: Encoding = "rgb8",
    storage: Storage = "sqlite3",
    compression: Compression = "none",
    frame_id: str = "camera",
    force: bool = False,
    on_frame: Callable[[], None] = lambda: None,
    tell: Callable[[str], None] = say_nothing,
) -> Topic:
    """Record frames as a camera would be, at their stamps; the recording appears under its name when it is whole.

    Args:
        frames: in order of their stamps.
        path: folder to make.
        topic: of the images; for ``jpeg`` and ``png``, ``/compressed`` is added, as ``image_transport`` does.
        encoding: of the pixels.
        storage: ``sqlite3`` or ``mcap``.
        compression: ``zstd`` compresses message by message (sqlite3) or chunk by chunk (MCAP).
        frame_id: of every header.
        force: replace a recording that is there.
        on_frame: called after each frame.
        tell: is told what of a killed run is removed.

    Returns:
        The topic as written.

    Raises:
        InputError: there is no frame, ``path`` is there and may not be replaced, or SQLite cannot write under its name.
        OptionError: an unknown encoding, storage or compression, or another run writes there.
        OSError: the recording cannot be written.
    """
    path = Path(path)
    for what, value, known in (
        ("encoding", encoding, get_args(Encoding)),
        ("storage", storage, get_args(Storage)),
        ("compression", compression, get_args(Compression)),
    ):
        if value not in known:
            raise OptionError(f"{what} {value!r} is none of {', '.join(known)}")
    check_bag(path, storage, force)
    compressed = encoding not in _RAW
    message_type = COMPRESSED_IMAGE if compressed else IMAGE
    name = "/" + topic.strip("/")
    if compressed and not name.endswith("/compressed"):
        name += "/compressed"
    with _stage(path, tell) as stage:
        check_bag(path, storage, force)
        # The storage file is named after its folder, which therefore has the final name.
        folder = stage / path.name
        count = 0
        types = typestore()
        with _disk_errors_name(path), _writer(folder, storage, compression) as writer:
            connection = writer.add_connection(name, message_type, typestore=types)
            for frame in frames:
                message = _to_message(frame, encoding, frame_id)
                writer.write(connection, frame.stamp, bytes(types.serialize_cdr(message, message_type)))
                count += 1
                on_frame()
            if not count:
                raise InputError(f"{path}: not written, there is no frame")
        if path.exists():
            path.rename(stage / _REPLACED)
        folder.rename(path)
    return Topic(name, message_type, count)


def check_bag(path: Path, storage: Storage = "sqlite3", force: bool = False) -> None:
    """See before any work whether a recording can be written under its name.

    Raises:
        InputError: it is there and may not be replaced, or SQLite cannot write under its name.
    """
    if storage == "sqlite3":
        _check_name(path)
    _check_replaceable(path, force)


def _writer(folder: Path, storage: Storage, compression: Compression) -> Writer:
    # 8 is the newest metadata whose QoS entry Humble still reads.
    writer = Writer(folder, version=8, storage_plugin=StoragePlugin[storage.upper()])
    if compression == "zstd":
        mode = CompressionMode.STORAGE if storage == "mcap" else CompressionMode.MESSAGE
        writer.set_compression(mode, CompressionFormat.ZSTD)
    return writer


@contextmanager
def _stage(path: Path, tell: Callable[[str], None]) -> Iterator[Path]:
    """A hidden folder beside a recording, of one run at a time; what a killed run left there is put in order."""
    stage = path.with_name(f".{path.name}.partial")
    try:
        with locked(stage, "recording"):
            if (stage / _REPLACED).exists() and not path.exists():  # between the two renames: the new one is whole
                (stage / path.name).rename(path)
            if _clear(stage):
                tell(f"{stage}: removed; a run that did not come to its end had left it")
            try:
                yield stage
            finally:
                _clear(stage)
    finally:
        with suppress(OSError):  # one that a killed run had made; or it is another's
            stage.rmdir()


def _clear(stage: Path) -> bool:
    """Remove what is in a stage; whether there was anything."""
    left = [entry for entry in stage.iterdir() if entry.name != LOCK]
    for entry in left:
        shutil.rmtree(entry, ignore_errors=True)
    return bool(left)


@contextmanager
def _disk_errors_name(path: Path) -> Iterator[None]:
    """Errors of the system name the recording, those that SQLite reports in its own way too."""
    try:
        with errors_name(path):
            yield
    except sqlite3.OperationalError as error:
        full = "full" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error), str(path)) from error


def _to_message(frame: Frame, encoding: Encoding, frame_id: str) -> Any:
    types = typestore().types
    seconds, rest = divmod(frame.stamp, 1_000_000_000)
    stamp = types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=rest)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)
    if encoding in _RAW:
        channels, conversion = _RAW[encoding]
        pixels = frame.image if conversion is None else cv2.cvtColor(frame.image, conversion)
        data = np.ascontiguousarray(pixels).reshape(-1)
        height, width = frame.size
        return types[IMAGE](
            header=header,
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=width * channels,
            data=data,
        )
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if encoding == "jpeg" else []
    written, data = cv2.imencode(
        ".jpg" if encoding == "jpeg" else ".png", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR), options
    )
    if not written:
        raise InputError(f"frame {frame.index}: {encoding} cannot hold {frame.size[1]}x{frame.size[0]}")
    return types[COMPRESSED_IMAGE](header=header, format=f"rgb8; {encoding} compressed bgr8", data=data.reshape(-1))


def _check_name(path: Path) -> None:
    """Refuse what would be written elsewhere: ``rosbags`` opens SQLite files by address, with marks of its own."""
    name = str(path.absolute())
    if unquote(name.partition("?")[0].partition("#")[0]) != name:
        raise InputError(
            f"{path}: not written: for SQLite, a ? or # begins another part of an address, and % with two digits is a "
            "character; take another name, or --storage mcap"
        )


def _check_replaceable(path: Path, force: bool) -> None:
    if not path.exists():
        return
    if not force:
        raise InputError(f"{path}: is there already; --force replaces a recording")
    if not path.is_dir() or any(
        entry.name != "metadata.yaml" and not {*entry.suffixes} & {*STORAGE_SUFFIXES} for entry in path.iterdir()
    ):
        raise InputError(f"{path}: is no recording, so it is not replaced; remove it yourself")
