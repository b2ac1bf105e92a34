"""Convolutions whose weights wait in the layout that the CPU's kernels want.

PyTorch brings the weights of a convolution into that layout (of oneDNN) at each call, and ReLU6 is a pass of its own;
on small maps both cost as much as the products. Here the weights are brought into it once for each size of input, and
the activation is the kernel's last step, as is the sum of a residual connection. Values are those of the plain form.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZES = 8  # of inputs whose layouts are kept
_Activation = tuple[str, list[float], str]
_PLAIN: _Activation = ("none", [], "")
_RELU: _Activation = ("relu", [], "")
_RELU6: _Activation = ("hardtanh", [0.0, 6.0], "")
_GELU: _Activation = ("gelu", [], "none")


class PackableConv2d(nn.Conv2d):
    """A convolution, with ReLU6 if asked, that runs on packed weights once `pack` was called.

    Without gradients and in float32 on the CPU only; elsewhere it is the plain form, as it is in training.

    Args:
        arguments: of `torch.nn.Conv2d`.
        relu6: whether ReLU6 follows.
        options: of `torch.nn.Conv2d`.
    """

    _packed: dict[tuple[int, ...], Tensor] | None = None

    def __init__(self, *arguments: Any, relu6: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.relu6 = relu6

    def pack(self) -> None:
        """Pack the weights, which are final; nothing happens where they cannot be."""
        self._packed = None if packed(self, self.weight) is None else {}

    def forward(self, input: Tensor) -> Tensor:
        if self._packed is None or torch.is_grad_enabled() or input.dtype != torch.float32:
            output = super().forward(input)
            return F.relu6(output, inplace=True) if self.relu6 else output
        activation = _RELU6 if self.relu6 else _PLAIN
        return run_packed(self, input, self._packed_for(tuple(input.shape)), self.bias, activation)

    def with_relu(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """ReLU of the convolution, or of its sum with a residual of its output's shape."""
        if self._packed is None or torch.is_grad_enabled() or input.dtype != torch.float32:
            output = self(input)
            return F.relu_(output if residual is None else output.add_(residual))
        return run_packed(self, input, self._packed_for(tuple(input.shape)), self.bias, _RELU, residual)

    def with_gelu(self, input: Tensor) -> Tensor:
        """GELU, the exact one, of the convolution."""
        if self._packed is None or torch.is_grad_enabled() or input.dtype != torch.float32:
            return F.gelu(self(input))
        return run_packed(self, input, self._packed_for(tuple(input.shape)), self.bias, _GELU)

    def _packed_for(self, shape: tuple[int, ...]) -> Tensor:
        """The weights for an input of this shape: a layout that another one wants would be changed at each call."""
        assert self._packed is not None
        ready = self._packed.get(shape)
        if ready is None:  # in two threads at once: both pack
            if len(self._packed) >= SIZES:
                self._packed.clear()
            ready = self._packed[shape] = _reordered(self, self.weight, shape)
        return ready


def pack_convolutions(network: nn.Module) -> None:
    """Pack every `PackableConv2d` of a network that has its final weights."""
    for module in network.modules():
        if isinstance(module, PackableConv2d):
            module.pack()


def packed(like: nn.Conv2d, weight: Tensor, input_shape: tuple[int, ...] | None = None) -> Tensor | None:
    """A weight for `run_packed`, None where this PyTorch or CPU cannot pack it.

    Args:
        like: gives stride, padding, dilation and groups.
        weight: float32 ``[O, I / groups, h, w]``.
        input_shape: ``[B, I, H, W]``, for which it is quickest; it fits every other.
    """
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return None
    if like.padding_mode != "zeros" or isinstance(like.padding, str):
        return None
    try:
        # These operators are PyTorch's own for compiled models, and no public promise: what they give is compared.
        ready = _reordered(like, weight, input_shape)
        with torch.no_grad():
            sample = torch.linspace(-1, 1, weight.shape[1] * like.groups * 64).reshape(1, -1, 8, 8)
            found = run_packed(like, sample, ready, None)
            curved = run_packed(like, sample, ready, None, _GELU)
            wanted = F.conv2d(sample, weight, None, like.stride, like.padding, like.dilation, like.groups)
            summed = run_packed(like, sample, ready, None, _RELU, wanted)
    except (AttributeError, RuntimeError):
        return None
    close = partial(torch.allclose, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    right = close(found, wanted) and close(curved, F.gelu(wanted)) and close(summed, F.relu(2 * wanted))
    return ready if right else None


def _reordered(like: nn.Conv2d, weight: Tensor, input_shape: tuple[int, ...] | None) -> Tensor:
    reorder = torch.ops.mkldnn._reorder_convolution_weight
    ready: Tensor = reorder(weight.detach(), like.padding, like.stride, like.dilation, like.groups, input_shape)
    return ready


def run_packed(
    like: nn.Conv2d,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: _Activation = _PLAIN,
    residual: Tensor | None = None,
) -> Tensor:
    """The convolution of a float32 input ``[B, I, H, W]`` on the CPU with a weight of `packed`.

    Args:
        like: gives stride, padding, dilation and groups.
        input: ``[B, I, H, W]``.
        weight: of `packed`.
        bias: ``[O]`` or None.
        activation: of the operator, with its numbers: ReLU or none where there is a residual.
        residual: added before the activation, of the output's shape.
    """
    run, form = torch.ops.mkldnn._convolution_pointwise, (like.padding, like.stride, like.dilation, like.groups)
    if residual is None:
        return run(input, weight, bias, *form, *activation)  # type: ignore[no-any-return]
    name = None if activation is _PLAIN else activation[0]
    return run.binary(input, residual, weight, bias, *form, "add", None, name, [], "")  # type: ignore[no-any-return]
