"""Where commands write: refused, replaced as a whole, put in order after a kill, and one run's at a time."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vis_core.errors import InputError, OptionError
from vis_core.files import outputs
from vis_core.files.atomic import atomic_write
from vis_core.files.outputs import check_file, locked, output_folder

PATTERNS = ("scores.json", "page.html", "pictures/*.png")
ROOT = Path(__file__).resolve().parents[3]


def write(folder, **files):
    for name, text in files.items():
        path = folder / {"picture": "pictures/1.png"}.get(name, name.replace("_", "."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def content(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def fail(folder, error):
    with output_folder(folder, "test", PATTERNS, force=True) as output:
        write(output.path, scores_json="half")
        raise error


def make(folder, force=False, **files):
    told = []
    with output_folder(folder, "test", PATTERNS, force=force, tell=told.append) as output:
        write(output.path, **files)
    return told


def test_outputs_take_their_place_at_the_end_and_nothing_else_is_left(tmp_path):
    out = tmp_path / "a" / "out"
    with output_folder(out, "test", PATTERNS) as output:
        write(output.path, scores_json="new", picture="p")
        assert not any((out / name).exists() for name in ("scores.json", "pictures"))
        assert output.final(output.path / "scores.json") == out / "scores.json"
    assert content(out) == {"scores.json": "new", "pictures/1.png": "p"}
    assert sorted(p.name for p in out.iterdir()) == ["pictures", "scores.json"]


def test_what_is_there_is_refused_before_any_work_and_named(tmp_path):
    write(tmp_path, page_html="old", picture="old", notes_txt="mine")
    before = content(tmp_path)
    with (
        pytest.raises(InputError, match=r"page\.html \(and 1 more\): is there already; --force"),
        output_folder(tmp_path, "test", PATTERNS),
    ):
        pytest.fail("work began")
    assert content(tmp_path) == before


def test_force_replaces_the_outputs_of_a_run_as_a_whole_and_leaves_other_files(tmp_path):
    write(tmp_path, page_html="old", picture="old", notes_txt="mine")
    (tmp_path / "pictures" / "2.txt").write_text("mine")
    make(tmp_path, force=True, scores_json="new")
    assert content(tmp_path) == {"scores.json": "new", "notes.txt": "mine", "pictures/2.txt": "mine"}
    (tmp_path / "pictures" / "2.txt").unlink()
    write(tmp_path, picture="old")
    make(tmp_path, force=True, scores_json="newer")
    assert content(tmp_path) == {"scores.json": "newer", "notes.txt": "mine"} and not (tmp_path / "pictures").exists()


@pytest.mark.parametrize("error", [ValueError("bad"), OSError(errno.ENOSPC, "No space"), KeyboardInterrupt()])
def test_a_run_that_fails_leaves_what_was_there_byte_for_byte(tmp_path, error):
    write(tmp_path / "there", page_html="old", notes_txt="mine")
    before = content(tmp_path)
    for name in ("there", "not there"):
        with pytest.raises(type(error)):
            fail(tmp_path / name, error)
    assert content(tmp_path) == before and [p.name for p in tmp_path.iterdir()] == ["there"]


def test_where_the_renames_fail_the_folder_is_as_it_was(tmp_path, monkeypatch):
    write(tmp_path, page_html="old", scores_json="old", picture="old")
    before = content(tmp_path)
    move = outputs._move

    def failing(source, target):
        if target == tmp_path / "scores.json" and source.read_text() == "new":
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        move(source, target)

    monkeypatch.setattr(outputs, "_move", failing)
    with pytest.raises(OSError, match="No space left"):
        make(tmp_path, force=True, page_html="new", scores_json="new")
    assert content(tmp_path) == before


@pytest.mark.parametrize("renames", range(5))
def test_a_kill_between_the_renames_is_made_good_by_the_next_run(tmp_path, renames):
    """A process that ends in the middle of them, without a chance to tidy up."""
    write(tmp_path, page_html="old", scores_json="old", notes_txt="mine")
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom vis_core.files import outputs\n"
        "move, left = outputs._move, int(sys.argv[2])\n"
        "def moving(source, target):\n    global left\n"
        "    if left == 0:\n        os._exit(9)\n    left -= 1\n    move(source, target)\n"
        "outputs._move = moving\n"
        f"with outputs.output_folder(Path(sys.argv[1]), 'test', {PATTERNS!r}, force=True) as output:\n"
        "    (output.path / 'scores.json').write_text('new')\n"
        "    (output.path / 'pictures').mkdir()\n"
        "    (output.path / 'pictures' / '1.png').write_text('new')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path), str(renames)], cwd=ROOT, check=False)
    assert done.returncode == (9 if renames < 4 else 0)
    if renames < 4:
        told = []
        with (
            pytest.raises(InputError, match="is there already"),
            output_folder(tmp_path, "other", ("scores.json",), tell=told.append),
        ):
            pass
        assert len(told) == 1 and "its outputs took their place" in told[0]
    assert content(tmp_path) == {"scores.json": "new", "pictures/1.png": "new", "notes.txt": "mine"}


def test_what_a_killed_run_left_is_removed_with_a_line(tmp_path):
    write(tmp_path / ".partial.test", scores_json="half")
    write(tmp_path / ".partial.segment", scores_json="hours of work")
    (told,) = make(tmp_path, scores_json="new")
    assert ".partial.test: removed" in told
    assert content(tmp_path) == {"scores.json": "new", ".partial.segment/scores.json": "hours of work"}


def test_what_another_run_can_go_on_from_is_neither_removed_nor_passed_over_unasked(tmp_path):
    left = tmp_path / ".partial.test"
    write(left, journal="a video", scores_json="half")
    with (
        pytest.raises(InputError, match="--resume goes on from it, --force begins anew"),
        output_folder(tmp_path, "test", PATTERNS, unfinished="journal"),
    ):
        pass
    with output_folder(tmp_path, "test", PATTERNS, unfinished="journal", resume=True) as output:
        assert content(output.path) == {"journal": "a video", "scores.json": "half"}
        output.keep_as_it_was()
    assert left.is_dir()
    with (
        pytest.raises(ValueError, match="x"),
        output_folder(tmp_path, "test", PATTERNS, resume=True, unfinished="journal"),
    ):
        raise ValueError("x")
    assert left.is_dir()
    with output_folder(tmp_path, "test", PATTERNS, unfinished="journal", force=True) as output:
        assert content(output.path) == {}


def hold(folder, ready, done):
    with locked(folder):
        ready.set()
        done.wait()


def test_two_runs_never_share_a_folder_and_a_dead_one_s_lock_is_free(tmp_path):
    context = multiprocessing.get_context("spawn")
    for kill in (False, True):
        ready, done = context.Event(), context.Event()
        other = context.Process(target=hold, args=(tmp_path, ready, done))
        other.start()
        try:
            assert ready.wait(120)
            with pytest.raises(OptionError, match="another run writes there"):
                make(tmp_path, scores_json="new")
            assert not (tmp_path / "scores.json").exists()
            if not kill:
                done.set()
                other.join(60)
        finally:
            other.kill()
            other.join(60)
    make(tmp_path, scores_json="new")
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"]


def test_one_process_cannot_lock_a_folder_twice_either(tmp_path):
    with locked(tmp_path):
        with pytest.raises(OptionError), locked(tmp_path):
            pass
        with pytest.raises(OptionError), locked(tmp_path):  # the first attempt has not let go of it
            pass


@pytest.mark.parametrize("place", ["/proc/none/out", "{file}/out", "{file}"])
def test_a_place_that_cannot_be_written_to_is_named_before_any_work(tmp_path, place):
    (tmp_path / "file").write_text("")
    folder = Path(place.format(file=tmp_path / "file"))
    with pytest.raises(InputError, match=f"{folder}: cannot be written to: .*; choose another place"):
        make(folder)
    if place != "{file}":
        with pytest.raises(InputError, match="cannot be written to"):
            check_file(folder)


def test_a_full_disk_is_no_mistake_of_the_user_s(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(outputs, "_lock", full)
    with pytest.raises(OSError, match="No space left") as caught:
        make(tmp_path / "new")
    assert caught.value.filename == str(tmp_path / "new") and not (tmp_path / "new").exists()


def test_a_file_is_looked_at_before_any_work(tmp_path):
    path = tmp_path / "new" / "weights.safetensors"
    check_file(path)
    assert list(tmp_path.iterdir()) == []
    write(path.parent, weights_safetensors="old")
    with pytest.raises(InputError, match=r"weights\.safetensors: is there already; --force replaces it"):
        check_file(path)
    check_file(path, force=True)
    with pytest.raises(InputError, match="is a folder"):
        check_file(path.parent, force=True)
    assert content(path.parent) == {"weights.safetensors": "old"}


def test_a_partial_file_of_a_dead_process_is_removed_and_that_of_a_live_one_stays(tmp_path):
    path, told = tmp_path / "a.json", []
    (tmp_path / ".a.json.7.part").write_text("half")
    (tmp_path / ".b.json.7.part").write_text("half")
    with atomic_write(path) as partial:
        partial.write_text("half")
        check_file(path, tell=told.append)
        assert partial.read_text() == "half"
        partial.write_text("whole")
    assert len(told) == 1 and ".a.json.7.part: removed" in told[0]
    assert content(tmp_path) == {"a.json": "whole", ".b.json.7.part": "half"}


def test_a_file_system_without_links_gets_copies(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with output_folder(tmp_path, "test", PATTERNS) as output:
        write(output.path, scores_json="new")
        output.publish(keep=True)
    assert content(tmp_path) == {"scores.json": "new", ".partial.test/scores.json": "new"}
    shutil.rmtree(tmp_path / ".partial.test")
