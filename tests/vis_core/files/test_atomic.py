"""Files stand whole or not at all."""

from __future__ import annotations

import errno

import pytest

from vis_core.files.atomic import atomic_write


def test_a_file_takes_its_place_once_it_is_whole_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new" / "scores.json"
    with atomic_write(path) as partial:
        partial.write_text("half")
        assert not path.exists() and partial.parent == path.parent
        partial.write_text("whole")
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("no number"), KeyboardInterrupt()]
)
def test_where_the_writing_fails_the_file_before_stands(tmp_path, error):
    path = tmp_path / "scores.json"
    path.write_text("before")

    def write():
        with atomic_write(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_system_names_the_file_that_was_to_be_written(tmp_path):
    path = tmp_path / "scores.json"
    with pytest.raises(OSError, match="No space left") as caught, atomic_write(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(path)
