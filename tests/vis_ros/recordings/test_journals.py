"""Journals beside an SQLite file, as a recorder leaves them that was stopped: read with it, in a copy, or refused."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.vis_ros.recordings.test_bags import START, image_message, write_messages
from tests.vis_ros.recordings.test_recording import CAMERA, image_bytes, stamps
from vis_core.errors import InputError
from vis_ros.recordings.bags import IMAGE, ImageBag


def stopped_hard(folder: Path, mode: str) -> Path:
    """A file of 3 messages after power went at 8: in the log alone (WAL); in the file, not yet for good (DELETE)."""
    three = {"/image": (IMAGE, [image_message(START + i) for i in range(3)])}
    source = write_messages(folder.with_name("whole"), three)
    folder.mkdir()
    writer = sqlite3.connect(source / "whole.db3", isolation_level=None)
    for pragma in (f"journal_mode={mode}", "wal_autocheckpoint=0", "synchronous=OFF"):
        writer.execute(f"PRAGMA {pragma}").fetchall()
    writer.execute("BEGIN")
    for i in range(3, 8):
        row = (START + i, image_bytes(START + i))
        writer.execute("INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)", row)
    if mode == "DELETE":
        shutil.copy(source / "whole.db3-journal", folder)
    writer.execute("COMMIT")
    if mode == "WAL":
        shutil.copy(source / "whole.db3-wal", folder)
    shutil.copy(source / "whole.db3", folder)
    writer.close()
    with closing(sqlite3.connect(f"{(folder / 'whole.db3').as_uri()}?immutable=1", uri=True)) as alone:
        assert alone.execute("SELECT COUNT(*) FROM messages").fetchall() == [(3 if mode == "WAL" else 8,)]
    return folder / "whole.db3"


@pytest.mark.parametrize(("mode", "count", "ending"), [("WAL", 8, "-wal"), ("DELETE", 3, "-journal")])
def test_a_journal_that_a_stopped_recorder_left_is_read_with_its_file(tmp_path, mode, count, ending):
    file = stopped_hard(tmp_path / "drive #1 at 50%", mode)
    before = {each.name: each.read_bytes() for each in file.parent.iterdir()}
    assert sorted(before) == ["whole.db3", f"whole.db3{ending}"]
    with pytest.warns(UserWarning, match=rf"whole\.db3: read with whole\.db3{ending} beside it, in a copy"):
        assert stamps(file) == list(range(count))
    assert {each.name: each.read_bytes() for each in file.parent.iterdir()} == before


def test_the_copy_with_a_journal_is_gone_when_the_recording_is_closed(tmp_path, monkeypatch):
    file = stopped_hard(tmp_path / "drive", "WAL")
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "copies"))
    with pytest.warns(UserWarning, match="in a copy"), ImageBag(file):
        assert len(list((tmp_path / "copies").iterdir())) == 1
    assert list((tmp_path / "copies").iterdir()) == []


def test_without_room_for_a_copy_a_journal_is_refused_with_what_to_do(tmp_path, monkeypatch):
    file = stopped_hard(tmp_path / "drive", "WAL")
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(InputError, match=r"whole\.db3-wal beside it.*which has 10: set TMPDIR.*open the copy once"):
        ImageBag(file)


def test_an_empty_journal_is_none(tmp_path, recwarn):
    folder = write_messages(tmp_path / "bag", CAMERA)
    (folder / "bag.db3-wal").touch()
    assert stamps(folder) == [0, 1, 2, 3]
    assert not recwarn.list
