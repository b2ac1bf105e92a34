"""The network of visolo-lite: VISOLO's on EfficientNet-Lite0, and the sizes that a weight file gives it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.errors import CheckpointError
from vis_core.models.visolo.network import VISOLONetwork
from vis_core.models.visolo.shipped import GRID, GRID_KEY, MASK_WIDTH, NAME, WIDTH
from vis_core.nn.backbones.efficientnet_lite import EfficientNetLite

_WIDTHS, _GRIDS = range(64, 513, 64), range(4, 65)


class LiteBackbone(nn.Module):
    """EfficientNet-Lite0 as VISOLO's backbone: the map at stride 32 joins that at stride 16, for its meaning."""

    channels = (24, 40, 432)

    def __init__(self) -> None:
        super().__init__()
        self.body = EfficientNetLite()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps at strides 4, 8 and 16 of normalised images ``[B, 3, H, W]``."""
        r2, r3, r4, r5 = self.body(images)
        r5 = F.interpolate(r5, r4.shape[2:], mode="bilinear", align_corners=False)
        return [r2, r3, torch.cat((r4, r5), 1)]


def lite_network(
    classes: int, width: int = WIDTH, mask_width: int = MASK_WIDTH, grid: tuple[int, int] = GRID
) -> VISOLONetwork:
    """VISOLO's network on the light backbone, with paraboloids and with skip connections of one convolution each."""
    return VISOLONetwork(LiteBackbone(), classes, width, mask_width, place=True, grid=grid, skip_blocks=False)


def sizes_of(tensors: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """Classes, width and mask width of the network that tensors belong to."""
    category, kernel = tensors.get("category_post.pred.weight"), tensors.get("kernel_post.pred.weight")
    for key, x in (("category_post.pred.weight", category), ("kernel_post.pred.weight", kernel)):
        if x is None or x.dim() != 4 or len(x) == 0 or x.shape[1] not in _WIDTHS:
            found = "missing" if x is None else f"of shape {list(x.shape)}"
            raise CheckpointError(f"{NAME}: {key}, which gives the sizes of the network, is {found}")
    assert category is not None and kernel is not None
    if len(kernel) not in _WIDTHS:
        raise CheckpointError(
            f"{NAME}: kernel_post.pred.weight gives {len(kernel)} mask channels, not a multiple of 64"
        )
    return len(category), category.shape[1], len(kernel)


def grid_of(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """Rows and columns of the grid that tensors were taught on."""
    found = tensors.get(GRID_KEY)
    if found is None or found.shape != (2,) or any(n not in _GRIDS for n in found.tolist()):
        what = "missing" if found is None else f"{found.flatten()[:8].tolist()} of shape {list(found.shape)}"
        raise CheckpointError(f"{NAME}: {GRID_KEY}, rows and columns of the network's grid (4 to 64), is {what}")
    rows, columns = (int(n) for n in found.tolist())
    return rows, columns
