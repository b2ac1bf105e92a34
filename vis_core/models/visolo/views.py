"""Several views of each frame whose outputs are averaged (test-time augmentation): larger, mirrored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.errors import ExportError
from vis_core.models.visolo.grid import GridReading, ViewFeatures
from vis_core.models.visolo.memory import FrameMemory
from vis_core.models.visolo.network import VISOLONetwork
from vis_core.models.visolo.shipped import INPUT_MEAN, INPUT_STD, OTHER_VIEWS
from vis_core.models.visolo.torch_grid import TorchGrid
from vis_core.nn.graphs import Graph
from vis_core.nn.input_transform import InputTransform

_MULTIPLE = 16


@dataclass(frozen=True, eq=False)
class SeveralViews(ViewFeatures):
    """The features of a frame's first view, and of the others."""

    others: tuple[ViewFeatures, ...] = ()

    def nbytes(self) -> int:
        return super().nbytes() + sum(view.nbytes() for view in self.others)


class View:
    """One more view of each frame of a stream; the network remembers it apart from the others.

    Args:
        first: of the first view; size and normalisation.
        scale: of the view's size, relative to the first one's.
        mirrored: left and right are exchanged.
        memory: empty.
    """

    def __init__(self, first: InputTransform, scale: float, mirrored: bool, memory: FrameMemory) -> None:
        height, width = (max(round(scale * n / _MULTIPLE), 1) * _MULTIPLE for n in first.size)
        mean, std = (tuple(x.tolist()) for x in (first.mean, first.std))
        self._transform = InputTransform((height, width), mean, std).to(first.mean.device)
        self._mirrored = mirrored
        self.memory = memory

    def image(self, image: npt.NDArray[np.uint8]) -> Tensor:
        """The network's input ``[1, 3, h, w]`` of a frame's image."""
        seen: Tensor = self._transform(image)
        return seen.flip(3) if self._mirrored else seen

    def as_first(self, reading: GridReading, grid: tuple[int, int], size: Sequence[int]) -> GridReading:
        """What was read of this view, as if of the first one.

        Args:
            reading: of the view, with its mask features.
            grid: rows and columns of the network's grid, which is the same at every size.
            size: height and width of the first view's mask features.
        """
        categories, kernels, features = reading.categories, reading.kernels, reading.mask_features
        assert features is not None
        if features.shape[1:] != torch.Size(size):
            features = F.interpolate(features[None], tuple(size), mode="bilinear", align_corners=False)[0]
        if self._mirrored:
            categories = categories.reshape(-1, *grid)[..., ::-1].reshape(categories.shape)
            kernels = kernels.unflatten(1, grid).flip(2).flatten(1)
            features = features.flip(2)
        return reading._replace(categories=categories, kernels=kernels, mask_features=features)


class AveragedViews(TorchGrid):
    """A network that looks at several views of each frame.

    Args:
        network: see `TorchGrid`, as are dtype and transform, which is that of the first view.
        dtype: the same.
        transform: the same.
        views: size of each other view, relative to the first one's, and whether it is mirrored.
        memory_interval: see `FrameMemory`, as is memory_frames.
        memory_frames: the same.
    """

    def __init__(
        self,
        network: VISOLONetwork,
        dtype: torch.dtype,
        transform: InputTransform,
        views: Sequence[tuple[float, bool]],
        memory_interval: int,
        memory_frames: int | None,
    ) -> None:
        super().__init__(network, dtype, transform, at_once=True)
        self.views = [View(transform, *view, FrameMemory(memory_interval, memory_frames)) for view in views]

    def encode(self, image: npt.NDArray[np.uint8], ahead: bool) -> SeveralViews:
        first = super().encode(image, ahead)
        others = tuple(self.extract(view.image(image), ahead) for view in self.views)
        return SeveralViews(first.image, first.maps, first.mask_features, others)

    def read(self, seen: ViewFeatures, memory: FrameMemory, number: int, reweighting: bool) -> GridReading:
        assert isinstance(seen, SeveralViews)
        readings = [self._read_view(seen, memory, number, reweighting)]
        size = readings[0].mask_features.shape[1:]  # type: ignore[union-attr]
        for view, other in zip(self.views, seen.others):
            reading = self._read_view(other, view.memory, number, reweighting)
            view.memory.append(reading.entry)
            readings.append(view.as_first(reading, self.network.grid, size))
        return averaged(readings)

    def _read_view(self, seen: ViewFeatures, memory: FrameMemory, number: int, reweighting: bool) -> GridReading:
        reading = super().read(seen, memory, number, reweighting)
        return reading._replace(mask_features=self.mask_features(seen)) if reading.mask_features is None else reading

    def graphs(self) -> Mapping[str, Graph]:
        raise ExportError(
            f"views={1 + len(self.views)}: cannot be exported, since the graphs are of one size; use views=1"
        )

    def reset(self) -> None:
        for view in self.views:
            view.memory.clear()

    def nbytes(self) -> int:
        return sum(view.memory.nbytes() for view in self.views)


def network_of_views(
    network: VISOLONetwork,
    dtype: torch.dtype,
    device: torch.device,
    input_size: tuple[int, int],
    views: int,
    memory_interval: int,
    memory_frames: int | None,
) -> TorchGrid:
    """visolo-lite's network with so many views of a frame: as it is, and as `OTHER_VIEWS` has them."""
    transform = InputTransform(input_size, INPUT_MEAN, INPUT_STD).to(device)
    if views == 1:
        return TorchGrid(network, dtype, transform, at_once=True)
    return AveragedViews(network, dtype, transform, OTHER_VIEWS[: views - 1], memory_interval, memory_frames)


def averaged(readings: Sequence[GridReading]) -> GridReading:
    """Mean category scores and mask logits of the views of a frame; all else is the first one's.

    Kernels and mask features of the views are joined, so that their product is the sum of the views' logits.
    """
    categories = np.stack([reading.categories for reading in readings]).mean(0)
    kernels = torch.cat([reading.kernels for reading in readings])
    features: Tensor = torch.cat([reading.mask_features for reading in readings]) / len(readings)  # type: ignore[misc]
    return readings[0]._replace(categories=categories, kernels=kernels, mask_features=features)
