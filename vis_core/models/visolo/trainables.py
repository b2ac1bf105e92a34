"""What the trainer trains of VISOLO and visolo-lite, and its options; PyTorch is imported when one is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from vis_core.errors import OptionError
from vis_core.models.visolo.shipped import GRID, GRID_KEY, INPUT_MEAN, INPUT_STD, MASK_WIDTH, NAME, WIDTH
from vis_core.system.option import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vis_core.models.visolo.training import VISOLOTraining

_MaxMaskCells = Annotated[int, Option("cells of a frame whose masks are compared", 1, 252, former="most_mask_cells")]
_MaskStride = Annotated[int, Option("stride at which masks are compared: 1, 2 or 4", 1, 4)]
_OtherInstanceWeight = Annotated[
    float,
    Option(
        "what a pixel of another instance weighs in the mask that takes it; 1, as published: no more",
        1,
        100,
        former="rivals",
    ),
]
_SelfMemoryProbability = Annotated[
    float,
    Option(
        "share of the clips in which a frame reads itself too, as the first of a stream does; published: 0",
        0,
        1,
        former="own_memory",
    ),
]
_TrackingWeight = Annotated[float, Option("of the tracking loss", 0, 100)]


def trainable(
    class_names: tuple[str, ...],
    tensors: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    *,
    depth: Annotated[int, Option("of the ResNet, 50 or 101", 50, 101)] = 50,
    max_mask_cells: _MaxMaskCells = 252,
    mask_stride: _MaskStride = 1,
    other_instance_weight: _OtherInstanceWeight = 1.0,
    self_memory_probability: _SelfMemoryProbability = 0.0,
    tracking_weight: _TrackingWeight = 1.0,
) -> VISOLOTraining:
    """What the trainer trains: stem, res2 and all batch norms of the backbone are frozen, as published.

    Args:
        class_names: of the labels.
        tensors: a VISOLO of any class count, or ImageNet weights of a ResNet with torchvision's keys; None: none.
        generator: of the first weights.
        depth: of the ResNet.
        max_mask_cells: see `losses.mask_loss`, as are mask_stride and other_instance_weight.
        mask_stride: the same.
        other_instance_weight: the same.
        self_memory_probability: see `VISOLOTraining`, as is tracking_weight.
        tracking_weight: the same.
    """
    from vis_core.checkpoints import load_fitting
    from vis_core.models.visolo.network import VISOLONetwork
    from vis_core.models.visolo.training import VISOLOTraining
    from vis_core.nn.backbones import resnet
    from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD

    if depth not in resnet.BLOCKS:
        raise OptionError(f"visolo: depth {depth} is none of {', '.join(map(str, resnet.BLOCKS))}")
    network = VISOLONetwork(depth, len(class_names))
    network.initialise(generator)
    if tensors is not None:
        if resnet.is_torchvision(tensors):
            tensors = {f"backbone.{key}": x for key, x in resnet.from_torchvision(tensors, stages=3).items()}
        load_fitting(network, tensors, "visolo")
    return VISOLOTraining(
        network,
        IMAGENET_MEAN,
        IMAGENET_STD,
        (network.backbone.stem, network.backbone.res2),
        max_mask_cells=max_mask_cells,
        mask_stride=mask_stride,
        other_instance_weight=other_instance_weight,
        self_memory_probability=self_memory_probability,
        tracking_weight=tracking_weight,
    )


def trainable_lite(
    class_names: tuple[str, ...],
    tensors: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    *,
    width: Annotated[int, Option("channels of the grid's branches", 64, 512, multiple_of=64)] = WIDTH,
    mask_width: Annotated[int, Option("channels of the mask branch", 64, 512, multiple_of=64)] = MASK_WIDTH,
    grid: Annotated[tuple[int, int], Option("rows and columns of the grid", 4, 64)] = GRID,
    category_prior: Annotated[float, Option("probability of a class that a cell starts with", 1e-4, 0.5)] = 0.02,
    frozen_stride: Annotated[int, Option("the backbone learns beyond its map at this stride; 0: all of it", 0, 32)] = 4,
    max_mask_cells: _MaxMaskCells = 16,
    mask_stride: _MaskStride = 2,
    other_instance_weight: _OtherInstanceWeight = 1.0,
    self_memory_probability: _SelfMemoryProbability = 0.3,
    tracking_weight: _TrackingWeight = 0.25,
) -> VISOLOTraining:
    """What the trainer trains.

    Args:
        class_names: of the labels.
        tensors: a visolo-lite of any class count, or ImageNet weights of EfficientNet-Lite0; None: from nothing.
        generator: of the first weights.
        width: channels of the grid's branches.
        mask_width: channels of the mask branch.
        grid: its rows and columns.
        category_prior: probability of a class that a cell starts with.
        frozen_stride: the backbone learns beyond its map at this stride; 0: all of it.
        max_mask_cells: see `losses.mask_loss`, as are mask_stride and other_instance_weight.
        mask_stride: the same.
        other_instance_weight: the same.
        self_memory_probability: see `VISOLOTraining`.
        tracking_weight: of the tracking loss, whose sum over cells is many times the others.
    """
    import torch

    from vis_core.checkpoints import load_fitting
    from vis_core.models.visolo.lite_network import lite_network
    from vis_core.models.visolo.training import LiteTraining
    from vis_core.nn.backbones import efficientnet_lite

    network = lite_network(len(class_names), width, mask_width, grid)
    network.initialise(generator)
    bias = network.category_post.pred.bias
    assert bias is not None
    torch.nn.init.constant_(bias, -float(torch.tensor(1 / category_prior - 1).log()))
    if tensors is not None:
        if efficientnet_lite.is_published(tensors):
            network.backbone.body.load_state_dict(efficientnet_lite.from_published(tensors))
        else:
            load_fitting(network, {key: x for key, x in tensors.items() if key != GRID_KEY}, NAME)
    return LiteTraining(
        network,
        INPUT_MEAN,
        INPUT_STD,
        network.backbone.body.below(frozen_stride) if frozen_stride else [],
        published_extents=False,
        max_mask_cells=max_mask_cells,
        mask_stride=mask_stride,
        other_instance_weight=other_instance_weight,
        self_memory_probability=self_memory_probability,
        tracking_weight=tracking_weight,
    )
