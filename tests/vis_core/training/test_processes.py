"""Trainings that are killed, stopped or spread over processes."""

from __future__ import annotations

import csv
import os
import signal

import pytest
import torch
import yaml

from vis_core.checkpoints import read_tensors
from vis_core.training.config_file import read_config
from vis_core.training.state import load_state


@pytest.fixture
def written(content, tmp_path):
    """Writes a config file; gives its path."""

    def write(name, **changed):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**content, "output": name, **changed}))
        return path

    return write


def log(folder):
    """Rows of the log, but for the speed."""
    with (folder / "log.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "clips_per_second"} for row in csv.DictReader(file)]


def same(a, b):
    """Whether two states are the same, bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.slow
def test_a_run_killed_at_any_moment_goes_on_as_if_it_had_not_been_bit_for_bit(config, trained, vis, written, tmp_path):
    moments = ("forward:5", "write:1", "write:2", "rename:1", "rename:2", "rename:3")
    killed = {f"run{i}": vis("train", written(f"run{i}"), FAKE_KILL=moment) for i, moment in enumerate(moments)}
    trained(config(output=str(tmp_path / "unbroken")))
    expected = load_state(tmp_path / "unbroken")
    for name, process in killed.items():
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        trained(config(output=str(tmp_path / name)))
        assert same(load_state(tmp_path / name), expected), moments[int(name[3:])]
        assert log(tmp_path / name) == log(tmp_path / "unbroken")
        assert same(*(read_tensors(tmp_path / run / "last.safetensors") for run in (name, "unbroken")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_signal_lets_the_step_end_saves_it_and_says_how_to_go_on(vis, written, tmp_path, number):
    process = vis("train", written("run", steps=1000000, workers=1, log_every=1, save_every=1000000))
    assert process.stderr.readline().startswith("step 1/1000000")
    os.killpg(process.pid, number)  # to its workers too, as a terminal and a batch system do
    output, errors = process.communicate()
    assert process.returncode == 128 + number, errors
    step = load_state(tmp_path / "run")["step"]
    assert f"Stopped at step {step} of 1000000" in output and "The same command goes on" in output
    assert int(log(tmp_path / "run")[-1]["step"]) == step


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_whole_batch(config, trained, vis, written, tmp_path):
    options = {"dropout": 0.0}
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    process = vis("train", written("two", options=options, accumulate=2, workers=1), launcher=launcher)
    trained(config(output=str(tmp_path / "one"), options=options, accumulate=2))
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    one, two = (log(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 8
    for a, b in zip(one, two):
        assert {key: float(value) for key, value in b.items()} == pytest.approx(
            {key: float(value) for key, value in a.items()}, rel=1e-5, abs=1e-6
        )
    assert float(one[-1]["total"]) < float(one[0]["total"])


def test_vis_train_print_config_gives_a_config_that_reads_back(vis, written, tmp_path):
    process = vis("train", written("run"), "steps=5", "--print-config")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    (tmp_path / "printed.yaml").write_text(output)
    printed, read = read_config(tmp_path / "printed.yaml"), read_config(tmp_path / "run.yaml", ["steps=5"])
    assert printed.options == {"width": 8, "dropout": 0.3, "explode": 0}
    assert printed.optimizer == read.optimizer and printed.data == read.data and printed.steps == 5
    assert "width: 8  # Channels." in output
