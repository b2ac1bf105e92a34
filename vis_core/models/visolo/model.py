"""VISOLO on a stream: what it sees in a frame, helped by what it remembers of the frames before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from vis_core.masks import RunLengths
from vis_core.models.visolo import detection
from vis_core.models.visolo.detection import Detections
from vis_core.models.visolo.grid import GridNetwork, GridReading
from vis_core.models.visolo.instances import VISOLOInstances
from vis_core.models.visolo.memory import FrameMemory
from vis_core.structures import Frame
from vis_core.system.clip import ClipModel, HasSize, TensorRun
from vis_core.tracking.associator import Window

if TYPE_CHECKING:
    from vis_core.nn.graphs import Graph


@dataclass(frozen=True, eq=False)
class FrameFeatures:
    """What of a frame depends on it alone.

    Attributes:
        stamp: of the frame, nanoseconds.
        seen: by the network.
    """

    stamp: int
    seen: HasSize

    def nbytes(self) -> int:
        """Size, bytes."""
        return self.seen.nbytes()


class VISOLOModel(ClipModel[FrameFeatures, VISOLOInstances]):
    """Every frame is answered at once, from itself and a bounded memory.

    Args:
        grid: the network.
        class_names: name of each label.
        memory_frames: frames that are read at most; None: all (the published rule).
        memory_interval: every how many frames one is kept.
        score_threshold: of a cell.
        mask_threshold: of a pixel.
        update_threshold: of an instance, after matrix NMS.
        max_instances: instances a frame at most.
        mask_resize: ``published`` or ``logits``, see `detection.encode_masks`.
        published_quirks: reproduce what the published code does with empty masks and cell 0.
        reweighting: scale a cell's score by its greatest similarity with the frames before (an ablation of the paper
            leaves it out).
    """

    fixed_options: tuple[str, ...] = ("input_size",)
    quick = False
    """Whether candidates are compared at the size of the mask features, not at the network's as published."""

    def __init__(
        self,
        grid: GridNetwork,
        class_names: tuple[str, ...],
        *,
        memory_frames: int | None,
        memory_interval: int,
        score_threshold: float,
        mask_threshold: float,
        update_threshold: float,
        max_instances: int,
        mask_resize: str,
        reweighting: bool,
        published_quirks: bool = False,
    ) -> None:
        self.grid = self._own_grid = grid
        self.network, self.class_names = grid.network, class_names
        self.score_threshold = score_threshold
        self.mask_threshold = mask_threshold
        self.update_threshold = update_threshold
        self.max_instances = max_instances
        self.mask_resize = mask_resize
        self.published_quirks = published_quirks
        self.reweighting = reweighting
        self.memory = FrameMemory(memory_interval, memory_frames)

    def encode(self, frame: Frame) -> FrameFeatures:
        return FrameFeatures(frame.stamp, self.grid.encode(frame.image, ahead=False))

    def encode_ahead(self, frame: Frame) -> FrameFeatures:
        return FrameFeatures(frame.stamp, self.grid.encode(frame.image, ahead=True))

    def segment(self, clip: Sequence[FrameFeatures], window: Window) -> VISOLOInstances:
        (features,) = clip
        reading = self.grid.read(features.seen, self.memory, window.first, self.reweighting)
        found = self.detect(features.seen, reading)
        self.memory.append(reading.entry)
        return VISOLOInstances(
            stamp=features.stamp,
            detections=found,
            query=reading.query[:, found.cells],
            reference=reading.reference[:, found.cells],
            encode_masks=partial(self.encode_masks, seen=features.seen, size=window.size),
        )

    def detect(self, seen: Any, reading: GridReading) -> Detections:
        """The frame's instances; where no cell passes the threshold the network is not asked for masks.

        Args:
            seen: by the network.
            reading: of its grid.
        """
        kept = detection.kept_cells(reading.categories, reading.weight, self.score_threshold, self.published_quirks)
        if len(kept[0]):
            logits = self.grid.mask_logits(seen, reading, kept[0])
        else:
            logits = np.zeros((0, *(n // 4 for n in self.grid.size)), np.float32)
        found = detection.candidates(
            logits, reading.categories, kept, self.mask_threshold, self.published_quirks, self.quick
        )
        found = detection.suppress(found, self.update_threshold, self.max_instances)
        return detection.refined(found, self.mask_threshold) if self.quick else found

    def encode_masks(self, found: Detections, seen: Any, size: tuple[int, int]) -> list[RunLengths]:
        """The masks that are reported.

        Args:
            found: those that stay.
            seen: by the network.
            size: height and width of the frame.
        """
        return detection.encode_masks(found, size, self.mask_resize, self.mask_threshold)

    def use_exported(self, runs: Mapping[str, TensorRun]) -> None:
        super().use_exported(runs)
        self.grid = self._own_grid.on_exported(runs) if runs else self._own_grid

    def graphs(self) -> Mapping[str, Graph]:
        return self._own_grid.graphs()

    def reset(self) -> None:
        self.memory.clear()
        self.grid.reset()

    def nbytes(self) -> int:
        return self.memory.nbytes() + self.grid.nbytes()
