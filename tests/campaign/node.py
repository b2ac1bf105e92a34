"""The segmenter node with a system that sees the bright part of an image: quick, with the one driver of all systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tests.stub_system import BrightInstances, BrightModel
from vis_core import catalog
from vis_core.system.driver import StreamSegmenter
from vis_core.system.entry import System
from vis_core.system.option import MaxLostFrames
from vis_core.system.segmenter import Segmenter
from vis_core.tracking.associator import Associator, Window
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_ros.node.segmenter_node import main


class InOrder(Associator[BrightInstances]):
    """What is bright now is what was bright before."""

    def associate(
        self, found: BrightInstances, window: Window, lifecycle: TrackLifecycle
    ) -> tuple[Sequence[int], Sequence[int | None]]:
        alive = [*lifecycle.alive, *[None] * len(found)]
        return range(len(found)), alive[: len(found)]

    def remember(self, track_ids: Sequence[int | None], found: BrightInstances, window: Window) -> None:
        """The life cycle remembers enough."""


def build(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    *,
    max_lost_frames: MaxLostFrames = 5,
) -> Segmenter:
    return StreamSegmenter(BrightModel(100), InOrder(), TrackLifecycle(max_lost_frames), 1, 1)


if __name__ == "__main__":
    catalog.SYSTEMS = {
        "bright": System(
            name="bright",
            title="Bright",
            paper="none",
            build=build,
            published=None,
            checkpoints_licence="none",
            checkpoints_source="nowhere",
            figures={},
        )
    }
    main()
