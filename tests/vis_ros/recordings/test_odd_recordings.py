"""Recordings that bring statements, sizes or names of their own: nothing of it is run, and none takes room or time."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
from rosbags.rosbag2.reader import zstd  # type: ignore[attr-defined]

from tests.vis_ros.recordings.test_bags import START, image_message, text_message, write_messages
from tests.vis_ros.recordings.test_recording import CAMERA, change_metadata, image_bytes, record, stamps, text
from vis_core.errors import InputError
from vis_ros.recordings import mcap_file, recording, sqlite_file, unpacking
from vis_ros.recordings.bags import IMAGE, ImageBag
from vis_ros.recordings.mcap_file import MAGIC

FOR_EVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"


def refused(path: Path, words: str) -> None:
    """Opening it, or reading it to its end, is one short error."""
    with pytest.raises(InputError, match=words) as caught, ImageBag(path) as bag:
        list(bag)
    told = str(caught.value)
    assert len(told) < 6000 and told.isprintable()


def altered(folder: Path, *statements: str) -> Path:
    write_messages(folder, CAMERA)
    with closing(sqlite3.connect(folder / f"{folder.name}.db3", isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)
    return folder


# SQLite


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (
            ("ALTER TABLE messages RENAME TO m", f"CREATE VIEW messages AS SELECT * FROM m WHERE id IN ({FOR_EVER})"),
            r"bag\.db3: its messages is a view, no table.*is not run",
        ),
        (
            ("ALTER TABLE topics RENAME TO t", f"CREATE VIEW Topics AS SELECT * FROM t WHERE id IN ({FOR_EVER})"),
            r"bag\.db3: its topics is a view",
        ),
        (
            ("DROP TABLE topics", "CREATE VIRTUAL TABLE topics USING fts5(id, name, type)"),
            r"bag\.db3: its topics is a virtual table",
        ),
        (
            ("ALTER TABLE messages ADD COLUMN more BLOB AS (zeroblob(900000000)) VIRTUAL",),
            r"bag\.db3: its messages computes its column more",
        ),
        (("ALTER TABLE messages RENAME COLUMN data TO content",), r"bag\.db3: its messages has no column data"),
        (("DROP TABLE topics",), r"is an SQLite file but no rosbag2.*this has .*messages"),
        (("UPDATE topics SET name = x'00'",), "a topic has something else than"),
        (("UPDATE messages SET timestamp = 'late' WHERE id = 1",), "torn"),
        (("UPDATE messages SET data = 'text' WHERE id = 1",), "message 1 has a int for its time, and str data"),
    ],
)
def test_what_an_sqlite_file_computes_is_not_run(tmp_path, statements, words):
    refused(altered(tmp_path / "bag", *statements), words)


def test_views_triggers_and_qos_beside_the_messages_do_no_harm(tmp_path):
    qos = "a: &a [x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi"))
    folder = altered(
        tmp_path / "bag",
        "DROP TABLE schema",
        f"CREATE VIEW schema AS SELECT i AS schema_version FROM ({FOR_EVER}) ORDER BY i",
        "DROP TABLE message_definitions",
        f"CREATE VIEW message_definitions AS {FOR_EVER}",
        f"CREATE TRIGGER t AFTER INSERT ON messages BEGIN INSERT INTO topics {FOR_EVER}; END",
        f"UPDATE topics SET offered_qos_profiles = '{qos}'",
    )
    assert stamps(folder) == [0, 1, 2, 3]


def test_reading_an_sqlite_file_takes_no_more_steps_than_its_size_is_worth(tmp_path, monkeypatch):
    folder = altered(tmp_path / "bag", f"INSERT INTO messages SELECT i + 9, 2, 0, x'00' FROM ({FOR_EVER} LIMIT 9999)")
    assert stamps(folder) == [0, 1, 2, 3]
    monkeypatch.setattr(sqlite_file, "_STEPS_PER_BYTE", 0)
    monkeypatch.setattr(sqlite_file, "_STEPS_PER_CALL", 100)
    refused(folder, "torn: interrupted")


def test_a_journal_that_names_another_file_is_refused_and_that_file_stays(tmp_path):
    folder = write_messages(tmp_path / "bag", CAMERA)
    other = tmp_path / "precious"
    other.write_bytes(b"x")
    name = str(other).encode()
    named = struct.pack(">I", 1) + name + struct.pack(">II", len(name), sum(name)) + sqlite_file._JOURNAL_END
    (folder / "bag.db3-journal").write_bytes(sqlite_file._JOURNAL_END.ljust(512, b"\0") + named)
    refused(folder, r"bag\.db3-journal: belongs to several files")
    assert other.exists()


def test_large_messages_and_many_topics_are_refused(tmp_path, monkeypatch):
    folder = altered(tmp_path / "bag")
    monkeypatch.setattr(sqlite_file, "LARGEST", 100)
    refused(folder, r"bag\.db3: message 1 has \d+ bytes, and 100 are the most")
    monkeypatch.setattr(sqlite_file, "_MAX_TOPICS", 1)
    (folder / "metadata.yaml").unlink()
    with closing(sqlite3.connect(folder / "bag.db3", isolation_level=None)) as database:
        database.execute("INSERT INTO topics SELECT 7, 'x', type, serialization_format, '', '' FROM topics")
    with pytest.warns(UserWarning, match="no metadata"):
        refused(folder, "has more than 1 topics")


NAMES = ("a#b", "a?b", "a?mode=rwc", "a%b", "a%41b", "a b", "ä\u202eö", ":memory:", "file:x", "a'b\"c", "a\\b", "a&b;c")


@pytest.mark.parametrize("name", [*NAMES, os.fsdecode(b"a\xffb")])
def test_recordings_lie_under_any_name_and_no_file_is_made(tmp_path, name):
    folder = write_messages(tmp_path / "bag", CAMERA).rename(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    assert stamps(folder) == stamps(folder / "bag.db3") == [0, 1, 2, 3]
    shutil.move(folder / "bag.db3", tmp_path / f"{name}.db3")
    assert stamps(tmp_path / f"{name}.db3") == [0, 1, 2, 3]
    with pytest.raises(InputError, match="not there"):
        ImageBag(folder)
    with pytest.raises(InputError, match="no such recording"):
        ImageBag(folder / "absent.db3")
    assert len(list(tmp_path.rglob("*"))) == len(before)


# MCAP


def write_chunk(path: Path, compression: str, packed: bytes, size: int) -> Path:
    """An MCAP without a summary, of one chunk."""
    head = struct.pack("<QQQI", START, START, size, 0)
    chunk = record(6, head, text(compression), struct.pack("<Q", len(packed)), packed)
    path.write_bytes(
        MAGIC + record(1, text("ros2"), text("test")) + chunk + record(2, struct.pack("<QQI", 0, 0, 0)) + MAGIC
    )
    return path


PACKERS: dict[str, Callable[[bytes], bytes]] = {"zstd": zstd.compress, "lz4": lz4.frame.compress}


@pytest.mark.parametrize("compression", PACKERS)
@pytest.mark.parametrize(
    ("size", "words"),
    [
        (100, "torn: a chunk is said to have 100 bytes, and has more than 100"),
        (2 << 20, "torn: a chunk is said to have 2097152 bytes, and has 1048576"),
        (10**15, "a chunk is said to have 1000000000000000 bytes, and 536870912 are the most"),
    ],
)
def test_a_chunk_is_unpacked_to_what_is_said_of_it_and_no_further(tmp_path, compression, size, words):
    refused(write_chunk(tmp_path / "a.mcap", compression, PACKERS[compression](bytes(1 << 20)), size), words)


@pytest.mark.parametrize("compression", PACKERS)
def test_a_torn_chunk_is_torn(tmp_path, compression):
    packed = PACKERS[compression](os.urandom(1000))
    refused(write_chunk(tmp_path / "a.mcap", compression, packed[:-20], 1000), "torn")


def test_a_chunk_of_thousands_of_empty_frames_is_torn(tmp_path):
    refused(write_chunk(tmp_path / "a.mcap", "zstd", zstd.compress(b"") * 1001, 1000), "more than 1000 frames")


def chunk_records(path: Path) -> list[bytes]:
    """The records of the summary that name chunks."""
    content = path.read_bytes()
    (at,) = struct.unpack_from("<Q", content, len(content) - 28)
    found = []
    while content[at] != 2:
        end = at + 9 + struct.unpack_from("<Q", content, at + 1)[0]
        if content[at] == 8:
            found.append(content[at:end])
        at = end
    return found


def test_an_index_that_names_a_chunk_again_is_torn(tmp_path):
    folder = write_messages(tmp_path / "bag", CAMERA, "mcap", "STORAGE")
    assert stamps(folder) == [0, 1, 2, 3]
    file = folder / "bag.mcap"
    (named,) = chunk_records(file)
    file.write_bytes(file.read_bytes().replace(named, named + named))
    refused(folder, "torn: two of its chunks lie at byte")


def test_an_index_that_says_other_things_of_a_chunk_is_refused(tmp_path):
    folder = write_messages(tmp_path / "bag", CAMERA, "mcap", "STORAGE")
    file = folder / "bag.mcap"
    (named,) = chunk_records(file)
    content = file.read_bytes()
    file.write_bytes(content.replace(named, named[:-8] + struct.pack("<Q", 10**12)))
    refused(folder, "a chunk is said to have 1000000000000 bytes")
    file.write_bytes(content.replace(named, named[:25] + struct.pack("<Q", len(MAGIC)) + named[33:]))
    refused(folder, "torn: ")


def test_chunks_whose_times_reach_over_each_other_are_not_all_held(tmp_path, monkeypatch):
    images = {"/image": (IMAGE, [image_bytes(START + i) for i in range(4000)])}
    folder = write_messages(tmp_path / "bag", images, "mcap", "STORAGE")
    file = folder / "bag.mcap"
    named = chunk_records(file)
    assert len(named) > 2 and len(stamps(folder)) == 4000
    monkeypatch.setattr(mcap_file, "LARGEST", 1_200_000)
    assert len(stamps(folder)) == 4000
    content = file.read_bytes()
    for each in named:  # all begin, and end, with the first
        content = content.replace(each, each[:9] + named[0][9:17] + each[17:])
    file.write_bytes(content)
    refused(folder, "its chunks reach over each other's times.*mcap sort")


def test_thousands_of_topics_are_told_in_a_few_lines(tmp_path):
    channels = record(3, struct.pack("<H", 1), text("x" * 5000), text(""), text(b""))
    for i in range(3000):
        channels += record(4, struct.pack("<HH", i, 1), text(f"/{i}\x1b[2J" + "y" * 100), text("cdr"), text(b""))
    channels += record(5, struct.pack("<HIQQ", 0, 0, START, START), b"{}")
    path = tmp_path / "many.mcap"
    end = record(15, struct.pack("<I", 0)) + record(2, struct.pack("<QQI", 0, 0, 0)) + MAGIC
    path.write_bytes(MAGIC + record(1, text("ros2"), text("test")) + channels + end)
    refused(path, "no topic of images.*and 2980 more")
    path.write_bytes(path.read_bytes()[:-60])
    refused(path, "torn.*and 2980 more")


# Compression of messages and files


def test_a_message_is_unpacked_to_the_size_of_a_message_and_no_further(tmp_path, monkeypatch):
    folder = write_messages(tmp_path / "bag", CAMERA, "sqlite3", "MESSAGE")
    assert stamps(folder) == [0, 1, 2, 3]
    monkeypatch.setattr(unpacking, "LARGEST", 500)
    refused(folder, "a message has more than 500 bytes, the most that is unpacked")


def test_a_file_is_unpacked_to_a_hundred_times_its_size_and_no_further(tmp_path, monkeypatch):
    folder = write_messages(tmp_path / "bag", CAMERA, "sqlite3", "FILE")
    assert stamps(folder) == [0, 1, 2, 3]
    monkeypatch.setattr(unpacking, "_SMALL", 0)
    monkeypatch.setattr(unpacking, "_LARGEST_RATIO", 2)
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "copies"))
    refused(folder, r"bag\.db3\.zstd: takes more than .* unpacked, 2 times its size.*zstd -d")
    assert list((tmp_path / "copies").iterdir()) == []
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    refused(folder, r"bag\.db3\.zstd: takes more than .* has no more; set TMPDIR")


@pytest.mark.filterwarnings("ignore:/image stamp .*skipped", "ignore:.*is cut off")
@pytest.mark.parametrize("mode", ["NONE", "MESSAGE", "STORAGE"])
def test_a_recording_with_any_bytes_changed_is_read_or_refused_in_words(tmp_path, mode):
    storage, suffix = ("mcap", "mcap") if mode == "STORAGE" else ("sqlite3", "db3")
    folder = write_messages(tmp_path / "bag", CAMERA, storage, mode)
    file, random = folder / f"bag.{suffix}", np.random.default_rng(1)
    content = file.read_bytes()
    for _ in range(60):
        changed = bytearray(content)
        for at in random.integers(0, len(content), random.integers(1, 5)):
            changed[at] = random.choice([0, 1, 255, random.integers(256)])
        file.write_bytes(changed)
        try:
            with ImageBag(folder) as bag:
                list(bag)
        except InputError as error:
            assert len(str(error)) < 6000 and str(error).isprintable()  # noqa: PT017


# metadata.yaml


DOUBLED = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: &a [x]\n" + DOUBLED, "more than 100000 values, aliases"),
        ("rosbag2_bagfile_information: &a [*a]", "stands within what it stands for"),
        ("rosbag2_bagfile_information: {version: " + "1" * 10_000 + "}", "a number has 10000 characters"),
        ("a: " + "[" * 9_000, "nested more than 50 deep"),
        ("version: 1\nversion: 2", "the key 'version' stands twice"),
        ("a: \0", "not a text in UTF-8"),
        ("rosbag2_bagfile_information: []", "list indices"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_odd_metadata_is_one_short_error(tmp_path, content, words):
    folder = write_messages(tmp_path / "bag", CAMERA)
    (folder / "metadata.yaml").write_text(content)
    refused(folder, rf"metadata\.yaml: is not as rosbag2 writes it: .*{words}.*reindex")


@pytest.mark.filterwarnings("ignore:.*metadata.yaml does not name")
def test_metadata_that_names_odd_things_is_one_short_error(tmp_path):
    folder = write_messages(tmp_path / "bag", {"/talk": ("std_msgs/msg/String", [text_message()])})
    parts = [f"part_{i}" + "\x1b[2J" * 30 for i in range(3000)]
    change_metadata(folder, lambda told: told.update(relative_file_paths=parts))
    refused(folder, "and 2980 more, not there .of 3000 parts")
    change_metadata(folder, lambda told: told.update(relative_file_paths=["x" * 5000]))
    refused(folder, "cannot be read: .*too long")
    change_metadata(folder, lambda told: told.update(relative_file_paths=[".."]))
    refused(folder, r"\.\.: is no file")
    change_metadata(
        folder, lambda told: told.update(relative_file_paths=["bag.db3"], storage_identifier="\x1b[2J" * 999)
    )
    refused(folder, "storage_identifier .* is not read")
    change_metadata(folder, lambda told: told["topics_with_message_count"][0]["topic_metadata"].update(name=[1]))
    refused(folder, "a topic whose name, type or encoding is no text")


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.db3")
    refused(tmp_path / "a.db3", r"a\.db3: is no file")
    assert recording.listed(()) == "no topic that can be told" and image_message(START)
