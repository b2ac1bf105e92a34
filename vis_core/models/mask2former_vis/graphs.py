"""The pieces of the network that are exported: what runs once a frame, and what the queries find in a window."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vis_core.models.mask2former_vis.network import Mask2FormerVISNetwork, PixelFeatures
from vis_core.nn.graphs import Graph

_SIZE = 96, 160
_FRAMES = 2
_FEATURES = {"mask_features": 8, "level32": 1, "level16": 2, "level8": 4}
"""Of each map of `PixelFeatures`, how many of its pixels are one of stride 32."""

_FLOAT32 = ("network.pixel_decoder.",)
"""What stays in float32 where the rest has 8 bits; measured part by part: docs/deploy.md."""


def graphs(network: Mask2FormerVISNetwork, space_time: bool) -> Mapping[str, Graph]:
    """``frame``: `PixelFeatures` of an image of any size; ``window``: `QueryOutputs` of the features.

    Args:
        network: in evaluation mode, float32, on the CPU.
        space_time: a window is a clip of any length, or one frame; see `TransformerDecoder.forward`.
    """
    frame, image = _Frame(network), torch.zeros((1, 3, *_SIZE))
    with torch.inference_mode():
        features = frame(image)
    frames = {0: "frames"} if space_time else {}
    clip = {
        name: x.clone().expand(_FRAMES if space_time else 1, -1, -1, -1).contiguous()
        for name, x in zip(_FEATURES, features)
    }
    sizes = {name: {2: f"{times}*height", 3: f"{times}*width"} for name, times in _FEATURES.items()}
    size = {"image": {2: "32*height", 3: "32*width"}}
    return {
        "frame": Graph(frame, {"image": image}, tuple(_FEATURES), size, _FLOAT32),
        "window": Graph(
            _Window(network, space_time),
            clip,
            ("logits", "mask_embeddings", "queries"),
            {name: frames | axes for name, axes in sizes.items()},
        ),
    }


class _Frame(nn.Module):
    """What of a frame depends on it alone."""

    def __init__(self, network: Mask2FormerVISNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.network.pixel_features(image)
        return (features.mask, *features.levels)


class _Window(nn.Module):
    """What the queries answer."""

    def __init__(self, network: Mask2FormerVISNetwork, space_time: bool) -> None:
        super().__init__()
        self.network, self.space_time = network, space_time

    def forward(
        self, mask_features: Tensor, level32: Tensor, level16: Tensor, level8: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        features = PixelFeatures(mask_features, (level32, level16, level8))
        out = self.network.decode(features, self.space_time)
        return out.logits, out.mask_embeddings, out.queries
