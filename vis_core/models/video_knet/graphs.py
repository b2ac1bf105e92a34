"""The pieces of both networks that are exported: what runs once a frame, and the stages that see more than one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vis_core.models.video_knet.kernels import StageOutputs
from vis_core.models.video_knet.network import STAGES, ClipNetwork, FrameKernels, OnlineNetwork
from vis_core.nn.graphs import Graph

_SIZE = 96, 160
_FRAMES = 2
_IMAGE = {2: "32*height", 3: "32*width"}
_MAP = {2: "4*height", 3: "4*width"}


def clip_graphs(network: ClipNetwork) -> Mapping[str, Graph]:
    """``frame``: `FrameKernels` of an image of any size; ``window``: of those of a clip class logits, and of each frame
    what masks are made with, see `KernelStage.mask_filters`.
    """
    frame, image = _ClipFrame(network), torch.zeros((1, 3, *_SIZE))
    with torch.inference_mode():
        kernels = frame(image)
    names = FrameKernels._fields
    frames = {0: "frames"}
    clip = {name: x.clone().expand(_FRAMES, *x.shape[1:]).contiguous() for name, x in zip(names, kernels)}
    return {
        "frame": Graph(frame, {"image": image}, names, {"image": _IMAGE}),
        "window": Graph(
            _Clip(network),
            clip,
            ("logits", "filters", "biases"),
            {name: frames | (_MAP if name == "features" else {}) for name in names},
        ),
    }


def online_graphs(network: OnlineNetwork) -> Mapping[str, Graph]:
    """``frame``: all but the last stage, of an image of any size; ``window``: the last stage, with the frame before.

    A network that looks back takes kernels of the frame before, and whether there was none; one with embeddings gives
    those of all kernels.
    """
    frame, image = _OnlineFrame(network), torch.zeros((1, 3, *_SIZE))
    with torch.inference_mode():
        found = frame(image)
    asked = dict(zip(("features", "masks", "kernels"), (x.clone() for x in found)))
    if network.looks_back:
        asked |= {"previous": torch.ones_like(asked["kernels"]), "begins": torch.tensor([False])}
    given = ("logits", "new_masks", "new_kernels", *(("embeddings",) if network.association is not None else ()))
    return {
        "frame": Graph(frame, {"image": image}, ("features", "masks", "kernels", "semantic"), {"image": _IMAGE}),
        "window": Graph(_LastStage(network), asked, given, {"features": _MAP, "masks": _MAP}),
    }


class _ClipFrame(nn.Module):
    """What of a frame depends on it alone."""

    def __init__(self, network: ClipNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.network.frames(self.network.maps(image))


class _Clip(nn.Module):
    """The stages that see a clip as a whole."""

    def __init__(self, network: ClipNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, pooled: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
        frames = [FrameKernels(features, pooled, kernels)]
        out = self.network.clip(frames)[-1]
        assert out.logits is not None
        last = self.network.clip_stages[-1]
        filters, biases = last.mask_filters(self.network.frames_of_clip(frames, out))  # type: ignore[operator]
        return out.logits, filters, biases


class _OnlineFrame(nn.Module):
    """What of a frame depends on it alone."""

    def __init__(self, network: OnlineNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        initial = self.network.initial(self.network.maps(image))
        assert initial.semantic is not None
        out = self.network.joined(initial)
        for number in range(STAGES - 1):
            out = self.network.stage(number, initial.features, out, classes=False)
        return initial.features, out.masks, out.kernels, initial.semantic


class _LastStage(nn.Module):
    """The last stage, which may look back."""

    def __init__(self, network: OnlineNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        features: Tensor,
        masks: Tensor,
        kernels: Tensor,
        previous: Tensor | None = None,
        begins: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        found = self.network.last_stage(features, StageOutputs(None, masks, kernels), previous, begins)
        logits, new_masks, new_kernels = found.outputs
        assert logits is not None
        association = self.network.association
        return logits, new_masks, new_kernels, *(() if association is None else (association(found.linked),))
