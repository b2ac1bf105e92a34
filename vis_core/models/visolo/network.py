"""The network of VISOLO (Han et al., CVPR 2022): a grid of cells, each of which may hold one instance.

The grid has 12 x 21 cells whatever the input size. Tensors on the grid are ``[B, d, 12, 21]``, or flattened row by
row ``[d, 252]``, with width d = 256 (visolo-lite has another grid and width). Features of past frames help the present
one through `Memory` and the similarity of `Tracking`; neither holds any state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.models.visolo.grid import GridFeatures
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.prepacked_convolution import SIZES, packed, run_packed
from vis_core.nn.winograd import WinogradConv2d

GRID = (12, 21)


class NormedConv(WinogradConv2d):
    """3x3 (or 1x1) convolution with bias, and group norm."""

    def __init__(self, inputs: int, outputs: int, size: int = 3) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2)
        self.norm = nn.GroupNorm(32, outputs)

    def forward(self, input: Tensor) -> Tensor:
        normed: Tensor = self.norm(super().forward(input))
        return normed


def coordinates(like: Tensor) -> Tensor:
    """Two channels ``[1, 2, H, W]`` of a map's size: first y, then x, from -1 to 1."""
    y, x = (torch.linspace(-1, 1, n, device=like.device, dtype=like.dtype) for n in like.shape[2:])
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]


class CoordinateConv(NormedConv):
    """`NormedConv` whose input is followed by the two coordinate channels, optionally resized to the grid first."""

    def __init__(self, inputs: int, outputs: int, resize: tuple[int, int] | None = None) -> None:
        super().__init__(inputs + 2, outputs)
        self.resize = resize
        self._constants: dict[tuple[object, ...], tuple[Tensor, Tensor | None, Tensor]] = {}

    def forward(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            x = torch.cat((input, coordinates(input).expand(len(input), -1, -1, -1)), 1)
            return super().forward(self._resized(x))
        # What the coordinates contribute is the same for every frame of a size, so it is computed once; the
        # convolution is then one of 1024 channels, a number that kernels like, not of 1026.
        version = 0 if self.weight.is_inference() else self.weight._version
        key = (input.shape[2:], input.dtype, input.device, self.weight.data_ptr(), version)
        resized = self._resized(input)
        constants = self._constants.get(key)
        if constants is None:
            channels = self.in_channels - 2
            place = self._resized(coordinates(input))
            constant = F.conv2d(place, self.weight[:, channels:], self.bias, padding=self.padding)
            weight = self.weight[:, :channels].contiguous(memory_format=torch.channels_last)
            ready = None if self._packed is None else packed(self, weight, tuple(resized.shape))
            if len(self._constants) >= SIZES:
                self._constants.clear()
            constants = self._constants[key] = weight, ready, constant
        weight, ready, constant = constants
        if ready is None:
            output = F.conv2d(resized, weight, None, padding=self.padding)
        else:
            output = run_packed(self, resized, ready, None)
        normed: Tensor = self.norm(output + constant)
        return normed

    def _resized(self, x: Tensor) -> Tensor:
        return x if self.resize is None else F.interpolate(x, self.resize, mode="bilinear", align_corners=False)


def _convs(count: int, width: int) -> nn.Sequential:
    return nn.Sequential(*(layer for _ in range(count) for layer in (NormedConv(width, width), nn.ReLU(inplace=True))))


class CategoryPre(nn.Module):
    """Track feature f and category feature c of the grid, from stride 16."""

    def __init__(self, inputs: int, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.conv1 = NormedConv(inputs, width)
        self.convs = _convs(2, width)
        self.conv4 = NormedConv(width, width, 1)

    def forward(self, r4: Tensor) -> tuple[Tensor, Tensor]:
        track: Tensor = self.conv1(F.interpolate(r4, self.grid, mode="bilinear", align_corners=False))
        return track, self.conv4(self.convs(F.relu(track)))


class CategoryPost(nn.Module):
    """Category logits ``[B, C, 12, 21]`` from aggregated category features."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.convs = _convs(3, width)
        self.pred = nn.Conv2d(width, classes, 3, padding=1)

    def forward(self, category: Tensor) -> Tensor:
        logits: Tensor = self.pred(self.convs(category))
        return logits


class KernelPre(nn.Module):
    """Kernel feature k of the grid, from stride 16 with coordinates."""

    def __init__(self, inputs: int, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = CoordinateConv(inputs, width, grid)
        self.convs = _convs(2, width)

    def forward(self, r4: Tensor) -> Tensor:
        kernel: Tensor = self.convs(F.relu_(self.conv1(r4)))
        return kernel


class KernelPost(nn.Module):
    """Dynamic 1x1 mask kernels from aggregated kernel features."""

    def __init__(self, width: int, mask_width: int, place: bool = False) -> None:
        super().__init__()
        self.convs = _convs(2, width)
        self.pred = NormedConv(width, mask_width, 1)
        self.place = PositionPrior(width) if place else None

    def forward(self, kernel: Tensor) -> Tensor:
        shared = self.convs(kernel)
        kernels: Tensor = self.pred(shared)
        return kernels if self.place is None else torch.cat((kernels.float(), self.place(shared)), 1)


class PositionPrior(nn.Module):
    """Where each cell expects its mask: a paraboloid about the cell that is added to the mask's logits.

    Mask features alone must tell an instance from others that look alike by coordinates that entered at stride 16; with
    few training images they do not, and one kernel finds all pedestrians of a street. The paraboloid
    ``-exp(a) u^2 - exp(b) v^2 + c u + d v + e``, u and v being the distance from the cell's centre in cells, does it
    from the start. Multiplied out it is a kernel of five more channels over the constant maps `place_maps`.

    An addition of this project (compare the relative coordinates of Tian et al., ECCV 2020).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pred = nn.Conv2d(width, 5, 1)

    def initialise(self) -> None:
        """Wide paraboloids: 0.05 at a distance of one cell, 5 at ten."""
        nn.init.zeros_(self.pred.weight)
        assert self.pred.bias is not None
        with torch.no_grad():
            self.pred.bias.copy_(torch.tensor([-3.0, -3.0, 0.0, 0.0, 0.0]))

    def forward(self, kernel: Tensor) -> Tensor:
        """Coefficients ``[B, 5, 12, 21]``, float32, of the maps of `place_maps`."""
        with torch.autocast(kernel.device.type, enabled=False):
            a, b, c, d, e = self.pred(kernel.float()).unbind(1)
            rows, columns = (torch.arange(n, device=a.device, dtype=a.dtype) + 0.5 for n in kernel.shape[2:])
            x, y = columns[None, :], rows[:, None]
            wide, high = a.clamp(-8, 4).exp(), b.clamp(-8, 4).exp()
            constant = e - wide * x**2 - high * y**2 - c * x - d * y
            return torch.stack((-wide, -high, c + 2 * wide * x, d + 2 * high * y, constant), 1)


def place_maps(like: Tensor, grid: tuple[int, int] = GRID) -> Tensor:
    """x^2, y^2, x, y and 1 of each pixel of a map, in cells of the grid, float32 ``[1, 5, H, W]``."""
    height, width = like.shape[2:]
    y = (torch.arange(height, device=like.device, dtype=torch.float32)[:, None] + 0.5) * (grid[0] / height)
    x = (torch.arange(width, device=like.device, dtype=torch.float32) + 0.5) * (grid[1] / width)
    x, y = x.expand(height, width), y.expand(height, width)
    return torch.stack((x**2, y**2, x, y, torch.ones_like(x)))[None]


class Tracking(nn.Module):
    """Similarity features of both sides, ``[B, d/2, 252]`` each, from track features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shared = _convs(2, width)
        self.query = nn.Sequential(NormedConv(width, width), NormedConv(width, width // 2, 1))
        self.reference = nn.Sequential(NormedConv(width, width), NormedConv(width, width // 2, 1))

    def forward(self, track: Tensor) -> tuple[Tensor, Tensor]:
        shared = self.shared(F.relu(track))
        return self.query(shared).flatten(2), self.reference(shared).flatten(2)


class Memory(nn.Module):
    """What a stored category or kernel feature is converted by before it is read."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = NormedConv(width, width)

    def forward(self, feature: Tensor) -> Tensor:
        """``[B, d, 252]`` from ``[B, d, 12, 21]``."""
        converted: Tensor = self.conv1(feature).flatten(2)
        return converted


class ResBlock(nn.Module):
    """x + conv(ReLU(conv(ReLU(x)))), without norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = WinogradConv2d(width, width, 3, padding=1)
        self.conv2 = WinogradConv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu_(self.conv1(F.relu(x)))).add_(x)


class Refine(nn.Module):
    """Finer features by a skip connection: from a map of half the size."""

    def __init__(self, skip_channels: int, width: int, skip_block: bool = True) -> None:
        super().__init__()
        self.skip = WinogradConv2d(skip_channels, width, 3, padding=1)
        self.skip_block = ResBlock(width) if skip_block else nn.Identity()
        self.block = ResBlock(width)

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        fine = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        refined: Tensor = self.block(self.skip_block(self.skip(skip)).add_(fine))
        return refined


class Mask(nn.Module):
    """Mask features ``[B, d, H/4, W/4]``."""

    def __init__(self, inputs: tuple[int, int, int], width: int, skip_blocks: bool = True) -> None:
        super().__init__()
        self.conv4 = CoordinateConv(inputs[2], width)
        self.block4 = ResBlock(width)
        self.refine3 = Refine(inputs[1], width, skip_blocks)
        self.refine2 = Refine(inputs[0], width, skip_blocks)
        self.conv1 = NormedConv(width, width)
        self.pred = NormedConv(width, width, 1)

    def forward(self, r2: Tensor, r3: Tensor, r4: Tensor) -> Tensor:
        x = self.block4(self.conv4(_as_weights(r4, self.conv4)))
        x = self.refine3(_as_weights(r3, self.refine3.skip), x)
        x = self.refine2(_as_weights(r2, self.refine2.skip), _as_weights(x, self.refine2.skip))
        features: Tensor = self.pred(_as_weights(F.relu_(self.conv1(F.relu_(x))), self.pred))
        return features

    def round_fine(self, dtype: torch.dtype) -> None:
        """Run what works at stride 4, three fifths of the whole network's products, in a narrower type.

        What the dynamic kernels are made from and multiplied with stays as it is: they amplify its rounding.
        """
        self.refine2.to(dtype)
        self.conv1.to(dtype)


def _as_weights(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """A map in the type of the weights that it meets; in training that is autocast's choice."""
    return x if torch.is_grad_enabled() else x.to(conv.weight.dtype)


class VISOLONetwork(nn.Module):
    """All modules of VISOLO; `vis_core.models.visolo.model` runs them frame by frame.

    Args:
        backbone: gives maps at strides 4, 8 and 16, whose widths are its ``channels``; a number: ResNet of that depth,
            50 or 101.
        classes: number of categories.
        width: channels of the grid's branches, a multiple of 64 (of the groups of the norms, twice); 256 in the paper.
        mask_width: channels of the mask branch and length of the dynamic kernels; None: as `width`.
        place: add the paraboloids of `PositionPrior` to the masks.
        grid: rows and columns of the grid; 12 and 21 in the paper.
        skip_blocks: residual blocks on the mask branch's skip connections, as in the paper.
    """

    backbone: Any  # a module with `channels`

    def __init__(
        self,
        backbone: nn.Module | int = 50,
        classes: int = 40,
        width: int = 256,
        mask_width: int | None = None,
        place: bool = False,
        grid: tuple[int, int] = GRID,
        skip_blocks: bool = True,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.grid = grid
        self.backbone = ResNet(backbone, stages=3) if isinstance(backbone, int) else backbone
        channels = self.backbone.channels
        self.category_pre = CategoryPre(channels[2], width, grid)
        self.category_post = CategoryPost(classes, width)
        self.kernel_pre = KernelPre(channels[2], width, grid)
        self.kernel_post = KernelPost(width, mask_width or width, place)
        self.mask = Mask(channels, mask_width or width, skip_blocks)
        self.tracking = Tracking(width)
        self.memory = Memory(width)

    def initialise(self, generator: torch.Generator) -> None:
        """Kaiming-normal convolutions (fan-out) with zero biases, as the published training starts."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.kernel_post.place is not None:
            self.kernel_post.place.initialise()

    def grid_features(self, r4: Tensor) -> GridFeatures:
        """What of a frame's grid depends on it alone.

        Args:
            r4: float32 map at stride 16 ``[1, C, h/16, w/16]``.
        """
        track, category = self.category_pre(r4)
        kernel = self.kernel_pre(r4)
        (query,), (reference,) = self.tracking(track)
        stored_category, stored_kernel = self.memory(torch.cat((category, kernel)))
        return GridFeatures(
            query, reference, category[0].flatten(1), kernel[0].flatten(1), stored_category, stored_kernel
        )

    def answers(
        self, attention: Tensor, category: Tensor, kernel: Tensor, categories: Tensor, kernels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Category scores ``[C, 252]`` and mask kernels ``[d, 252]`` of a frame.

        Args:
            attention: see `read_memory`.
            category: of the frame's `GridFeatures`.
            kernel: the same.
            categories: stored category features of the memory ``[d, T * 252]``.
            kernels: stored kernel features ``[d, T * 252]``.
        """
        category = read_memory(category, attention, categories).unflatten(1, self.grid)
        kernel = read_memory(kernel, attention, kernels).unflatten(1, self.grid)
        return self.category_post(category[None])[0].flatten(1).sigmoid(), self.kernel_post(kernel[None])[0].flatten(1)

    def mask_features(self, maps: Sequence[Tensor]) -> Tensor:
        """What the dynamic kernels are multiplied with, float32 ``[B, d, H/4, W/4]``, from the backbone's maps."""
        features: Tensor = self.mask(*maps).float()
        if self.kernel_post.place is None:
            return features
        return torch.cat((features, place_maps(features, self.grid).expand(len(features), -1, -1, -1)), 1)


def read_memory(present: Tensor, attention: Tensor, converted: Tensor) -> Tensor:
    """Present grid features plus what the memory holds for each cell (temporal aggregation).

    Args:
        present: ``[d, 252]``.
        attention: softmax over the columns of the similarity ``[252, T * 252]``, rows = cells of the present frame,
            columns = cells of the T frames.
        converted: ``[d, T * 252]``, the memory's features.
    """
    return present + converted @ attention.T
