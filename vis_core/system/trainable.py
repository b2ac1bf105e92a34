"""What the trainer needs of a system: a network with its losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from vis_core.data.clips import TrainingClip


class Trainable(nn.Module, ABC):
    """A network with its losses, as the trainer sees it."""

    @abstractmethod
    def forward(self, clips: Sequence[TrainingClip], total: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Losses by part, weighed; their sum is what is minimised.

        Args:
            clips: of one size and number of frames.
            total: sums a tensor of counts over all processes, so that a normaliser is that of the whole batch. With W
                processes a loss is W times this process's share of the global one: the mean over the processes, which
                is what data-parallel training makes of gradients, is then the loss of one process with all clips.
        """

    @abstractmethod
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that learn, by the name under which a config scales their learning rate."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """The tensors that ``System.build`` takes, float32, in our names."""
