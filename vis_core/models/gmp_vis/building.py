"""The networks of GMP-VIS and VisTR from their weights, and in the form that runs fastest on a device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vis_core.checkpoints import load_tensors
from vis_core.errors import CheckpointError
from vis_core.models.gmp_vis import online_network as online_networks
from vis_core.models.gmp_vis import published
from vis_core.models.gmp_vis.clip_network import ClipNetwork
from vis_core.models.gmp_vis.online_network import OnlineNetwork
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.memory_format import channels_last
from vis_core.nn.precision import exact_type
from vis_core.nn.prepacked_convolution import pack_convolutions
from vis_core.nn.winograd import use_winograd


def clip_network(tensors: Mapping[str, Tensor] | None) -> ClipNetwork:
    """The network of tensors under our names; of None, the published one with random weights.

    Raises:
        CheckpointError: the tensors do not fit.
    """
    if tensors is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = ClipNetwork(ResNet(50))
            network.initialise()
        return network
    try:
        network = published.network_of(tensors)
    except CheckpointError as error:
        raise CheckpointError(f"vistr: {error}") from error
    load_tensors(network, tensors, "vistr")
    return network


def online_network(tensors: Mapping[str, Tensor] | None) -> OnlineNetwork:
    """The same of the online system."""
    if tensors is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = OnlineNetwork(50, 40)
            network.initialise()
        return network
    try:
        network = OnlineNetwork(*online_networks.arguments_of(tensors))
    except CheckpointError as error:
        raise CheckpointError(f"gmp-vis: {error}") from error
    load_tensors(network, tensors, "gmp-vis")
    return network


def prepare(network: ClipNetwork | OnlineNetwork, device: torch.device, precision: str) -> None:
    """Move a network to a device, in the form that runs fastest there."""
    network.eval().requires_grad_(False)
    if isinstance(network.backbone, ResNet):
        network.backbone.fold_norms()
    channels_last(network.to(device))
    # With `auto` in float32: slots differ by little beside what they have in common; refined boxes take masks along.
    network.run_in(exact_type(precision))
    pack_convolutions(network)
    use_winograd(network)
