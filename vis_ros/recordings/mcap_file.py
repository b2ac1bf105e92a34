"""MCAP files in which channels of any encoding may lie beside those of ROS 2."""

from __future__ import annotations

import heapq
import os
import struct
import warnings
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from rosbags.interfaces import Connection
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.storage_mcap import (
    MAXSIZE,
    ChunkInfo,
    McapReader,
    Statistics,
    read_bytes,
    read_exact,
    read_string,
)

from vis_core.errors import InputError, printable
from vis_ros.recordings.unpacking import FORMATS, LARGEST, unpack

MAGIC = b"\x89MCAP0\r\n"
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _SUMMARY_OFFSET = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0E
_DATA_END = 0x0F
_FOOTER_SIZE = 20
_MESSAGE_HEAD = 22
_TAIL = 9 + _FOOTER_SIZE + len(MAGIC)


class McapFile(McapReader):
    """``rosbags``' reader, to which definitions of messages and offered QoS are not shown: any may stand there.

    The profile may be missing too, as after a merge of files of several, or from writers that state none. Of a file
    that was cut off the whole records are read, with a warning. What is compressed is unpacked within bounds.

    Attributes:
        cut_off: its end is missing, so that there may be fewer messages than were announced.
    """

    cut_off = False
    _held = 0

    def _open(self) -> None:
        assert self.bio
        stream = self.bio
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        if stream.read(len(MAGIC)) != MAGIC:
            raise ReaderError("its first bytes are not those of MCAP")
        operation, length = _head(stream, size)
        if operation != _HEADER:
            raise ReaderError(f"begins with record {operation:#04x}, not with the header")
        profile = read_string(BytesIO(read_exact(stream, length)))
        if profile == "ros1":
            raise InputError(
                f"{self.path}: is an MCAP of ROS 1 (profile 'ros1'); make a rosbag2 of the ROS 1 bag that it comes "
                "from: `rosbags-convert --src BAG --dst FOLDER`"
            )
        self.data_start = stream.tell()
        footer = stream.seek(max(size - _TAIL, self.data_start))
        tail = stream.read()
        if len(tail) < _TAIL or not tail.endswith(MAGIC) or struct.unpack_from("<BQ", tail) != (_FOOTER, _FOOTER_SIZE):
            self._open_cut_off(size)
            return
        (summary,) = struct.unpack_from("<Q", tail, 9)
        if summary and not self.data_start <= summary <= footer:
            raise ReaderError(f"its summary is said to begin at byte {summary}")
        self.data_end = summary or footer
        if summary:
            self.read_index()
        if self.statistics is None or not self.schemas:
            self.connections.clear()
            self.meta_scan()
        self._check_chunks()
        self._count()

    def _open_cut_off(self, size: int) -> None:
        """Open what is before the cut: whole records, of which chunks are the larger ones."""
        assert self.bio
        self.cut_off = True
        self.data_end = _end_of_whole_records(self.bio, self.data_start, size)
        self.meta_scan()
        self._count()
        if not self.metadata.message_count:
            raise ReaderError("ends without a footer")
        warnings.warn(
            f"{self.path}: is cut off (the recorder was stopped hard, or a copy is not whole): the "
            f"{self.metadata.message_count} messages before are read, the last {size - self.data_end} bytes are not",
            stacklevel=6,
        )

    def read_index(self) -> None:
        """Topics, chunks and counts, from the summary."""
        assert self.bio
        self.bio.seek(self.data_end)
        end = self.bio.seek(0, os.SEEK_END) - len(MAGIC)
        self.bio.seek(self.data_end)
        summary = BytesIO()
        for stream, operation, size in _records(self.bio, end):
            if operation in (_FOOTER, _SUMMARY_OFFSET):
                break
            summary.write(_bare(operation, read_exact(stream, size)))
        self._take(summary)

    def meta_scan(self) -> None:
        """Topics and counts, from the records themselves; of a torn file, what is before the tear."""
        assert self.bio
        self.bio.seek(self.data_start)
        described: dict[tuple[int, bytes], bytes] = {}
        counts: Counter[int] = Counter()
        first, last = MAXSIZE, 0
        try:
            for stream, operation, size in self._unpacked(self.bio, self.data_end):
                if operation in (_SCHEMA, _CHANNEL):
                    record = read_exact(stream, size)
                    described.setdefault((operation, record[:2]), _bare(operation, record))
                elif operation == _MESSAGE:
                    channel, _, time, _ = struct.unpack("<HIQQ", read_exact(stream, _MESSAGE_HEAD))
                    counts[channel] += 1
                    first, last = min(first, time), max(last, time)
        finally:
            self._take(BytesIO(b"".join(described[key] for key in sorted(described))))
        self.statistics = Statistics(
            counts.total(), len(self.schemas), len(self.channels), 0, 0, 0, first, last, dict(counts)
        )

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Messages in order of their times.

        Raises:
            InputError: they are in no order, and there is no index that would tell it.
        """
        if self.chunks:
            wanted = {connection.id: connection for connection in connections}
            chunks = [
                self._chunk_messages(chunk, wanted)
                for chunk in self.chunks
                if not chunk.channel_count or not wanted.keys().isdisjoint(chunk.channel_count)
            ]
            for time, connection, data in heapq.merge(*chunks, key=lambda message: message[0]):
                if connection and (start is None or start <= time) and (stop is None or time < stop):
                    yield connection, time, data
            return
        last = 0
        for message in self.messages_scan(connections, start, stop):
            if message[1] < last:
                raise InputError(
                    f"{self.path}: has no index, and its messages are out of order (one of {message[1]} ns comes after "
                    f"{last} ns); `mcap sort {self.path} -o SORTED.mcap` orders them"
                )
            last = message[1]
            yield message

    def messages_scan(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Messages in the order in which they lie in the file."""
        assert self.bio
        self.bio.seek(self.data_start)
        wanted = {connection.id: connection for connection in connections}
        for time, connection, data in _wanted(self._unpacked(self.bio, self.data_end), wanted):
            if (start is None or start <= time) and (stop is None or time < stop):
                yield connection, time, data

    def _chunk_messages(
        self, chunk: ChunkInfo, wanted: Mapping[int, Connection]
    ) -> Iterator[tuple[int, Connection | None, bytes]]:
        """Messages of a chunk in order of their times, after one that is none: it is unpacked when its turn comes."""
        assert self.bio
        yield chunk.message_start_time, None, b""
        self.bio.seek(chunk.chunk_start_offset)
        operation, size = _head(self.bio, self.data_end)
        if operation != _CHUNK:
            raise ReaderError(f"the index names a chunk at byte {chunk.chunk_start_offset}, where there is none")
        self._held += chunk.uncompressed_size
        if self._held > 2 * LARGEST:
            raise InputError(
                f"{self.path}: its chunks reach over each other's times, more than {2 * LARGEST} bytes of them; "
                f"`mcap sort {self.path} -o SORTED.mcap` orders them"
            )
        found = list(_wanted(self._chunk_records(BytesIO(read_exact(self.bio, size))), wanted))
        yield from sorted(found, key=lambda message: message[0])
        self._held -= chunk.uncompressed_size

    def _take(self, records: BytesIO) -> None:
        """Let the library read records that stand alone, as if they were the summary."""
        records.seek(0, os.SEEK_END)
        records.write(bytes([_FOOTER]))
        file, end = self.bio, self.data_end
        self.bio, self.data_end = records, 0
        try:
            super().read_index()
        finally:
            self.bio, self.data_end = file, end

    def _unpacked(self, stream: BinaryIO, end: int) -> Iterator[tuple[BinaryIO, int, int]]:
        """The records up to ``end``, those in chunks too."""
        for _, operation, size in _records(stream, end):
            if operation != _CHUNK:
                yield stream, operation, size
                continue
            yield from self._chunk_records(BytesIO(read_exact(stream, size)))

    def _chunk_records(self, chunk: BinaryIO) -> Iterator[tuple[BinaryIO, int, int]]:
        _, _, size, checksum = struct.unpack("<QQQI", read_exact(chunk, 28))
        compression = read_string(chunk)
        self._check_compression(compression)
        raw = unpack(read_exact(chunk, struct.unpack("<Q", read_exact(chunk, 8))[0]), compression, size)
        if checksum and crc32(raw) != checksum:
            raise ReaderError("the checksum of a chunk is another one")
        yield from _records(BytesIO(raw), size)

    def _check_chunks(self) -> None:
        """Chunks lie one after the other: an index may not have one unpacked again and again."""
        end = self.data_start
        for chunk in sorted(self.chunks, key=lambda chunk: chunk.chunk_start_offset):
            if chunk.chunk_start_offset < end:
                raise ReaderError(f"two of its chunks lie at byte {chunk.chunk_start_offset}")
            end = chunk.chunk_start_offset + chunk.chunk_length
            self._check_compression(chunk.compression)
            if chunk.uncompressed_size > LARGEST:
                raise InputError(
                    f"{self.path}: a chunk is said to have {chunk.uncompressed_size} bytes, and {LARGEST} are the most "
                    "that is unpacked; `mcap compress --chunk-size` writes smaller ones"
                )

    def _check_compression(self, name: str) -> None:
        if name not in FORMATS:
            shown = printable(repr(name), 60)
            raise InputError(
                f"{self.path}: its chunks are compressed by {shown}, and zstd and lz4 are what is read; "
                "`mcap compress` writes zstd, where it can read them"
            )

    def _count(self) -> None:
        assert self.statistics
        found = self.statistics
        counts, some = found.channel_message_counts, found.message_count > 0
        self.connections = [c._replace(msgcount=counts.get(c.id, 0)) for c in self.connections]
        self.metadata = self.metadata._replace(
            duration=found.end_time - found.start_time + 1 if some else 0,
            start_time=found.start_time if some else MAXSIZE,
            end_time=found.end_time + 1 if some else 0,
            message_count=found.message_count,
        )


def salvaged(file: Path) -> list[tuple[str, str, int]]:
    """Name, type and number of messages of each topic in what is whole of a torn file."""
    reader = McapFile(file)
    counts: Counter[int] = Counter()
    with file.open("rb") as stream:
        reader.bio = stream
        reader.data_start, reader.data_end = len(MAGIC), file.stat().st_size
        with suppress(Exception):
            reader.meta_scan()
        with suppress(Exception):
            counts.update(connection.id for connection, _, _ in reader.messages_scan(reader.connections))
    return [(c.topic, c.msgtype, counts[c.id]) for c in reader.connections]


def _head(stream: BinaryIO, end: int) -> tuple[int, int]:
    """Operation code and size of the record that begins here; the stream then stands at its content."""
    operation, size = struct.unpack("<BQ", read_exact(stream, 9))
    if stream.tell() + size > end:
        raise ReaderError(f"a record of {size} bytes at byte {stream.tell() - 9} goes past the end")
    return operation, size


def _records(stream: BinaryIO, end: int) -> Iterator[tuple[BinaryIO, int, int]]:
    while stream.tell() < end:
        operation, size = _head(stream, end)
        after = stream.tell() + size
        yield stream, operation, size
        stream.seek(after)


def _end_of_whole_records(stream: BinaryIO, start: int, size: int) -> int:
    """Where the messages of a file that was cut off end."""
    end = start
    while True:
        stream.seek(end)
        head = stream.read(9)
        operation, length = struct.unpack("<BQ", head) if len(head) == 9 else (_DATA_END, 0)
        if operation in (0, _DATA_END) or end + 9 + length > size:  # zeros: room that was taken and not filled
            return end
        end += 9 + length


def _wanted(
    records: Iterator[tuple[BinaryIO, int, int]], wanted: Mapping[int, Connection]
) -> Iterator[tuple[int, Connection, bytes]]:
    """Time, connection and content of the messages among records that are of some connections."""
    for stream, operation, size in records:
        if operation == _MESSAGE:
            channel, _, time, _ = struct.unpack("<HIQQ", read_exact(stream, _MESSAGE_HEAD))
            if channel in wanted:
                yield time, wanted[channel], read_exact(stream, size - _MESSAGE_HEAD)


def _bare(operation: int, record: bytes) -> bytes:
    """A record whole, but a schema without its definition, which may be no text, and a channel without its metadata."""
    stream = BytesIO(record)
    if operation == _SCHEMA:
        identity = read_exact(stream, 2)
        record = identity + _sized(read_bytes(stream)) + _sized(b"") + _sized(b"")
    elif operation == _CHANNEL:
        identities = read_exact(stream, 4)
        record = identities + _sized(read_bytes(stream)) + _sized(read_bytes(stream)) + _sized(b"")
    return struct.pack("<BQ", operation, len(record)) + record


def _sized(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content
