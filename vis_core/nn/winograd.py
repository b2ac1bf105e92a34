"""3x3 convolution by Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, CVPR 2016), in plain PyTorch.

Four multiplications where the direct form needs nine. Its transforms are products with small matrices, made of a few
tiles at a time, which stay in the cache. Float32 only: values differ from the direct form by some 1e-5 of the output's
size, and half-precision types lose too much in the transforms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.nn.prepacked_convolution import PackableConv2d

_TILES = 160  # of 4 x 4 outputs at a time
_MIN_TILES = 60  # below, the direct form is as quick
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


class WinogradConv2d(PackableConv2d):
    """A convolution that runs by Winograd's form once `use_winograd` was called, where that pays.

    It pays on the CPU in float32 for 3x3 kernels with stride 1 and padding 1; elsewhere it is the direct form, packed
    if asked, as it is in training.
    """

    _transformed: Tensor | None = None

    def use_winograd(self) -> None:
        """Transform the weights, which are final; nothing happens where the form does not fit."""
        fits = (self.kernel_size, self.stride, self.padding, self.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
        if fits and self.groups == 1 and self.weight.device.type == "cpu" and self.weight.dtype == torch.float32:
            self._transformed = transformed_weight(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        if self._transformed is None or not self._pays(input):
            return super().forward(input)
        return winograd_conv2d(input, self._transformed, self.bias)

    def with_relu(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        if self._transformed is None or not self._pays(input):
            return super().with_relu(input, residual)
        output = winograd_conv2d(input, self._transformed, self.bias)
        return F.relu_(output if residual is None else output.add_(residual))

    def _pays(self, input: Tensor) -> bool:
        return not torch.is_grad_enabled() and input.dtype == torch.float32 and pays(input)


def pays(input: Tensor) -> bool:
    """Whether an input ``[B, C, H, W]`` is large enough for Winograd's form to be quicker than the direct one."""
    batch, _, height, width = input.shape
    return batch * -(-height // 4) * -(-width // 4) >= _MIN_TILES


def use_winograd(network: nn.Module) -> None:
    """Let every `WinogradConv2d` of a network that has its final weights run by Winograd's form."""
    for module in network.modules():
        if isinstance(module, WinogradConv2d):
            module.use_winograd()


def transformed_weight(weight: Tensor) -> Tensor:
    """What `winograd_conv2d` takes, float32 ``[36, C, D]``, for a weight ``[D, C, 3, 3]``."""
    g = torch.tensor(_KERNEL, dtype=torch.float64)
    return torch.einsum("ij,ocjk,lk->ilco", g, weight.detach().double(), g).flatten(0, 1).float().contiguous()


def winograd_conv2d(x: Tensor, transformed: Tensor, bias: Tensor | None) -> Tensor:
    """3x3 convolution, stride 1, padding 1.

    Args:
        x: float32 ``[B, C, H, W]``, best in channels-last layout.
        transformed: of `transformed_weight`.
        bias: ``[D]`` or None.

    Returns:
        ``[B, D, H, W]`` in channels-last layout.
    """
    return winograd_sum([x], [transformed], bias)


def winograd_sum(inputs: Sequence[Tensor], transformed: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """The sum of the convolutions of several inputs of one size; see `winograd_conv2d`."""
    batch, _, height, width = inputs[0].shape
    outputs = transformed[0].shape[2]
    rows, columns = -(-height // 4), -(-width // 4)  # tiles of 4 x 4 outputs
    tiles = [_tiles(x, rows, columns) for x in inputs]
    out = inputs[0].new_empty(batch, 4 * rows, 4 * columns, outputs)
    blocks = out.view(batch, rows, 4, columns, 4, outputs).permute(2, 4, 0, 1, 3, 5)
    of_input, of_output = (_both_axes(matrix) for matrix in (_INPUT, _OUTPUT))
    images, strip = max(1, _TILES // (rows * columns)), min(rows, max(1, _TILES // columns))
    for first in range(0, batch, images):
        for top in range(0, rows, strip):
            part = slice(first, first + images), slice(top, top + strip)
            places = blocks[0, 0, part[0], part[1]].shape[:3]
            products: Tensor | None = None
            for whole, weight in zip(tiles, transformed):
                turned = (of_input @ whole[:, :, part[0], part[1]].reshape(36, -1)).view(36, places.numel(), -1)
                products = torch.bmm(turned, weight) if products is None else products.baddbmm_(turned, weight)
            assert products is not None
            found = (of_output @ products.view(36, -1)).view(4, 4, *places, outputs)
            blocks[:, :, part[0], part[1]] = found if bias is None else found.add_(bias)
    return out[:, :height, :width].permute(0, 3, 1, 2)


def _tiles(x: Tensor, rows: int, columns: int) -> Tensor:
    """The overlapping tiles of an input ``[B, C, H, W]``, a view ``[6, 6, B, rows, columns, C]`` of its padded form."""
    batch, channels, height, width = x.shape
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 4 * columns - width + 1, 1, 4 * rows - height + 1))
    image, row = padded.stride(0), padded.stride(1)
    return padded.as_strided((6, 6, batch, rows, columns, channels), (row, channels, image, 4 * row, 4 * channels, 1))


def _both_axes(matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """The transform of tiles, row by row in one vector, by a matrix along height and width."""
    along = torch.tensor(matrix, dtype=torch.float32)
    return torch.kron(along, along)
