"""What the trainer needs of a system: a network with its losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.data.clips import TrainingClip
from vis_core.nn.memory_format import channels_last

AllReduceSum = Callable[[Tensor], Tensor]
PADDED_TO = 32  # pixels: the sides of the network's image are multiples of it, where a system needs that


class Trainable(nn.Module, ABC):
    """A network with its losses, as the trainer sees it.

    Args:
        network: whose parameters learn, but for those of `frozen`.
        mean: of each channel of the images, in 0..255.
        std: of each channel, in 0..255.
        frozen: modules that do not learn.
    """

    mean: Tensor
    std: Tensor
    network: Any

    def __init__(
        self,
        network: nn.Module,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        frozen: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.network = channels_last(network)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)
        for module in frozen:
            module.requires_grad_(False)

    @abstractmethod
    def forward(self, clips: Sequence[TrainingClip], all_reduce_sum: AllReduceSum) -> dict[str, Tensor]:
        """Losses by part, weighed; their sum is what is minimised.

        Args:
            clips: of one size and number of frames.
            all_reduce_sum: sums a tensor of counts over all processes, so that a normaliser is that of the whole batch.
                With W processes a loss is W times this process's share of the global one: the mean over the processes,
                which is what data-parallel training makes of gradients, is then the loss of one process with all clips.
        """

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that learn, by the name under which a config scales their learning rate."""
        named = [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]
        return {
            "backbone": [p for name, p in named if name.startswith("backbone.")],
            "heads": [p for name, p in named if not name.startswith("backbone.")],
        }

    def weights(self) -> dict[str, Tensor]:
        """The tensors that ``System.build`` takes, float32, in our names."""
        return {key: x.float() for key, x in self.network.state_dict().items()}

    def normalised(self, images: Tensor) -> Tensor:
        """Images uint8 ``[..., H, W, 3]`` as the network takes them, float32 ``[..., 3, H, W]``."""
        return ((images.float() - self.mean) / self.std).movedim(-1, -3)

    def padded_images(self, clips: Sequence[TrainingClip]) -> Tensor:
        """Normalised images ``[B * T, 3, h, w]`` of clips of one size, channels-last, padded with zeros."""
        images = torch.from_numpy(np.concatenate([clip.images for clip in clips])).to(self.mean.device)
        height, width = images.shape[1:3]
        padded = F.pad(self.normalised(images), (0, -width % PADDED_TO, 0, -height % PADDED_TO))
        return padded.contiguous(memory_format=torch.channels_last)
