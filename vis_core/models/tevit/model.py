"""TeViT on a stream: windows of frames, each answered as the published system answers a whole video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vis_core.errors import ExportError
from vis_core.models.tevit.graphs import graphs
from vis_core.models.tevit.instances import TeViTInstances, best_labels, best_pairs
from vis_core.models.tevit.msgshift import FirstBlock, MessengerMemory, MsgShifT
from vis_core.models.tevit.network import TeViTNetwork
from vis_core.nn.graphs import Graph
from vis_core.nn.input_transform import WithinTransform
from vis_core.nn.region_queries import MASK_REGION, StageOutputs
from vis_core.structures import Frame
from vis_core.system.clip import ClipModel, size_of
from vis_core.tracking.associator import Window


@dataclass(eq=False)
class FrameFeatures:
    """What of a frame is made once.

    Attributes:
        size: height and width of the network's image without padding.
        levels: maps ``[1, C, h, w]`` at strides 4, 8, 16 and 32, where they depend on no frame to come; of an exported
            network what its first graph gives.
        first: with messengers, as far as the frame goes alone.
    """

    size: tuple[int, int]
    levels: tuple[Tensor, ...] = ()
    first: FirstBlock | None = None

    def nbytes(self) -> int:
        """Size, bytes."""
        return size_of(*self.levels) + (self.first.nbytes() if self.first is not None else 0)


class TeViTModel(ClipModel[FrameFeatures, TeViTInstances]):
    """One query is one instance in all frames of a window.

    Args:
        network: in evaluation mode, on its device.
        class_names: name of each label.
        input_size: height and width of an upright rectangle, or of a lying one, into which frames are fitted: its
            shorter and its longer side, pixels.
        published: answer a clip as published: the best pairs of query and class, whatever their scores.
        backbone_runs: with messengers: over each window, as published; or once over each frame of the stream, whose
            messengers then come from earlier frames alone.
        score_threshold: least mean score over a window of an instance.
        presence_threshold: least score in a frame that shows an instance.
        max_instances: pairs of query and class of a window at most.
    """

    network: TeViTNetwork
    fixed_options = ("backbone", "shift", "query_interaction")

    def __init__(
        self,
        network: TeViTNetwork,
        class_names: tuple[str, ...],
        input_size: tuple[int, int],
        published: bool,
        backbone_runs: str,
        score_threshold: float,
        presence_threshold: float,
        max_instances: int,
    ) -> None:
        self.network, self.class_names = network, class_names
        self.published, self._streamed = published, backbone_runs == "stream"
        self.score_threshold, self.presence_threshold = score_threshold, presence_threshold
        self.max_instances = max_instances
        self.device = next(network.parameters()).device
        self.transform = WithinTransform(*input_size).to(self.device)
        self._memory: MessengerMemory | None = None

    def encode(self, frame: Frame) -> FrameFeatures:
        backbone, image = self.network.backbone, self.transform(frame.image)
        size = self.transform.size(*frame.size)
        if self.exported:
            return FrameFeatures(size, self.exported["frame"](image))
        image = image.to(next(backbone.parameters()).dtype)
        if isinstance(backbone, MsgShifT):
            return FrameFeatures(size, first=backbone.first_block(image))
        return FrameFeatures(size, tuple(self.network.levels(self.network.backbone_maps(image, 1))))

    def segment(self, clip: Sequence[FrameFeatures], window: Window) -> TeViTInstances:
        size = clip[0].size
        levels, out = self._exported_answers(clip) if self.exported else self._answers(clip)
        frame_scores = out.logits.float().sigmoid()
        scores = frame_scores.mean(0)
        rows, labels, values = best_pairs(scores, self.max_instances)
        if self.published:
            class_scores = torch.zeros_like(scores[rows]).scatter_(1, labels[:, None], values[:, None])
            shown = values[:, None].expand(-1, len(clip))
        else:
            chosen = best_labels(rows, values, self.score_threshold)
            rows, labels = rows[chosen], labels[chosen]
            class_scores, shown = scores[rows], frame_scores[:, rows, labels].T
            shown = torch.where(shown >= self.presence_threshold, shown, 0)
        (height, width), (image_height, image_width) = size, window.size
        # In float32 as the published factors, which the boxes are divided by.
        scale = torch.tensor([width / image_width, height / image_height] * 2, device=self.device)
        fits = image_height * image_width <= height * width
        return TeViTInstances(
            class_scores,
            shown,
            (out.boxes[:, rows] / scale).transpose(0, 1),
            lambda some, first: self._mask_logits(levels, out, rows[list(some)], labels[list(some)], first),
            window.size,
            linking_size=window.size if fits else size,
        )

    def reset(self) -> None:
        self._memory = None

    def nbytes(self) -> int:
        return self._memory.nbytes() if self._memory is not None else 0

    def graphs(self) -> Mapping[str, Graph]:
        if self._streamed:
            raise ExportError(
                "backbone=stream: cannot be exported, since what it remembers of the stream is no part of graphs; use "
                "backbone=window"
            )
        return graphs(self.network)

    def _answers(self, clip: Sequence[FrameFeatures]) -> tuple[Sequence[Sequence[Tensor]], StageOutputs]:
        """The maps of a clip's frames, of each level, and what the last stage says."""
        levels = self._levels(clip)
        queries, boxes = self.network.learned(clip[0].size)
        # All frames have the same queries: their first look at one another is one frame's.
        return levels, self.network.head.last(levels, queries[None], boxes.expand(len(clip), -1, -1))

    def _exported_answers(self, clip: Sequence[FrameFeatures]) -> tuple[Sequence[Sequence[Tensor]], StageOutputs]:
        """As `_answers`; the maps of a level are in one tensor."""
        features = [torch.cat(x) for x in zip(*(frame.levels for frame in clip))]
        sides = torch.tensor(clip[0].size[::-1] * 2, dtype=torch.float32)
        logits, boxes, queries, attended, *levels = self.exported["window"](*features, sides)
        return [[level] for level in levels or features], StageOutputs(logits, boxes, queries, attended)

    def _levels(self, clip: Sequence[FrameFeatures]) -> list[list[Tensor]]:
        """Of each level the maps of the frames."""
        backbone = self.network.backbone
        if isinstance(backbone, MsgShifT):
            if not self._streamed:
                firsts = [features.first for features in clip if features.first is not None]
                levels = self.network.levels(backbone.rest(FirstBlock.of(firsts), len(clip)))
                return [list(level.split(1)) for level in levels]
            for features in clip:
                if features.first is not None:
                    maps, self._memory = backbone.rest_streamed(features.first, self._memory)
                    features.levels, features.first = tuple(self.network.levels(maps)), None
        return [[features.levels[i] for features in clip] for i in range(4)]

    def _mask_logits(
        self, levels: Sequence[Sequence[Tensor]], out: StageOutputs, queries: Tensor, labels: Tensor, first: int
    ) -> Tensor:
        """Of pairs of query and label from a frame on, ``[n, T - first, 28, 28]``; a query's masks are made once."""
        distinct, which = queries.unique(return_inverse=True)
        if self.exported:
            if not len(queries):
                return out.boxes.new_zeros((0, len(out.boxes) - first, 2 * MASK_REGION, 2 * MASK_REGION))
            maps = (level[0][first:] for level in levels)
            (masks,) = self.exported["masks"](*maps, out.boxes[first:, distinct], out.attended[first:, distinct])
            return masks[:, which, labels].transpose(0, 1)
        part = StageOutputs(*(x[first:] for x in (out.logits, out.boxes, out.queries, out.attended)))
        masks = self.network.head.stages()[-1].masks([level[first:] for level in levels], part, distinct)
        return masks[:, which, labels].transpose(0, 1)
