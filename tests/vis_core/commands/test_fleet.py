"""Several inputs of one command, each in a process of its own: whatever happens to one, and to the command itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vis_core.commands import fleet, main
from vis_core.commands.fleet import BEFORE, DONE, FAILED, LEFT, STOPPED, Fleet, Input, sums, write_summary
from vis_core.commands.fleet_processes import Answer, scratch
from vis_core.commands.fleet_records import Asked, arguments_of, fingerprint, record_whole, tell_figures, whole
from vis_core.errors import InputError, OptionError

PROGRAM = """
import os, sys, time
from pathlib import Path
from vis_core.commands.fleet_processes import Answer, scratch
from vis_core.commands.fleet_records import tell_figures
out, source = Path(sys.argv[sys.argv.index("--out") + 1]), Path(sys.argv[-1])
content = source.read_text()
with (source.parent / "begun.txt").open("a") as begun:
    begun.write(f"{source.name} {' '.join(sys.argv[1:])} OMP={os.environ['OMP_NUM_THREADS']}\\n")
if content == "wait":
    try:
        while True:
            time.sleep(0.02)
    except KeyboardInterrupt:
        (source.parent / "ended.txt").write_text("in order")
        sys.exit(130)
if content == "bad":
    print("error: this one is bad")
    sys.exit(2)
out.mkdir(parents=True, exist_ok=True)
(out / "results.json").write_text(content)
tell_figures({"frames": len(content), "seconds": 0.5})
"""
PATIENCE = 60.0


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a program and inputs; the program finds this package."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "program.py").write_text(PROGRAM)
    for name, content in (("a", "ab"), ("b", "bad"), ("c", "cdef")):
        (tmp_path / name).write_text(content)
    return tmp_path


def fleet_of(place, *arguments, force=False, resume=False, threads=None):
    program, asked = (str(place / "program.py"),), Asked(arguments, {})
    return Fleet(program, asked, "summary.json", ("results.json",), threads, "cpu", force, resume)


def inputs_of(place, *names):
    return [Input(str(place / name), place / "out" / name) for name in names]


def begun(place):
    """The inputs that were begun since this was asked last."""
    path = place / "begun.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(line.split()[0] for line in lines)


def test_a_failing_input_is_told_and_the_others_go_on(place, capsys):
    fleet, inputs = fleet_of(place, "--topic", "x"), inputs_of(place, "a", "b", "c")
    assert fleet.run(inputs, 2, None) == []
    assert [(one.state, one.message) for one in inputs] == [(DONE, ""), (FAILED, "this one is bad"), (DONE, "")]
    assert "this one is bad" in capsys.readouterr().err
    assert (place / "out" / "logs" / "b.txt").read_text() == "error: this one is bad\n"
    content = json.loads(write_summary(fleet, inputs, sums(inputs)).read_text())
    assert content["all"] == {"frames": 6, "seconds": 1.0}
    assert [(one["input"], one["state"], one.get("frames")) for one in content["inputs"]] == [
        (str(place / "a"), DONE, 2), (str(place / "b"), FAILED, None), (str(place / "c"), DONE, 4),
    ]  # fmt: skip


def test_processes_share_the_threads_of_the_machine_unless_their_number_is_given(place):
    cpus = len(os.sched_getaffinity(0))
    fleet_of(place).run(inputs_of(place, "a", "c"), 2, None)
    share = max(1, cpus // 2)
    lines = (place / "begun.txt").read_text().splitlines()
    assert len(lines) == 2 and all(f"--threads {share} " in line and f"OMP={share}" in line for line in lines)
    begun(place)
    fleet_of(place, threads=7, force=True).run(inputs_of(place, "a"), 4, None)
    assert "--threads 7 --device cpu --force --out" in (place / "begun.txt").read_text()


def test_resume_leaves_out_what_is_whole_and_nothing_else(place):
    fleet_of(place).run(inputs_of(place, "a", "b", "c"), 1, None)
    assert begun(place) == ["a", "b", "c"]
    with pytest.raises(InputError, match="--resume leaves out what is whole"):
        fleet_of(place).run(inputs_of(place, "a", "b", "c"), 1, None)
    (place / "out" / "c" / "results.json").write_text("cut")
    (place / "b").write_text("good now")
    inputs = inputs_of(place, "a", "b", "c")
    fleet_of(place, resume=True).run(inputs, 1, None)
    assert begun(place) == ["b", "c"]
    assert [(one.state, one.figures["frames"]) for one in inputs] == [(BEFORE, 2), (DONE, 8), (DONE, 4)]
    (place / "a").write_text("another")
    fleet_of(place, resume=True).run(inputs_of(place, "a", "b", "c"), 1, None)
    assert begun(place) == ["a"]
    with pytest.raises(OptionError, match=r"asked for otherwise \(--topic x\); --force begins anew"):
        fleet_of(place, "--topic", "x", resume=True).run(inputs_of(place, "a"), 1, None)
    fleet_of(place, "--topic", "x", force=True).run(inputs_of(place, "a"), 1, None)
    assert begun(place) == ["a"]


def test_a_signal_ends_what_is_at_work_in_order_and_begins_no_more(place):
    (place / "a").write_text("wait")
    inputs = inputs_of(place, "a", "c")

    def interrupt():
        deadline = time.monotonic() + PATIENCE
        while not (place / "begun.txt").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)  # until it waits
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert fleet_of(place).run(inputs, 1, None) == [signal.SIGINT]
    thread.join()
    assert [one.state for one in inputs] == [STOPPED, LEFT]
    assert (place / "ended.txt").read_text() == "in order" and begun(place) == ["a"]


def test_a_killed_command_leaves_no_process_and_no_folder_behind(place):
    (place / "a").write_text("wait")
    program = (
        "from tests.vis_core.commands.test_fleet import fleet_of, inputs_of\nfrom pathlib import Path\n"
        f"place = Path({str(place)!r})\nfleet_of(place).run(inputs_of(place, 'a'), 1, None)\n"
    )
    command = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).resolve().parents[3])
    deadline = time.monotonic() + PATIENCE
    while not (place / "begun.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    (child,) = (int(x) for x in Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split())
    command.kill()
    command.wait()
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists()
    with scratch() as folder:  # what it left goes with the next one's
        assert not list(Path(folder).parent.glob(f"vis-fleet-{command.pid}-*"))


def test_the_options_of_a_command_line_are_made_anew():
    found = []
    app = typer.Typer()

    @app.command()
    def command(
        context: typer.Context,
        names: list[str],
        out: Path = Path("x"),
        draw: bool = True,
        size: tuple[int, int] = (1, 2),
        option: list[str] | None = typer.Option(None, "--option", "-x"),  # noqa: B008
        loud: bool = typer.Option(False, "--loud", "-l"),
    ) -> None:
        found.append(list(arguments_of(context, {"out"})))

    words = ["a", "--no-draw", "-x", "p=1", "--size", "3", "4", "-l", "--out", "y", "--option", "q=2", "b"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert CliRunner().invoke(app, ["a"]).exit_code == 0
    assert found == [["--no-draw", "--size", "3", "4", "--option", "p=1", "--option", "q=2", "--loud"], []]


def test_a_record_is_of_what_stands_there(tmp_path, monkeypatch):
    source, folder, asked = tmp_path / "in", tmp_path / "out", Asked(("--x", "1"), {"w": "abc"})
    source.mkdir(), folder.mkdir()
    (source / "1.png").write_bytes(b"1")
    (folder / "results.json").write_text("[]")
    assert whole(folder, str(source), asked) is None
    record_whole(folder, str(source), asked, {"frames": 1})
    assert whole(folder, str(source), asked) == {"frames": 1}
    with pytest.raises(OptionError, match="a file that it names has changed"):
        whole(folder, str(source), Asked(("--x", "1"), {"w": "other"}))
    before = fingerprint(source)
    (source / "2.png").write_bytes(b"2")
    assert fingerprint(source) != before and whole(folder, str(source), asked) is None
    tell_figures({"frames": 1})  # nobody asked
    monkeypatch.setenv("VIS_OUTCOME", str(tmp_path / "told.json"))
    tell_figures({"frames": 2})
    assert json.loads((tmp_path / "told.json").read_text()) == {"frames": 2}


def test_vis_segment_asks_the_same_of_each_of_its_processes(tmp_path, monkeypatch, capsys):
    begun = []

    def run_none(works, count, threads, received, on_end):
        begun.append((count, threads))
        for work in works:
            begun.append(work.command[3:])
            on_end(work, Answer(1, "not begun"))

    monkeypatch.setattr(fleet, "run_here", run_none)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    words = ["segment", f"{tmp_path}/*", "-o", f"{tmp_path}/out", "--jobs", "2", "--threads", "3", "--no-overlay"]
    monkeypatch.setattr(sys, "argv", ["vis", *words, "--option", "views=1", "--quiet"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    asked = ("segment", "--no-overlay", "--option", "views=1", "--threads", "3", "--device", "auto", "--out")
    assert begun == [(2, 3), *((*asked, f"{tmp_path}/out/{name}", "--", f"{tmp_path}/{name}") for name in "ab")]
    content = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [one["message"] for one in content["inputs"]] == ["not begun"] * 2
    assert "not begun" in capsys.readouterr().err
