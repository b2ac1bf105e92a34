"""What ends a run of ``vis segment`` early: what is done stands, and it is told."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import vis_core
from tests.signals import disturb_until_it_ends
from tests.vis_core.commands.command_line import read_results, run, segment, write_frames
from tests.vis_core.fake_system import FakeSegmenter, catalog
from vis_core.commands import main as cli
from vis_core.video.opening import open_video

ROOT = Path(__file__).resolve().parents[3]
MANY = 1000
ENDINGS = [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2), (signal.SIGINT, MANY), (signal.SIGTERM, MANY)]


def test_a_full_disk_is_seen_before_it_is_too_late_and_what_is_done_is_finished(tmp_path, monkeypatch, capfd):
    free = iter([2**40] * 4 + [2**20] * 100)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=next(free)))
    run(monkeypatch, FakeSegmenter(), *segment(write_frames(tmp_path / "a", 9), tmp_path / "out"), code=1)
    (entry,) = read_results(tmp_path / "out")
    assert [s is not None for s in entry["segmentations"]] == [True] * 4 + [False] * 5
    assert len(list(open_video(tmp_path / "out" / "overlay.mp4"))) == 4
    told = capfd.readouterr()
    assert "the disk is full" in told.err
    assert "Stopped early; what is done stands in" in told.out and "results.json" in told.out


def test_a_disk_too_full_even_for_the_results_leaves_the_rows_and_names_them(tmp_path, monkeypatch, capfd):
    from vis_core.files.results_writer import ResultsWriter

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ResultsWriter, "_write_entries", full)
    run(monkeypatch, FakeSegmenter(), *segment(write_frames(tmp_path / "a", 3), tmp_path / "out"), code=1)
    told = capfd.readouterr()
    assert "results.json.rows.jsonl (one JSON line a mask" in told.out.replace("\n", "")
    assert "the disk is full" in told.err
    assert len((tmp_path / "out" / "results.json.rows.jsonl").read_text().splitlines()) == 3
    assert not (tmp_path / "out" / "results.json").exists()


def test_a_crash_of_the_system_keeps_what_is_done(tmp_path, monkeypatch, capfd):
    def crash(frame):
        if frame.index == 2:
            raise RuntimeError("out of memory")

    fake = catalog(FakeSegmenter(on_step=crash))
    monkeypatch.setitem(sys.modules, "vis_core.catalog", fake)
    monkeypatch.setattr(vis_core, "catalog", fake, raising=False)
    monkeypatch.setattr(sys, "argv", ["vis", *map(str, segment(write_frames(tmp_path / "a", 5), tmp_path / "out"))])
    with pytest.raises(RuntimeError, match="out of memory"):
        cli.main()
    assert [s is not None for s in read_results(tmp_path / "out")[0]["segmentations"]] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert "Stopped early" in capfd.readouterr().out


@pytest.mark.parametrize(("number", "times"), ENDINGS)
def test_ctrl_c_finishes_what_is_done_and_says_so(tmp_path, number, times):
    """Signals arrive while the system works on frame 2, which then waits for its input to end."""
    source, out = write_frames(tmp_path / "a", 9), tmp_path / "out"
    script = (
        "import sys\n"
        "from tests.signals import wait_for_input\n"
        "from tests.vis_core.fake_system import FakeSegmenter, install\n"
        "def wait(frame):\n"
        "    if frame.index == 2:\n"
        "        print('at frame 2', flush=True)\n"
        "        wait_for_input()\n"
        "install(FakeSegmenter(on_step=wait))\n"
        "from vis_core.commands.main import main\n"
        f"sys.argv = {['vis', *map(str, segment(source, out))]!r}\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "at frame 2\n"
        process.send_signal(number)
        while "Stopping" not in (line := process.stderr.readline()):
            assert line, "ended without having seen the signal"
        if times > 1:
            process.send_signal(number)
        if times == MANY:
            process.stdin.write("\n")
            process.stdin.flush()
            disturb_until_it_ends(process)
        told, errors = process.communicate("\n" if times < MANY else None, timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    done = 3 if times == 1 else 2  # a second one does not wait for the frame
    seen = [s is not None for s in read_results(out)[0]["segmentations"]]
    assert seen == [True] * done + [False] * (9 - done)
    assert len(list(open_video(out / "overlay.mp4"))) == done
    assert "Stopped early; what is done stands in" in told
    assert "Traceback" not in errors
