from __future__ import annotations

import struct
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.vis_core.video.container_files import write_video
from tests.vis_core.video.fake_capture import FakeCapture
from tests.vis_core.video.image_files import picture, read_all, with_orientation, write_folder
from vis_core.errors import InputError
from vis_core.video.images import read_image
from vis_core.video.opening import open_video
from vis_core.video.sources import Camera

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the data folder ../shared/data is absent")


def test_a_folder_gives_its_images_in_natural_order_as_rgb_with_stamps_by_rate(tmp_path):
    files = write_folder(tmp_path / "walk", 11)
    with open_video(tmp_path / "walk", fps=20) as video:
        frames = list(video)
    assert (video.name, video.length, video.fps, video.size) == ("walk", 11, 20, (48, 64))
    assert [frame.index for frame in frames] == list(range(11))
    assert [frame.stamp for frame in frames] == [i * 50_000_000 for i in range(11)]
    assert video.files == tuple(files)
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, picture(i))


def test_a_source_may_be_iterated_again(tmp_path):
    write_folder(tmp_path / "a")
    video = open_video(tmp_path / "a")
    assert [f.index for f in video] == [f.index for f in video] == [0, 1, 2]


def test_leaving_a_loop_early_leaves_no_thread(tmp_path):
    write_folder(tmp_path / "a")
    video = open_video(tmp_path / "a")
    for _ in video:
        break
    assert not [t for t in threading.enumerate() if t.name.startswith("vis-video")]
    running = iter(video)
    next(running)
    video.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("vis-video")]
    assert list(running) == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[: len(data) // 2], "cut off"),
        (lambda data: data[:3], "cut off within its header"),
        (lambda data: b"", "empty"),
        (lambda data: b"GIF89a or anything", "not a JPEG"),
    ],
)
def test_a_damaged_jpeg_is_named_and_left_out_and_the_rest_goes_on(tmp_path, damage, reason):
    files = write_folder(tmp_path / "a", 4, ".jpg")
    files[1].write_bytes(damage(files[1].read_bytes()))
    video = open_video(tmp_path / "a")
    told = []
    video.on_skip = told.append
    assert [frame.index for frame in video] == [0, 2, 3]
    assert told == video.skipped
    assert video.skipped[0].name == str(files[1])
    assert reason in video.skipped[0].reason


def test_without_a_listener_a_frame_left_out_is_a_warning(tmp_path):
    files = write_folder(tmp_path / "a")
    files[2].write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"2\.png: not a JPEG"):
        assert len(list(open_video(tmp_path / "a"))) == 2


def test_a_frame_of_another_size_is_left_out(tmp_path):
    files = write_folder(tmp_path / "a")
    cv2.imwrite(str(files[1]), picture(0, (20, 30)))
    video = open_video(tmp_path / "a")
    assert [frame.index for frame in read_all(video)] == [0, 2]
    assert "30x20, the video is 64x48" in video.skipped[0].reason


def test_grey_alpha_and_sixteen_bits_become_rgb(tmp_path):
    grey = picture()[:, :, 0]
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "deep.png"), grey.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([picture()[:, :, ::-1], np.full(grey.shape, 9, np.uint8)]))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.dstack([grey] * 3))
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), np.dstack([grey] * 3))
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), picture())


def test_the_exif_orientation_is_applied(tmp_path):
    data = cv2.imencode(".jpg", picture())[1].tobytes()
    (tmp_path / "turned.jpg").write_bytes(with_orientation(data, 6))
    (tmp_path / "plain.jpg").write_bytes(data)
    expected = np.rot90(read_image(tmp_path / "plain.jpg"), -1)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.jpg"), expected)
    assert open_video(tmp_path / "turned.jpg").size == (64, 48)


def _png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def _jpeg_header(width: int, height: int) -> bytes:
    return b"\xff\xd8\xff\xc0\x00\x0b\x08" + struct.pack(">HH", height, width) + b"\1\1\x11\0\xff\xda\0\2\xff\xd9"


def _bmp_header(width: int, height: int) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<Iii", 40, width, -height) + bytes(28)


def _webp_header(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + size


@pytest.mark.parametrize("header", [_png_header, _jpeg_header, _bmp_header, _webp_header])
def test_an_image_too_large_is_refused_by_its_header_before_it_is_decoded(tmp_path, header, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    (tmp_path / "huge.png").write_bytes(header(50_000, 40_000))
    with pytest.raises(InputError, match=r"huge\.png: size 50000x40000"):
        read_image(tmp_path / "huge.png")


def test_a_path_with_nothing_to_read_is_an_error_that_names_it(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.png").write_bytes(b"x")
    (tmp_path / "note.txt").write_text("hello")
    (tmp_path / "zero.mp4").write_bytes(b"")
    for name, reason in [
        ("absent.mp4", "no such file"),
        ("empty", "holds no image"),
        ("bad", "none of its 1 images"),
        ("note.txt", "is no video"),
        ("zero.mp4", "is no video"),
    ]:
        with pytest.raises(InputError, match=f"{name}.*{reason}"):
            open_video(tmp_path / name)
    with pytest.raises(InputError, match="fps 0"):
        open_video(tmp_path, fps=0)


def test_a_video_without_a_frame_is_an_error(tmp_path):
    write_video(tmp_path / "a.avi", 0, "MJPG")
    with pytest.raises(InputError, match=r"a\.avi"):
        open_video(tmp_path / "a.avi")


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mp4v"), ("a.avi", "MJPG")])
def test_a_video_file_gives_its_frames_with_the_container_s_times(tmp_path, name, codec):
    write_video(tmp_path / name, 12, codec)
    with open_video(tmp_path / name) as video:
        frames = list(video)
    assert (video.name, video.length, video.fps, video.size) == ("a", 12, 10, (120, 160))
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.stamp for frame in frames] == [i * 100_000_000 for i in range(12)]
    assert video.skipped == []
    expected = np.roll(picture(0, (120, 160)), 9, 1)[:, :, ::-1]
    assert cv2.PSNR(frames[3].image, np.ascontiguousarray(expected)) > 25


def test_a_damaged_video_tells_what_is_missing_and_gives_the_rest(tmp_path):
    write_video(tmp_path / "a.mp4", 60, "mp4v")
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    start = len(data) // 2
    data[start : start + len(data) // 10] = np.random.default_rng(0).bytes(len(data) // 10)
    (tmp_path / "a.mp4").write_bytes(data)
    video = open_video(tmp_path / "a.mp4")
    frames = read_all(video)
    missing = sum(1 for item in video.skipped if "does not decode" in item.reason)
    assert 40 < len(frames) < 60
    assert len(frames) + missing == 60 or "announces 60 frames" in video.skipped[-1].reason
    assert all("a.mp4" in item.name for item in video.skipped)
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    stamps = [frame.stamp for frame in frames]
    assert stamps == sorted(set(stamps))


def test_a_video_that_is_cut_off_gives_the_frames_that_are_there(tmp_path):
    write_video(tmp_path / "a.avi", 30, "MJPG")
    data = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(data[: len(data) * 2 // 3])
    video = open_video(tmp_path / "a.avi")
    frames = read_all(video)
    assert 10 < len(frames) < 30
    assert f"{30 - len(frames)} frames" in video.skipped[-1].name


@pytest.mark.parametrize("device", [0, "0", "camera:0"])
def test_a_camera_is_a_source_without_length_that_ends_when_unplugged(monkeypatch, device, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    with open_video(device) as video:
        assert isinstance(video, Camera)
        assert (video.name, video.length, video.fps, video.size) == ("camera0", None, 30, (48, 64))
        frames = list(video)
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert frames[0].stamp > 10**18
    assert video._capture.released


def test_a_camera_that_is_not_there_is_an_error(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    with pytest.raises(InputError, match="/dev/video9"):
        open_video("camera:9")


@needs_shared
def test_a_real_clip_is_read_whole():
    video = open_video(SHARED / "clips" / "person_and_dog.mp4")
    frames = list(video)
    assert (len(frames), video.length, video.fps, video.size) == (120, 120, 15, (270, 480))
    assert video.skipped == []
    assert frames[-1].stamp == pytest.approx(119 / 15 * 1e9, rel=1e-6)
