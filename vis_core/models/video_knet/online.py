"""Video K-Net's online system on a stream: each frame is answered at once, its kernels linked to those of the last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vis_core import masks as run_lengths
from vis_core.masks import RunLengths
from vis_core.models.video_knet.graphs import online_graphs
from vis_core.models.video_knet.kernels import StageOutputs
from vis_core.models.video_knet.network import STAGES, OnlineNetwork
from vis_core.models.video_knet.panoptic import MaskSizes, Panoptic, candidates, mask_probabilities, merge, to_image
from vis_core.models.video_knet.vocabulary import SemanticLabels
from vis_core.nn.graphs import Graph
from vis_core.nn.input_transform import WithinTransform
from vis_core.structures import Frame
from vis_core.system.clip import ClipInstances, ClipModel, size_of
from vis_core.tracking.associator import Window

_EMPTY_BOX = (-1.0, -1.0, 10.0, 10.0)  # the published one


@dataclass(frozen=True, eq=False)
class EncodedFrame:
    """What of a frame depends on it alone: all but the last stage.

    Attributes:
        features: ``[1, C, h, w]``.
        outputs: of the last stage but one.
        semantic: logits of the classes of the pixels ``[1, K, h, w]``.
    """

    features: Tensor
    outputs: StageOutputs
    semantic: Tensor

    def nbytes(self) -> int:
        """Size, bytes."""
        return size_of(self.features, self.semantic, *self.outputs)


@dataclass(frozen=True, eq=False)
class ThingInstances(ClipInstances):
    """The things of one frame, best first.

    Attributes:
        scores: ``[N]``.
        labels: int64 ``[N]``.
        boxes: ``[N, 4]``, x1, y1, x2, y2 of the first and last pixels of what looks like a thing in each mask.
        embeddings: ``[N, C]``.
        owners: int64 ``[H, W]``: whose a pixel is.
        numbers: of each thing in `owners`.
        classes: number of thing classes.
    """

    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    embeddings: Tensor
    owners: Tensor
    numbers: Sequence[int]
    classes: int

    @cached_property
    def class_scores(self) -> npt.NDArray[np.float32]:  # type: ignore[override]
        """``[N, C]``, of each thing its score at its label."""
        scores = np.zeros((len(self.scores), self.classes), np.float32)
        scores[np.arange(len(scores)), self.labels] = self.scores
        return scores

    def frame_scores(self, t: int, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return self.scores

    def masks(self, t: int, rows: Sequence[int]) -> list[RunLengths]:
        owners = self.owners.cpu().numpy()
        return [run_lengths.encode(owners == self.numbers[row]) for row in rows]


class _Answers(NamedTuple):
    """What the last stage says of a frame.

    Attributes:
        logits: of the classes ``[1, N, K]``.
        masks: logits ``[1, N, h, w]``.
        kernels: ``[1, N, C]``.
        embeddings: gives what some of the kernels are associated by ``[n, C]``.
    """

    logits: Tensor
    masks: Tensor
    kernels: Tensor
    embeddings: Callable[[Sequence[int]], Tensor]


class VideoKNetOnlineModel(ClipModel[EncodedFrame, ThingInstances]):
    """Things and stuff share the pixels of a frame; the things are the instances, and `semantic_map` tells all.

    Args:
        network: in evaluation mode, on its device.
        class_names: name of each thing label.
        semantic: classes of the semantic map.
        short_side: shorter side of the network's image, pixels; None: as frames come.
        score_threshold: least score of a thing.
        association: what things are associated by: one of `choices.ASSOCIATIONS`, their own or the kernel itself.
        published: boxes as the published code has them: what looks like a thing is looked up as if there were no
            padding, and a mask without any such pixel has one and the same small box.
    """

    network: OnlineNetwork

    def __init__(
        self,
        network: OnlineNetwork,
        class_names: tuple[str, ...],
        semantic: SemanticLabels,
        short_side: int | None = None,
        score_threshold: float = 0.25,
        association: str = "embedding",
        published: bool = False,
    ) -> None:
        self.network, self.class_names = network, class_names
        self.semantic_class_names = semantic.names
        self.score_threshold, self.association, self.published = score_threshold, association, published
        self.device = next(network.parameters()).device
        self.transform = WithinTransform(short_side, rounded=False).to(self.device)
        self.previous: Tensor | None = None
        """Kernels of the last stage of the frame before ``[1, N, C]``."""
        self._panoptic: Panoptic | None = None
        # Without embeddings a network is of this option alone.
        self.fixed_options = ("association",) if network.association is None else ()
        self._classes = torch.tensor([*semantic.things, *semantic.stuff])

    def encode(self, frame: Frame) -> EncodedFrame:
        image = self.transform(frame.image)
        if self.exported:
            features, masks, kernels, semantic = self.exported["frame"](image)
            return EncodedFrame(features, StageOutputs(None, masks, kernels), semantic)
        image = image.to(next(self.network.backbone.parameters()).dtype)
        initial = self.network.initial(self.network.maps(image))
        assert initial.semantic is not None
        out = self.network.joined(initial)
        for number in range(STAGES - 1):
            out = self.network.stage(number, initial.features, out, classes=False)
        return EncodedFrame(initial.features, out, initial.semantic)

    def segment(self, clip: Sequence[EncodedFrame], window: Window) -> ThingInstances:
        (frame,) = clip
        network = self.network
        found = self._exported_last_stage(frame) if self.exported else self._last_stage(frame)
        self.previous = found.kernels
        height, width = frame.features.shape[2:]
        sizes = MaskSizes((8 * height, 8 * width), self.transform.size(*window.size), window.size)
        masks = found.masks[0]
        panoptic = merge(
            candidates(found.logits[0].sigmoid(), network.things),
            lambda kernels: mask_probabilities(masks[kernels], sizes),
            masks.flatten(1).amax(1).sigmoid(),
            self.score_threshold,
            window.size,
        )
        self._panoptic = panoptic
        numbers = [i for i, segment in enumerate(panoptic.segments, 1) if segment.thing]
        things = [panoptic.segments[i - 1] for i in numbers]
        rows = [segment.kernel for segment in things]
        return ThingInstances(
            scores=np.array([segment.score for segment in things], np.float32),
            labels=np.array([segment.label for segment in things], np.int64),
            boxes=self._boxes(panoptic, numbers, frame.semantic, sizes),
            embeddings=found.embeddings(rows),
            owners=panoptic.owners,
            numbers=numbers,
            classes=network.things,
        )

    def _last_stage(self, frame: EncodedFrame) -> _Answers:
        found = self.network.last_stage(frame.features, frame.outputs, self.previous)
        logits, masks, kernels = found.outputs
        association = self.network.association if self.association == "embedding" else None

        def embeddings(rows: Sequence[int]) -> Tensor:
            return kernels[0, rows] if association is None else association(found.linked[0, rows])  # type: ignore[no-any-return]

        assert logits is not None
        return _Answers(logits, masks, kernels, embeddings)

    def _exported_last_stage(self, frame: EncodedFrame) -> _Answers:
        """As `_last_stage`; a network that looks back is told whether there is anything behind it."""
        network, (_, masks, kernels) = self.network, frame.outputs
        behind: tuple[Tensor, ...] = ()
        if network.looks_back:
            first = self.previous is None
            behind = kernels if self.previous is None else self.previous, torch.tensor([first])
        logits, masks, kernels, *embeddings = self.exported["window"](frame.features, masks, kernels, *behind)
        known = embeddings[0] if embeddings and self.association == "embedding" else kernels
        return _Answers(logits, masks, kernels, lambda rows: known[0, rows])

    def graphs(self) -> Mapping[str, Graph]:
        return online_graphs(self.network)

    def semantic_map(self) -> npt.NDArray[np.uint8] | None:
        """Of the last frame, uint8 ``[H, W]``: 1 + index in `semantic_class_names`, 0: no class; None: no frame yet."""
        if self._panoptic is None:
            return None
        classes = [0]
        for segment in self._panoptic.segments:
            label = segment.label if segment.thing else self.network.things + segment.label
            classes.append(1 + int(self._classes[label]))
        owners = self._panoptic.owners
        table = torch.tensor(classes, dtype=torch.uint8, device=owners.device)
        return np.asarray(table[owners].cpu().numpy())

    def reset(self) -> None:
        self.previous, self._panoptic = None, None

    def nbytes(self) -> int:
        return size_of(self.previous, None if self._panoptic is None else self._panoptic.owners)

    def _boxes(
        self, panoptic: Panoptic, numbers: Sequence[int], semantic: Tensor, sizes: MaskSizes
    ) -> npt.NDArray[np.float32]:
        """Of the pixels of things that are named as one, by their first and last pixels ``[n, 4]``."""
        if not numbers:
            return np.zeros((0, 4), np.float32)
        owners, likely = panoptic.owners.cpu().numpy(), None
        if self.network.stuff:
            squeezed = sizes._replace(padded=sizes.image, resized=sizes.image)
            named = to_image(semantic, squeezed if self.published else sizes)[0].argmax(0)
            likely = (named < self.network.things).cpu().numpy()
        boxes = []
        for number in numbers:
            mask = owners == number
            inside = mask if likely is None else mask & likely
            if not inside.any():
                inside = inside if self.published else mask
            rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
            boxes.append((columns[0], rows[0], columns[-1], rows[-1]) if len(rows) else _EMPTY_BOX)
        return np.array(boxes, np.float32)
