"""What VISOLO's model asks of a network: what it sees in a frame, and what its grid answers, helped by a memory.

A network computes with arrays of its own kind, PyTorch's tensors on some device or NumPy's arrays, which are handed
back to it as they came. What decides is on the host: scores, similarity features, mask logits of chosen cells.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vis_core.errors import ExportError
from vis_core.models.visolo.memory import Entry, FrameMemory
from vis_core.system.clip import HasSize, TensorRun, size_of

if TYPE_CHECKING:
    from torch import nn

    from vis_core.nn.graphs import Graph

Floats = npt.NDArray[np.float32]
Own = Any
"""An array of the network's own kind."""


@dataclass(frozen=True, eq=False)
class ViewFeatures:
    """What of one view of a frame depends on it alone.

    Attributes:
        image: the network's input ``[1, 3, h, w]``.
        maps: of the backbone, at strides 4, 8 and 16; of an exported network, its `GridFeatures`.
        mask_features: what the dynamic kernels are multiplied with, ``[d, h/4, w/4]``; None: yet to be made.
    """

    image: Own
    maps: Sequence[Own]
    mask_features: Own | None = None

    def nbytes(self) -> int:
        """Size, bytes."""
        return size_of(self.image, *self.maps, self.mask_features)


class GridFeatures(NamedTuple):
    """What of a frame's grid depends on it alone.

    Attributes:
        query: query side of the similarity ``[d/2, 252]``.
        reference: reference side ``[d/2, 252]``.
        category: category feature ``[d, 252]``.
        kernel: kernel feature ``[d, 252]``.
        stored_category: the category feature as the memory keeps it ``[d, 252]``.
        stored_kernel: the kernel feature as the memory keeps it ``[d, 252]``.
    """

    query: Own
    reference: Own
    category: Own
    kernel: Own
    stored_category: Own
    stored_kernel: Own


class GridReading(NamedTuple):
    """What the grid's branches say of a frame.

    Attributes:
        categories: scores ``[C, 252]``, on the host.
        kernels: ``[256, 252]``, the network's own.
        weight: what scores are multiplied with, ``[252]``, on the host; None: nothing.
        query: query features ``[128, 252]``, on the host.
        reference: reference features ``[128, 252]``, on the host.
        entry: what the memory keeps of the frame.
        mask_features: ``[256, h/4, w/4]``, the network's own, where they were made by the way.
    """

    categories: Floats
    kernels: Own
    weight: Floats | None
    query: Floats
    reference: Floats
    entry: Entry
    mask_features: Own | None


class GridNetwork(ABC):
    """A network of VISOLO's.

    Attributes:
        network: its modules; None: it was exported.
        size: height and width of its input.
    """

    network: nn.Module | None
    size: tuple[int, int]

    @abstractmethod
    def encode(self, image: npt.NDArray[np.uint8], ahead: bool) -> HasSize:
        """What of an image uint8 ``[H, W, 3]`` depends on it alone.

        Args:
            image: of the frame.
            ahead: it is made beside another frame's work, with all that can be.
        """

    def read(self, seen: Any, memory: FrameMemory, number: int, reweighting: bool) -> GridReading:
        """The grid's branches on a frame, helped by a memory.

        Args:
            seen: what `encode` gave.
            memory: of the frames before.
            number: of the frame in the stream; the first one reads itself.
            reweighting: say by what scores are to be multiplied.
        """
        grid = self.grid_features(seen)
        entry = Entry(number, grid.reference, grid.stored_category, grid.stored_kernel)
        weight = None
        if reweighting and number:
            compared = [memory.previous, *([] if memory.newest_kept is None else [memory.newest_kept])]
            weights = [self.best_similarity(grid.query, entry.reference) for entry in compared]
            weight = np.asarray(sum(weights[1:], weights[0]) / len(weights), np.float32)
        categories, kernels = self.answers(grid, memory.readable if number else [entry])
        query, reference = self.on_host(grid.query), self.on_host(grid.reference)
        return GridReading(categories, kernels, weight, query, reference, entry, seen.mask_features)

    @abstractmethod
    def grid_features(self, seen: Any) -> GridFeatures:
        """What of a frame's grid depends on it alone."""

    @abstractmethod
    def answers(self, grid: GridFeatures, entries: Sequence[Entry]) -> tuple[Floats, Own]:
        """Category scores ``[C, 252]``, on the host, and mask kernels ``[d, 252]``, helped by entries of the memory."""

    @abstractmethod
    def best_similarity(self, query: Own, reference: Own) -> Floats:
        """Of each cell of a frame the greatest similarity with a cell of another frame, 0..1, on the host ``[252]``."""

    @abstractmethod
    def mask_logits(self, seen: Any, reading: GridReading, cells: npt.NDArray[np.int64]) -> Floats:
        """Mask logits of chosen cells, on the host ``[N, h/4, w/4]``."""

    @abstractmethod
    def image(self, seen: Any) -> Floats:
        """The network's input, on the host ``[3, h, w]``."""

    @abstractmethod
    def on_host(self, array: Own) -> Floats:
        """An array of the network's own kind as one of NumPy's."""

    def graphs(self) -> Mapping[str, Graph]:
        """As of `ClipModel`.

        Raises:
            ExportError: it cannot be exported.
        """
        raise ExportError("this network is exported already")

    def on_exported(self, runs: Mapping[str, TensorRun]) -> GridNetwork:
        """The same network with exported graphs in place of its pieces.

        Raises:
            ExportError: it has been exported itself.
        """
        raise ExportError("this network is exported already")

    def reset(self) -> None:  # noqa: B027 most remember nothing
        """Forget the stream."""

    def nbytes(self) -> int:
        """Size of what is remembered, bytes."""
        return 0
