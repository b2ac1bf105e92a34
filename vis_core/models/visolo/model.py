"""VISOLO on a stream: what it sees in a frame, helped by what it remembers of the frames before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from vis_core.masks import RunLengths
from vis_core.models.visolo import detection
from vis_core.models.visolo.detection import Detections
from vis_core.models.visolo.graphs import graphs
from vis_core.models.visolo.instances import VISOLOInstances
from vis_core.models.visolo.memory import Entry, FrameMemory
from vis_core.models.visolo.network import GridFeatures, VISOLONetwork
from vis_core.nn.graphs import Graph
from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD, InputTransform
from vis_core.structures import Frame
from vis_core.system.clip import ClipModel, size_of
from vis_core.tracking.associator import Window


@dataclass(frozen=True, eq=False)
class ViewFeatures:
    """What of one view of a frame depends on it alone.

    Attributes:
        image: the network's input ``[1, 3, h, w]``.
        maps: of the backbone, at strides 4, 8 and 16; of an exported network, its `GridFeatures`.
        mask_features: what the dynamic kernels are multiplied with, ``[d, h/4, w/4]``; None: yet to be made.
    """

    image: Tensor
    maps: Sequence[Tensor]
    mask_features: Tensor | None = None


@dataclass(frozen=True, eq=False)
class FrameFeatures:
    """What of a frame depends on it alone.

    Attributes:
        stamp: of the frame, nanoseconds.
        views: of the frame; the first one is the frame as it is.
    """

    stamp: int
    views: tuple[ViewFeatures, ...]

    def nbytes(self) -> int:
        """Size, bytes."""
        return sum(size_of(view.image, *view.maps, view.mask_features) for view in self.views)


class GridReading(NamedTuple):
    """What the grid's branches say of a frame.

    Attributes:
        categories: scores ``[C, 252]``.
        kernels: ``[256, 252]``.
        weight: what scores are multiplied with, ``[252]``; None: nothing.
        query: query features ``[128, 252]``.
        entry: what the memory keeps of the frame.
    """

    categories: Tensor
    kernels: Tensor
    weight: Tensor | None
    query: Tensor
    entry: Entry


class VISOLOModel(ClipModel[FrameFeatures, VISOLOInstances]):
    """Every frame is answered at once, from itself and a bounded memory.

    Args:
        network: in evaluation mode, on its device.
        class_names: name of each label.
        dtype: type in which the backbone runs; the grid's branches take float32.
        input_size: height and width of the network's input, multiples of 16.
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
        mean: of each channel of the images, in 0..255.
        std: of each channel, in 0..255.
    """

    network: VISOLONetwork
    fixed_options: tuple[str, ...] = ("input_size",)
    quick = False
    """Whether candidates are compared at the size of the mask features, not at the network's as published, and a
    CPU resizes images by one level off Pillow's at most."""

    def __init__(
        self,
        network: VISOLONetwork,
        class_names: tuple[str, ...],
        dtype: torch.dtype,
        *,
        input_size: tuple[int, int],
        memory_frames: int | None,
        memory_interval: int,
        score_threshold: float,
        mask_threshold: float,
        update_threshold: float,
        max_instances: int,
        mask_resize: str,
        reweighting: bool,
        published_quirks: bool = False,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        self.network, self.class_names = network, class_names
        self.dtype = dtype
        self.score_threshold = score_threshold
        self.mask_threshold = mask_threshold
        self.update_threshold = update_threshold
        self.max_instances = max_instances
        self.mask_resize = mask_resize
        self.published_quirks = published_quirks
        self.reweighting = reweighting
        self.device = next(network.parameters()).device
        self.transform = InputTransform(input_size, mean, std, exact=not self.quick).to(self.device)
        self.memory = FrameMemory(memory_interval, memory_frames)

    def encode(self, frame: Frame) -> FrameFeatures:
        return FrameFeatures(frame.stamp, (self.extract(self.transform(frame.image)),))

    def extract(self, image: Tensor) -> ViewFeatures:
        """What of the network's input ``[1, 3, h, w]`` depends on it alone: the backbone's maps, exported all of it."""
        if self.exported:
            mask_features, *grid = self.exported["frame"](image)
            return ViewFeatures(image, grid, mask_features[0])
        return ViewFeatures(image, self.network.backbone(image.to(self.dtype, memory_format=torch.channels_last)))

    def segment(self, clip: Sequence[FrameFeatures], window: Window) -> VISOLOInstances:
        (features,) = clip
        first = features.views[0]
        reading, mask_features = self.read(features, window.first)
        found = self.detect(first.maps, reading, mask_features)
        self.memory.append(reading.entry)
        return VISOLOInstances(
            stamp=features.stamp,
            detections=found,
            query=reading.query[:, found.cells],
            reference=reading.entry.reference[:, found.cells],
            encode_masks=partial(self.encode_masks, image=first.image, size=window.size),
        )

    def read(self, features: FrameFeatures, number: int) -> tuple[GridReading, Tensor | None]:
        """What the grid says of a frame, and its mask features if they are made by the way.

        Args:
            features: of the frame.
            number: of the frame in the stream.
        """
        first = features.views[0]
        return self.read_grid(first, self.memory, number), first.mask_features

    def read_grid(self, view: ViewFeatures, memory: FrameMemory, number: int) -> GridReading:
        """The grid's branches on a view of a frame, helped by a memory.

        Args:
            view: of the frame.
            memory: of the frames before.
            number: of the frame in the stream; the first one reads itself.
        """
        grid = self.grid_features(view)
        entry = Entry(number, grid.reference, grid.stored_category, grid.stored_kernel)
        entries = memory.readable if number else [entry]
        references, categories, kernels = (
            torch.cat([getattr(e, name) for e in entries], 1) for name in ("reference", "category", "kernel")
        )
        weight = None
        if self.reweighting and number:
            weight = _reweighting(grid.query, entries, grid.query.T @ references, memory)
        if self.exported:
            asked = (grid.query, grid.category, grid.kernel, references, categories, kernels)
            categories, kernels = self.exported["window"](*asked)
        else:
            attention = (grid.query.T @ references).softmax(1)
            categories, kernels = self.network.answers(attention, grid.category, grid.kernel, categories, kernels)
        return GridReading(categories, kernels, weight, grid.query, entry)

    def grid_features(self, view: ViewFeatures) -> GridFeatures:
        """What of a view's grid depends on it alone."""
        return GridFeatures(*view.maps) if self.exported else self.network.grid_features(view.maps[-1].float())

    def mask_features(self, maps: Sequence[Tensor]) -> Tensor:
        """What the dynamic kernels are multiplied with, float32 ``[d, h/4, w/4]``."""
        return self.network.mask_features(maps)[0]

    def detect(self, maps: Sequence[Tensor], reading: GridReading, mask_features: Tensor | None) -> Detections:
        """The frame's instances; where no cell passes the threshold the mask branch is not run.

        Args:
            maps: of the backbone.
            reading: of the grid.
            mask_features: where they were made already.
        """
        categories, kernels, weight, *_ = reading
        kept = detection.kept_cells(categories, weight, self.score_threshold, self.published_quirks)
        if mask_features is None and len(kept[0]):
            mask_features = self.mask_features(maps)
        elif mask_features is None:
            mask_features = kernels.new_zeros(()).expand(len(kernels), *maps[0].shape[2:])
        found = detection.candidates(
            mask_features, kernels, categories, kept, self.mask_threshold, self.published_quirks, self.quick
        )
        found = detection.suppress(found, self.update_threshold, self.max_instances)
        return detection.refined(found, self.mask_threshold) if self.quick else found

    def encode_masks(self, found: Detections, image: Tensor, size: tuple[int, int]) -> list[RunLengths]:
        """The masks that are reported.

        Args:
            found: those that stay.
            image: the network's input ``[1, 3, h, w]``.
            size: height and width of the frame.
        """
        return detection.encode_masks(found, size, self.mask_resize, self.mask_threshold)

    def graphs(self) -> Mapping[str, Graph]:
        return graphs(self.network, self.transform.size)

    def reset(self) -> None:
        self.memory.clear()

    def nbytes(self) -> int:
        return self.memory.nbytes()


def _reweighting(query: Tensor, entries: list[Entry], similarity: Tensor, memory: FrameMemory) -> Tensor:
    by_frame = {entry.frame: part for entry, part in zip(entries, similarity.split(query.shape[1], 1))}
    best = by_frame[memory.previous.frame].amax(1).sigmoid()
    kept = memory.newest_kept
    if kept is None:
        return best
    other = by_frame[kept.frame] if kept.frame in by_frame else query.T @ kept.reference
    return (best + other.amax(1).sigmoid()) / 2
