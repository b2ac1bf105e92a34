"""Keys of TeViT's published files, and of those that a training starts from, and ours."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from vis_core.checkpoints import shape_of
from vis_core.errors import CheckpointError
from vis_core.models.tevit.msgshift import MsgShifT
from vis_core.models.tevit.network import Backbone
from vis_core.nn import queryinst
from vis_core.nn.backbones import resnet
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.backbones.swin import SwinTransformer, SwinVariant
from vis_core.nn.region_queries import PUBLISHED, Dimensions

_LARGEST_DEPTH = 100
_MSGSHIFT, _RESNET, _SWIN = "backbone.layers.0.0.projection.weight", "backbone.conv1.weight", "backbone.stages.0."
_HEAD_WIDTH = 64  # of MsgShifT's attention


def recognise(keys: Collection[str]) -> bool:
    """Whether keys are those of TeViT, or of the QueryInst that its training starts from."""
    backbones = (_MSGSHIFT in keys, _RESNET in keys, any(key.startswith(_SWIN) for key in keys))
    return queryinst.is_queryinst(keys) and any(backbones)


def convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under our names.

    Raises:
        CheckpointError: parts contradict each other.
    """
    found = queryinst.from_queryinst(tensors)
    backbone = {key.removeprefix("backbone."): found.pop(key) for key in list(found) if key.startswith("backbone.")}
    if resnet.is_torchvision(backbone):
        backbone = resnet.from_torchvision(backbone)
    elif "patch_embed.projection.weight" in backbone:
        backbone = swin_from_mmdetection(backbone)
    return {**{f"backbone.{key}": x for key, x in backbone.items()}, **found}


def swin_from_mmdetection(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Swin transformer of mmdetection under our names, its merged channels in the order of the original ones.

    Raises:
        CheckpointError: merged channels that are not those of four neighbours.
    """
    renamed = {}
    for key, x in tensors.items():
        if key.endswith("relative_position_index"):
            continue  # made anew
        ours = re.sub(r"^stages\.", "layers.", key)
        for theirs, name in (
            ("patch_embed.projection.", "patch_embed.proj."),
            (".attn.w_msa.", ".attn."),
            (".ffn.layers.0.0.", ".mlp.fc1."),
            (".ffn.layers.1.", ".mlp.fc2."),
        ):
            ours = ours.replace(theirs, name)
        if ".downsample." in ours:
            if x.shape[-1] % 4:
                raise CheckpointError(f"backbone.{key} {list(x.shape)}: its last side is not one of four neighbours")
            # Channel by channel, rows before columns, to neighbour by neighbour, columns before rows.
            x = x.unflatten(-1, (-1, 2, 2)).movedim((-3, -2, -1), (-1, -2, -3)).flatten(-3)
        renamed[ours] = x
    return renamed


def check_complete(tensors: Mapping[str, Tensor]) -> None:
    """Refuse the weights of an image model, under our names, where they lack what a stream needs.

    Raises:
        CheckpointError: they are a QueryInst's with TeViT's backbone.
    """
    if _MSGSHIFT in tensors and "backbone.msg_tokens" not in tensors:
        raise CheckpointError(
            "these are weights of QueryInst, an image model: it has no messenger tokens. They are a start for training "
            "(initial_weights of 'vis train'); there is nothing yet that could segment a video"
        )


def sizes(tensors: Mapping[str, Tensor]) -> tuple[int, int, Dimensions]:
    """Classes, queries and dimensions of the head, from tensors under our names.

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
    stages = _count(tensors, r"head\.head_series\.(\d{1,2})\.")
    return classes, queries, Dimensions(width, PUBLISHED.heads, dynamic, feedforward, stages)


def backbone_of(tensors: Mapping[str, Tensor], **messengers: str) -> Backbone:
    """A backbone of the tensors' sizes, its weights still to be filled in.

    Args:
        tensors: under our names.
        messengers: options of `MsgShifT`.

    Raises:
        CheckpointError: a tensor that tells them is missing or not of a possible shape.
    """
    if _MSGSHIFT in tensors:
        widths, depths = [], []
        for i in range(4):
            widths.append(shape_of(tensors, f"backbone.layers.{i}.0.projection.weight", 4)[0])
            depths.append(_count(tensors, rf"backbone\.layers\.{i}\.1\.(\d{{1,2}})\."))
            if widths[i] % _HEAD_WIDTH:
                raise CheckpointError(
                    f"backbone.layers.{i}.0.projection.weight has {widths[i]} channels, not a multiple of {_HEAD_WIDTH}"
                )
        # No tokens, or tokens that attend to each other: ablations, of which there are files of trainings here alone.
        tokens = shape_of(tensors, "backbone.msg_tokens", 3)[1] if "backbone.msg_tokens" in tensors else 0
        if any(".exchange." in key for key in tensors):
            messengers["messengers"] = "attention"
        if tokens % 4:
            raise CheckpointError(f"backbone.msg_tokens has {tokens} tokens, not a multiple of 4")
        return MsgShifT(tokens, tuple(widths), tuple(depths), **messengers)  # type: ignore[arg-type]
    if "backbone.layers.0.blocks.0.norm1.weight" in tensors:
        width = shape_of(tensors, "backbone.patch_embed.proj.weight", 4)[0]
        tables = [
            shape_of(tensors, f"backbone.layers.{i}.blocks.0.attn.relative_position_bias_table", 2) for i in range(4)
        ]
        depths = [_count(tensors, rf"backbone\.layers\.{i}\.blocks\.(\d{{1,2}})\.") for i in range(4)]
        window = (int(tables[0][0] ** 0.5) + 1) // 2
        return SwinTransformer(SwinVariant(width, tuple(depths), tuple(t[1] for t in tables), window), drop_path=0.2)  # type: ignore[arg-type]
    return ResNet(101 if any(key.startswith("backbone.res4.6.") for key in tensors) else 50)


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """Of numbered parts: one more than the greatest number."""
    numbers = [int(found[1]) for key in tensors if (found := re.match(pattern, key))]
    if not numbers or max(numbers) >= _LARGEST_DEPTH:
        raise CheckpointError(f"the keys tell of no part like {pattern}")
    return max(numbers) + 1
