"""GMP-VIS frame by frame: what is found in a frame, with embeddings that know of the tracks so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vis_core.masks import RunLengths
from vis_core.models.gmp_vis.online_graphs import graphs
from vis_core.models.gmp_vis.online_network import MaskParts, OnlineNetwork
from vis_core.nn.boxes import corners_from_centres
from vis_core.nn.graphs import Graph
from vis_core.nn.input_transform import ShortSideTransform
from vis_core.nn.mask_resize import MaskResize, without_duplicates
from vis_core.structures import Frame
from vis_core.system.clip import ClipInstances, ClipModel, size_of
from vis_core.tracking.associator import Window
from vis_core.tracking.graph_association import GraphAssociator

DUPLICATE_OVERLAP = 0.6


@dataclass(frozen=True, eq=False)
class EncodedFrame:
    """What of a frame depends on it alone: all but masks and identity.

    Attributes:
        queries: of the last layer ``[Q, C]``.
        scores: of the classes ``[Q, K]``.
        boxes: ``[Q, 4]``, x1, y1, x2, y2, 0..1.
        memory: of the encoder ``[1, C, h, w]``.
        parts: what masks are made of.
    """

    queries: Tensor
    scores: Tensor
    boxes: Tensor
    memory: Tensor
    parts: MaskParts

    def nbytes(self) -> int:
        """Size, bytes."""
        return size_of(self.queries, self.scores, self.boxes, self.memory, self.parts.common, *self.parts.adapted)


@dataclass(frozen=True, eq=False)
class FrameInstances(ClipInstances):
    """The instances of one frame, best first.

    Attributes:
        class_scores: ``[N, K]``.
        boxes: ``[N, 4]``, x1, y1, x2, y2, pixels of the frame.
        embeddings: ``[N, E]``, of unit length.
        features: ``[N, C]``, what later frames remember.
        mask_logits: ``[N, h, w]``.
        resize: of the masks.
    """

    class_scores: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    embeddings: Tensor
    features: Tensor
    mask_logits: Tensor
    resize: MaskResize

    def frame_scores(self, t: int, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        best: npt.NDArray[np.float32] = self.class_scores.max(1, initial=0)
        return best

    def masks(self, t: int, rows: Sequence[int]) -> list[RunLengths]:
        return self.resize(self.mask_logits[list(rows)])


class GMPVISModel(ClipModel[EncodedFrame, FrameInstances]):
    """Every frame is answered at once; masks are made only of what is sure enough.

    Args:
        network: in evaluation mode, on its device.
        class_names: name of each label.
        associator: whose memory of the tracks the embeddings look at.
        short_side: of the network's image, pixels; None: as frames come.
        longest_side: of it at most, pixels.
        score_threshold: least class probability of an instance.
        max_instances: instances of a frame at most.
    """

    network: OnlineNetwork

    def __init__(
        self,
        network: OnlineNetwork,
        class_names: tuple[str, ...],
        associator: GraphAssociator[FrameInstances],
        short_side: int | None = 360,
        longest_side: int = 640,
        score_threshold: float = 0.3,
        max_instances: int = 20,
    ) -> None:
        self.network, self.class_names, self.associator = network, class_names, associator
        self.score_threshold, self.max_instances = score_threshold, max_instances
        self.device = next(network.parameters()).device
        self.transform = ShortSideTransform(short_side, longest_side, multiple_of=1).to(self.device)
        self._resize: MaskResize | None = None

    def encode(self, frame: Frame) -> EncodedFrame:
        network, image = self.network, self.transform(frame.image)
        if self.exported:
            queries, logits, boxes, memory, common, coarse, fine, finest = self.exported["frame"](image)
            parts = MaskParts(common, (coarse, fine, finest))
        else:
            maps = network.maps(image.to(next(network.backbone.parameters()).dtype))
            out = network.frames(maps)
            queries, logits, boxes, memory = out.queries[-1, 0], out.logits[-1, 0], out.boxes[-1, 0], out.memory
            parts = network.mask_parts(memory, maps)
        return EncodedFrame(queries, logits.softmax(1)[:, :-1], corners_from_centres(boxes), memory, parts)

    def segment(self, clip: Sequence[EncodedFrame], window: Window) -> FrameInstances:
        (frame,) = clip
        best, rows = frame.scores.amax(1).topk(min(self.max_instances, len(frame.scores)))
        rows = rows[best >= self.score_threshold]
        logits = self._masks(frame, rows)
        there = (logits > 0).flatten(1).any(1)
        rows, logits = rows[there], logits[there]
        kept = without_duplicates(logits > 0, DUPLICATE_OVERLAP)
        rows, logits = rows[kept], logits[kept]
        features = frame.queries[rows]
        memory, ages = self.associator.stored_features(window.first)
        height, width = window.size
        boxes = frame.boxes[rows] * frame.boxes.new_tensor([width, height, width, height])
        return FrameInstances(
            class_scores=frame.scores[rows].cpu().numpy(),
            boxes=boxes.cpu().numpy(),
            embeddings=self._embeddings(features, memory, ages),
            features=features,
            mask_logits=logits,
            resize=self._resized(logits.shape[1:], window.size),
        )

    def _masks(self, frame: EncodedFrame, rows: Tensor) -> Tensor:
        """Mask logits ``[n, h, w]`` of some of a frame's queries."""
        if self.exported and len(rows):
            asked = (frame.queries[None, rows], frame.memory, frame.parts.common, *frame.parts.adapted)
            return self.exported["masks"](*asked)[0][0]
        return self.network.masks(frame.queries[None, rows], frame.memory, frame.parts)[0]

    def _embeddings(self, features: Tensor, memory: Tensor, ages: Tensor) -> Tensor:
        """What instances are matched by ``[n, E]``, of their features and what is remembered."""
        if not self.exported:
            return self.network.matching(features, memory, ages)  # type: ignore[no-any-return]
        if not len(features):
            return features.new_zeros((0, self.network.sizes.embedding))
        behind: tuple[Tensor, ...] = ()
        if self.network.matching.aggregation is not None:
            known = len(memory) > 0
            something = (memory, ages.float()) if known else (features[:1], torch.zeros(1))  # a graph wants rows
            behind = (*something, torch.tensor([known]))
        return self.exported["embeddings"](features, *behind)[0]

    def graphs(self) -> Mapping[str, Graph]:
        return graphs(self.network)

    def _resized(self, mask_size: torch.Size, size: tuple[int, int]) -> MaskResize:
        """From mask logits of that size to images of that size, in one step."""
        height, width = mask_size
        if self._resize is None or (self._resize.mask_size, self._resize.image_size) != ((height, width), size):
            self._resize = MaskResize((height, width), (height, width), (height, width), size, self.device)
        return self._resize
