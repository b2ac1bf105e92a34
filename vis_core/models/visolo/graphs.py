"""The pieces of VISOLO's network that are exported: what runs once a frame, and what reads the memory."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vis_core.models.visolo.exported_grid import OUTPUTS
from vis_core.models.visolo.grid import GridFeatures
from vis_core.models.visolo.network import VISOLONetwork
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.graphs import Graph

_FLOAT32 = ("network.category_", *(f"network.backbone.body.{x}." for x in ("stem", *(f"blocks.{i}" for i in range(4)))))
_RESNET_FLOAT32 = ("network.backbone.", "network.category_", "network.kernel_", "network.tracking.", "network.memory.")
"""What stays in float32 where the rest has 8 bits: of visolo-lite what decides on thresholds, and the first, narrow
layers; of a ResNet all that the dynamic kernels are made from, whose rounding they amplify.

Measured part by part: docs/deploy.md.
"""


def graphs(network: VISOLONetwork, size: tuple[int, int]) -> Mapping[str, Graph]:
    """``frame``: mask features and `GridFeatures` of an input of one size; ``window``: the answers, from a memory."""
    image = torch.zeros((1, 3, *size))
    names = GridFeatures._fields
    float32 = _RESNET_FLOAT32 if isinstance(network.backbone, ResNet) else _FLOAT32
    with torch.inference_mode():
        _, *grid = _Frame(network)(image)
    present = dict(zip(names, grid))
    asked = {name: present[name].clone() for name in ("query", "category", "kernel")}
    for name, of in (("references", "reference"), ("categories", "stored_category"), ("kernels", "stored_kernel")):
        asked[name] = torch.cat((present[of], present[of]), 1)
    memory = {1: "remembered_cells"}
    return {
        "frame": Graph(_Frame(network), {"image": image}, OUTPUTS["frame"], float32=float32),
        "window": Graph(
            _Window(network),
            asked,
            OUTPUTS["window"],
            {"references": memory, "categories": memory, "kernels": memory},
            float32,
        ),
    }


class _Frame(nn.Module):
    """What of a frame depends on it alone."""

    def __init__(self, network: VISOLONetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.network.backbone(image)
        return (self.network.mask_features(maps), *self.network.grid_features(maps[-1]))


class _Window(nn.Module):
    """What the grid answers, helped by a memory of any length."""

    def __init__(self, network: VISOLONetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, query: Tensor, category: Tensor, kernel: Tensor, references: Tensor, categories: Tensor, kernels: Tensor
    ) -> tuple[Tensor, Tensor]:
        attention = (query.T @ references).softmax(1)
        return self.network.answers(attention, category, kernel, categories, kernels)
