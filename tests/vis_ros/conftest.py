"""Nodes of the tests, each on a ROS domain of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.vis_ros.node.stage import Scripted, Stage


@pytest.fixture
def segmenter() -> Scripted:
    from tests.vis_ros.node.stage import Scripted

    return Scripted()


@pytest.fixture
def stage(make_stage: Callable[..., Stage], segmenter: Scripted) -> Stage:
    """An active node with a scripted segmenter."""
    stage = make_stage(lambda *_, **__: segmenter)
    stage.activate()
    return stage


@pytest.fixture
def tiny(make_stage: Callable[..., Stage]) -> Stage:
    """A node with VISOLO, small and of random weights."""
    from vis_core import load

    small = {"input_size": [64, 96], "score_threshold": 0.0, "max_instances": 3}
    return make_stage(load, system="visolo", device="cpu", precision="fp32", **small)
