"""The network of Mask2Former-VIS and MinVIS from its weights, on a device and in the form that runs fastest there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vis_core.checkpoints import load_tensors
from vis_core.errors import CheckpointError
from vis_core.models.mask2former_vis import published
from vis_core.models.mask2former_vis.network import Mask2FormerVISNetwork
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.precision import exact_type


def ready_network(
    name: str, tensors: Mapping[str, Tensor] | None, device: torch.device, precision: str
) -> Mask2FormerVISNetwork:
    """The network; backbone, classes and queries are the tensors', without any ResNet-50's, 40 and 100.

    The backbone runs in the type that the precision asks for, both decoders in float32. With ``auto`` all is float32: a
    backbone in bfloat16 changes masks down to an IoU of 0.73 at the 5th percentile (benchmarks/precision.py).
    """
    if tensors is None:
        network = random_network("resnet50", 40, 100, seed=0)
    else:
        try:
            network = Mask2FormerVISNetwork(*published.sizes(tensors))
        except CheckpointError as error:
            raise CheckpointError(f"{name}: {error}") from error
        load_tensors(network, tensors, name)
    network.eval().requires_grad_(False)
    if isinstance(network.backbone, ResNet):
        network.backbone.fold_norms()
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.backbone.to(exact_type(precision))
    return network


def random_network(backbone: str, classes: int, queries: int, seed: int) -> Mask2FormerVISNetwork:
    """A network with first weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Mask2FormerVISNetwork(backbone, classes, queries)
        network.initialise()
    return network
