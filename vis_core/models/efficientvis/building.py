"""EfficientVIS's network from its weights, on a device and in the form that runs fastest there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vis_core.checkpoints import load_tensors
from vis_core.errors import CheckpointError
from vis_core.models.efficientvis import published
from vis_core.models.efficientvis.network import EfficientVISNetwork
from vis_core.nn.precision import exact_type
from vis_core.nn.prepacked_convolution import pack_convolutions
from vis_core.nn.winograd import use_winograd


def ready_network(
    tensors: Mapping[str, Tensor] | None, device: torch.device, precision: str, options: Mapping[str, str]
) -> EfficientVISNetwork:
    """The network; depth, classes and number of queries are the tensors', without any ResNet-50's, 40 and 10.

    Args:
        tensors: in our names.
        device: to run it on.
        precision: see `vis_core.load`.
        options: of `EfficientVISNetwork`.
    """
    network = _network(tensors, options)
    network.eval().requires_grad_(False)
    network.backbone.fold_norms()
    for stage in network.head.stages():
        stage.mask_head.fold_norms()
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # With `auto` in float32: of rounded maps, boxes drift from stage to stage, and masks with them.
    network.backbone.to(exact_type(precision))
    pack_convolutions(network)
    use_winograd(network)
    return network


def _network(tensors: Mapping[str, Tensor] | None, options: Mapping[str, str]) -> EfficientVISNetwork:
    if tensors is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = EfficientVISNetwork(**options)  # type: ignore[arg-type]
            network.initialise()
        return network
    try:
        sizes = published.sizes(tensors)
        published.check_complete(tensors)
    except CheckpointError as error:
        raise CheckpointError(f"efficientvis: {error}") from error
    network = EfficientVISNetwork(*sizes, **options)  # type: ignore[arg-type]
    load_tensors(network, tensors, "efficientvis")
    return network
