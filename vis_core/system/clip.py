"""What a system gives to the driver: a model of clips, and what it finds in one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from vis_core.errors import ExportError
from vis_core.masks import RunLengths
from vis_core.structures import Frame
from vis_core.tracking.associator import Window

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vis_core.nn.graphs import Graph

TensorRun = Callable[..., "tuple[Tensor, ...]"]
"""A piece of a network, exported: tensors in, tensors out, on the host."""


class HasSize(Protocol):
    """What says how large it is."""

    def nbytes(self) -> int:
        """Size, bytes."""


class ClipInstances(ABC):
    """What a system finds in a clip of T frames, before identity; row i of everything is the same instance.

    Subclasses add what their associator goes by: masks, queries, slots, embeddings, grid cells.

    Attributes:
        class_scores: float32, of the clip ``[N, C]``, or of each of its frames ``[N, T, C]``.
        shows_empty_masks: an instance without a single pixel at the image's size counts as seen all the same.
    """

    class_scores: npt.NDArray[np.float32]
    shows_empty_masks: bool = False

    @abstractmethod
    def frame_scores(self, t: int, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Score of each instance in frame t ``[N]``; 0: it is not there.

        Args:
            t: number of the frame in the clip.
            labels: int64 ``[N]``, of the tracks that the instances continue; of new ones their own best class.
        """

    @abstractmethod
    def masks(self, t: int, rows: Sequence[int]) -> list[RunLengths]:
        """Masks of some instances in frame t, at the image's size."""

    def __len__(self) -> int:
        return len(self.class_scores)


Features = TypeVar("Features", bound=HasSize)
Found = TypeVar("Found", bound=ClipInstances)


class ClipModel(ABC, Generic[Features, Found]):
    """A system without identity: what it sees in a frame, and what it finds in a clip. One frame is a clip too.

    An option of the system that is live is an attribute of the same name.

    Attributes:
        network: the neural network, on its device; None: it was exported, and its system runs it without PyTorch.
        class_names: name of each label.
        semantic_class_names: of the classes of `semantic_map`, things and stuff; empty: there is none.
        exported: where the network was exported, what to run in place of each of its pieces, which has no weights here.
        fixed_options: options of the system that are part of its graphs, and cannot be chosen when they are loaded.
    """

    network: nn.Module | None
    class_names: tuple[str, ...]
    semantic_class_names: tuple[str, ...] = ()
    exported: Mapping[str, TensorRun] = {}
    fixed_options: tuple[str, ...] = ()

    def use_exported(self, runs: Mapping[str, TensorRun]) -> None:
        """Run exported graphs, by the names of `graphs`, in place of the network's pieces."""
        self.exported = dict(runs)

    def graphs(self) -> Mapping[str, Graph]:
        """The pieces of the network that an exported one has for graphs, by name: all that a step reads weights for.

        Raises:
            ExportError: it cannot be exported, or not with these options.
        """
        raise ExportError(f"{type(self).__name__}: this system cannot be exported: it names no graphs")

    @abstractmethod
    def encode(self, frame: Frame) -> Features:
        """What of a frame depends on it alone; computed once, and kept as long as a window may hold the frame."""

    def encode_ahead(self, frame: Frame) -> Features:
        """`encode` in a thread beside another frame's `segment`: with all that `segment` would make beside itself."""
        return self.encode(frame)

    @abstractmethod
    def segment(self, clip: Sequence[Features], window: Window) -> Found:
        """The instances of a clip; may read and renew what the model, or its associator, remembers.

        Args:
            clip: what `encode` gave for each of its frames.
            window: which frames they are.
        """

    def semantic_map(self) -> npt.NDArray[np.uint8] | None:
        """Of the last frame, uint8 ``[H, W]``: 1 + index of the class, 0: none; None: no frame yet, or no map."""
        return None

    def reset(self) -> None:
        """Forget the stream."""

    def nbytes(self) -> int:
        """Size of what is remembered, bytes."""
        return 0


def size_of(*arrays: Any) -> int:
    """Bytes of tensors or arrays, those that are None left out."""
    return sum(x.nbytes for x in arrays if x is not None)
