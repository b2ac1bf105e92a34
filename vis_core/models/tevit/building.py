"""TeViT's network from its weights, on a device and in the form that runs fastest there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vis_core.checkpoints import load_tensors
from vis_core.errors import CheckpointError
from vis_core.models.tevit import published
from vis_core.models.tevit.msgshift import MsgShifT
from vis_core.models.tevit.network import TeViTNetwork
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.precision import exact_type
from vis_core.nn.prepacked_convolution import pack_convolutions
from vis_core.nn.winograd import use_winograd


def ready_network(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    shift: str,
    query_interaction: str,
) -> TeViTNetwork:
    """The network; backbone, classes and number of queries are the tensors', without any MsgShifT's, 40 and 100."""
    network = _network(tensors, metadata, shift, query_interaction)
    network.eval().requires_grad_(False)
    for stage in network.head.stages():
        stage.mask_head.fold_norms()
    if isinstance(network.backbone, ResNet):
        network.backbone.fold_norms()
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # With `auto` in float32: of rounded maps, boxes drift from stage to stage, and masks with them.
    network.backbone.to(exact_type(precision))
    if isinstance(network.backbone, MsgShifT):
        network.backbone.prepare()
    pack_convolutions(network)
    use_winograd(network)
    return network


def _network(
    tensors: Mapping[str, Tensor] | None, metadata: Mapping[str, str], shift: str, query_interaction: str
) -> TeViTNetwork:
    if tensors is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = TeViTNetwork(MsgShifT(shift=shift), query_interaction=query_interaction)
            network.initialise()
        return network
    try:
        if "format" not in metadata:  # what was trained here without messengers is like an image model
            published.check_complete(tensors)
        classes, queries, dimensions = published.sizes(tensors)
        backbone = published.backbone_of(tensors, shift=shift)
    except CheckpointError as error:
        raise CheckpointError(f"tevit: {error}") from error
    network = TeViTNetwork(backbone, classes, queries, dimensions, query_interaction)
    load_tensors(network, tensors, "tevit")
    return network
