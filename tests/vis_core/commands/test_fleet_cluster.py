"""Inputs answered on a cluster whose nodes die, or lack the files: with what stands for Ray, and real workers."""

from __future__ import annotations

import socket
import sys
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.vis_core.commands.test_fleet import fleet_of, inputs_of, place
from vis_core.commands import fleet_ray
from vis_core.commands.fleet import BEFORE, DONE, FAILED

__all__ = ["place"]


class Unavailable(Exception):
    pass


class Died(Exception):
    pass


class Lost(Exception):
    pass


class FakeRay:
    """Actors in this process: a call is done when it is asked for, or what is scripted comes instead.

    Args:
        script: what comes of the calls of `run`, in order; None, and what follows the last: what the worker answers.
        hidden: a folder that the workers do not see.
    """

    exceptions = SimpleNamespace(ActorUnavailableError=Unavailable, ActorDiedError=Died, ObjectLostError=Lost)

    def __init__(self, script=(), hidden=None):
        self.script, self.hidden = deque(script), hidden
        self.workers, self.put_count = 0, 0

    def init(self, address, **options):
        if address != "here":
            raise ConnectionError("nobody there")

    def nodes(self):
        return [{"Alive": alive, "Resources": {"CPU": 2.0}} for alive in (True, True, False)]

    def shutdown(self):
        pass

    def kill(self, worker):
        pass

    def put(self, content):
        self.put_count += 1
        return content

    def wait(self, asked, timeout):
        return asked[:1], asked[1:]

    def get(self, call):
        return call()

    def remote(self, kind):
        def make():
            self.workers += 1
            worker = kind()
            run = SimpleNamespace(remote=lambda *given: lambda: self.run(worker, given))
            return SimpleNamespace(run=run, version=SimpleNamespace(remote=lambda: lambda: worker.version()))

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=make))

    def run(self, worker, given):
        if self.script and (error := self.script.popleft()) is not None:
            raise error
        if self.hidden is None:
            return worker.run(*given)
        elsewhere = self.hidden.rename(self.hidden.with_name("elsewhere"))
        try:
            return worker.run(*given)
        finally:
            elsewhere.rename(self.hidden)


@pytest.fixture
def run(place, monkeypatch):
    """Answers inputs a and c on a cluster; returns the inputs, and what stands for Ray."""
    monkeypatch.setattr(fleet_ray, "_AGAIN", 0.0)

    def call(script=(), hidden=None, jobs=1, **how):
        ray = FakeRay(script, hidden)
        monkeypatch.setitem(sys.modules, "ray", ray)
        inputs = inputs_of(place, "a", "c")
        fleet_of(place, **how).run(inputs, jobs, "here")
        return inputs, ray

    return call


def begun(place):
    path = place / "begun.txt"
    return sorted(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else []


def test_results_come_back_and_take_their_place(run, place):
    inputs, ray = run(jobs=2)
    assert [(one.state, one.figures["frames"]) for one in inputs] == [(DONE, 2), (DONE, 4)]
    assert (place / "out" / "c" / "results.json").read_text() == "cdef" and begun(place) == ["a", "c"]
    assert (ray.workers, ray.put_count) == (2, 0)
    assert "--threads 2 " in (place / "begun.txt").read_text()
    again, _ = run(resume=True)
    assert [one.state for one in again] == [BEFORE] * 2 and begun(place) == ["a", "c"]


def test_a_worker_out_of_reach_is_asked_again_and_placed_anew_only_when_it_has_died(run, place, capsys):
    inputs, ray = run([Unavailable(), None, Unavailable(), Unavailable(), Died()])
    assert [one.state for one in inputs] == [DONE] * 2 and begun(place) == ["a", "c"]
    assert ray.workers == 2
    told = capsys.readouterr().err
    assert told.count("placed anew") == 1 and f"{place}/c: its worker died" in told


def test_an_answer_that_was_given_and_did_not_come_is_not_made_twice(place):
    worker = fleet_ray.Worker()
    command = ["python", str(place / "program.py"), "--out", "there", "--", str(place / "a")]
    first = worker.run(7, command, {}, [], 1)
    assert first.answer.code == 0 and worker.run(7, command, {}, [], 1) is first and begun(place) == ["a"]


def test_an_input_that_three_workers_die_at_is_told_and_the_others_go_on(run, place):
    inputs, _ = run([Died("out of memory"), Lost(), Died("out of memory")])
    assert [one.state for one in inputs] == [FAILED, DONE]
    assert inputs[0].message == "3 workers died at it: out of memory" and begun(place) == ["c"]


def test_what_a_node_does_not_have_is_sent_to_it(run, place, tmp_path):
    hidden = tmp_path / "data"
    hidden.mkdir()
    for name in ("a", "c"):
        (place / name).rename(hidden / name)
        (place / name).symlink_to(hidden / name)  # leads nowhere on a node
    inputs, ray = run(hidden=hidden)
    assert [(one.state, one.figures["frames"]) for one in inputs] == [(DONE, 2), (DONE, 4)]
    assert ray.put_count == 2
    assert (place / "out" / "a" / "results.json").read_text() == "ab"


def test_a_folder_arrives_as_it_was_sent_but_for_hidden_files(tmp_path):
    folder = tmp_path / "night.1"
    (folder / "deep").mkdir(parents=True)
    for name in ("metadata.yaml", "deep/x.db3", ".whole.json"):
        (folder / name).write_text(name)
    there = fleet_ray._unpacked(fleet_ray._packed(folder), tmp_path / "there")
    assert there == tmp_path / "there" / "night.1"
    assert sorted(str(x.relative_to(there)) for x in there.rglob("*.*")) == ["deep/x.db3", "metadata.yaml"]
    assert fleet_ray._unpacked(fleet_ray._packed(folder / "metadata.yaml"), Path(tmp_path, "f")).read_text()


def test_a_node_with_another_version_and_no_cluster_at_all_are_told(run, place, monkeypatch):
    monkeypatch.setattr(fleet_ray.Worker, "version", lambda self: "0.0.1")
    with pytest.raises(fleet_ray.OptionError, match=r"a node has vis_core 0.0.1, and here is"):
        run()
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    with pytest.raises(fleet_ray.InputError, match=r"--ray nowhere: no cluster there.*nobody there.*ray start --head"):
        fleet_of(place).run(inputs_of(place, "a"), 1, "nowhere")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(fleet_ray.InputError, match=f"127.0.0.1:{port}: no cluster there.*refused"):
        fleet_of(place).run(inputs_of(place, "a"), 1, f"127.0.0.1:{port}")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(fleet_ray.MissingDependencyError, match=r"pip install 'vis_ros\[ray\]'"):
        fleet_of(place).run(inputs_of(place, "a"), 1, "here")
