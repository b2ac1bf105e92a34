"""EfficientVIS on a stream: windows of frames that start from what the window before left in the slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vis_core.models.efficientvis.graphs import graphs
from vis_core.models.efficientvis.instances import EfficientVISInstances, sure_of
from vis_core.models.efficientvis.network import EfficientVISNetwork
from vis_core.models.efficientvis.slots import Slots
from vis_core.nn.graphs import Graph
from vis_core.nn.input_transform import ShortSideTransform
from vis_core.nn.region_queries import MASK_REGION, StageOutputs
from vis_core.structures import Frame
from vis_core.system.clip import ClipModel, size_of
from vis_core.tracking.associator import Window


@dataclass(frozen=True, eq=False)
class FrameMaps:
    """What of a frame depends on it alone.

    Attributes:
        levels: maps ``[1, C, h, w]`` at strides 4, 8, 16 and 32.
        size: height and width of the network's image without padding.
    """

    levels: tuple[Tensor, ...]
    size: tuple[int, int]

    def nbytes(self) -> int:
        """Size, bytes."""
        return size_of(*self.levels)


class EfficientVISModel(ClipModel[FrameMaps, EfficientVISInstances]):
    """One query is one tracklet of a window.

    Args:
        network: in evaluation mode, on its device.
        class_names: name of each label.
        slots: what a window starts from, and who is who; None: every window starts from what was learned, and holds the
            sure queries alone, to be linked in another way.
        input_size: shorter side of the network's image, and its longer side at most, pixels.
        score_threshold: least mean score over a window of a sure query.
        presence_threshold: least score in a frame of an instance that is there.
    """

    network: EfficientVISNetwork
    fixed_options = ("attention", "dynamic_convolution", "queries_over_time")

    def __init__(
        self,
        network: EfficientVISNetwork,
        class_names: tuple[str, ...],
        slots: Slots | None,
        input_size: tuple[int, int],
        score_threshold: float,
        presence_threshold: float,
    ) -> None:
        self.network, self.class_names, self.slots = network, class_names, slots
        self.score_threshold, self.presence_threshold = score_threshold, presence_threshold
        self.device = next(network.parameters()).device
        self.transform = ShortSideTransform(*input_size).to(self.device)

    def encode(self, frame: Frame) -> FrameMaps:
        image = self.transform(frame.image)
        if self.exported:
            return FrameMaps(self.exported["frame"](image), self.transform.size(*frame.size))
        levels = self.network.maps(image.to(next(self.network.backbone.parameters()).dtype))
        return FrameMaps(tuple(levels), self.transform.size(*frame.size))

    def segment(self, clip: Sequence[FrameMaps], window: Window) -> EfficientVISInstances:
        levels, size = [[maps.levels[i] for maps in clip] for i in range(4)], clip[0].size
        queries, boxes = self._learned(size)
        if self.slots is not None:
            queries, boxes = self.slots.start(queries, boxes)
        if self.exported:
            levels = [[torch.cat(level)] for level in levels]
            out = StageOutputs(*self.exported["window"](*(level[0] for level in levels), queries, boxes))
        else:
            out = self.network.head.last(levels, *(x.expand(len(clip), -1, -1) for x in (queries, boxes)))
        probabilities = out.logits.sigmoid().transpose(0, 1)
        found = EfficientVISInstances(
            probabilities=probabilities,
            sure=sure_of(probabilities, self.score_threshold),
            queries=out.queries.mean(0),
            boxes=out.boxes.transpose(0, 1),
            presence_threshold=self.presence_threshold,
            mask_logits=lambda rows, first: self._mask_logits(levels, out, rows, first),
            network_size=size,
            size=window.size,
        )
        return found if self.slots is not None else found.chosen(np.flatnonzero(found.sure).tolist())

    def graphs(self) -> Mapping[str, Graph]:
        return graphs(self.network)

    def _learned(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        if not self.exported:
            return self.network.learned(size)
        queries, boxes = self.exported["start"](torch.tensor(size[::-1] * 2, dtype=torch.float32))
        return queries, boxes

    def _mask_logits(
        self, levels: Sequence[Sequence[Tensor]], out: StageOutputs, rows: Sequence[int], first: int
    ) -> Tensor:
        """Of some queries from a frame on ``[n, T - first, 28, 28]``; the frame before helps, if there is one."""
        before = max(first - 1, 0)
        if self.exported:
            if not rows:
                return out.boxes.new_zeros((0, len(out.boxes) - first, 2 * MASK_REGION, 2 * MASK_REGION))
            maps = (level[0][before:] for level in levels)
            (masks,) = self.exported["masks"](*maps, out.boxes[before:, rows], out.attended[before:, rows])
        else:
            part = StageOutputs(*(x[before:] for x in (out.logits, out.boxes, out.queries, out.attended)))
            stage = self.network.head.stages()[-1]
            masks = stage.masks([level[before:] for level in levels], part, list(rows))
        return masks[first - before :].transpose(0, 1)
