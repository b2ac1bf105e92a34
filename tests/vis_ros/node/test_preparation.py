"""What a peer may ask for is what the machine can hold."""

from __future__ import annotations

import os
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")

from vis_core.errors import OptionError
from vis_ros.node import preparation
from vis_ros.node.parameters import all_parameters


class Log:
    def __init__(self) -> None:
        self.told: list[str] = []

    def warning(self, message: str) -> None:
        self.told.append(message)

    info = error = warning


def values_of(system: str, **changes: Any) -> dict[str, Any]:
    return {name: option.default for name, option in all_parameters(system).items()} | {"system": system} | changes


@pytest.mark.parametrize(
    ("system", "changes"),
    [
        ("visolo-lite", {"input_size": (4096, 4096)}),
        ("minvis", {"short_side": 4096, "longest_side": 8192}),
    ],
)
def test_an_input_larger_than_free_memory_is_refused_before_anything_is_loaded(monkeypatch, system, changes):
    monkeypatch.setattr(preparation, "free_memory", lambda: 2**30)

    def load(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("loaded")

    with pytest.raises(OptionError, match=f"{next(iter(changes))}: an input of .* 1024 MiB are free"):
        preparation.make_segmenter(values_of(system, **changes), load, Log())
    with pytest.raises(AssertionError, match="loaded"):
        preparation.make_segmenter(values_of(system), load, Log())


def test_no_more_threads_are_made_than_there_are_processors(monkeypatch):
    import torch

    set_to: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    log = Log()
    for threads in (1024, 1):
        preparation.make_segmenter(values_of("visolo-lite", threads=threads), lambda *_, **__: None, log)
    assert set_to == [os.cpu_count(), 1]
    assert log.told == [f"threads: 1024 are more than this machine has; {os.cpu_count()} are used"]


def test_free_memory_is_that_of_the_machine():
    assert 2**20 < preparation.free_memory() < 2**50
