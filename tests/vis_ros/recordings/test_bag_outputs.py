"""What stands after a recording was written, refused, replaced or cut short."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vis_ros.recordings.test_bags import STORAGES, frames
from vis_core.errors import InputError, OptionError
from vis_core.structures import Frame
from vis_ros.recordings.bag_writer import write_bag
from vis_ros.recordings.bags import ImageBag
from vis_ros.recordings.stream_files import new_stream


def test_a_recording_is_replaced_only_when_told(tmp_path):
    write_bag(frames(3), tmp_path / "bag")
    with pytest.raises(InputError, match="is there already; --force"):
        write_bag(frames(2), tmp_path / "bag")
    write_bag(frames(2), tmp_path / "bag", force=True, storage="mcap")
    with ImageBag(tmp_path / "bag") as bag:
        assert bag.length == 2
    assert [path.name for path in tmp_path.iterdir()] == ["bag"]


def test_force_does_not_remove_what_is_no_recording(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="is no recording"):
        write_bag(frames(), tmp_path / "photos", force=True)
    assert (tmp_path / "photos" / "holiday.jpg").exists()


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_recording_that_is_cut_short_leaves_nothing(tmp_path, storage, error):
    def failing() -> Iterator[Frame]:
        yield from frames(3)
        raise error

    with pytest.raises(error):
        write_bag(failing(), tmp_path / "bag", storage=storage)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_of_a_recording_is_put_in_order_with_a_line(tmp_path):
    stage, told = tmp_path / ".bag.partial", []
    (stage / "bag").mkdir(parents=True)
    (stage / "bag" / "bag.db3").write_bytes(b"torn")
    write_bag(frames(3), tmp_path / "bag", tell=told.append)
    assert len(told) == 1 and ".bag.partial: removed" in told[0]
    stage.mkdir()  # and now killed between the two renames of a replacement
    write_bag(frames(2), tmp_path / "new" / "bag")
    (tmp_path / "bag").rename(stage / ".replaced")
    (tmp_path / "new" / "bag").rename(stage / "bag")
    (tmp_path / "new").rmdir()
    with pytest.raises(InputError, match="is there already; --force"):
        write_bag(frames(4), tmp_path / "bag")
    with ImageBag(tmp_path / "bag") as bag:
        assert bag.length == 2
    assert [path.name for path in tmp_path.iterdir()] == ["bag"]


def test_two_runs_never_write_one_recording(tmp_path):
    def others() -> Iterator[Frame]:
        with pytest.raises(OptionError, match="another recording writes there"):
            write_bag(frames(2), tmp_path / "bag")
        yield from frames(3)

    write_bag(others(), tmp_path / "bag")
    with ImageBag(tmp_path / "bag") as bag:
        assert bag.length == 3


def test_a_stream_that_is_there_is_replaced_with_the_first_message_and_not_before(tmp_path):
    path = tmp_path / "stream.jsonl"
    path.write_text("mine")
    (tmp_path / "stream.info.json").write_text("its companion")
    (tmp_path / ".stream.jsonl.7.part").write_text("of a dead process")
    with pytest.raises(InputError, match="is there already; --force"), new_stream(path):
        pass
    with new_stream(path, force=True):
        assert path.read_text() == "mine"
    assert path.read_text() == "mine" and (tmp_path / "stream.info.json").exists()
    with new_stream(path, force=True) as stream:
        stream.write("first")
        assert path.read_text() == "mine"
        stream.flush()
        assert path.read_text() == "first"
        with pytest.raises(OptionError, match="another recording writes there"), new_stream(path, force=True):
            pass
        stream.write(" second")
        stream.flush()
    assert path.read_text() == "first second"
    assert [entry.name for entry in tmp_path.iterdir()] == ["stream.jsonl"]


def test_no_frame_makes_no_recording(tmp_path):
    with pytest.raises(InputError, match="there is no frame"):
        write_bag([], tmp_path / "bag")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["encoding", "storage", "compression"])
def test_an_unknown_choice_is_named_with_the_known_ones(tmp_path, option):
    with pytest.raises(OptionError, match=f"{option} 'gif' is none of"):
        write_bag(frames(), tmp_path / "bag", **{option: "gif"})
