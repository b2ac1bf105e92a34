"""What the trainer trains of Video K-Net, and its options; PyTorch is imported when one is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from vis_core.models.video_knet.choices import BACKBONES, CLIP, LINKINGS, NECKS, ONLINE
from vis_core.system.option import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vis_core.models.video_knet.online_training import OnlineTraining
    from vis_core.models.video_knet.training import ClipTraining

_Backbone = Annotated[str, Option("of the network", choices=BACKBONES)]
_Neck = Annotated[str, Option("of the network: a feature pyramid, or a deformable pixel decoder", choices=NECKS)]
_Kernels = Annotated[int, Option("instances at most", 1, 1000)]


def trainable_clip(
    class_names: tuple[str, ...],
    tensors: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    *,
    backbone: _Backbone = "resnet50",
    neck: _Neck = "fpn",
    kernels: _Kernels = 100,
) -> ClipTraining:
    """What the trainer trains of the clip system.

    Args:
        class_names: of the labels.
        tensors: a K-Net of images or a Video K-Net under our names, of any class count, or ImageNet weights of a ResNet
            with torchvision's keys; None: none.
        generator: its seed is that of the first weights.
        backbone: one of `BACKBONES`.
        neck: one of `NECKS`.
        kernels: instances of a clip at most.
    """
    import torch

    from vis_core.models.video_knet.network import PUBLISHED, ClipNetwork
    from vis_core.models.video_knet.training import ClipTraining, start_from

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        network = ClipNetwork(backbone, neck, len(class_names), PUBLISHED._replace(kernels=kernels))
        network.initialise()
    if tensors is not None:
        start_from(network, tensors, CLIP)
    return ClipTraining(network)


def trainable_online(
    class_names: tuple[str, ...],
    tensors: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    *,
    backbone: _Backbone = "resnet50",
    neck: _Neck = "fpn",
    kernels: _Kernels = 100,
    linking: Annotated[
        str, Option("how kernels for the embeddings look at those of the frame before", choices=LINKINGS)
    ] = "ffn",
    fusion: Annotated[bool, Option("kernels look at those of the frame before as the last stage begins, too")] = False,
    embedding_layers: Annotated[int, Option("linear layers before the last one of the embeddings", 0, 9)] = 2,
) -> OnlineTraining:
    """What the trainer trains of the online system: things alone, without stuff, on clips of two frames.

    Args:
        class_names: of the labels.
        tensors: a K-Net of images or a Video K-Net under our names, of any class count, or ImageNet weights of a ResNet
            with torchvision's keys; None: none.
        generator: its seed is that of the first weights.
        backbone: one of `BACKBONES`.
        neck: one of `NECKS`.
        kernels: instances of a frame at most.
        linking: one of `LINKINGS`.
        fusion: see `OnlineNetwork`.
        embedding_layers: see `AssociationHead`.
    """
    import torch

    from vis_core.models.video_knet.network import PUBLISHED, OnlineNetwork
    from vis_core.models.video_knet.online_training import OnlineTraining
    from vis_core.models.video_knet.training import start_from

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        sizes = PUBLISHED._replace(kernels=kernels)
        network = OnlineNetwork(backbone, neck, len(class_names), 0, linking, fusion, embedding_layers, sizes)
        network.initialise()
    if tensors is not None:
        start_from(network, tensors, ONLINE)
    return OnlineTraining(network)
