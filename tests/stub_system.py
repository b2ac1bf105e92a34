"""A clip system that is nowhere in the package: what of it a user can do says what adding a system takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from vis_core import masks
from vis_core.masks import RunLengths
from vis_core.structures import Frame
from vis_core.system.clip import ClipInstances, ClipModel
from vis_core.system.driver import StreamSegmenter
from vis_core.system.entry import System
from vis_core.system.option import MaxLostFrames, Option
from vis_core.system.segmenter import Segmenter
from vis_core.tracking.associator import Window
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.overlap import OverlapAssociator


@dataclass(frozen=True, eq=False)
class Bright:
    """Pixels that are bright enough, bool ``[H, W]``."""

    pixels: Tensor

    def nbytes(self) -> int:
        return self.pixels.numel()


@dataclass(frozen=True, eq=False)
class BrightInstances(ClipInstances):
    """One instance, the bright pixels of a clip, if there are any."""

    coarse_masks: Tensor
    class_scores: np.ndarray

    def frame_scores(self, t: int, labels: np.ndarray) -> np.ndarray:
        return self.class_scores[:, 1]

    def masks(self, t: int, rows: Sequence[int]) -> list[RunLengths]:
        return [masks.encode(self.coarse_masks[row, t].numpy()) for row in rows]


class BrightModel(ClipModel[Bright, BrightInstances]):
    class_names = ("dark", "bright")

    def __init__(self, brightness: int) -> None:
        self.network = nn.Linear(1, 1)
        self.brightness = brightness

    def encode(self, frame: Frame) -> Bright:
        return Bright(torch.from_numpy(frame.image[..., 0] > self.brightness))

    def segment(self, clip: Sequence[Bright], window: Window) -> BrightInstances:
        found = torch.stack([features.pixels for features in clip])[None]
        found = found[found.flatten(1).any(1)]
        return BrightInstances(found, np.tile(np.array([[0.1, 0.8]], np.float32), (len(found), 1)))


def build(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    *,
    clip_length: Annotated[int, Option("frames of a window", 2, 100)] = 3,
    stride: Annotated[int, Option("frames between windows", 1, 99)] = 2,
    brightness: Annotated[int, Option("least value of a bright pixel", 0, 255, live=True)] = 100,
    max_lost_frames: MaxLostFrames = 5,
) -> Segmenter:
    return StreamSegmenter(
        BrightModel(brightness), OverlapAssociator(0.1), TrackLifecycle(max_lost_frames), clip_length, stride
    )


STUB = System(
    name="stub",
    title="Stub",
    paper="Nobody, Nowhere 2026",
    build=build,
    published=None,
    checkpoints_licence="none",
    checkpoints_source="nowhere",
    figures={"nothing": "AP 0.0"},
)


def register(monkeypatch: Any) -> None:
    """Put the stub into the catalogue, which is all that it takes."""
    from vis_core import catalog

    monkeypatch.setattr(catalog, "SYSTEMS", {**catalog.SYSTEMS, "stub": STUB})
