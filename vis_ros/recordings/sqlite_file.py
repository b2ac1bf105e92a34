"""SQLite files of rosbag2, with what a recorder that was stopped hard has left beside them."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import struct
import tempfile
import warnings
from collections.abc import Collection, Generator, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.metadata import ReaderMetadata

from vis_core.errors import InputError, printable
from vis_ros.recordings.unpacking import LARGEST

MAGIC = b"SQLite format 3\0"
_JOURNAL_END = bytes.fromhex("d9d505f920a163d7")
_COLUMNS = {"topics": {"id", "name", "type"}, "messages": {"topic_id", "timestamp", "data"}}
_MAX_TOPICS = 10_000
_MAX_CONNECTIONS = 500
_STEPS_PER_CALL = 100_000
_STEPS_PER_BYTE = 50


class SqliteFile:
    """The topics and messages of one file.

    An SQLite file can bring statements of its own, which run when it is read: views, virtual tables, computed columns.
    So its messages and topics are read from plain tables alone, by statements of ours, which may take as many steps as
    its size is worth (pages that name others again and again would take them for ever). Of a file with a journal beside
    it, a whole copy is read. Nothing is ever written where it lies.

    Attributes:
        connections: the topics, with the number of messages of each.
        metadata: number and duration of the messages.
        cut_off: never: of such a file nothing is read.
    """

    cut_off = False

    def __init__(self, path: Path) -> None:
        self._file = path
        self._closing = ExitStack()
        self._database: sqlite3.Connection | None = None
        self._calls = 0
        self.connections: list[Connection] = []
        self.metadata = ReaderMetadata(0, 0, 0, 0, None, None, None, None)

    def open(self) -> None:
        """Open the file; the write-ahead log and the journal beside it are taken into a copy, as SQLite does.

        Raises:
            InputError: no rosbag2, or there is no room for a copy.
        """
        try:
            journals = [file for file in side_files(self._file) if file.exists() and file.stat().st_size]
            file = self._copied(journals) if journals else self._file
            _check_pages(file)
            self._database = self._closing.enter_context(closing(_connected(file)))
            most = _STEPS_PER_BYTE * file.stat().st_size // _STEPS_PER_CALL + 100
            self._database.set_progress_handler(lambda: self._called() > most, _STEPS_PER_CALL)
            self._check_tables(self._database)
            self._read_topics(self._database)
        except BaseException:
            self._closing.close()
            raise

    def close(self) -> None:
        """Close the file; a copy is removed."""
        self._closing.close()

    def messages(self, connections: Collection[Connection]) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Connection, time (nanoseconds) and serialised message, of each message in order of the times."""
        assert self._database
        self._calls = 0
        by_id = {connection.id: connection for connection in connections}
        if len(by_id) > _MAX_CONNECTIONS:
            raise ReaderError(f"{len(by_id)} topics have the same name")
        rows: Iterator[tuple[Any, ...]] = self._database.execute(
            "SELECT rowid, topic_id, timestamp, length(data) FROM main.messages "  # noqa: S608 - question marks
            f"WHERE topic_id IN ({','.join('?' * len(by_id))}) ORDER BY timestamp, rowid",
            tuple(by_id),
        )
        for row, topic, time, size in rows:
            if type(size) is int and size > LARGEST:
                raise InputError(
                    f"{self._file}: message {row} has {size} bytes, and {LARGEST} are the most that is read"
                )
            ((data,),) = self._database.execute("SELECT data FROM main.messages WHERE rowid = ?", (row,))
            if type(time) is not int or type(data) is not bytes:
                raise ReaderError(
                    f"message {row} has a {type(time).__name__} for its time, and {type(data).__name__} data"
                )
            yield by_id[topic], time, data

    def _called(self) -> int:
        self._calls += 1
        return self._calls

    def _copied(self, journals: list[Path]) -> Path:
        file, names = self._file, " and ".join(journal.name for journal in journals)
        _check_journals(journals)
        before = [_state(each) for each in (file, *journals)]
        needed = 2 * sum(size for size, _ in before)  # what is in the journal is moved into the copy
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if free < needed:
            raise InputError(
                f"{file}: has {names} beside it, which belongs to it (the recorder was stopped hard); reading both "
                f"takes {needed} bytes in {tempfile.gettempdir()}, which has {free}: set TMPDIR to a place with more, "
                "or copy file and journal elsewhere and open the copy once: `sqlite3 COPY 'PRAGMA journal_mode=DELETE'`"
            )
        folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="vis_ros_")))
        for each in (file, *journals):
            shutil.copyfile(each, folder / each.name)
        if before != [_state(each) for each in (file, *journals) if each.exists()]:
            raise InputError(f"{file}: is being written, with {names}; read it when the recorder has ended")
        with closing(sqlite3.connect(folder / file.name)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        warnings.warn(f"{file}: read with {names} beside it, in a copy (the recorder was stopped hard)", stacklevel=6)
        return folder / file.name

    def _check_tables(self, database: sqlite3.Connection) -> None:
        rows = database.execute(
            "SELECT lower(name), type FROM sqlite_master WHERE type IN ('table', 'view')"
        ).fetchall()
        if not _COLUMNS.keys() <= {name for name, _ in rows}:
            tables = ", ".join(sorted(str(name) for name, _ in rows)) or "none"
            raise InputError(
                f"{self._file}: is an SQLite file but no rosbag2, which has tables messages and topics; "
                f"this has {printable(tables)}"
            )
        for table in _COLUMNS:
            if fault := _fault(database, table):
                raise InputError(
                    f"{self._file}: its {table} {fault}: no recorder writes that, and what a file computes is not run"
                )

    def _read_topics(self, database: sqlite3.Connection) -> None:
        topics = _topics(database)
        if len(topics) > _MAX_TOPICS:
            raise InputError(f"{self._file}: has more than {_MAX_TOPICS} topics, the most that is read")
        counts: dict[Any, int] = {}
        first: list[int] = []
        last: list[int] = []
        known = {identity for identity, *_ in topics}
        for topic, count, low, high in database.execute(
            "SELECT topic_id, COUNT(*), MIN(timestamp), MAX(timestamp) FROM main.messages GROUP BY topic_id"
        ):
            if topic in known:
                counts[topic] = count
                first.append(int(low))
                last.append(int(high))
        begin, end = min(first, default=0), max(last, default=-1) + 1
        self.connections = [
            Connection(
                identity,
                name,
                kind,
                MessageDefinition(MessageDefinitionFormat.NONE, ""),
                "",
                counts.get(identity, 0),
                ConnectionExtRosbag2(encoding, []),
                self,
            )
            for identity, name, kind, encoding in topics
        ]
        self.metadata = ReaderMetadata(end - begin, begin, end, sum(counts.values()), None, None, None, None)


def side_files(file: Path) -> list[Path]:
    """Where SQLite keeps what is not yet, or no more, in the file itself."""
    return [file.with_name(file.name + ending) for ending in ("-wal", "-journal")]


def salvaged(file: Path) -> list[tuple[str, str, int | None]]:
    """Name, type and number of messages of each topic in what is whole of a torn file."""
    with closing(_connected(file)) as database:
        calls = iter(range(_MAX_TOPICS))
        database.set_progress_handler(lambda: next(calls, None) is None, _STEPS_PER_CALL)
        if _fault(database, "topics"):
            return []
        topics = _topics(database)
        counts: dict[int, int] = {}
        with suppress(sqlite3.Error):
            if not _fault(database, "messages"):
                counts = dict(database.execute("SELECT topic_id, COUNT(*) FROM main.messages GROUP BY topic_id"))
    return [(name, kind, counts.get(identity)) for identity, name, kind, _ in topics]


def _connected(file: Path) -> sqlite3.Connection:
    address = f"file:{quote(os.fsencode(file.absolute()))}?mode=ro&immutable=1"
    database = sqlite3.connect(address, uri=True, check_same_thread=False)
    for pragma in ("query_only=ON", "trusted_schema=OFF", "cell_size_check=ON"):
        database.execute(f"PRAGMA {pragma}").fetchall()
    return database


def _fault(database: sqlite3.Connection, table: str) -> str:
    """Why a table is not read; empty if it is a plain one with the columns of rosbag2."""
    rows = database.execute("SELECT type, rootpage, sql FROM sqlite_master WHERE lower(name) = ?", (table,)).fetchall()
    if len(rows) != 1 or rows[0][0] != "table":
        return f"is a {rows[0][0]}, no table" if rows else "is not there"
    _, root, statement = rows[0]
    if not root or not re.match(r"CREATE\s+TABLE\b", str(statement), re.IGNORECASE):
        return "is a virtual table"
    columns = database.execute(f"PRAGMA main.table_xinfo({table})").fetchall()
    if computed := [column[1] for column in columns if column[6]]:
        return f"computes its column {printable(computed[0], 60)}"
    if missing := sorted(_COLUMNS[table] - {column[1] for column in columns}):
        return f"has no column {', '.join(missing)}"
    return ""


def _topics(database: sqlite3.Connection) -> list[tuple[int, str, str, str]]:
    """Number, name, type and encoding of the topics, at most one more than are read."""
    columns = {column[1] for column in database.execute("PRAGMA main.table_xinfo(topics)")}
    encoding = "serialization_format" if "serialization_format" in columns else "''"
    rows = database.execute(
        f"SELECT id, name, type, {encoding} FROM main.topics ORDER BY id LIMIT {_MAX_TOPICS + 1}"  # noqa: S608 - ours
    ).fetchall()
    if any([type(value) for value in row] != [int, str, str, str] for row in rows):
        raise ReaderError("a topic has something else than a number, a name, a type and an encoding")
    return rows


def _state(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _check_journals(journals: list[Path]) -> None:
    """Refuse a journal that belongs to several files: SQLite removes the one that it names, wherever that lies."""
    for journal in journals:
        with journal.open("rb") as stream:
            stream.seek(max(0, journal.stat().st_size - len(_JOURNAL_END)))
            if journal.name.endswith("-journal") and stream.read() == _JOURNAL_END:
                raise InputError(f"{journal}: belongs to several files, as no recorder's does; move it away")


def _check_pages(file: Path) -> None:
    """Refuse an SQLite file without its end: SQLite reads zeros there, which would be black pixels."""
    with file.open("rb") as stream:
        header = stream.read(100)
    if len(header) < 100:
        raise ReaderError(f"{file.name} has {len(header)} bytes")
    page_size, pages = struct.unpack_from(">H", header, 16)[0], struct.unpack_from(">I", header, 28)[0]
    needed = pages * (65536 if page_size == 1 else page_size)
    counted = header[24:28] == header[92:96]  # else the number of pages is not kept
    if counted and file.stat().st_size < needed:
        raise ReaderError(f"{file.name} has {file.stat().st_size} of its {needed} bytes")
