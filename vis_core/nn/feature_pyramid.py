"""Feature pyramid (Lin et al., CVPR 2017): every stage of a backbone at one width, coarse ones added to finer ones."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vis_core.nn.prepacked_convolution import PackableConv2d
from vis_core.nn.winograd import WinogradConv2d


class FeaturePyramid(nn.Module):
    """1x1 convolutions to one width, a sum from the coarsest level down, and a 3x3 convolution of each level; no norms.

    Level i is ``lateral{i}`` and ``output{i}``: published keys are these with ``fpn_`` before them.

    Args:
        channels: of the maps that come in, the finest first.
        width: of those that go out.
        first: number of the finest level; its stride is 2 to the power of it.
    """

    def __init__(self, channels: Sequence[int] = (256, 512, 1024, 2048), width: int = 256, first: int = 2) -> None:
        super().__init__()
        self.width = width
        self.numbers = range(first, first + len(channels))
        self.strides = tuple(2**i for i in self.numbers)
        for i, inputs in zip(self.numbers, channels):
            self.add_module(f"lateral{i}", PackableConv2d(inputs, width, 1))
            self.add_module(f"output{i}", WinogradConv2d(width, width, 3, padding=1))

    def initialise(self) -> None:
        """As the published training starts: Kaiming-uniform weights, zero biases."""
        for conv in self.children():
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps ``[B, width, H, W]`` of each level, in the layout of those given.

        Args:
            maps: ``[B, C_i, H, W]``, the finest first, each twice as high and wide as the next.
        """
        merged = self.merged(maps)
        return [self.get_submodule(f"output{i}")(x) for i, x in zip(self.numbers, merged)]

    def merged(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The sums before the 3x3 convolutions; of the last maps alone, those of the coarsest levels."""
        levels: list[Tensor] = []
        for i, x in zip(reversed(self.numbers), reversed(maps)):
            lateral = self.get_submodule(f"lateral{i}")(x)
            levels.append(_add_doubled(lateral, levels[-1]) if levels else lateral)
        return levels[::-1]


def _add_doubled(fine: Tensor, coarse: Tensor) -> Tensor:
    """`fine` with each pixel of `coarse` added to four of it, in place: the doubled map is never made."""
    height, width = coarse.shape[2:]
    blocks = fine.unflatten(3, (width, 2)).unflatten(2, (height, 2))
    blocks += coarse[:, :, :, None, :, None]
    return fine
