"""What the command lines tell of themselves: versions, help with examples, completion; and what --quiet leaves."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import vis_core
from tests.vis_core.commands.command_line import read_results, run, segment, write_frames
from tests.vis_core.fake_system import FakeSegmenter
from vis_core.commands import progress
from vis_core.commands.examples import VIS

ROOT = Path(__file__).resolve().parents[3]
MAIN = {"vis": "vis_core.commands.main", "vis-ros": "vis_ros.cli"}


def group(program):
    if program == "vis-ros":
        pytest.importorskip("rosbags")
    module = __import__(MAIN[program], fromlist=["app"])
    return typer.main.get_command(module.app)


@pytest.mark.parametrize("program", MAIN)
def test_each_command_s_help_ends_with_examples_whose_options_exist(program):
    commands = group(program).commands
    for name, command in commands.items():
        text = command.epilog or (command.help or "").replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n")
        lines = re.findall(rf"{program} {name}\b[^\n]*", text)
        assert lines, name
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for line in lines:
            own = shlex.split(line.split(" --ros-args")[0])
            assert {word.split("=")[0] for word in own if re.match(r"--?[a-z]", word)} <= known, line


def test_examples_are_of_commands_that_there_are():
    assert set(VIS) <= set(group("vis").commands)


@pytest.mark.parametrize("program", MAIN)
def test_version_and_short_help(program, capfd):
    app = group(program)
    with pytest.raises(SystemExit) as end:
        app(["--version"], prog_name=program)
    assert (end.value.code or 0, capfd.readouterr().out) == (0, f"{program} {vis_core.__version__}\n")
    with pytest.raises(SystemExit):
        app(["-h"], prog_name=program)
    assert "--version" in capfd.readouterr().out


def test_a_shell_can_complete_commands_and_systems():
    asked = {"_VIS_COMPLETE": "complete_bash", "COMP_WORDS": "vis segment --system visolo", "COMP_CWORD": "3"}
    code = "from vis_core.commands.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | asked, capture_output=True, text=True
    )
    assert sorted(done.stdout.split()) == ["visolo", "visolo-lite"], done.stderr


def test_quiet_leaves_warnings_and_errors(tmp_path, monkeypatch, capfd):
    source = write_frames(tmp_path / "a", 3)
    (source / "00001.png").write_bytes(b"broken")
    run(monkeypatch, FakeSegmenter(), *segment(source, tmp_path / "out", "--quiet"))
    shown = capfd.readouterr()
    assert shown.out == "" and [line.split()[0] for line in shown.err.splitlines()] == ["The", "skipped"]
    run(monkeypatch, FakeSegmenter(), *segment(source, tmp_path / "out", "--quiet"), code=2)
    assert "is there already" in capfd.readouterr().err
    run(monkeypatch, FakeSegmenter(), *segment(source, tmp_path / "out", "--force"))
    assert "Written:" in capfd.readouterr().out and read_results(tmp_path / "out")


def test_where_there_is_no_terminal_progress_is_lines(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(progress, "_LINE_EVERY", 0)
    run(monkeypatch, FakeSegmenter(), *segment(write_frames(tmp_path / "a", 3), tmp_path / "out"))
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("frame ")]
    assert [re.sub(r"[\d.]+ (frames/s|s)", "N", line) for line in lines] == [
        "frame 1 of 3, N, N left",
        "frame 2 of 3, N, N left",
        "frame 3 of 3, N",
    ]
