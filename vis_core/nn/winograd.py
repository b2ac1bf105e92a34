"""3x3 convolution by Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, CVPR 2016), in plain PyTorch.

Four multiplications where the direct form needs nine. The transforms are sums of shifted views; what lies between
them is one grouped 1x1 convolution with 36 groups, for which kernels are quick. Float32 only: values differ from the
direct form by some 1e-6 of the output's size, and half-precision types lose too much in the transforms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.nn.prepacked_convolution import PackableConv2d

_G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_MIN_PIXELS = 8000  # below, the direct form is as quick


class Workspace:
    """Buffers that convolutions of one network reuse one after another, so that no large block is allocated a frame."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """An uninitialised float32 tensor; the one that was taken under this name before is invalid from now on."""
        size = 1
        for n in shape:
            size *= n
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[name] = torch.empty(size)
        return buffer[:size].view(shape)


class WinogradConv2d(PackableConv2d):
    """A convolution that runs by Winograd's form once `use_winograd` was called, where that pays.

    It pays on the CPU in float32 for 3x3 kernels with stride 1 and padding 1 on large maps; elsewhere it is the direct
    form, packed if asked, as it is in training.
    """

    _transformed: Tensor | None = None
    _workspace: Workspace | None = None

    def use_winograd(self, workspace: Workspace) -> None:
        """Transform the weights once; float32 on the CPU only."""
        if self.kernel_size != (3, 3) or self.stride != (1, 1) or self.padding != (1, 1) or self.groups != 1:
            return
        g = torch.tensor(_G, dtype=torch.float64)
        transformed = torch.einsum("ij,ocjk,lk->iloc", g, self.weight.detach().double().cpu(), g)
        self._transformed = transformed.float().reshape(-1, self.in_channels, 1, 1).contiguous()
        self._workspace = workspace

    def forward(self, input: Tensor) -> Tensor:
        if (
            self._transformed is None
            or self._workspace is None
            or torch.is_grad_enabled()
            or len(input) != 1
            or input.shape[2] * input.shape[3] < _MIN_PIXELS
        ):
            return super().forward(input)
        return winograd_conv2d(input, self._transformed, self.bias, self._workspace)


def winograd_conv2d(x: Tensor, transformed: Tensor, bias: Tensor | None, workspace: Workspace) -> Tensor:
    """3x3 convolution, stride 1, padding 1.

    Args:
        x: float32 ``[1, C, H, W]``, best in channels-last layout.
        transformed: weights ``[36 * D, C, 1, 1]``, as `WinogradConv2d.use_winograd` makes them.
        bias: ``[D]`` or None.
        workspace: buffers to work in.

    Returns:
        ``[1, D, H, W]`` in channels-last layout.
    """
    channels, height, width = x.shape[1:]
    outputs = len(transformed) // 36
    rows, columns = -(-height // 4), -(-width // 4)  # tiles of 4 x 4 outputs
    padded = workspace.take("padded", 4 * rows + 2, 4 * columns + 2, channels)
    padded[0].zero_()
    padded[height + 1 :].zero_()
    padded[:, 0].zero_()
    padded[:, width + 1 :].zero_()
    padded[1 : height + 1, 1 : width + 1].copy_(x[0].permute(1, 2, 0))

    take = workspace.take
    half = take("half", 6, rows, 4 * columns + 2, channels)
    _input_transform([padded[i : i + 4 * rows - 3 : 4] for i in range(6)], half.unbind(0), workspace)
    tiles = take("tiles", rows, columns, 6, 6, channels)
    _input_transform(
        [half[:, :, j : j + 4 * columns - 3 : 4] for j in range(6)],
        [tiles[:, :, :, j].permute(2, 0, 1, 3) for j in range(6)],
        workspace,
    )
    products = F.conv2d(tiles.view(1, rows, columns, -1).permute(0, 3, 1, 2), transformed, groups=36)
    grid = products.permute(0, 2, 3, 1).reshape(rows, columns, 6, 6, outputs)
    half = take("half output", 4, rows, columns, 6, outputs)
    _output_transform([grid[:, :, i] for i in range(6)], half.unbind(0), workspace)
    out = torch.empty(1, 4 * rows, 4 * columns, outputs)
    blocks = out.view(rows, 4, columns, 4, outputs)
    _output_transform(
        [half[:, :, :, j] for j in range(6)], [blocks[:, :, :, j].permute(1, 0, 2, 3) for j in range(4)], workspace
    )
    if bias is not None:
        out += bias
    return out[:, :height, :width].permute(0, 3, 1, 2)


def _input_transform(d: Sequence[Tensor], out: Sequence[Tensor], workspace: Workspace) -> None:
    """Six shifted views to six sums: B^T along one axis."""
    a, b = workspace.take("a", *d[0].shape), workspace.take("b", *d[0].shape)
    torch.sub(d[4], d[2], alpha=5, out=out[0]).add_(d[0], alpha=4)
    torch.sub(d[5], d[3], alpha=5, out=out[5]).add_(d[1], alpha=4)
    torch.sub(d[4], d[2], alpha=4, out=a)
    torch.sub(d[3], d[1], alpha=4, out=b)
    torch.add(a, b, out=out[1])
    torch.sub(a, b, out=out[2])
    torch.sub(d[4], d[2], out=a)
    torch.sub(d[3], d[1], out=b)
    torch.add(a, b, alpha=2, out=out[3])
    torch.sub(a, b, alpha=2, out=out[4])


def _output_transform(m: Sequence[Tensor], out: Sequence[Tensor], workspace: Workspace) -> None:
    """Six products to four outputs: A^T along one axis."""
    a, b, c, d = (workspace.take(name, *m[0].shape) for name in "abcd")
    torch.add(m[1], m[2], out=a)
    torch.sub(m[1], m[2], out=b)
    torch.add(m[3], m[4], out=c)
    torch.sub(m[3], m[4], out=d)
    torch.add(m[0], a, out=out[0]).add_(c)
    torch.add(b, d, alpha=2, out=out[1])
    torch.add(a, c, alpha=4, out=out[2])
    torch.add(m[5], b, out=out[3]).add_(d, alpha=8)
