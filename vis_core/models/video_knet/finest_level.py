"""The finest level of feature pyramid and semantic pyramid as one convolution, for inference on a CPU.

Nothing but the strided convolution of the semantic pyramid looks at the feature pyramid's finest level, and between the
two there is no norm and no activation: lateral 1x1, sum with the coarser level, 3x3, and 3x3 with stride 2 are one 5x5
with stride 2. Of the map's four phases, and of the coarser level, that is a sum of 3x3 convolutions, by Winograd's
form: half of the multiplications. Same numbers up to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.nn.winograd import transformed_weight, winograd_sum

_PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))


class FinestLevel:
    """What the semantic pyramid's first convolution gives, before its norm.

    Args:
        lateral: 1x1, float32, on the CPU, as all of them.
        output: 3x3 with padding 1.
        strided: 3x3 with stride 2 and padding 1, without bias.
    """

    def __init__(self, lateral: nn.Conv2d, output: nn.Conv2d, strided: nn.Conv2d) -> None:
        assert lateral.bias is not None and output.bias is not None
        self._lateral, self._output, self._strided = lateral, output, strided
        first, second = output.weight.detach().double(), strided.weight.detach().double()
        both = first.new_zeros(len(second), first.shape[1], 5, 5)
        for y in range(3):
            for x in range(3):
                both[:, :, y : y + 3, x : x + 3] += torch.einsum("om,mcij->ocij", second[:, :, y, x], first)
        phases = [F.pad(both[:, :, y::2, x::2], (0, x, 0, y)) for y, x in _PHASES]
        along = lateral.weight.detach().double()[:, :, 0, 0]
        kernels = [torch.einsum("omij,mc->ocij", phase, along) for phase in phases]
        self._weights = [transformed_weight(kernel) for kernel in (*kernels, torch.stack(phases).sum(0))]
        self._bias = torch.einsum("omij,m->o", second, output.bias.detach().double()).float()

    def __call__(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """``[B, D, h, w]`` of the backbone's finest map ``[B, C, 2h, 2w]`` and the merged level above it."""
        assert self._lateral.bias is not None
        lifted = coarse + self._lateral.bias[:, None, None]  # padded with zeros, as the level is: the bias ends with it
        inputs = [*(fine[:, :, y::2, x::2] for y, x in _PHASES), lifted]
        result = winograd_sum(inputs, self._weights, self._bias)
        self._without_surroundings(result, fine, lifted)
        return result

    def _without_surroundings(self, result: Tensor, fine: Tensor, lifted: Tensor) -> None:
        """Take from the first row and column what a level that went on above and to the left would add there."""
        kernel, bias, strided = self._output.weight, self._output.bias, self._strided.weight
        top = F.conv2d(fine[:, :, :1], self._lateral.weight) + lifted[:, :, :1].repeat_interleave(2, 3)
        above = F.conv2d(top, kernel[:, :, 2:], bias, padding=(0, 2))[..., :-1]
        result[:, :, 0] -= F.conv2d(above, strided[:, :, :1], stride=2)[:, :, 0]
        left = F.conv2d(fine[..., :1], self._lateral.weight) + lifted[..., :1].repeat_interleave(2, 2)
        beside = F.conv2d(left, kernel[..., 2:], bias, padding=(1, 0))
        result[..., 0] -= F.conv2d(beside, strided[..., :1], stride=2, padding=(1, 0))[..., 0]
