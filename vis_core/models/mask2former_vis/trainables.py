"""What the trainer trains of Mask2Former-VIS and MinVIS, and its options; PyTorch is imported when one is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from vis_core.models.mask2former_vis.choices import BACKBONES, POINTS
from vis_core.system.option import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vis_core.models.mask2former_vis.training import Mask2FormerVISTraining

_Backbone = Annotated[str, Option("of the network", choices=BACKBONES)]
_Queries = Annotated[int, Option("instances of a clip at most; published for Swin-L: 200", 1, 1000)]
_Points = Annotated[int, Option("of a mask that are compared", 4, 1000000)]
_LabelsFromVisibleFrame = Annotated[
    bool,
    Option(
        "an instance that the last frame of a clip does not show keeps its label; as published it is taught as no "
        "object"
    ),
]


def trainable(
    space_time: bool,
    class_names: tuple[str, ...],
    tensors: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    *,
    backbone: _Backbone = "resnet50",
    queries: _Queries = 100,
    points: _Points = POINTS,
    labels_from_visible_frame: _LabelsFromVisibleFrame = False,
) -> Mask2FormerVISTraining:
    """What the trainer trains: all of the network but the frozen norms of a ResNet.

    Args:
        space_time: see `Mask2FormerVISTraining`, as are points and labels_from_visible_frame.
        class_names: of the labels.
        tensors: a Mask2Former of images or videos, of any class count, or ImageNet weights of a ResNet with
            torchvision's keys; None: none.
        generator: its seed is that of the first weights.
        backbone: one of `BACKBONES`.
        queries: instances of a clip at most.
        points: of a mask that are compared.
        labels_from_visible_frame: what an instance that the last frame does not show is taught as.
    """
    from vis_core.checkpoints import load_fitting
    from vis_core.models.mask2former_vis.building import random_network
    from vis_core.models.mask2former_vis.training import Mask2FormerVISTraining
    from vis_core.nn.backbones import resnet

    network = random_network(backbone, len(class_names), queries, generator.initial_seed())
    if tensors is not None:
        if resnet.is_torchvision(tensors):
            tensors = {f"backbone.{key}": x for key, x in resnet.from_torchvision(tensors).items()}
        load_fitting(network, tensors, "mask2former-vis" if space_time else "minvis")
    return Mask2FormerVISTraining(network, space_time, points, labels_from_visible_frame)
