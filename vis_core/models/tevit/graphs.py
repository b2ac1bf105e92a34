"""The pieces of the network that are exported: frames, windows of them, and masks of some of the queries."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vis_core.models.tevit.msgshift import FirstBlock, MsgShifT
from vis_core.models.tevit.network import TeViTNetwork
from vis_core.nn.graphs import Graph
from vis_core.nn.roi_align import OPSET

_SIZE = 96, 160
_FRAMES = 4  # more than messengers move by
_LEVELS = {"level4": 8, "level8": 4, "level16": 2, "level32": 1}
"""Of each map, how many of its pixels are one of stride 32."""


def graphs(network: TeViTNetwork) -> Mapping[str, Graph]:
    """``frame``: of an image of any size, the maps, or with messengers what goes as far as the frame goes alone;
    ``window``: of any number of frames what the last stage says, and with messengers the maps; ``masks``: of queries.
    """
    shifts = isinstance(network.backbone, MsgShifT) and network.backbone.messengers != "none"
    frame: nn.Module = _FirstBlock(network) if shifts else _Frame(network)
    window: nn.Module = _ShiftedWindow(network) if shifts else _Window(network)
    image, sides = torch.zeros((1, 3, *_SIZE)), torch.tensor(_SIZE[::-1] * 2).float()
    with torch.inference_mode():
        found = [x.expand(_FRAMES, *x.shape[1:]) for x in frame(image)]
        maps = window(*found, sides)[4:] if shifts else found
    names = ("patches", "messengers") if shifts else tuple(_LEVELS)
    axes = {name: {0: "frames", 2: f"{n}*height", 3: f"{n}*width"} for name, n in _LEVELS.items()}
    of_window = {"patches": {0: "frames", 1: "8*height", 2: "8*width"}, "messengers": {0: "frames"}} if shifts else axes
    chosen = {
        "boxes": torch.ones((_FRAMES, 3, 4)),
        "attended": torch.ones((_FRAMES, 3, network.init_proposal_features.weight.shape[1])),
    }
    some = {name: {0: "frames", 1: "chosen"} for name in chosen}
    return {
        "frame": Graph(frame, {"image": image}, names, {"image": {2: "32*height", 3: "32*width"}}),
        "window": Graph(
            window,
            {name: x.contiguous().clone() for name, x in zip(names, found)} | {"sides": sides},
            ("logits", "new_boxes", "queries", "new_attended", *(_LEVELS if shifts else ())),
            of_window,
            opset=OPSET,
        ),
        "masks": Graph(
            _Masks(network),
            {name: x.contiguous().clone() for name, x in zip(_LEVELS, maps)} | chosen,
            ("mask_logits",),
            axes | some,
            opset=OPSET,
        ),
    }


class _Piece(nn.Module):
    def __init__(self, network: TeViTNetwork) -> None:
        super().__init__()
        self.network = network

    def answers(self, levels: tuple[Tensor, ...], sides: Tensor) -> tuple[Tensor, ...]:
        """What the last stage says."""
        queries, boxes = self.network.proposals(sides)
        out = self.network.head.last(levels, queries[None], boxes.expand(levels[0].shape[0], -1, -1))
        return out.logits, out.boxes, out.queries, out.attended


class _Frame(_Piece):
    """The maps of a frame."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network.levels(self.network.backbone_maps(image, 1)))


class _FirstBlock(_Piece):
    """With messengers: patches ``[1, h, w, D]`` and messengers ``[1, M, D]`` of a frame."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        first = self.network.backbone.first_block(image)  # type: ignore[operator]
        return first.patches.unflatten(1, first.size), first.messengers


class _Window(_Piece):
    """What the last stage says of the maps of frames."""

    def forward(
        self, level4: Tensor, level8: Tensor, level16: Tensor, level32: Tensor, sides: Tensor
    ) -> tuple[Tensor, ...]:
        return self.answers((level4, level8, level16, level32), sides)


class _ShiftedWindow(_Piece):
    """With messengers: what the last stage says of frames, and their maps."""

    def forward(self, patches: Tensor, messengers: Tensor, sides: Tensor) -> tuple[Tensor, ...]:
        frames, height, width = patches.shape[:3]
        first = FirstBlock(patches.flatten(1, 2), messengers, (height, width))
        levels = tuple(self.network.levels(self.network.backbone.rest(first, frames)))  # type: ignore[operator]
        return *self.answers(levels, sides), *levels


class _Masks(_Piece):
    """Mask logits ``[T, n, K, 28, 28]`` of some queries in their new boxes."""

    def forward(
        self, level4: Tensor, level8: Tensor, level16: Tensor, level32: Tensor, boxes: Tensor, attended: Tensor
    ) -> Tensor:
        return self.network.head.stages()[-1].masks_of((level4, level8, level16, level32), boxes, attended)
