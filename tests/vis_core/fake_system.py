"""A system without a network, for tests of what is around one: it finds the bright pixels of each frame."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

import numpy as np

from vis_core import masks
from vis_core.errors import OptionError
from vis_core.structures import Frame, Instances
from vis_core.system.option import Option
from vis_core.system.segmenter import Segmenter
from vis_core.tracking.lifecycle import TrackLifecycle


class FakeSegmenter(Segmenter):
    """One track: the pixels over 127 in red, labelled 1; a frame without any loses it for good.

    Args:
        delay: frames between a frame and its answer.
        on_step: called with each frame.
    """

    class_names = ("person", "vehicle")

    def __init__(self, delay: int = 0, on_step: Callable[[Frame], None] = lambda frame: None) -> None:
        self.delay = delay
        self.on_step = on_step
        self.lifecycle = TrackLifecycle(max_lost_frames=1)
        self.owed: list[Instances] = []
        self.resets = 0

    def step(self, frame: Frame) -> list[Instances]:
        self.on_step(frame)
        self.lifecycle.expire()
        found = frame.image[:, :, 0] > 127
        if found.any():
            continues = list(self.lifecycle.alive[:1]) or [None]
            scores = np.array([0.5 + 0.01 * frame.index])
            classes = np.array([[0.1, 0.5 + 0.01 * frame.index]])
            instances = self.lifecycle.update(frame, continues, scores, classes, [masks.encode(found)])
        else:
            instances = self.lifecycle.update(frame, [], np.zeros(0), np.zeros((0, 2)), [])
        self.owed.append(instances)
        return [self.owed.pop(0)] if len(self.owed) > self.delay else []

    def flush(self) -> list[Instances]:
        owed, self.owed = self.owed, []
        return owed

    def reset(self) -> None:
        self.resets += 1
        self.owed = []
        self.lifecycle.reset()

    def state_bytes(self) -> int:
        return self.lifecycle.state_bytes()


def catalog(segmenter: Segmenter) -> types.ModuleType:
    """What stands for the module ``vis_core.catalog``; `calls` holds the arguments of ``load``."""
    module = types.ModuleType("vis_core.catalog")
    entry = types.SimpleNamespace(
        name="fake",
        title="Fake",
        paper="Nobody, nowhere",
        options={
            "score_threshold": Option("Least score.", 0.0, 1.0, default=0.1),
            "input_size": Option("Height and width.", default=(360, 640)),
            "max_lost_frames": Option("Frames.", 0, default=30, optional=True),
        },
        checkpoints_licence="Apache-2.0",
        checkpoints_source="none",
        figures={"AP": "0.0"},
        default_weights=lambda: None,
    )

    def find(name: str) -> types.SimpleNamespace:
        if name != "fake":
            raise OptionError(f"system {name!r} is unknown; known are fake")
        return entry

    def load(*arguments: object, **options: object) -> Segmenter:
        module.calls.append((arguments, options))
        return segmenter

    module.calls = []
    module.find, module.load, module.SYSTEMS = find, load, {"fake": entry}
    return module


def install(segmenter: Segmenter) -> None:
    """Put the fake catalogue in place of the real one, in a process of its own."""
    sys.modules["vis_core.catalog"] = catalog(segmenter)
