"""Fixtures of the trainer's tests: a fake system, synthetic videos, and a config of a few quick steps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def annotations(tmp_path_factory) -> Path:
    """Two small synthetic videos."""
    from vis_core.data.synthetic import synthetic_video, write_youtube_vis

    videos = [synthetic_video(seed, length=4, size=(48, 64), objects=3) for seed in range(2)]
    return write_youtube_vis(videos, tmp_path_factory.mktemp("synthetic"))


@pytest.fixture
def content(annotations, tmp_path) -> dict:
    """What a config file of eight quick steps holds."""
    return {
        "system": "fake",
        "classes": ["disc", "box", "star"],
        "data": [{"annotations": str(annotations)}],
        "output": str(tmp_path / "run"),
        "options": {"dropout": 0.3},
        "steps": 8,
        "batch": 4,
        "clip": {"frames": 2, "size": [32, 48]},
        "optimizer": {"learning_rate": 0.01, "groups": {"backbone": {"learning_rate": 0.5}}},
        "schedule": {"warm_up": 2},
        "save_every": 3,
        "log_every": 1,
        "workers": 0,
        "device": "cpu",
    }


@pytest.fixture
def config(content, tmp_path):
    """Makes the config, with some keys changed."""
    from vis_core.training.config_file import config_of

    def make(**changed):
        return config_of({**content, **changed}, "test.yaml", tmp_path)

    return make


@pytest.fixture
def trained(monkeypatch):
    """Trains in this process, with one thread: sums in one order."""
    pytest.importorskip("lightning_fabric", reason="needs the extra 'train'")
    import torch

    from tests.vis_core.training import fake_system
    from vis_core import catalog
    from vis_core.training.loop import train

    monkeypatch.setattr(catalog, "SYSTEMS", fake_system.SYSTEMS)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield train
    torch.set_num_threads(threads)


@pytest.fixture
def vis(tmp_path):
    """Starts ``vis`` with the fake system in a process of its own."""
    pytest.importorskip("lightning_fabric", reason="needs the extra 'train'")
    started = []

    def start(*arguments, launcher=(), **environment) -> subprocess.Popen:
        command = [sys.executable, *launcher, str(Path(__file__).with_name("fake_system.py")), *map(str, arguments)]
        own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, **own, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
