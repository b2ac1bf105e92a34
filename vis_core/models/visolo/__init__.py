"""VISOLO: grid-based space-time aggregation for efficient online video instance segmentation (CVPR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vis_core.checkpoints import load_fitting, load_tensors
from vis_core.data.vocabularies import class_names, names_of
from vis_core.errors import CheckpointError, OptionError
from vis_core.models.visolo import lite, published
from vis_core.models.visolo.model import VISOLO
from vis_core.models.visolo.network import VISOLONetwork
from vis_core.models.visolo.test_time_augmentation import OTHER_VIEWS
from vis_core.models.visolo.training import VISOLOTraining
from vis_core.nn.backbones import resnet
from vis_core.nn.backbones.efficientnet_lite import installed_weights
from vis_core.nn.backbones.resnet import BLOCKS
from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD
from vis_core.nn.precision import compute_type
from vis_core.nn.prepacked_convolution import pack_convolutions
from vis_core.nn.winograd import WinogradConv2d, Workspace
from vis_core.system.segmenter import Option, PublishedFormat, System

_WIDTHS = range(64, 513, 64)  # bounded before anything is allocated: the size of a network grows with its square


def build(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    convolution: str = "direct",
    **options: Any,
) -> VISOLO:
    """The segmenter; depth, class count and width are the tensors', without any ResNet-50's, 40 and 256."""
    depth, classes, width = 50, 40, 256
    if tensors is not None:
        prediction = tensors.get("category_post.pred.weight")
        if prediction is None or prediction.dim() != 4 or len(prediction) == 0 or prediction.shape[1] not in _WIDTHS:
            found = "missing" if prediction is None else f"of shape {list(prediction.shape)}"
            raise CheckpointError(
                f"visolo: category_post.pred.weight, which gives classes and width, is {found}; expected "
                "[classes, width, 3, 3] with a width that is a multiple of 64, up to 512"
            )
        classes, width = prediction.shape[:2]
        depth = 101 if any(key.startswith("backbone.res4.6.") for key in tensors) else 50
    network = VISOLONetwork(depth, classes, width)
    if tensors is None:
        network.initialise(torch.Generator().manual_seed(0))
    else:
        load_tensors(network, tensors, "visolo")
    dtype = compute_type(precision, device)
    network.eval().requires_grad_(False)
    network.backbone.fold_norms()
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.backbone.to(dtype)
    network.mask.to(dtype)
    pack_convolutions(network)
    if convolution == "winograd" and device.type == "cpu" and dtype == torch.float32:
        workspace = Workspace()
        for module in network.mask.modules():
            if isinstance(module, WinogradConv2d):
                module.use_winograd(workspace)
    names = class_names(metadata["class_names"], classes) if "class_names" in metadata else names_of(classes)
    return VISOLO(network, names, dtype, **options)


def trainable(
    class_names: tuple[str, ...],
    tensors: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    depth: int = 50,
    **options: Any,
) -> VISOLOTraining:
    """What the trainer trains: stem, res2 and all batch norms of the backbone are frozen, as published.

    Args:
        class_names: of the labels.
        tensors: a VISOLO of any class count, or ImageNet weights of a ResNet with torchvision's keys; None: none.
        generator: of the first weights.
        depth: of the ResNet.
        options: of `VISOLOTraining`.
    """
    if depth not in BLOCKS:
        raise OptionError(f"visolo: depth {depth} is none of {', '.join(map(str, BLOCKS))}")
    network = VISOLONetwork(depth, len(class_names))
    network.initialise(generator)
    if tensors is not None:
        if resnet.is_torchvision(tensors):
            tensors = {f"backbone.{key}": x for key, x in resnet.from_torchvision(tensors, stages=3).items()}
        load_fitting(network, tensors, "visolo")
    frozen = (network.backbone.stem, network.backbone.res2)
    return VISOLOTraining(network, IMAGENET_MEAN, IMAGENET_STD, frozen, **options)


_OPTIONS = {
    "input_size": Option((352, 624), "height and width of the network's input, pixels", 16, 4096, multiple_of=16),
    "memory_frames": Option(6, "past frames that are read at most; none: all, for ever", 2, 10000, optional=True),
    "memory_interval": Option(5, "every how many frames one is kept in memory", 1, 10000),
    "max_lost_frames": Option(
        30, "a track ends when it was not seen for more frames; none: no track ever ends", 0, 1000000, optional=True
    ),
    "max_lost_tracks": Option(100, "tracks that may be lost at a time; none: no limit", 0, 1000000, optional=True),
    "score_threshold": Option(0.1, "least score of a grid cell", 0, 1),
    "mask_threshold": Option(0.5, "least probability of a mask's pixel", 0, 1),
    "update_threshold": Option(0.05, "least score of an instance after matrix NMS", 0, 1),
    "tracking_threshold": Option(0.1, "least similarity of a detection and the track that it continues", 0, 1),
    "max_instances": Option(100, "instances of a frame at most", 1, 252),
    "mask_resize": Option(
        "published", "resize binary masks as published, or their probabilities", choices=("published", "logits")
    ),
    "reweighting": Option(
        True, "scale a cell's score by its greatest similarity with the frames before (false: an ablation of the paper)"
    ),
    "published_quirks": Option(False, "treat empty masks and grid cell 0 as the published code does"),
}

_CONVOLUTION = Option(
    "direct",
    "form of the mask branch's large convolutions in float32 on a CPU; winograd is quicker, mask features "
    "differ by 1e-5",
    choices=("direct", "winograd"),
)

_TRAINING_OPTIONS = {
    "most_mask_cells": Option(252, "cells of a frame whose masks are compared", 1, 252),
    "mask_stride": Option(1, "stride at which masks are compared: 1, 2 or 4", 1, 4),
    "rivals": Option(
        1.0, "what a pixel of another instance weighs in the mask that takes it; 1, as published: no more", 1, 100
    ),
    "own_memory": Option(
        0.0, "share of the clips in which a frame reads itself too, as the first of a stream does", 0, 1
    ),
    "tracking_weight": Option(1.0, "of the tracking loss", 0, 100),
}

SYSTEM = System(
    name="visolo",
    title="VISOLO",
    paper="Han et al., VISOLO: Grid-Based Space-Time Aggregation for Efficient Online Video Instance Segmentation, "
    "CVPR 2022, arXiv 2112.04177",
    build=build,
    options=_OPTIONS | {"convolution": _CONVOLUTION},
    published=PublishedFormat(published.recognise, published.convert),
    checkpoints_licence="non-commercial use only (the repository states Apache-2.0 and, beside it, non-commercial use)",
    checkpoints_source="github.com/SuHoHan95/VISOLO, linked from its README",
    figures={
        "YouTube-VIS 2019 val, ResNet-50": "AP 38.6, AP50 56.3, AP75 43.7, AR1 35.7, AR10 42.5; 40.0 frames/s (V100)",
        "YouTube-VIS 2021 val, ResNet-50": "AP 36.9, AP50 54.7, AP75 40.2, AR1 30.6, AR10 40.9",
    },
    trainable=trainable,
    training_options={
        "depth": Option(50, "of the ResNet, 50 or 101", 50, 101),
        **_TRAINING_OPTIONS,
    },
)

LITE = System(
    name=lite.NAME,
    title="VISOLO-Lite",
    paper="this project: VISOLO with EfficientNet-Lite0 (Tan and Le, ICML 2019) and narrow branches",
    build=lite.build,
    options={
        **{name: option for name, option in _OPTIONS.items() if name not in ("tracking_threshold", "published_quirks")},
        "input_size": replace(_OPTIONS["input_size"], default=lite.INPUT_SIZE),
        "mask_resize": Option(
            "guided",
            "edges follow the image's; or resize binary masks as published, or probabilities",
            choices=("guided", "published", "logits"),
        ),
        "reweighting": replace(_OPTIONS["reweighting"], default=False),
        "score_threshold": replace(_OPTIONS["score_threshold"], default=0.15),
        "mask_threshold": replace(_OPTIONS["mask_threshold"], default=0.45),
        "memory_frames": replace(_OPTIONS["memory_frames"], default=3),
        "birth_threshold": Option(0.3, "least score of what begins a track; what is less may continue one", 0, 1),
        "first_birth_threshold": Option(0.2, "the same in a stream's first frame, where all is new; if less", 0, 1),
        "least_part": Option(0.0, "parts of a mask smaller than this share of its largest are left out", 0, 1),
        "views": Option(
            1,
            "views of a frame that are averaged, of: as it is; larger, mirrored; still larger; mirrored",
            1,
            1 + len(OTHER_VIEWS),
            recorded=4,
        ),
    },
    published=None,
    checkpoints_licence="Apache-2.0; what the training images allow is in the model card",
    checkpoints_source="part of this package",
    default_weights=lite.default_weights,
    trainable=lite.trainable,
    training_options={
        "width": Option(lite.WIDTH, "channels of the grid's branches", 64, 512, multiple_of=64),
        "mask_width": Option(lite.MASK_WIDTH, "channels of the mask branch", 64, 512, multiple_of=64),
        "grid": Option(lite.GRID, "rows and columns of the grid", 4, 64),
        "category_prior": Option(0.02, "probability of a class that a cell starts with", 1e-4, 0.5),
        "frozen_stride": Option(4, "the backbone learns beyond its map at this stride; 0: all of it", 0, 32),
        **_TRAINING_OPTIONS,
        "most_mask_cells": Option(16, "cells of a frame whose masks are compared", 1, 252),
        "mask_stride": Option(2, "stride at which masks are compared: 1, 2 or 4", 1, 4),
        "own_memory": Option(0.3, "share of the clips in which a frame reads itself too", 0, 1),
        "tracking_weight": Option(0.25, "of the tracking loss", 0, 100),
    },
    starting_weights={"imagenet": installed_weights, "shipped": lite.shipped_weights},
)
