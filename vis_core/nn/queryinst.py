"""Files of QueryInst (Fang et al., ICCV 2021) and of what stands on it, as mmdetection writes them, under our names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from vis_core.checkpoints import rename
from vis_core.errors import CheckpointError

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
    *(
        (f"convs.{k}.{theirs}.", f"convs.{k}.{ours}.")
        for k in range(4)
        for theirs, ours in (("conv", "conv"), ("bn", "norm"))
    ),
    ("upsample.", "upsample."),
    ("conv_logits.", "mask_logits."),
)
_PROPOSALS = "rpn_head.init_proposal_features.weight"
_HEAD = re.compile(r"roi_head\.(bbox|mask)_head\.(\d{1,2})\.")


def is_queryinst(keys: Collection[str]) -> bool:
    """Whether tensors are those of a QueryInst, or of what stands on it."""
    return _PROPOSALS in keys


def is_image_model(keys: Collection[str]) -> bool:
    """Whether a QueryInst is that of images, whose convolutions of the mask heads have a bias before the norm."""
    return is_queryinst(keys) and "roi_head.mask_head.0.convs.0.conv.bias" in keys


def from_queryinst(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pyramid, proposals and heads under the names of `region_queries`; other tensors keep theirs.

    Raises:
        CheckpointError: a bias of the mask heads has no norm that it could become part of.
    """
    stages = sorted({(m[1], m[2]) for key in tensors if (m := _HEAD.match(key))})
    table = (
        ("rpn_head.init_proposal_bboxes.", "init_proposal_boxes."),
        ("rpn_head.init_proposal_features.", "init_proposal_features."),
        *((f"neck.lateral_convs.{k}.conv.", f"pyramid.lateral{k + 2}.") for k in range(4)),
        *((f"neck.fpn_convs.{k}.conv.", f"pyramid.output{k + 2}.") for k in range(4)),
        *(
            (f"roi_head.{kind}_head.{m}.{theirs}", f"head.head_series.{m}.{'mask_head.' * (kind == 'mask')}{ours}")
            for kind, m in stages
            for theirs, ours in (_BBOX_HEAD if kind == "bbox" else _MASK_HEAD)
        ),
    )
    renamed = rename(tensors, table)
    biases = [key for key in renamed if re.search(r"mask_head\.convs\.\d+\.conv\.bias$", key)]
    for key in biases:  # a constant before the norm is part of its mean
        bias, mean = renamed.pop(key), key.replace("conv.bias", "norm.running_mean")
        if mean not in renamed or renamed[mean].shape != bias.shape:
            theirs = re.sub(r"head\.head_series\.(\d+)\.mask_head\.", r"roi_head.mask_head.\1.", key)
            raise CheckpointError(
                f"QueryInst's {theirs[: -len('.conv.bias')]} has a bias, but no mean of its norm like it"
            )
        renamed[mean] = renamed[mean] - bias
    return renamed
