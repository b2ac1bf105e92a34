"""Keys of EfficientVIS's files and of those that a training starts from, Sparse R-CNN's and QueryInst's, and ours."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from vis_core.checkpoints import rename
from vis_core.errors import CheckpointError
from vis_core.nn.region_queries import PUBLISHED, Dimensions

_DETECTRON = (
    ("backbone.bottom_up.", "backbone."),
    ("backbone.fpn_lateral", "pyramid.lateral"),
    ("backbone.fpn_output", "pyramid.output"),
    ("init_proposal_", "init_proposal_"),
    ("head.", "head."),
)
_STAGES = 6
_LARGEST_SIDE = 10_000  # bounded before anything is allocated
_BBOX_HEAD = (
    ("attention.attn.", "self_attn."),
    ("attention_norm.", "norm1."),
    ("instance_interactive_conv.dynamic_layer.", "inst_interact.dynamic_layer."),
    ("instance_interactive_conv.norm_in.", "inst_interact.norm1."),
    ("instance_interactive_conv.norm_out.", "inst_interact.norm2."),
    ("instance_interactive_conv.fc_layer.", "inst_interact.out_layer."),
    ("instance_interactive_conv.fc_norm.", "inst_interact.norm3."),
    ("instance_interactive_conv_norm.", "norm2."),
    ("ffn.layers.0.0.", "linear1."),
    ("ffn.layers.1.", "linear2."),
    ("ffn_norm.", "norm3."),
    ("cls_fcs.", "cls_module."),
    ("fc_cls.", "class_logits."),
    ("reg_fcs.", "reg_module."),
    ("fc_reg.", "bboxes_delta."),
)
_MASK_HEAD = (
    ("instance_interactive_conv.dynamic_layer.", "inst_interact.dynamic_layer."),
    ("instance_interactive_conv.norm_in.", "inst_interact.norm1."),
    ("instance_interactive_conv.norm_out.", "inst_interact.norm2."),
    ("upsample.", "upsample."),
    ("conv_logits.", "mask_logits."),
)
_QUERYINST = (
    ("backbone.conv1.", "backbone.stem.conv1."),
    ("backbone.bn1.", "backbone.stem.conv1.norm."),
    ("rpn_head.init_proposal_bboxes.", "init_proposal_boxes."),
    ("rpn_head.init_proposal_features.", "init_proposal_features."),
    *((f"neck.lateral_convs.{k}.conv.", f"pyramid.lateral{k + 2}.") for k in range(4)),
    *((f"neck.fpn_convs.{k}.conv.", f"pyramid.output{k + 2}.") for k in range(4)),
    *(
        (f"roi_head.{theirs}.{m}.{part}", f"head.head_series.{m}.{prefix}{ours}")
        for m in range(_STAGES)
        for theirs, prefix, table in (("bbox_head", "", _BBOX_HEAD), ("mask_head", "mask_head.", _MASK_HEAD))
        for part, ours in table
    ),
)


def recognise(keys: Collection[str]) -> bool:
    """Whether keys are those of EfficientVIS or Sparse R-CNN as detectron2 writes them, or of QueryInst."""
    detectron = "init_proposal_features.weight" in keys and "backbone.bottom_up.stem.conv1.weight" in keys
    return detectron or "rpn_head.init_proposal_features.weight" in keys


def convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under our names; of QueryInst the mask of a class is the mean over all of them.

    What the file of an image model lacks, attention over time and perhaps the mask heads, it lacks in ours too: a
    training starts it anew.

    Raises:
        CheckpointError: parts of a QueryInst contradict each other.
    """
    if "rpn_head.init_proposal_features.weight" not in tensors:
        return rename(tensors, _DETECTRON)
    table = (*_QUERYINST, *_of_resnet(tensors), *_of_mask_convolutions(tensors))
    kept = {key: x for key, x in tensors.items() if not re.search(r"mask_head\.\d+\.convs\.\d+\.conv\.bias$", key)}
    found = {key: x for key, x in rename(kept, table).items() if not key.startswith("backbone.") or "num_b" not in key}
    for m in range(_STAGES):
        theirs, ours = f"roi_head.mask_head.{m}.", f"head.head_series.{m}.mask_head."
        for part in ("weight", "bias"):
            if (key := f"{ours}mask_logits.{part}") in found:
                found[key] = found[key].mean(0, keepdim=True)
        for k in range(4):
            bias, mean = tensors.get(f"{theirs}convs.{k}.conv.bias"), f"{ours}convs.{k}.norm.running_mean"
            if bias is not None:  # a constant before the norm is part of its mean
                if mean not in found or found[mean].shape != bias.shape:
                    raise CheckpointError(f"QueryInst's {theirs}convs.{k} has a bias, but no mean of its norm like it")
                found[mean] = found[mean] - bias
    return found


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

    def shape(key: str, dimensions: int) -> tuple[int, ...]:
        x = tensors.get(key)
        if x is None or x.dim() != dimensions or not all(0 < n <= _LARGEST_SIDE for n in x.shape):
            found = "missing" if x is None else f"of shape {list(x.shape)}"
            raise CheckpointError(f"{key}, which tells the sizes of the network, is {found}")
        return tuple(x.shape)

    stage = "head.head_series.0."
    classes, _ = shape(f"{stage}class_logits.weight", 2)
    queries, width = shape("init_proposal_features.weight", 2)
    (dynamic,), (feedforward, _) = shape(f"{stage}inst_interact.norm1.weight", 1), shape(f"{stage}linear1.weight", 2)
    if width % PUBLISHED.heads:
        raise CheckpointError(
            f"init_proposal_features.weight, which tells the width of the network, is of shape {[queries, width]}; the "
            f"width is a multiple of {PUBLISHED.heads}"
        )
    numbers = [int(found[1]) for key in tensors if (found := re.match(r"head\.head_series\.(\d{1,2})\.", key))]
    depth = 101 if any(key.startswith("backbone.res4.6.") for key in tensors) else 50
    return depth, classes, queries, Dimensions(width, PUBLISHED.heads, dynamic, feedforward, max(numbers) + 1)


def _of_resnet(tensors: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Rows for the blocks of mmdetection's ResNet that are there."""
    rows = []
    for layer, block in sorted({tuple(m) for k in tensors for m in re.findall(r"^backbone\.layer(\d)\.(\d+)\.", k)}):
        theirs, ours = f"backbone.layer{layer}.{block}.", f"backbone.res{int(layer) + 1}.{block}."
        rows += [(f"{theirs}conv{i}.", f"{ours}conv{i}.") for i in (1, 2, 3)]
        rows += [(f"{theirs}bn{i}.", f"{ours}conv{i}.norm.") for i in (1, 2, 3)]
        rows += [(f"{theirs}downsample.0.", f"{ours}shortcut."), (f"{theirs}downsample.1.", f"{ours}shortcut.norm.")]
    return rows


def _of_mask_convolutions(tensors: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    return [
        (f"roi_head.mask_head.{m}.convs.{k}.{theirs}.", f"head.head_series.{m}.mask_head.convs.{k}.{ours}.")
        for m in range(_STAGES)
        for k in range(4)
        for theirs, ours in (("conv", "conv"), ("bn", "norm"))
    ]
