"""ResNet (He et al., CVPR 2016) with the stride in the 3x3 convolution and frozen batch norms."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.nn.winograd import WinogradConv2d

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class FrozenBatchNorm(nn.Module):
    """Batch norm whose statistics are constants, and its affine parameters too unless they are let learn."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def learn(self) -> None:
        """Make parameters of scale and shift; their keys stay."""
        for name in ("weight", "bias"):
            value = getattr(self, name)
            delattr(self, name)
            self.register_parameter(name, nn.Parameter(value))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The norm as ``x * scale + shift``, each ``[C]``."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.scale_and_shift()
        return x * scale[:, None, None] + shift[:, None, None]


class FrozenNormConv(WinogradConv2d):
    """Convolution without bias, followed by a frozen batch norm that `fold` moves into it; then it can be packed."""

    norm: FrozenBatchNorm | None

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, size, stride, size // 2, bias=False)
        self.norm = FrozenBatchNorm(outputs)

    def forward(self, input: Tensor) -> Tensor:
        x = super().forward(input)
        return x if self.norm is None else self.norm(x)

    def pack(self) -> None:
        if self.norm is None:
            super().pack()

    def use_winograd(self) -> None:
        if self.norm is None:
            super().use_winograd()

    @torch.no_grad()
    def fold(self) -> None:
        """Make the norm part of weight and bias: the same function up to rounding, for inference."""
        if self.norm is None:
            return
        scale, shift = self.norm.scale_and_shift()
        self.weight = nn.Parameter(self.weight * scale[:, None, None, None], requires_grad=False)
        self.bias = nn.Parameter(shift, requires_grad=False)
        self.norm = None


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolution with a residual connection."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.shortcut = FrozenNormConv(inputs, outputs, 1, stride) if inputs != outputs or stride != 1 else None
        self.conv1 = FrozenNormConv(inputs, width, 1)
        self.conv2 = FrozenNormConv(width, width, 3, stride)
        self.conv3 = FrozenNormConv(width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.shortcut is None else self.shortcut(x)
        x = self.conv2.with_relu(self.conv1.with_relu(x))
        return self.conv3.with_relu(x, residual)


class Stem(nn.Module):
    """7x7 convolution and max-pool, to stride 4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = FrozenNormConv(3, 64, 7, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.conv1.with_relu(x), 3, 2, 1)


class ResNet(nn.Module):
    """ResNet without its classifier.

    Args:
        depth: a key of `BLOCKS`.
        stages: how many of the four stages to build; stage i (``res2``, ``res3``...) has stride 4, 8, 16, 32 and
            256, 512, 1024, 2048 channels.
        learns_norms: the norms' scale and shift are parameters; their statistics are constants all the same.
    """

    def __init__(self, depth: int = 50, stages: int = 4, learns_norms: bool = False) -> None:
        super().__init__()
        self.depth = depth
        self.stem = Stem()
        inputs = 64
        self.names = [f"res{i + 2}" for i in range(stages)]
        self.channels = tuple(256 * 2**i for i in range(stages))
        for i, name in enumerate(self.names):
            width, blocks = 64 * 2**i, []
            for j in range(BLOCKS[depth][i]):
                blocks.append(Bottleneck(inputs, width, 2 if i > 0 and j == 0 else 1))
                inputs = 4 * width
            self.add_module(name, nn.Sequential(*blocks))
        if learns_norms:
            for module in self.modules():
                if isinstance(module, FrozenBatchNorm):
                    module.learn()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of each stage of normalised images ``[B, 3, H, W]``."""
        x = self.stem(images)
        features = []
        for name in self.names:
            x = self.get_submodule(name)(x)
            features.append(x)
        return features

    def fold_norms(self) -> None:
        """Move every frozen norm into its convolution."""
        for module in self.modules():
            if isinstance(module, FrozenNormConv):
                module.fold()


def is_torchvision(keys: Collection[str]) -> bool:
    """Whether tensors are those of a ResNet with torchvision's keys."""
    return "layer1.0.conv1.weight" in keys and "bn1.running_mean" in keys


def from_torchvision(tensors: Mapping[str, Tensor], stages: int = 4) -> dict[str, Tensor]:
    """Tensors of torchvision's ResNet-50 or 101 under our names, without the classifier and later stages."""
    renamed = {}
    for key, x in tensors.items():
        stage, _, rest = key.partition(".")
        if stage in ("conv1", "bn1"):
            ours = "stem.conv1." + ("norm." if stage == "bn1" else "") + rest
        elif stage.startswith("layer") and int(stage[5:]) <= stages:
            rest = re.sub(r"\bbn(\d)\.", r"conv\1.norm.", rest)
            rest = rest.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
            ours = f"res{int(stage[5:]) + 1}.{rest}"
        else:
            continue
        if not key.endswith("num_batches_tracked"):
            renamed[ours] = x
    return renamed
