"""SQLite files of rosbag2, with what a recorder that was stopped hard has left beside them."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import tempfile
import warnings
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from urllib.parse import quote

from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from vis_core.errors import InputError

MAGIC = b"SQLite format 3\0"


class SqliteFile(Sqlite3Reader):
    """``rosbags``' reader, which sees the one file alone: of one with a journal beside it, it is given a whole copy."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = path
        self._copy = ExitStack()

    def open(self) -> None:
        """Open the file; the write-ahead log and the journal beside it are taken into a copy, as SQLite does.

        Raises:
            InputError: no rosbag2, or there is no room for a copy.
        """
        try:
            journals = [file for file in side_files(self._file) if file.exists() and file.stat().st_size]
            file = self._copied(journals) if journals else self._file
            _check_pages(file)
            self._check_tables(file)
            self.path = Path(quote(str(file.absolute())))  # it goes into a URI
            super().open()
        except BaseException:
            self._copy.close()
            raise

    def close(self) -> None:
        """Close the file; a copy is removed."""
        super().close()
        self._copy.close()

    def _copied(self, journals: list[Path]) -> Path:
        file, names = self._file, " and ".join(journal.name for journal in journals)
        before = [_state(each) for each in (file, *journals)]
        needed = 2 * sum(size for size, _ in before)  # what is in the journal is moved into the copy
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if free < needed:
            raise InputError(
                f"{file}: has {names} beside it, which belongs to it (the recorder was stopped hard); reading both "
                f"takes {needed} bytes in {tempfile.gettempdir()}, which has {free}: set TMPDIR to a place with more, "
                "or copy file and journal elsewhere and open the copy once: `sqlite3 COPY 'PRAGMA journal_mode=DELETE'`"
            )
        folder = Path(self._copy.enter_context(tempfile.TemporaryDirectory(prefix="vis_ros_")))
        for each in (file, *journals):
            shutil.copyfile(each, folder / each.name)
        if before != [_state(each) for each in (file, *journals) if each.exists()]:
            raise InputError(f"{file}: is being written, with {names}; read it when the recorder has ended")
        with closing(sqlite3.connect(folder / file.name)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        warnings.warn(f"{file}: read with {names} beside it, in a copy (the recorder was stopped hard)", stacklevel=6)
        return folder / file.name

    def _check_tables(self, file: Path) -> None:
        with closing(_connected(file)) as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"messages", "topics"} <= names:
            raise InputError(
                f"{self._file}: is an SQLite file but no rosbag2, which has tables messages and topics; "
                f"this has {', '.join(sorted(names)) or 'none'}"
            )


def side_files(file: Path) -> list[Path]:
    """Where SQLite keeps what is not yet, or no more, in the file itself."""
    return [file.with_name(file.name + ending) for ending in ("-wal", "-journal")]


def salvaged(file: Path) -> list[tuple[str, str, int | None]]:
    """Name, type and number of messages of each topic in what is whole of a torn file."""
    with closing(_connected(file)) as connection:
        topics = connection.execute("SELECT id, name, type FROM topics").fetchall()
        counts: dict[int, int] = {}
        with suppress(sqlite3.Error):
            counts = dict(connection.execute("SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id"))
    return [(name, kind, counts.get(identity)) for identity, name, kind in topics]


def _connected(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file.absolute()))}?immutable=1", uri=True)


def _state(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


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
