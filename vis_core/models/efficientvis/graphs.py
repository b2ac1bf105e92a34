"""The pieces of the network that are exported: frames, what windows start from, their queries, and masks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vis_core.models.efficientvis.network import EfficientVISNetwork
from vis_core.nn.graphs import Graph
from vis_core.nn.roi_align import OPSET

_SIZE = 96, 160
_FRAMES = 4  # enough for neighbours on both sides
_LEVELS = {"level4": 8, "level8": 4, "level16": 2, "level32": 1}
"""Of each map, how many of its pixels are one of stride 32."""


def graphs(network: EfficientVISNetwork) -> Mapping[str, Graph]:
    """``frame``: maps of an image of any size; ``start``: what was learned, of its width, height, width, height;
    ``window``: what the last stage says of maps of any number of frames; ``masks``: of some of the queries.
    """
    frame, image, sides = _Frame(network), torch.zeros((1, 3, *_SIZE)), torch.tensor(_SIZE[::-1] * 2).float()
    with torch.inference_mode():
        levels = frame(image)
        queries, boxes = network.proposals(sides)
    clip = {name: x.clone().expand(_FRAMES, -1, -1, -1).contiguous() for name, x in zip(_LEVELS, levels)}
    axes = {name: {0: "frames", 2: f"{n}*height", 3: f"{n}*width"} for name, n in _LEVELS.items()}
    chosen = {name: torch.ones((_FRAMES, 3, x.shape[1])) for name, x in (("boxes", boxes), ("attended", queries))}
    some = {name: {0: "frames", 1: "chosen"} for name in chosen}
    return {
        "frame": Graph(frame, {"image": image}, tuple(_LEVELS), {"image": {2: "32*height", 3: "32*width"}}),
        "start": Graph(_Start(network), {"sides": sides}, ("queries", "boxes")),
        "window": Graph(
            _Window(network),
            clip | {"queries": queries.clone(), "boxes": boxes.clone()},
            ("logits", "new_boxes", "new_queries", "attended"),
            axes,
            opset=OPSET,
        ),
        "masks": Graph(_Masks(network), clip | chosen, ("mask_logits",), axes | some, opset=OPSET),
    }


class _Piece(nn.Module):
    def __init__(self, network: EfficientVISNetwork) -> None:
        super().__init__()
        self.network = network


class _Frame(_Piece):
    """What of a frame depends on it alone."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network.maps(image))


class _Start(_Piece):
    """What a window starts from, if nothing is carried."""

    def forward(self, sides: Tensor) -> tuple[Tensor, Tensor]:
        queries, boxes = self.network.proposals(sides)
        return queries.clone(), boxes


class _Window(_Piece):
    """What the last stage says."""

    def forward(
        self, level4: Tensor, level8: Tensor, level16: Tensor, level32: Tensor, queries: Tensor, boxes: Tensor
    ) -> tuple[Tensor, ...]:
        frames = level4.shape[0]
        out = self.network.head.last(
            (level4, level8, level16, level32), queries.expand(frames, -1, -1), boxes.expand(frames, -1, -1)
        )
        return out.logits, out.boxes, out.queries, out.attended


class _Masks(_Piece):
    """Mask logits ``[T, n, 28, 28]`` of some queries in their new boxes."""

    def forward(
        self, level4: Tensor, level8: Tensor, level16: Tensor, level32: Tensor, boxes: Tensor, attended: Tensor
    ) -> Tensor:
        return self.network.head.stages()[-1].masks_of((level4, level8, level16, level32), boxes, attended)
