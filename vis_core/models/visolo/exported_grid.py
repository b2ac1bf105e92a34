"""VISOLO's network, exported: its graphs on NumPy's arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.models.visolo.grid import Floats, GridFeatures, GridNetwork, GridReading, ViewFeatures
from vis_core.models.visolo.memory import Entry
from vis_core.nn.arrays import product, sigmoid

ArrayRun = Callable[..., Sequence[npt.NDArray[Any]]]
OUTPUTS = {"frame": ("mask_features", *GridFeatures._fields), "window": ("category_scores", "mask_kernels")}


class ExportedGrid(GridNetwork):
    """Exported graphs, which remember nothing: streams share them.

    Args:
        runs: ``frame`` and ``window``, as `vis_core.models.visolo.graphs` has them.
        size: height and width of the input.
        transform: makes the network's input, float32 ``[1, 3, h, w]``, of an image.
    """

    network = None

    def __init__(
        self,
        runs: Mapping[str, ArrayRun],
        size: tuple[int, int],
        transform: Callable[[npt.NDArray[np.uint8]], Floats],
    ) -> None:
        self.size = size
        self._frame, self._window, self._transform = runs["frame"], runs["window"], transform

    def encode(self, image: npt.NDArray[np.uint8], ahead: bool) -> ViewFeatures:
        seen = self._transform(image)
        mask_features, *grid = self._frame(seen)
        return ViewFeatures(seen, grid, mask_features[0])

    def grid_features(self, seen: ViewFeatures) -> GridFeatures:
        return GridFeatures(*seen.maps)

    def answers(self, grid: GridFeatures, entries: Sequence[Entry]) -> tuple[Floats, Floats]:
        remembered = (
            np.concatenate([getattr(entry, name) for entry in entries], 1)
            for name in ("reference", "category", "kernel")
        )
        categories, kernels = self._window(grid.query, grid.category, grid.kernel, *remembered)
        return categories, kernels

    def best_similarity(self, query: Floats, reference: Floats) -> Floats:
        return sigmoid(product(query.T, reference).max(1))

    def mask_logits(self, seen: ViewFeatures, reading: GridReading, cells: npt.NDArray[np.int64]) -> Floats:
        features = reading.mask_features
        assert features is not None
        flat = product(np.ascontiguousarray(reading.kernels[:, cells].T), features.reshape(len(features), -1))
        return flat.reshape(-1, *features.shape[1:])

    def image(self, seen: ViewFeatures) -> Floats:
        image: Floats = seen.image[0]
        return image

    def on_host(self, array: Floats) -> Floats:
        return array

    def __deepcopy__(self, memo: dict[int, Any]) -> ExportedGrid:
        return self
