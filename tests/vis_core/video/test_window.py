"""The window of ``vis segment --show``: where there is none it is told; on a virtual screen it shows and is closed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.vis_core.commands.command_line import read_results, run, segment, write_frames
from tests.vis_core.fake_system import FakeSegmenter
from vis_core.errors import OptionError
from vis_core.video import window as windows
from vis_core.video.window import Window, open_window

ROOT = Path(__file__).resolve().parents[3]


class Recorder(Window):
    """A window that notes what it is shown, and is closed by hand at its third frame."""

    def __init__(self):
        self.shown, self.taken_away = [], False

    def _show(self, image):
        self.shown.append(image)
        self.closed = len(self.shown) == 3

    def close(self):
        self.taken_away = True


def test_frames_are_shown_with_their_tracks_and_closing_the_window_ends_the_run(tmp_path, monkeypatch, capfd):
    window = Recorder()
    monkeypatch.setattr(windows, "open_window", lambda title: window)
    source = write_frames(tmp_path / "a", 8)
    run(monkeypatch, FakeSegmenter(), *segment(source, tmp_path / "out", "--show", "--no-overlay"), code=130)
    assert len(window.shown) == 3 and window.taken_away
    assert window.shown[0].shape == (48, 64, 3) and len(np.unique(window.shown[0])) > 2  # no longer black and white
    assert sum(s is not None for s in read_results(tmp_path / "out")[0]["segmentations"]) == 3
    assert "Stopped early; what is done stands in" in capfd.readouterr().out


def test_large_frames_are_made_to_fit():
    window = Recorder()
    window.show(np.zeros((2160, 3840, 3), np.uint8))
    assert window.shown[0].shape == (720, 1280, 3)


@pytest.mark.parametrize("more", [["--show"], ["--show", "--jobs", "2", "{second}"]])
def test_where_there_is_no_display_or_no_single_process_it_is_told_before_any_work(tmp_path, monkeypatch, capfd, more):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    first, second = (write_frames(tmp_path / name, 1) for name in "ab")
    lazy = FakeSegmenter(on_step=lambda frame: pytest.fail("work began"))
    more = [word.format(second=second) for word in more]
    run(monkeypatch, lazy, *segment(first, tmp_path / "out", *more), code=2)
    assert "--show: " in capfd.readouterr().err and not (tmp_path / "out").exists()


def test_a_display_that_does_not_answer_is_told(monkeypatch):
    pytest.importorskip("tkinter")
    monkeypatch.setenv("DISPLAY", ":987")
    with pytest.raises(OptionError, match="no window opens on DISPLAY=:987"):
        open_window("test")


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb, a virtual screen, is not installed")
def test_a_window_of_tk_opens_on_a_screen_and_a_key_closes_it():
    pytest.importorskip("tkinter")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "320x240x24"], pass_fds=[write], stderr=subprocess.DEVNULL
    )
    os.close(write)
    script = (
        "import numpy as np\nfrom vis_core.video.window import _TkWindow\nwindow = _TkWindow('test')\n"
        "window.show(np.full((40, 60, 3), 99, np.uint8))\nassert not window.closed\n"
        "root = window._root\nroot.focus_force()\nroot.update()\nroot.event_generate('<Key-q>')\n"
        "window.show(np.zeros((40, 60, 3), np.uint8))\nprint(window.closed)\n"
    )
    try:
        with os.fdopen(read) as number:
            display = f":{number.readline().strip()}"
        environment = os.environ | {"DISPLAY": display}
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.stdout == "True\n", done.stderr
    finally:
        server.terminate()
        server.wait()
