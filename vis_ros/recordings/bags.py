"""Camera images in rosbag2 recordings, read through ``rosbags``.

    with ImageBag("street_bag") as bag:
        for frame in bag:
            ...

No ROS installation is needed.
"""

from __future__ import annotations

import sqlite3
import struct
import warnings
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.typesys import Stores, get_typestore

from vis_core.errors import InputError
from vis_core.structures import Frame
from vis_core.video.sources import DEFAULT_FPS, Skipped, VideoSource
from vis_ros import messages
from vis_ros.encodings import BadImageError

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"

STORAGE_SUFFIXES = (".mcap", ".db3")
_RESCUE = "rescue what is whole with `mcap recover` (.mcap) or `sqlite3 FILE .recover` (.db3)"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of a recording.

    Attributes:
        name: with its leading slash.
        type: such as ``sensor_msgs/msg/Image``; several are joined by ``|``.
        count: messages; None if it cannot be told.
    """

    name: str
    type: str
    count: int | None

    def __str__(self) -> str:
        return f"{self.name} ({self.type}, {'?' if self.count is None else self.count} messages)"


class ImageBag(VideoSource):
    """The images of one topic of a rosbag2 recording, read one at a time: sqlite3 or MCAP, also compressed with zstd.

    A frame's index is the position of its message in the topic. An image that cannot be used is left out, named by its
    stamp. One iteration at a time.

    Args:
        path: the recording's folder, or its one ``.mcap`` or ``.db3`` file.
        topic: a topic of images, raw or compressed; default: the only one.

    Raises:
        InputError: no such recording, torn, or without that topic; the text lists what the recording holds.

    Attributes:
        path: of the recording.
        topics: all that it holds.
        topic: the one that is read.
        compressed: its messages are ``CompressedImage``, not ``Image``.
    """

    length_is_exact = True

    def __init__(self, path: str | Path, topic: str | None = None) -> None:
        self.path = Path(path)
        self._reader = _open(self.path)
        try:
            self.topics = tuple(
                Topic(name, info.msgtype or "|".join(sorted({c.msgtype for c in info.connections})), info.msgcount)
                for name, info in self._reader.topics.items()
            )
            self.topic = _choose(self.path, self.topics, topic)
            self.compressed = self.topic.type == COMPRESSED_IMAGE
            self._connections = [c for c in self._reader.connections if c.topic == self.topic.name]
            count, seconds = self.topic.count or 0, self._reader.duration / 1e9
            fps = (count - 1) / seconds if count > 1 and seconds > 0 else DEFAULT_FPS
            super().__init__(self.path.stem, count, min(max(fps, 0.01), 1e4), self._first_size())
        except BaseException:
            self._reader.close()
            raise

    def __enter__(self) -> ImageBag:
        return self

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """Time of recording (nanoseconds) and serialised message, of each image.

        Raises:
            InputError: the recording turns out to be torn.
        """
        received = 0
        coming = self._reader.messages(self._connections)
        while True:
            try:
                _, time, data = next(coming)
            except StopIteration:
                return
            except Exception as error:
                raise InputError(
                    f"{self.path}: torn after {received} of {self.topic.count} images of {self.topic.name}: "
                    f"{_told(error)}; holds {_listed(self.topics)}; {_RESCUE}"
                ) from error
            received += 1
            yield time, bytes(data)

    def stamps(self) -> npt.NDArray[np.int64]:
        """int64 ``[count]``: the stamp in the header of each image, nanoseconds.

        Raises:
            InputError: the recording turns out to be torn, or holds fewer images than it announces.
        """
        stamps = np.array([serialised_stamp(data) for _, data in self.messages()], np.int64)
        if len(stamps) != self.topic.count:
            raise InputError(
                f"{self.path}: announces {self.topic.count} images of {self.topic.name} but holds {len(stamps)}; "
                "`ros2 bag reindex` counts anew"
            )
        return stamps

    def close(self) -> None:
        """Let go of the files; an iteration that was under way ends."""
        super().close()
        if self._reader.is_open:
            self._reader.close()

    def _read(self) -> Generator[Frame | Skipped, None, None]:
        for index, (_, data) in enumerate(self.messages()):
            name = f"{self.topic.name} stamp {_seconds(data)}"
            try:
                frame = self._to_frame(data, index)
            except BadImageError as error:
                yield Skipped(name, str(error))
                continue
            if frame.size != self.size:
                (height, width), (first_height, first_width) = frame.size, self.size
                yield Skipped(name, f"is {width}x{height}, the first is {first_width}x{first_height}")
                continue
            yield frame

    def _to_frame(self, data: bytes, index: int) -> Frame:
        try:
            message = typestore().deserialize_cdr(data, self.topic.type)
        except Exception as error:  # whatever the bytes make of the parser
            raise BadImageError("truncated", f"is no {self.topic.type}: {_told(error)}") from error
        return (messages.compressed_to_frame if self.compressed else messages.to_frame)(message, index)

    def _first_size(self) -> tuple[int, int]:
        reason = ""
        for _, data in self.messages():
            try:
                return self._to_frame(data, 0).size
            except BadImageError as error:
                reason = reason or str(error)
        raise InputError(
            f"{self.path}: none of the {self.topic.count} images of {self.topic.name} can be used; the first: {reason}"
        )


def serialised_stamp(data: bytes) -> int:
    """The stamp in the header of a serialised message that begins with one, nanoseconds.

    Raises:
        InputError: it is too short for one.
    """
    if len(data) < 12:
        raise InputError(f"a serialised message of {len(data)} bytes has no stamp")
    seconds, rest = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(seconds) * 1_000_000_000 + int(rest)


def _open(path: Path) -> Reader:
    if not path.exists():
        raise InputError(f"{path}: no such recording")
    file = path
    if path.is_dir() and not (path / "metadata.yaml").exists():
        files = _storage_files(path)
        if len(files) != 1:
            found = ", ".join(entry.name for entry in files) or "nothing that is a recording"
            raise InputError(f"{path}: no metadata.yaml, and holds {found}; `ros2 bag reindex` writes it anew")
        file = files[0]
        warnings.warn(f"{path}: no metadata.yaml (the recorder was stopped hard); {file.name} is read", stacklevel=3)
    if file.suffix == ".bag":
        raise InputError(f"{path}: is a ROS 1 bag; `rosbags-convert --src {path} --dst FOLDER` makes a rosbag2 of it")
    if not file.is_dir() and file.suffix not in STORAGE_SUFFIXES:
        raise InputError(f"{path}: is neither a rosbag2 folder nor a .mcap or .db3 file")
    reader = Reader(file)
    try:
        for storage in [file] if file.is_file() else _storage_files(file):
            if storage.suffix == ".db3":
                _check_pages(storage)
        reader.open()
    except Exception as error:  # a damaged file brings up anything in a parser
        raise InputError(
            f"{path}: torn, or no rosbag2: {_told(error)}; holds {_listed(_salvaged(path))}; {_RESCUE}"
        ) from error
    if not reader.message_count:
        topics = [Topic(name, info.msgtype or "?", info.msgcount) for name, info in reader.topics.items()]
        reader.close()
        raise InputError(f"{path}: is empty, no message was recorded; holds {_listed(topics)}")
    return reader


def _choose(path: Path, topics: Iterable[Topic], name: str | None) -> Topic:
    holds = f"holds {_listed(topics)}"
    images = [topic for topic in topics if topic.type in (IMAGE, COMPRESSED_IMAGE)]
    if name is None:
        if not images:
            raise InputError(f"{path}: no topic of images ({IMAGE} or {COMPRESSED_IMAGE}); {holds}")
        if len(images) > 1:
            raise InputError(f"{path}: several topics of images, name one with --topic; {holds}")
        chosen = images[0]
    else:
        wanted = "/" + name.strip("/")
        found = [topic for topic in topics if topic.name == wanted]
        if not found:
            raise InputError(f"{path}: no topic {wanted}; {holds}")
        chosen = found[0]
        if chosen not in images:
            raise InputError(f"{path}: topic {wanted} is of type {chosen.type}, not of images; {holds}")
    if not chosen.count:
        raise InputError(f"{path}: topic {chosen.name} has no message; {holds}")
    return chosen


def _salvaged(path: Path) -> list[Topic]:
    """What a torn recording holds, as far as it can be told."""
    with suppress(Exception):
        information = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
        return [
            Topic(entry["topic_metadata"]["name"], entry["topic_metadata"]["type"], entry["message_count"])
            for entry in information["topics_with_message_count"]
        ]
    topics: list[Topic] = []
    for file in _storage_files(path) if path.is_dir() else [path]:
        with suppress(Exception):
            topics += (_salvaged_mcap if file.suffix == ".mcap" else _salvaged_sqlite3)(file)
    return topics


def _salvaged_mcap(file: Path) -> list[Topic]:
    reader = McapReader(file)
    counts: Counter[int] = Counter()
    with file.open("rb") as stream:
        reader.bio = stream
        reader.data_start, reader.data_end = 8, file.stat().st_size
        with suppress(Exception):
            reader.meta_scan()
        with suppress(Exception):
            counts.update(connection.id for connection, _, _ in reader.messages_scan(reader.connections))
    return [Topic(c.topic, c.msgtype, counts[c.id]) for c in reader.connections]


def _salvaged_sqlite3(file: Path) -> list[Topic]:
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        topics = connection.execute("SELECT id, name, type FROM topics").fetchall()
        counts: dict[int, int] = {}
        with suppress(sqlite3.Error):
            counts = dict(connection.execute("SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id"))
    return [Topic(name, kind, counts.get(identity)) for identity, name, kind in topics]


def _check_pages(file: Path) -> None:
    """Refuse an SQLite file without its end: SQLite reads zeros there, which would be black pixels."""
    with file.open("rb") as stream:
        header = stream.read(100)
    if len(header) < 100:
        raise InputError(f"{file.name} has {len(header)} bytes")
    page_size, pages = struct.unpack_from(">H", header, 16)[0], struct.unpack_from(">I", header, 28)[0]
    needed = pages * (65536 if page_size == 1 else page_size)
    counted = header[24:28] == header[92:96]  # else the number of pages is not kept
    if counted and file.stat().st_size < needed:
        raise InputError(f"{file.name} has {file.stat().st_size} of its {needed} bytes")


def _storage_files(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.suffix in STORAGE_SUFFIXES)


def _listed(topics: Iterable[Topic]) -> str:
    return "; ".join(str(topic) for topic in topics) or "no topic that can be told"


def _told(error: Exception) -> str:
    return f"{str(error) or type(error).__name__}".rstrip(".")


def _seconds(data: bytes) -> str:
    with suppress(InputError):
        seconds, rest = divmod(serialised_stamp(data), 1_000_000_000)
        return f"{seconds}.{rest:09d}"
    return "unknown"


@lru_cache(maxsize=1)
def typestore() -> Any:
    """The message types; those of images have been the same in every release of ROS 2."""
    return get_typestore(Stores.ROS2_HUMBLE)
