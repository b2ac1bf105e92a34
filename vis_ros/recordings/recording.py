"""rosbag2 recordings as files and topics: which parts there are, what they hold, and what keeps one from being read."""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag2 import ReaderError

from vis_core.errors import InputError, printable
from vis_core.files.yaml_files import read_yaml
from vis_ros.recordings import mcap_file, sqlite_file
from vis_ros.recordings.mcap_file import McapFile
from vis_ros.recordings.sqlite_file import SqliteFile
from vis_ros.recordings.unpacking import unpack, unpack_file

STORAGE_SUFFIXES = (".mcap", ".db3")
RESCUE = "rescue what is whole with `mcap recover` (.mcap) or `sqlite3 FILE .recover` (.db3)"
_STORAGES = ("sqlite3", "mcap")
_NEWEST_VERSION = 9
_LISTED, _SHOWN = 20, 100
_ROS1 = "is a ROS 1 bag; `rosbags-convert --src {} --dst FOLDER` makes a rosbag2 of it"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of a recording.

    Attributes:
        name: with its leading slash.
        type: such as ``sensor_msgs/msg/Image``; several are joined by ``|``; another encoding than CDR is told.
        count: messages; None if it cannot be told.
    """

    name: str
    type: str
    count: int | None

    def __str__(self) -> str:
        name, kind = printable(self.name, _SHOWN), printable(self.type, _SHOWN)
        return f"{name} ({kind}, {'?' if self.count is None else printable(self.count, 20)} messages)"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is used of a ``metadata.yaml``.

    Attributes:
        files: names of the parts.
        topics: as announced.
        count: messages of all of them.
        duration: nanoseconds.
        compression: ``none``, ``file``, ``message`` or ``storage``.
    """

    files: tuple[str, ...]
    topics: tuple[Topic, ...]
    count: int
    duration: int
    compression: str


class Recording:
    """An open recording: one file, or the parts that the ``metadata.yaml`` of a folder names, one after the other.

    Args:
        path: the folder, or its one ``.mcap`` or ``.db3`` file.

    Raises:
        InputError: there is none, it cannot be read, or it is empty; the text says which, and what helps.

    Attributes:
        topics: by name.
        duration: from the first message to the last, nanoseconds.
    """

    def __init__(self, path: Path) -> None:
        self._closing = ExitStack()
        self._compression = "none"
        try:
            metadata, files = _located(path)
            self._parts = [self._opened(file, metadata) for file in files]
            if metadata:
                self._compression = metadata.compression
            # What a folder announces may lie behind a cut.
            found = self._found() if metadata is None or any(part.cut_off for part in self._parts) else metadata
            self.topics = tuple(sorted(found.topics, key=lambda topic: topic.name))
            self.duration = found.duration
            if not found.count:
                raise InputError(f"{path}: is empty, {self._emptiness(path)}; holds {listed(self.topics)}")
        except InputError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise InputError(f"{path}: cannot be read: {printable(error)}") from error
        except Exception as error:  # a damaged file brings up anything in a parser
            self.close()
            raise InputError(f"{path}: torn: {told(error)}; holds {listed(_salvaged(path))}; {RESCUE}") from error

    def messages(self, topics: Collection[Topic]) -> Iterator[tuple[str, int, bytes]]:
        """Name of the topic, time of recording (nanoseconds) and serialised message, of each of some topics."""
        wanted = {(topic.name, topic.type) for topic in topics}
        for part in self._parts:
            connections = [c for c in part.connections if (c.topic, _type(c)) in wanted]
            if not connections:
                continue
            for connection, time, data in part.messages(connections):
                yield connection.topic, time, unpack(data, "zstd") if self._compression == "message" else data

    def close(self) -> None:
        """Let go of the files."""
        self._closing.close()

    def _found(self) -> Metadata:
        held = [part.metadata for part in self._parts if part.metadata.message_count]
        topics = _held(connection for part in self._parts for connection in part.connections)
        duration = max(part.end_time for part in held) - min(part.start_time for part in held) if held else 0
        return Metadata((), topics, sum(part.message_count for part in held), duration, self._compression)

    def _emptiness(self, path: Path) -> str:
        unannounced = sum(part.metadata.message_count for part in self._parts)
        if unannounced:
            return f"says metadata.yaml, but {unannounced} messages are there: `ros2 bag reindex {path}` counts anew"
        return "no message was recorded"

    def _opened(self, file: Path, metadata: Metadata | None) -> McapFile | SqliteFile:
        if metadata and metadata.compression == "file":
            folder = self._closing.enter_context(tempfile.TemporaryDirectory(prefix="vis_ros_"))
            unpacked = Path(folder) / file.stem
            unpack_file(file, unpacked)
            file = unpacked
        part = _reader(file)
        part.open()
        self._closing.callback(part.close)
        return part


def listed(topics: Iterable[Topic]) -> str:
    """Topics as errors list them: the first twenty."""
    return _some([str(topic) for topic in topics], "; ") or "no topic that can be told"


def told(error: Exception) -> str:
    """What an error says, to stand within a sentence."""
    return printable(str(error) or type(error).__name__).rstrip(".")


def _some(texts: Sequence[str], separator: str = ", ") -> str:
    """The first twenty texts, and how many more there are."""
    more = f"{separator}and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return separator.join(printable(text, 3 * _SHOWN) for text in texts[:_LISTED]) + more


def _located(path: Path) -> tuple[Metadata | None, list[Path]]:
    """What the recording's folder says of it, if it is one that does, and its files."""
    if not path.exists():
        raise InputError(f"{path}: no such recording")
    if not path.is_dir():
        return None, [path]
    if (path / "metadata.yaml").exists():
        metadata = _read_metadata(path)
        return metadata, _named_parts(path, metadata)
    files = _storage_files(path)
    if len(files) == 1:
        warnings.warn(
            f"{path}: no metadata.yaml (the recorder was stopped hard); {files[0].name} is read", stacklevel=4
        )
        return None, files
    if files:
        held = _some([file.name for file in files])
        raise InputError(
            f"{path}: no metadata.yaml, which would name the parts, and holds {held}; `ros2 bag reindex {path}` writes "
            "it anew, or name one of the files"
        )
    if packed := sorted(file.name for suffix in STORAGE_SUFFIXES for file in path.glob(f"*{suffix}.zstd")):
        raise InputError(
            f"{path}: no metadata.yaml, and holds {_some(packed)}; `zstd -d` unpacks, then "
            f"`ros2 bag reindex {path}` writes metadata.yaml"
        )
    if bags := sorted(path.glob("*.bag")):
        raise InputError(f"{path}: no metadata.yaml, and {bags[0].name} {_ROS1.format(bags[0])}")
    raise InputError(
        f"{path}: no metadata.yaml and no .mcap or .db3 file in it; name the folder that `ros2 bag record` has made"
    )


def _named_parts(folder: Path, metadata: Metadata) -> list[Path]:
    files = [folder / name for name in metadata.files]
    others = sorted({file.name for file in _storage_files(folder)} - {*metadata.files})
    if missing := [file.name for file in files if not file.exists()]:
        raise InputError(
            f"{folder}: metadata.yaml names {_some(missing)}, not there (of {len(files)} parts); beside it "
            f"{'lies ' + _some(others) if others else 'is no other part'}; put it back, under that name, or let "
            f"`ros2 bag reindex {folder}` write metadata.yaml for the files that are there"
        )
    if others:
        warnings.warn(
            f"{folder}: metadata.yaml does not name {_some(others)}, so it is not read; "
            f"`ros2 bag reindex {folder}` takes it in",
            stacklevel=5,
        )
    return files


def _read_metadata(folder: Path) -> Metadata:
    file = folder / "metadata.yaml"
    try:
        information = read_yaml(file, "metadata")["rosbag2_bagfile_information"]
        version, storage = int(information["version"]), str(information["storage_identifier"])
        mode = str(information.get("compression_mode") or "none").lower()
        packing = str(information.get("compression_format") or "none")
        metadata = Metadata(
            tuple(PurePath(name).name for name in information["relative_file_paths"]),
            _merged(_announced(entry) for entry in information["topics_with_message_count"]),
            int(information["message_count"]),
            int(information["duration"]["nanoseconds"]),
            mode,
        )
    except OSError:
        raise
    except Exception as error:  # whatever may stand in such a file
        lacks = isinstance(error, KeyError)
        what = f"lacks {printable(error)}" if lacks else told(error).removeprefix(f"{printable(file)}: metadata: ")
        raise InputError(
            f"{file}: is not as rosbag2 writes it: {what}; `ros2 bag reindex {folder}` writes it anew"
        ) from error
    anew = f"`ros2 bag convert -i {folder} -o OPTIONS.yaml` can write it as sqlite3 or mcap"
    if version > _NEWEST_VERSION:
        raise InputError(f"{file}: is of version {version}, and {_NEWEST_VERSION} is the newest that is read; {anew}")
    if storage not in _STORAGES:
        raise InputError(
            f"{file}: storage_identifier {printable(storage, 60)!r} is not read, {' and '.join(_STORAGES)} are; {anew}"
        )
    if mode not in ("none", "file", "message", "storage"):
        raise InputError(f"{file}: compression_mode {printable(mode, 60)!r} is not read, file and message are; {anew}")
    if mode in ("file", "message") and packing != "zstd":
        raise InputError(f"{file}: compression_format {printable(packing, 60)!r} is not read, zstd is; {anew}")
    if not metadata.files:
        raise InputError(f"{file}: names no file; `ros2 bag reindex {folder}` writes it anew")
    return metadata


def _announced(entry: Any) -> Topic:
    described = entry["topic_metadata"]
    name, kind, encoding = described["name"], described["type"], described.get("serialization_format", "")
    if not all(isinstance(text, str) for text in (name, kind, encoding)):
        raise TypeError("a topic whose name, type or encoding is no text")
    return Topic(name, _encoded(kind, encoding), int(entry["message_count"]))


def _merged(topics: Iterable[Topic]) -> tuple[Topic, ...]:
    """One entry a topic: that of several publishers, of whom each offers another QoS, may be announced for each."""
    counts: Counter[tuple[str, str]] = Counter()
    for topic in topics:
        counts[topic.name, topic.type] += topic.count or 0
    return tuple(Topic(name, kind, count) for (name, kind), count in counts.items())


def _reader(file: Path) -> McapFile | SqliteFile:
    """By what the file begins with: names are changed."""
    if file.exists() and not file.is_file():
        raise InputError(f"{file}: is no file")
    with file.open("rb") as stream:
        start = stream.read(16)
    if start.startswith(mcap_file.MAGIC):
        return McapFile(file)
    if start.startswith(sqlite_file.MAGIC):
        return SqliteFile(file)
    if start.startswith(b"#ROSBAG") or file.suffix == ".bag":
        raise InputError(f"{file}: {_ROS1.format(file)}")
    if file.suffix in STORAGE_SUFFIXES:
        magic = mcap_file.MAGIC if file.suffix == ".mcap" else sqlite_file.MAGIC
        if magic.startswith(start):
            raise ReaderError(f"{file.name} has {len(start)} bytes")
        if not start.strip(b"\0"):
            raise ReaderError(f"{file.name} begins with zeros")
    if start.startswith(b"version https://"):
        raise InputError(f"{file}: only names a file that Git LFS keeps; `git lfs pull` fetches it")
    if file.suffix == ".zstd":
        raise InputError(f"{file}: is compressed as a whole; name its folder, or unpack it with `zstd -d {file}`")
    raise InputError(f"{file}: is neither a rosbag2 folder nor an MCAP or SQLite file; it begins with {start!r}")


def _held(connections: Iterable[Connection]) -> tuple[Topic, ...]:
    types: dict[str, set[str]] = {}
    counts: Counter[str] = Counter()
    for connection in connections:
        types.setdefault(connection.topic, set()).add(_type(connection))
        counts[connection.topic] += connection.msgcount
    return tuple(Topic(name, "|".join(sorted(found)), counts[name]) for name, found in types.items())


def _type(connection: Connection) -> str:
    return _encoded(connection.msgtype, getattr(connection.ext, "serialization_format", ""))


def _encoded(kind: str, encoding: str) -> str:
    """A type that is not serialised as CDR is another one to whoever reads: it is named so."""
    kind = "?" if kind == "__schemaless__" else kind
    return kind if encoding in ("", "cdr") else f"{kind} in {encoding}"


def _salvaged(path: Path) -> list[Topic]:
    """What a torn recording holds, as far as it can be told."""
    if path.is_dir():
        with suppress(Exception):
            return list(_read_metadata(path).topics)
    found: list[Topic] = []
    for file in _storage_files(path) if path.is_dir() else [path]:
        with suppress(Exception):
            salvaged = mcap_file.salvaged if file.suffix == ".mcap" else sqlite_file.salvaged
            found += [Topic(*topic) for topic in salvaged(file)]
    return found


def _storage_files(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.suffix in STORAGE_SUFFIXES)
