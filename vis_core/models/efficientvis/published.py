"""Keys of EfficientVIS's files and of those that a training starts from, Sparse R-CNN's and QueryInst's, and ours."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from vis_core.checkpoints import rename, shape_of
from vis_core.errors import CheckpointError
from vis_core.nn import queryinst
from vis_core.nn.backbones import resnet
from vis_core.nn.region_queries import PUBLISHED, Dimensions

_BACKBONE = "backbone."
_DETECTRON = (
    ("backbone.bottom_up.", "backbone."),
    ("backbone.fpn_lateral", "pyramid.lateral"),
    ("backbone.fpn_output", "pyramid.output"),
    ("init_proposal_", "init_proposal_"),
    ("head.", "head."),
)


def recognise(keys: Collection[str]) -> bool:
    """Whether keys are those of EfficientVIS or Sparse R-CNN as detectron2 writes them, or of QueryInst."""
    detectron = "init_proposal_features.weight" in keys and "backbone.bottom_up.stem.conv1.weight" in keys
    return detectron or (queryinst.is_image_model(keys) and resnet.is_torchvision(_of_backbone(keys)))


def convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under our names; of QueryInst the mask of a class is the mean over all of them.

    What the file of an image model lacks, attention over time and perhaps the mask heads, it lacks in ours too: a
    training starts it anew.

    Raises:
        CheckpointError: parts of a QueryInst contradict each other.
    """
    if not queryinst.is_queryinst(tensors):
        return rename(tensors, _DETECTRON)
    found = {key: x for key, x in queryinst.from_queryinst(tensors).items() if not key.startswith(_BACKBONE)}
    for key in [key for key in found if ".mask_logits." in key]:
        found[key] = found[key].mean(0, keepdim=True)
    backbone = resnet.from_torchvision(_of_backbone(tensors))
    return {**{_BACKBONE + key: x for key, x in backbone.items()}, **found}


def _of_backbone(tensors: Collection[str] | Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = tensors if isinstance(tensors, Mapping) else dict.fromkeys(tensors, torch.empty(0))
    return {key.removeprefix(_BACKBONE): x for key, x in named.items() if key.startswith(_BACKBONE)}


def check_complete(tensors: Mapping[str, Tensor]) -> None:
    """Refuse the weights of an image model, under our names: a training starts from them, a stream cannot run on them.

    Raises:
        CheckpointError: they are Sparse R-CNN's or QueryInst's.
    """
    for part, system, lacking in (
        (".mask_head.", "Sparse R-CNN", "it has no mask heads and no attention over time"),
        (".temporal_attn.", "QueryInst", "it has no attention over time"),
    ):
        if not any(part in key for key in tensors):
            raise CheckpointError(
                f"these are weights of {system}, an image model: {lacking}. They are a start for training "
                "(initial_weights of 'vis train'); there is nothing yet that could segment a video"
            )


def sizes(tensors: Mapping[str, Tensor]) -> tuple[int, int, int, Dimensions]:
    """Depth of the ResNet, classes, queries and dimensions of the head, from tensors under our names.

    The heads of the attention leave no trace in a file: there are 8, as published.

    Raises:
        CheckpointError: a tensor that tells them is missing or not of a possible shape.
    """

    stage = "head.head_series.0."
    classes, _ = shape_of(tensors, f"{stage}class_logits.weight", 2)
    queries, width = shape_of(tensors, "init_proposal_features.weight", 2)
    (dynamic,) = shape_of(tensors, f"{stage}inst_interact.norm1.weight", 1)
    feedforward, _ = shape_of(tensors, f"{stage}linear1.weight", 2)
    if width % PUBLISHED.heads:
        raise CheckpointError(
            f"init_proposal_features.weight, which tells the width of the network, is of shape {[queries, width]}; the "
            f"width is a multiple of {PUBLISHED.heads}"
        )
    numbers = [int(found[1]) for key in tensors if (found := re.match(r"head\.head_series\.(\d{1,2})\.", key))]
    depth = 101 if any(key.startswith("backbone.res4.6.") for key in tensors) else 50
    return depth, classes, queries, Dimensions(width, PUBLISHED.heads, dynamic, feedforward, max(numbers) + 1)
