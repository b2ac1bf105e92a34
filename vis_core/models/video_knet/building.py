"""The networks of Video K-Net from their weights, on a device and in the form that runs fastest there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from vis_core.checkpoints import load_tensors
from vis_core.errors import CheckpointError
from vis_core.models.video_knet import published
from vis_core.models.video_knet.choices import CLIP, ONLINE
from vis_core.models.video_knet.network import ClipNetwork, FrameNetwork, OnlineNetwork
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.precision import exact_type
from vis_core.nn.prepacked_convolution import pack_convolutions
from vis_core.nn.winograd import use_winograd
from vis_core.system.option import GRAPH

_Network = TypeVar("_Network", bound=FrameNetwork)


def clip_network(tensors: Mapping[str, Tensor] | None) -> ClipNetwork:
    """The clip system's; of None, the published one with random weights."""
    if tensors is None:
        return _random(ClipNetwork, "resnet50", "fpn", 40)
    found = _told(CLIP, published.frame_sizes, tensors)
    network = ClipNetwork(found.backbone, found.neck, found.classes, found.sizes)
    load_tensors(network, tensors, CLIP)
    return network


def online_network(tensors: Mapping[str, Tensor] | None, association: str) -> OnlineNetwork:
    """The online system's, with what an association needs; of None, a ResNet-50's with random weights."""
    if tensors is None:
        return _random(OnlineNetwork, "resnet50", "fpn", 40)
    if association != "embedding":
        tensors = {key: x for key, x in tensors.items() if not key.startswith("clip_stages.")}
    found = _told(ONLINE, published.frame_sizes, tensors)
    links = _told(ONLINE, published.links, tensors, found.classes)
    if links.embedding_layers is None and association == "embedding":
        of_clips = f"load them as {CLIP!r}, or " if any(key.startswith("clip_stages.") for key in tensors) else ""
        raise CheckpointError(
            f"{ONLINE}: association.output.weight is missing: the weights hold no embeddings; {of_clips}use "
            f"association 'kernel' or {GRAPH!r}"
        )
    network = OnlineNetwork(
        found.backbone,
        found.neck,
        links.things,
        found.classes - links.things,
        links.linking,
        links.fusion,
        links.embedding_layers,
        found.sizes,
    )
    own = {"thing_classes": torch.tensor(links.things)}
    load_tensors(network, own | dict(tensors), ONLINE)
    return network


def _told(name: str, function: Any, *arguments: Any) -> Any:
    """What the tensors tell; an error names the system."""
    try:
        return function(*arguments)
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error


def _random(kind: type[_Network], *arguments: Any) -> _Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind(*arguments)
        network.initialise()
    return network


def ready(network: _Network, device: torch.device, precision: str) -> _Network:
    """The network for inference; with ``auto`` all of it is float32: a kernel's pooling mask is hard."""
    network.eval().requires_grad_(False)
    if isinstance(network.backbone, ResNet):
        network.backbone.fold_norms()
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.backbone.to(exact_type(precision))
    pack_convolutions(network)
    use_winograd(network)
    network.join_finest_level()
    return network
