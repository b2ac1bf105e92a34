"""The pieces of the online network that are exported: frames, masks of some queries, what instances are matched by."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vis_core.models.gmp_vis.online_network import MaskParts, OnlineNetwork
from vis_core.nn.graphs import Graph

_SIZE = 96, 160
_MAPS = {"memory": 32, "common": 32, "adapted16": 16, "adapted8": 8, "adapted4": 4}
"""Of each map that masks are made of, its stride."""


def graphs(network: OnlineNetwork) -> Mapping[str, Graph]:
    """``frame``: what is in an image of any size, and what masks are made of; ``masks``: of some of the queries;
    ``embeddings``: of instances, with what is remembered of the tracks if the network looks at it.
    """
    frame, image = _Frame(network), torch.zeros((1, 3, *_SIZE))
    with torch.inference_mode():
        queries, _, _, *maps = frame(image)
    some, remembered = torch.ones((3, queries.shape[1])), torch.ones((5, queries.shape[1]))
    asked = {"queries": some[None]} | {name: x.clone() for name, x in zip(_MAPS, maps)}
    sizes = {name: {2: f"height{stride}", 3: f"width{stride}"} for name, stride in _MAPS.items()}
    matched, behind = {"features": some}, {"features": {0: "chosen"}}
    if network.matching.aggregation is not None:
        matched |= {"remembered": remembered, "ages": torch.ones(5), "remembers": torch.tensor([True])}
        behind |= {"remembered": {0: "memory"}, "ages": {0: "memory"}}
    return {
        "frame": Graph(
            frame, {"image": image}, ("queries", "logits", "boxes", *_MAPS), {"image": {2: "height", 3: "width"}}
        ),
        "masks": Graph(_Masks(network), asked, ("mask_logits",), {"queries": {1: "chosen"}} | sizes),
        "embeddings": Graph(network.matching, matched, ("embeddings",), behind),
    }


class _Frame(nn.Module):
    """What of a frame depends on it alone."""

    def __init__(self, network: OnlineNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.network.maps(image)
        out = self.network.frames(maps)
        parts = self.network.mask_parts(out.memory, maps)
        return out.queries[-1, 0], out.logits[-1, 0], out.boxes[-1, 0], out.memory, parts.common, *parts.adapted


class _Masks(nn.Module):
    """Mask logits ``[1, n, H, W]``."""

    def __init__(self, network: OnlineNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, queries: Tensor, memory: Tensor, common: Tensor, adapted16: Tensor, adapted8: Tensor, adapted4: Tensor
    ) -> Tensor:
        return self.network.masks(queries, memory, MaskParts(common, (adapted16, adapted8, adapted4)))
