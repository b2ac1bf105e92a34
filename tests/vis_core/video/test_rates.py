from __future__ import annotations

import cv2
import pytest

from tests.vis_core.commands.command_line import run, segment
from tests.vis_core.fake_system import FakeSegmenter
from tests.vis_core.video.container_files import matroska, write_video
from tests.vis_core.video.image_files import read_all
from vis_core.video.opening import open_video
from vis_core.video.rates import rate_of

# As a browser writes them: 24 frames at about 30 a second, in whole milliseconds, and a clock of 1000 ticks.
BROWSER = [round(i * 1000 / 30) + (0, 6, 2)[i % 3] for i in range(24)]


@pytest.mark.parametrize(
    ("times", "stated", "expected"),
    [
        (BROWSER, 1000, 30),
        ([i * 40 for i in range(20)], 25, 25),
        ([round(i * 1000 / 29.97) for i in range(300)], 29.97, 29.97),
        ([round(i * 1000 / 240) for i in range(300)], 240, 240),
        (list(range(300)), 1000, 1000),
        ([0, 80, 40, 120, 160], 25, 25),  # in the order of decoding
        ([i * 40 for i in range(40) if i % 4], 25, 25),  # the camera dropped every fourth
        ([0, 40, 80, 1080, 1120, 1160], 6.25, 25),  # the mean over a pause
        ([i * 500 for i in range(10)], 30, 2),
        ([], 30, 30),
        ([0], 1000, 1000),
        ([0, 0, 0, 0], 30, 30),
    ],
)
def test_a_stated_rate_holds_where_frames_follow_each_other_at_it(times, stated, expected):
    assert rate_of(times, stated) == pytest.approx(expected, rel=0.01)


def test_a_rate_that_is_the_clock_s_gives_way_to_that_of_the_frames(tmp_path):
    (tmp_path / "a.webm").write_bytes(matroska(BROWSER, live=True, fps=1000))
    assert cv2.VideoCapture(str(tmp_path / "a.webm")).get(cv2.CAP_PROP_FPS) == 1000
    assert open_video(tmp_path / "a.webm").fps == pytest.approx(30, rel=0.02)


def test_a_video_keeps_the_rate_that_its_frames_bear_out(tmp_path):
    write_video(tmp_path / "a.mp4", 12, "mp4v", 29.97)
    assert open_video(tmp_path / "a.mp4").fps == pytest.approx(29.97, rel=1e-6)


def test_the_overlay_of_a_browser_s_recording_has_as_many_frames_as_came(tmp_path, monkeypatch, shared):
    path = shared / "cases" / "reports" / "12-webm-thousand-fps" / "browser.webm"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    video = open_video(path)
    assert len(read_all(video)) == video.length == 24 and video.skipped == []
    assert video.fps == pytest.approx(30, rel=0.01)
    run(monkeypatch, FakeSegmenter(), *segment(path, tmp_path / "out"))
    overlay = open_video(tmp_path / "out" / "overlay.mp4")
    assert len(read_all(overlay)) == 24 and overlay.fps == pytest.approx(30, rel=0.01)
