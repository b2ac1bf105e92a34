"""The streaming interface that every system has: a frame in, the instances of zero, one or several frames out."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from vis_core.structures import Frame, Instances


class Segmenter(ABC):
    """A video instance segmentation system, running on a stream.

    Attributes:
        network: the neural network, on its device.
        class_names: name of each label.
        delay: frames between a frame and its answer, at most; 0 for an online system.
    """

    network: nn.Module
    class_names: tuple[str, ...]
    delay: int = 0

    @abstractmethod
    def step(self, frame: Frame) -> list[Instances]:
        """Take the next frame; return the answers that are ready, each under its own stamp, in order.

        A frame of another size than the one before is a new scene: the state is reset first.
        """

    def flush(self) -> list[Instances]:
        """The answers still owed at the end of a stream; none for an online system."""
        return []

    @abstractmethod
    def reset(self) -> None:
        """Forget the stream. Track ids go on from where they were; tracks alive are reported ENDED by the next step."""

    @abstractmethod
    def state_bytes(self) -> int:
        """Size of what lives from frame to frame, bytes."""
