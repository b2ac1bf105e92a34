"""EfficientVIS on a stream: windows of frames that start from what the window before left in the slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vis_core.models.efficientvis.instances import EfficientVISInstances, sure_of
from vis_core.models.efficientvis.network import EfficientVISNetwork
from vis_core.models.efficientvis.slots import Slots
from vis_core.nn.input_transform import ShortSideTransform
from vis_core.nn.region_queries import StageOutputs
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

    not_exported = "ONNX Runtime stops where boxes are pooled from a pyramid of features"

    network: EfficientVISNetwork

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
        levels = self.network.maps(image.to(next(self.network.backbone.parameters()).dtype))
        return FrameMaps(tuple(levels), self.transform.size(*frame.size))

    def segment(self, clip: Sequence[FrameMaps], window: Window) -> EfficientVISInstances:
        levels, size = [[maps.levels[i] for maps in clip] for i in range(4)], clip[0].size
        queries, boxes = self.network.learned(size)
        if self.slots is not None:
            queries, boxes = self.slots.start(queries, boxes)
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

    def _mask_logits(
        self, levels: Sequence[Sequence[Tensor]], out: StageOutputs, rows: Sequence[int], first: int
    ) -> Tensor:
        """Of some queries from a frame on ``[n, T - first, 28, 28]``; the frame before helps, if there is one."""
        before = max(first - 1, 0)
        part = StageOutputs(*(x[before:] for x in (out.logits, out.boxes, out.queries, out.attended)))
        stage = self.network.head.stages()[-1]
        masks = stage.masks([level[before:] for level in levels], part, list(rows))
        return masks[first - before :].transpose(0, 1)
