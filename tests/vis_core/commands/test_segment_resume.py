"""``vis segment`` beside what an earlier run left: replaced as a whole, gone on from, or left byte for byte."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import vis_core
from tests.vis_core.commands.command_line import read_results, run, segment, write_frames
from tests.vis_core.fake_system import FakeSegmenter, catalog
from vis_core.commands import main as cli
from vis_core.files.outputs import locked
from vis_core.video.opening import open_video

ROOT = Path(__file__).resolve().parents[3]
LENGTHS = {1: 3, 2: 4, 3: 2}


@pytest.fixture
def videos(tmp_path):
    """A JSON of three videos."""
    entries = []
    for number, length in LENGTHS.items():
        write_frames(tmp_path / "frames" / f"v{number}", length)
        names = [f"v{number}/{i:05d}.png" for i in range(length)]
        entries.append({"id": number, "width": 64, "height": 48, "name": f"v{number}", "file_names": names})
    (tmp_path / "videos.json").write_text(json.dumps({"videos": entries}))
    return tmp_path / "videos.json"


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def without_ids(folder):
    return [{**entry, "track_id": 0} for entry in read_results(folder)]


def at_frame(number, act):
    """Calls it at the frame of that number, over all videos."""
    seen = iter(range(1000))
    return FakeSegmenter(on_step=lambda frame: act() if next(seen) == number else None)


def crash():
    raise RuntimeError("out of memory")


def crashed(monkeypatch, number, *arguments):
    fake = catalog(at_frame(number, crash))
    monkeypatch.setitem(sys.modules, "vis_core.catalog", fake)
    monkeypatch.setattr(vis_core, "catalog", fake, raising=False)
    monkeypatch.setattr(sys, "argv", ["vis", *map(str, arguments)])
    with pytest.raises(RuntimeError, match="out of memory"):
        cli.main()


def test_what_is_there_is_refused_and_force_replaces_it_as_a_whole(tmp_path, monkeypatch, capfd):
    source, out = write_frames(tmp_path / "a", 3), tmp_path / "out"
    run(monkeypatch, FakeSegmenter(), *segment(source, out, "--save-masks"))
    (out / "notes.txt").write_text("mine")
    before = content(out)
    for more in ([], ["--resume"]):  # a whole run leaves nothing to go on from
        run(
            monkeypatch,
            FakeSegmenter(on_step=lambda frame: pytest.fail("work began")),
            *segment(source, out, *more),
            code=2,
        )
        assert "is there already; --force" in capfd.readouterr().err and content(out) == before
    run(monkeypatch, FakeSegmenter(), *segment(source, out, "--force", "--no-overlay"))
    assert sorted(content(out)) == ["notes.txt", "results.info.json", "results.json"]


def test_a_run_that_fails_before_its_first_frame_leaves_what_was_there_and_makes_nothing(tmp_path, monkeypatch):
    source, out = write_frames(tmp_path / "a", 3), tmp_path / "out"
    run(monkeypatch, FakeSegmenter(), *segment(source, out))
    before = content(out)
    crashed(monkeypatch, 0, *segment(source, out, "--force"))
    run(monkeypatch, FakeSegmenter(), *segment(source, out, "--force", "--start", "99"), code=2)
    assert content(out) == before
    run(monkeypatch, FakeSegmenter(), *segment(source, tmp_path / "new", "--start", "99"), code=2)
    assert not (tmp_path / "new").exists()


def test_a_run_that_fails_later_leaves_what_was_there_and_says_where_its_own_stands(
    videos, tmp_path, monkeypatch, capfd
):
    out = tmp_path / "out"
    run(monkeypatch, FakeSegmenter(), *segment(videos, out))
    before = content(out)
    crashed(monkeypatch, 5, *segment(videos, out, "--force"))
    told = capfd.readouterr().out.replace("\n", "")
    assert "what is done stands in" in told and ".partial.segment/results.json" in told and "--resume goes on" in told
    kept = {name: data for name, data in content(out).items() if not name.startswith(".partial")}
    assert kept == before
    run(monkeypatch, FakeSegmenter(), *segment(videos, out), code=2)
    assert "--resume goes on from it, --force begins anew" in " ".join(capfd.readouterr().err.split())
    run(monkeypatch, FakeSegmenter(), *segment(videos, out, "--resume"))
    assert content(out).keys() == before.keys() and len(read_results(out)) == 3


@pytest.mark.parametrize("more", [(), ("--save-masks",)])
def test_resume_goes_on_from_finished_videos_and_begins_one_that_was_cut_short_anew(
    videos, tmp_path, monkeypatch, capfd, more
):
    out, whole = tmp_path / "out", tmp_path / "whole"
    run(monkeypatch, FakeSegmenter(), *segment(videos, whole, *more))
    crashed(monkeypatch, 5, *segment(videos, out, *more))
    assert len(read_results(out)) == 2  # what was done stands
    again = FakeSegmenter()
    steps = []
    again.on_step = lambda frame: steps.append(frame.index)
    run(monkeypatch, again, *segment(videos, out, "--resume", *more))
    assert steps == [0, 1, 2, 3, 0, 1]
    assert without_ids(out) == without_ids(whole)
    assert content(out).keys() == content(whole).keys()
    for number, length in LENGTHS.items():
        assert len(list(open_video(out / "overlay" / f"v{number}.mp4"))) == length
    assert content(out)["overlay/v1.mp4"] == content(whole)["overlay/v1.mp4"]
    companions = [json.loads((folder / "results.info.json").read_text())["videos"] for folder in (out, whole)]
    assert companions[0] == companions[1]


def test_resume_of_a_run_that_was_asked_for_something_else_is_refused_and_nothing_is_lost(
    videos, tmp_path, monkeypatch, capfd
):
    out = tmp_path / "out"
    crashed(monkeypatch, 5, *segment(videos, out))
    before = content(out)
    run(monkeypatch, FakeSegmenter(), *segment(videos, out, "--resume", "--score-threshold", "0.3"), code=2)
    assert "was begun otherwise: options: {'score_threshold': 0.3}, was {}" in " ".join(capfd.readouterr().err.split())
    assert content(out) == before
    run(monkeypatch, FakeSegmenter(), *segment(videos, out, "--resume"))


def started(source, out, *more, frame=5):
    """A process that waits at a frame."""
    script = (
        "import sys\nfrom tests.signals import wait_for_input\n"
        "from tests.vis_core.fake_system import FakeSegmenter, install\n"
        "seen = iter(range(1000))\n"
        "def wait(frame):\n"
        f"    if next(seen) == {frame}:\n"
        "        print('there', flush=True)\n"
        "        wait_for_input()\n"
        "install(FakeSegmenter(on_step=wait))\n"
        "from vis_core.commands.main import main\n"
        f"sys.argv = {['vis', *map(str, segment(source, out, *more))]!r}\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "there\n"
    return process


def test_what_a_kill_leaves_is_gone_on_from_and_two_runs_never_share_a_folder(videos, tmp_path, monkeypatch, capfd):
    out, whole = tmp_path / "out", tmp_path / "whole"
    run(monkeypatch, FakeSegmenter(), *segment(videos, whole, "--save-masks"))
    process = started(videos, out, "--save-masks")
    try:
        run(monkeypatch, FakeSegmenter(), *segment(videos, out, "--force"), code=2)
        assert "another run writes there" in capfd.readouterr().err
    finally:
        process.kill()
        process.communicate()
    with (out / ".partial.segment" / "results.json.rows.jsonl").open("a") as rows:
        rows.write('{"torn')
    run(monkeypatch, FakeSegmenter(), *segment(videos, out, "--save-masks"), code=2)
    assert "--resume goes on from it" in " ".join(capfd.readouterr().err.split())
    run(monkeypatch, FakeSegmenter(), *segment(videos, out, "--save-masks", "--resume"))
    assert without_ids(out) == without_ids(whole) and content(out).keys() == content(whole).keys()


def test_what_a_kill_leaves_of_a_single_video_is_removed_with_a_line(tmp_path, monkeypatch, capfd):
    source, out = write_frames(tmp_path / "a", 4), tmp_path / "out"
    process = started(source, out, frame=2)
    process.kill()
    process.communicate()
    assert [p.name for p in out.iterdir() if p.name != ".lock"] == [".partial.segment"]
    run(monkeypatch, FakeSegmenter(), *segment(source, out))
    assert ".partial.segment: removed; a run that did not come to its end" in capfd.readouterr().err.replace("\n", "")
    assert sorted(content(out)) == ["overlay.mp4", "results.info.json", "results.json"]


def test_a_closed_terminal_finishes_what_is_done(tmp_path):
    source, out = write_frames(tmp_path / "a", 6), tmp_path / "out"
    process = started(source, out, frame=2)
    process.send_signal(signal.SIGHUP)
    while "Stopping" not in (line := process.stderr.readline()):
        assert line, "ended without having seen the signal"
    process.communicate("\n")
    assert process.returncode == 128 + signal.SIGHUP
    assert [s is not None for s in read_results(out)[0]["segmentations"]] == [True] * 3 + [False] * 3


def test_the_input_is_never_what_force_replaces(tmp_path, monkeypatch, capfd):
    source, out = write_frames(tmp_path / "a", 2), tmp_path / "out"
    run(monkeypatch, FakeSegmenter(), *segment(source, out))
    before = content(out)
    run(monkeypatch, FakeSegmenter(), *segment(out / "overlay.mp4", out, "--force"), code=2)
    assert "is what --force would replace" in capfd.readouterr().err and content(out) == before


def test_the_lock_of_any_run_holds(tmp_path, monkeypatch, capfd):
    with locked(tmp_path / "out"):
        run(monkeypatch, FakeSegmenter(), *segment(write_frames(tmp_path / "a", 1), tmp_path / "out"), code=2)
    assert "another run writes there" in capfd.readouterr().err
