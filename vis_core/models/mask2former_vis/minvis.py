"""MinVIS: what it finds in a frame, in slots that hold their objects; or in a whole video, as published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vis_core.masks import RunLengths
from vis_core.models.mask2former_vis import decoding
from vis_core.models.mask2former_vis.decoding import QueryInstances
from vis_core.models.mask2former_vis.graphs import graphs
from vis_core.models.mask2former_vis.model import PixelEncoder, decoded
from vis_core.models.mask2former_vis.network import Mask2FormerVISNetwork, PixelFeatures
from vis_core.models.mask2former_vis.slots import SlotOrder
from vis_core.models.mask2former_vis.transformer_decoder import mask_logits
from vis_core.nn.graphs import Graph
from vis_core.nn.mask_resize import MaskResize
from vis_core.structures import Frame
from vis_core.system.clip import ClipInstances, ClipModel, size_of
from vis_core.tracking.associator import Window


@dataclass(frozen=True, eq=False)
class MinVISInstances(ClipInstances):
    """The slots of one frame that show an instance, the best first.

    Attributes:
        probabilities: of the classes ``[N, C]``.
        slots: of each instance.
        embeddings: normalised, ``[N, 256]``.
        mask_logits: ``[N, h, w]``.
        resize: of the masks.
    """

    shows_empty_masks = True  # one that the network's resolution shows

    probabilities: Tensor
    slots: list[int]
    embeddings: Tensor
    mask_logits: Tensor
    resize: MaskResize

    @cached_property
    def class_scores(self) -> npt.NDArray[np.float32]:  # type: ignore[override]
        return np.asarray(self.probabilities.cpu().numpy())

    @property
    def boxes(self) -> npt.NDArray[np.float64]:
        """Of the masks, x1, y1, x2, y2, pixels of the image ``[N, 4]``."""
        return self.resize.boxes(self.mask_logits)

    def frame_scores(self, t: int, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        best: npt.NDArray[np.float32] = self.class_scores.max(1, initial=0)
        return best

    def masks(self, t: int, rows: Sequence[int]) -> list[RunLengths]:
        return self.resize(self.mask_logits[list(rows)])


class MinVISModel(ClipModel[PixelFeatures, MinVISInstances]):
    """Every frame is answered at once, from itself and the embeddings of the frame before.

    An instance is a slot whose query has a class probability of at least the threshold in this frame. Label and score
    of a track are means over the frames that showed it.

    Args:
        network: in evaluation mode, on its device.
        class_names: name of each label.
        encoder: of its frames.
        score_threshold: least class probability of an instance.
        max_instances: instances of a frame at most.
    """

    network: Mask2FormerVISNetwork

    def __init__(
        self,
        network: Mask2FormerVISNetwork,
        class_names: tuple[str, ...],
        encoder: PixelEncoder,
        score_threshold: float,
        max_instances: int,
    ) -> None:
        self.network, self.class_names, self.encoder = network, class_names, encoder
        self.score_threshold = score_threshold
        self.max_instances = max_instances
        self.order = SlotOrder()

    def encode(self, frame: Frame) -> PixelFeatures:
        return self.encoder.features(frame, self.exported)

    def segment(self, clip: Sequence[PixelFeatures], window: Window) -> MinVISInstances:
        (features,) = clip
        out = decoded(self.network, features, False, self.exported)
        order = self.order.align(out.queries[0])
        assert self.order.embeddings is not None
        scores = decoding.class_scores(out.logits[0, order])
        best, slots = scores.amax(1).topk(min(self.max_instances, len(scores)))
        slots = slots[best >= self.score_threshold]
        logits = mask_logits(out.mask_embeddings[0, order[slots]], features.mask)[:, 0]
        there = (logits > 0).flatten(1).any(1)
        slots, logits = slots[there], logits[there]
        resize = self.encoder.resize(features.mask.shape[2:], window.size)
        return MinVISInstances(scores[slots], slots.tolist(), self.order.embeddings[slots], logits, resize)

    def graphs(self) -> Mapping[str, Graph]:
        return graphs(self.network, space_time=False)

    def reset(self) -> None:
        self.order.clear()

    def nbytes(self) -> int:
        return size_of(self.order.embeddings)


@dataclass(frozen=True, eq=False)
class FrameQueries:
    """What the network says of one frame.

    Attributes:
        logits: class logits ``[Q, K + 1]``.
        embeddings: ``[Q, 256]``, by which queries are matched.
        masks: mask logits ``[Q, h, w]``.
    """

    logits: Tensor
    embeddings: Tensor
    masks: Tensor

    def nbytes(self) -> int:
        """Size, bytes."""
        return size_of(self.logits, self.embeddings, self.masks)


class MinVISVideoModel(ClipModel[FrameQueries, QueryInstances]):
    """MinVIS as published: the ten best pairs of slot and class of the whole video.

    Class logits are averaged over all frames. Memory grows with the video, by the mask logits of all queries.

    Args:
        network: in evaluation mode, on its device.
        class_names: name of each label.
        encoder: of its frames.
    """

    network: Mask2FormerVISNetwork

    def __init__(self, network: Mask2FormerVISNetwork, class_names: tuple[str, ...], encoder: PixelEncoder) -> None:
        self.network, self.class_names, self.encoder = network, class_names, encoder

    def encode(self, frame: Frame) -> FrameQueries:
        features = self.encoder.features(frame, self.exported)
        out = decoded(self.network, features, False, self.exported)
        return FrameQueries(out.logits[0], out.queries[0], mask_logits(out.mask_embeddings[0], features.mask)[:, 0])

    def segment(self, clip: Sequence[FrameQueries], window: Window) -> QueryInstances:
        slots = SlotOrder()
        orders = [slots.align(frame.embeddings) for frame in clip]
        logits = torch.stack([frame.logits[order] for frame, order in zip(clip, orders)]).mean(0)
        return decoding.published_instances(
            decoding.class_scores(logits),
            lambda chosen: torch.stack([frame.masks[order[chosen]] for frame, order in zip(clip, orders)], 1),
            self.encoder.resize(clip[0].masks.shape[1:], window.size),
        )

    def graphs(self) -> Mapping[str, Graph]:
        return graphs(self.network, space_time=False)
