from __future__ import annotations

import numpy as np
import pytest

from tests.vis_core.video.container_files import matroska, tables_first, trimmed, with_empty_chunks, write_video
from tests.vis_core.video.image_files import read_all
from vis_core.video.containers import UNKNOWN, Contents, read_contents
from vis_core.video.opening import open_video

PAUSES = [0, 40, 80, 480, 520, 560, 1560, 1600, 1640]


def _expect_sound(path, count):
    video = open_video(path)
    frames = read_all(video)
    assert (len(frames), video.length, video.skipped) == (count, count, [])
    return video, frames


@pytest.mark.parametrize("live", [False, True])
def test_a_video_with_pauses_is_sound(tmp_path, live):
    (tmp_path / "a.mkv").write_bytes(matroska(PAUSES, live))
    _, frames = _expect_sound(tmp_path / "a.mkv", len(PAUSES))
    assert [frame.stamp for frame in frames] == [1_000_000 * at for at in PAUSES]


@pytest.mark.parametrize(
    ("first", "lasting", "shown"), [(3, 7, 7), (0, 5, 5), (3.5, 5, 5), (3.8, 4.1, 4), (0.5, 30, 11), (11, 1, 1)]
)
def test_frames_that_an_edit_list_hides_are_not_missed(tmp_path, first, lasting, shown):
    write_video(tmp_path / "a.mp4", 12, "mp4v")
    (tmp_path / "b.mp4").write_bytes(trimmed((tmp_path / "a.mp4").read_bytes(), first, lasting, 10))
    _expect_sound(tmp_path / "b.mp4", shown)


def test_chunks_of_an_avi_that_hold_nothing_are_not_missed(tmp_path):
    write_video(tmp_path / "a.avi", 12, "MJPG")
    (tmp_path / "b.avi").write_bytes(with_empty_chunks((tmp_path / "a.avi").read_bytes(), [2, 3, 8]))
    _expect_sound(tmp_path / "b.avi", 9)


def test_frames_of_vp8_that_serve_as_references_alone_are_not_counted(tmp_path):
    data = matroska(PAUSES, codec=b"V_VP8")
    hidden = data.replace(b"\x80\xff\xd8", b"\x80\xef\xd8", 2)  # the bit that says whether a frame is shown
    (tmp_path / "a.webm").write_bytes(hidden)
    assert read_contents(tmp_path / "a.webm").frames == len(PAUSES) - 2


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "mp4v"), ("avi", "MJPG"), ("mkv", "")])
def test_what_stands_behind_the_end_of_a_file_is_no_damage(tmp_path, suffix, codec):
    path = tmp_path / f"a.{suffix}"
    write_video(path, 9, codec) if codec else path.write_bytes(matroska(PAUSES))
    path.write_bytes(path.read_bytes() + bytes(3000))
    _expect_sound(path, 9)


@pytest.mark.parametrize("name", ["packed_b_frames.avi", "trimmed.mp4", "variable_rate.mkv"])
def test_files_of_other_programs_are_sound(shared, name):
    path = shared / "cases" / "reports" / "08-sound-video-called-damaged" / name
    if not path.is_file():
        pytest.skip(f"needs {path}")
    _expect_sound(path, {"packed_b_frames.avi": 26, "trimmed.mp4": 8, "variable_rate.mkv": 11}[name])


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("rest", [b"", bytes(9000), np.random.default_rng(0).bytes(9000)])
def test_a_matroska_file_that_breaks_off_is_told(tmp_path, live, rest):
    data = matroska(PAUSES, live)
    (tmp_path / "a.mkv").write_bytes(data[: len(data) * 2 // 3] + rest)
    video = open_video(tmp_path / "a.mkv")
    assert 3 < len(read_all(video)) < len(PAUSES)
    assert "a.mkv" in video.skipped[-1].name and "damaged or cut off" in video.skipped[-1].reason


def test_a_matroska_file_cut_off_behind_its_frames_is_sound(tmp_path):
    cues = bytes.fromhex("1c53bb6b") + (1 << 56 | 100).to_bytes(8, "big") + bytes(20)
    (tmp_path / "a.mkv").write_bytes(matroska(PAUSES, live=True) + cues)
    video = open_video(tmp_path / "a.mkv")
    assert len(read_all(video)) == len(PAUSES) and video.skipped == []


def test_a_flash_video_that_breaks_off_is_told(tmp_path):
    path = tmp_path / "a.flv"
    write_video(path, 30, "FLV1")
    _expect_sound(path, 30)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    video = open_video(path)
    assert 10 < len(read_all(video)) < 30
    assert "a.flv" in video.skipped[-1].name and "damaged or cut off" in video.skipped[-1].reason


def test_an_mp4_that_is_cut_off_tells_how_many_frames_are_missing(tmp_path):
    write_video(tmp_path / "a.mp4", 30, "mp4v")
    data = tables_first((tmp_path / "a.mp4").read_bytes())
    (tmp_path / "a.mp4").write_bytes(data)
    _expect_sound(tmp_path / "a.mp4", 30)
    (tmp_path / "a.mp4").write_bytes(data[: len(data) * 2 // 3])
    video = open_video(tmp_path / "a.mp4")
    frames = read_all(video)
    assert 5 < len(frames) < 30
    assert "damaged or cut off" in video.skipped[-1].reason
    missing = len([item for item in video.skipped if "does not decode" in item.reason])
    assert f"{30 - len(frames) - missing} frames" in video.skipped[-1].name


def test_frames_of_an_avi_that_are_lost_within_it_are_told(tmp_path):
    write_video(tmp_path / "a.avi", 30, "MJPG")
    data = bytearray((tmp_path / "a.avi").read_bytes())
    data[len(data) // 2 : len(data) * 2 // 3] = bytes(len(data) * 2 // 3 - len(data) // 2)
    (tmp_path / "a.avi").write_bytes(data)
    video = open_video(tmp_path / "a.avi")
    frames = read_all(video)
    assert len(frames) < 30 and video.skipped


def test_tables_that_make_no_sense_tell_nothing(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, 12, "mp4v")
    data = path.read_bytes()
    assert read_contents(path) == Contents(12, 12, False)
    at = data.index(b"stts") + 12
    path.write_bytes(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])
    assert read_contents(path) == UNKNOWN
    for kind in (b"mdia", b"mvhd", b"stbl", b"stts", b"hdlr"):
        path.write_bytes(data.replace(kind, b"none"))
        assert read_contents(path) in (UNKNOWN, Contents(None, None, False))
    path.write_bytes(b"\0\0\0\x18ftyp")
    assert read_contents(path).frames is None
    (tmp_path / "a.ts").write_bytes(b"\x47" * 188)
    assert read_contents(tmp_path / "a.ts") == UNKNOWN
