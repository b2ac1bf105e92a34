"""Videos that browsers play, of any size and rate."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Thread

import numpy as np
import pytest

from tests.vis_core.video.image_files import read_all
from vis_core.errors import InputError, MissingDependencyError
from vis_core.video.opening import open_video
from vis_core.video.writer import VideoWriter

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def write(path, count=6, size=(48, 64), fps=10.0, stamps=None):
    """Frames that are bright on the left up to their number."""
    with VideoWriter(path, fps) as writer:
        for i in range(count):
            image = np.full((*size, 3), 20, np.uint8)
            image[:, : 8 * (i + 1)] = (230, 40, 40)
            writer.write(image, None if stamps is None else stamps[i])
    return path


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1), (3, 5), (16, 400), (400, 16)])
def test_a_video_of_any_size_keeps_its_pixels_and_frames(tmp_path, size):
    with open_video(write(tmp_path / "a.mp4", size=size)) as video:
        frames = read_all(video)
    assert (video.size, len(frames), video.fps) == (size, 6, 10)
    if size[1] > 60 and size[0] > 40:
        np.testing.assert_allclose(frames[2].image[:, 2:20], np.broadcast_to([230, 40, 40], (size[0], 18, 3)), atol=14)


@pytest.mark.parametrize(("fps", "expected"), [(29.97, 29.97), (30000 / 1001, 30000 / 1001), (0.5, 0.5), (240, 240)])
def test_the_rate_is_kept_as_a_fraction(tmp_path, fps, expected):
    import av

    with av.open(str(write(tmp_path / "a.mp4", fps=fps))) as video:
        rate = video.streams.video[0].average_rate
    assert isinstance(rate, Fraction) and float(rate) == pytest.approx(expected, rel=1e-6)


def test_what_tells_of_the_frames_comes_before_them(tmp_path):
    content, at, boxes = write(tmp_path / "a.mp4").read_bytes(), 0, []
    while at < len(content):
        size, name = struct.unpack(">I4s", content[at : at + 8])
        boxes.append(name)
        at += size
    assert boxes.index(b"moov") < boxes.index(b"mdat")


def test_a_frame_that_comes_late_lets_the_one_before_it_stand(tmp_path):
    stamps = [0, 100_000_000, 500_000_000]
    assert len(read_all(open_video(write(tmp_path / "a.mp4", 3, stamps=stamps)))) == 6


def test_nothing_stands_before_the_end_and_nothing_without_a_frame(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 10):
        pass
    assert not list(tmp_path.iterdir())
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
        assert [path.name for path in tmp_path.iterdir()] == [".a.partial.mp4"]
        with pytest.raises(InputError, match=r"frame of \(48, 65\), the video is \(48, 64\)"):
            writer.write(np.zeros((48, 65, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_folder_that_cannot_be_written_to_is_an_error_of_the_system_that_names_the_video(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none/a\.mp4"):
        write(tmp_path / "none" / "a.mp4")


def test_without_the_library_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match="pip install av"):
        VideoWriter(tmp_path / "a.mp4", 10)


PAGE = """<video id=v src=a.mp4 muted></video><script>
const tell = (...words) => fetch("/told?" + words.join("+"));
v.onerror = () => tell("error", v.error.code);
v.onended = () => tell("ended", v.videoWidth, v.videoHeight, v.duration);
v.play();
</script>"""


class Told(SimpleHTTPRequestHandler):
    """Serves a folder; what the page tells goes to a queue."""

    def __init__(self, queue, *arguments, **others):
        self.queue = queue
        super().__init__(*arguments, **others)

    def do_GET(self):
        if self.path.startswith("/told?"):
            self.queue.put(self.path.removeprefix("/told?"))
        super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_plays_it_in_its_odd_size_to_the_end(tmp_path):
    write(tmp_path / "a.mp4", size=(47, 63))
    (tmp_path / "a.html").write_text(PAGE)
    told = Queue()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Told, told, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        command += ["--remote-debugging-port=0", f"http://127.0.0.1:{server.server_port}/a.html"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert told.get(timeout=240) == "ended+63+47+0.6"
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
