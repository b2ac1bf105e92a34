"""VISOLO's network in PyTorch, on its device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vis_core.models.visolo.exported_grid import ArrayRun, ExportedGrid
from vis_core.models.visolo.graphs import graphs
from vis_core.models.visolo.grid import Floats, GridFeatures, GridNetwork, GridReading, ViewFeatures
from vis_core.models.visolo.memory import Entry, FrameMemory
from vis_core.models.visolo.network import VISOLONetwork
from vis_core.nn.concurrency import SideBySide
from vis_core.nn.graphs import Graph
from vis_core.nn.input_transform import InputTransform
from vis_core.system.clip import TensorRun


class TorchGrid(GridNetwork):
    """A network in evaluation mode.

    Args:
        network: on its device.
        dtype: type in which the backbone runs; the grid's branches take float32.
        transform: makes its input of an image, on the same device.
        at_once: on a CPU make mask features of every frame, beside the grid's branches: of a small network that is
            quicker; else where a cell passes the threshold.
    """

    network: VISOLONetwork

    def __init__(
        self, network: VISOLONetwork, dtype: torch.dtype, transform: InputTransform, at_once: bool = False
    ) -> None:
        self.network, self.dtype, self.transform = network, dtype, transform
        self.size = transform.size
        self.at_once = at_once
        self._on_cpu = transform.mean.device.type == "cpu"
        self._side_by_side = SideBySide()

    def encode(self, image: npt.NDArray[np.uint8], ahead: bool) -> ViewFeatures:
        return self.extract(self.transform(image), ahead)

    def extract(self, image: Tensor, ahead: bool) -> ViewFeatures:
        """What of the network's input ``[1, 3, h, w]`` depends on it alone: the backbone's maps."""
        maps = self.network.backbone(image.to(self.dtype, memory_format=torch.channels_last))
        return ViewFeatures(image, maps, self.network.mask_features(maps)[0] if ahead and self.at_once else None)

    def read(self, seen: ViewFeatures, memory: FrameMemory, number: int, reweighting: bool) -> GridReading:
        def read() -> GridReading:
            return GridNetwork.read(self, seen, memory, number, reweighting)

        if seen.mask_features is not None or not (self.at_once and self._on_cpu):
            return read()
        reading, features = self._side_by_side(read, lambda: self.mask_features(seen))
        return reading._replace(mask_features=features)

    def mask_features(self, seen: ViewFeatures) -> Tensor:
        """What the dynamic kernels are multiplied with, float32 ``[d, h/4, w/4]``."""
        made = seen.mask_features
        return self.network.mask_features(seen.maps)[0] if made is None else made

    def grid_features(self, seen: ViewFeatures) -> GridFeatures:
        return self.network.grid_features(seen.maps[-1].float())

    def answers(self, grid: GridFeatures, entries: Sequence[Entry]) -> tuple[Floats, Tensor]:
        references, *remembered = (
            torch.cat([getattr(entry, name) for entry in entries], 1) for name in ("reference", "category", "kernel")
        )
        attention = (grid.query.T @ references).softmax(1)
        categories, kernels = self.network.answers(attention, grid.category, grid.kernel, *remembered)
        return self.on_host(categories), kernels

    def best_similarity(self, query: Tensor, reference: Tensor) -> Floats:
        return self.on_host((query.T @ reference).amax(1).sigmoid())

    def mask_logits(self, seen: ViewFeatures, reading: GridReading, cells: npt.NDArray[np.int64]) -> Floats:
        features = self.mask_features(seen) if reading.mask_features is None else reading.mask_features
        chosen = reading.kernels[:, torch.from_numpy(cells).to(features.device)]
        return self.on_host((chosen.T @ features.flatten(1)).unflatten(1, features.shape[1:]))

    def image(self, seen: ViewFeatures) -> Floats:
        return self.on_host(seen.image[0].float())

    def on_host(self, array: Tensor) -> Floats:
        return array.cpu().numpy()  # type: ignore[no-any-return]

    def graphs(self) -> Mapping[str, Graph]:
        return graphs(self.network, self.size)

    def on_exported(self, runs: Mapping[str, TensorRun]) -> GridNetwork:
        return ExportedGrid(
            {name: _on_arrays(run) for name, run in runs.items()},
            self.size,
            lambda image: self.transform(image).contiguous().numpy(),
        )


def _on_arrays(run: TensorRun) -> ArrayRun:
    """What runs a graph on tensors, for arrays."""
    return lambda *inputs: [x.numpy() for x in run(*map(torch.from_numpy, inputs))]
