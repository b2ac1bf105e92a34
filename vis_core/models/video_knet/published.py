"""Keys of the published checkpoints of Video K-Net (mmdetection's), and ours; what a file's shapes tell."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vis_core.checkpoints import rename, shape_of
from vis_core.errors import CheckpointError
from vis_core.models.video_knet.network import STAGES, Sizes
from vis_core.nn.backbones import resnet
from vis_core.nn.backbones.swin import VARIANTS

THINGS = {19: 2, 124: 58}
"""Thing classes of the published checkpoints by their number of classes: KITTI-STEP and VIPSeg."""
_HEADS = 8
_CONVOLUTION = (("conv.", ""), ("gn.", "norm."))
_STAGE = (
    ("attention.attn.", "attention."),
    ("kernel_update_conv.", "kernel_update."),
    ("feat_transform.conv.", "feat_transform."),
    ("ffn.layers.0.0.", "ffn.linear1."),
    ("ffn.layers.1.", "ffn.linear2."),
    ("ffn_norm.", "ffn.norm."),
)
_LAST_STAGE = tuple(
    (f"roi_head.mask_head.{STAGES - 1}.{theirs}", ours)
    for link, suffix in (("linking", ""), ("linking", "_track"), ("fusion", "_link"))
    for theirs, ours in (
        (f"attention_previous_update{suffix}.", f"{link}.update."),
        (f"attention_previous{suffix}.attn.", f"{link}.attention."),
        (f"attention_previous_norm{suffix}.", f"{link}.norm."),
        (f"link_ffn{suffix}.layers.0.0.", f"{link}.ffn.linear1."),
        (f"link_ffn{suffix}.layers.1.", f"{link}.ffn.linear2."),
        (f"link_ffn_norm{suffix}.", f"{link}.ffn.norm."),
    )
)
_HEAD = (
    *(
        (
            f"rpn_head.localization_fpn.convs_all_levels.{i}.conv{j}.{theirs}",
            f"initial_head.pyramid.levels.{i}.{j}.{ours}",
        )
        for i in range(4)
        for j in range(3)
        for theirs, ours in _CONVOLUTION
    ),
    *(
        (f"rpn_head.{theirs}.{part}", f"initial_head.{ours}.{ending}")
        for theirs, ours in (
            ("localization_fpn.conv_pred", "pyramid.localisation"),
            ("localization_fpn.aux_convs.0", "pyramid.semantic"),
            ("loc_convs.0", "loc_conv"),
            ("seg_convs.0", "seg_conv"),
        )
        for part, ending in _CONVOLUTION
    ),
    ("rpn_head.", "initial_head."),
)
_FPN = tuple(
    (f"neck.{theirs}.{i}.conv.", f"neck.{ours}{i + 2}.")
    for theirs, ours in (("lateral_convs", "lateral"), ("fpn_convs", "output"))
    for i in range(4)
)
_DEFORMABLE = (
    *(
        (f"neck.input_convs.{i}.{theirs}", f"neck.input_proj.{i}.{ours}")
        for i in range(3)
        for theirs, ours in (("conv.", "0."), ("gn.", "1."))
    ),
    *(
        (f"neck.encoder.layers.{i}.{theirs}", f"neck.layers.{i}.{ours}")
        for i in range(6)
        for theirs, ours in (
            ("attentions.0.", "attention."),
            ("ffns.0.layers.0.0.", "linear1."),
            ("ffns.0.layers.1.", "linear2."),
            ("norms.0.", "norm1."),
            ("norms.1.", "norm2."),
        )
    ),
    *(
        (f"neck.{name}_convs.0.{theirs}", f"neck.{name}.{ours}")
        for name in ("lateral", "output")
        for theirs, ours in _CONVOLUTION
    ),
    ("neck.level_encoding.weight", "neck.level_embed"),
    ("neck.mask_feature.", "neck.mask_features."),
)
_ASSOCIATION = (
    ("track_head.fcs.", "association.fcs."),
    ("track_head.fc_embed.", "association.output."),
    ("embed_fcs.", "association.embed_fcs."),
    ("fc_embed.", "association.fc_embed."),
)
_STAGES_TABLE = tuple(
    (f"{theirs}.{i}.{part}", f"{ours}.{i}.{ending}")
    for theirs, ours in (("roi_head.mask_head", "frame_stages"), ("tracker.mask_head", "clip_stages"))
    for i in range(STAGES)
    for part, ending in (*_STAGE, ("", ""))
)
_DROPPED_ENDS = (".relative_position_index", ".num_batches_tracked")
_UNUSED = re.compile(r"roi_head\.mask_head\.[01]\.(attention_previous|link_ffn)")


def is_clip(keys: Collection[str]) -> bool:
    """Whether a file with these keys is of the clip system, or of a K-Net of images that its training starts from."""
    return _is_knet(keys) and not any(key.startswith(("track_head.", "embed_fcs.")) for key in keys)


def is_online(keys: Collection[str]) -> bool:
    """Whether a file with these keys is of the online system, or another K-Net, whose kernels it can compare."""
    return _is_knet(keys)


def _is_knet(keys: Collection[str]) -> bool:
    return "rpn_head.init_kernels.weight" in keys and "roi_head.mask_head.0.kernel_update_conv.fc_layer.weight" in keys


def convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published tensors of either system under our names.

    What follows from the sizes is dropped, and what the published code never uses: the links of the first two stages.
    The files of the online system get their number of thing classes.

    Raises:
        CheckpointError: a file of the online system with another number of classes than the published ones.
    """
    kept = {k: x for k, x in tensors.items() if not k.endswith(_DROPPED_ENDS) and not _UNUSED.match(k)}
    neck = _DEFORMABLE if any(key.startswith("neck.encoder.") for key in kept) else _FPN
    swin = any(key.startswith("backbone.patch_embed.") for key in kept)
    backbone = {key.removeprefix("backbone."): x for key, x in kept.items() if key.startswith("backbone.")}
    rest = {key: x for key, x in kept.items() if not key.startswith("backbone.")}
    named = backbone if swin else _resnet(backbone)
    found = {f"backbone.{key}": x for key, x in named.items()}
    found |= rename(rest, (*neck, *_HEAD, *_LAST_STAGE, *_STAGES_TABLE, *_ASSOCIATION))
    for key in [key for key in found if key.endswith(".feat_transform.weight")]:
        found[key] = found[key].flatten(1)  # a 1x1 convolution there
    if any(key.startswith("track_head.") for key in tensors):
        classes = shape_of(found, "frame_stages.2.fc_cls.weight", 2)[0]
        if classes not in THINGS:
            known = ", ".join(map(str, THINGS))
            raise CheckpointError(
                f"roi_head.mask_head.2.fc_cls.weight has {classes} classes; how many of them are things is known for "
                f"{known}"
            )
        found["thing_classes"] = torch.tensor(THINGS[classes])
    return found


def _resnet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ResNet's tensors under our names; keys that are none of it stay as they are, to be refused by name."""
    of_resnet = {k: x for k, x in tensors.items() if re.match(r"(conv1|bn1|layer[1-4])\.", k)}
    others = {k: x for k, x in tensors.items() if k not in of_resnet}
    return resnet.from_torchvision(of_resnet) | others


@dataclass(frozen=True)
class Found:
    """What the shapes of tensors under our names tell of their network."""

    backbone: str
    neck: str
    classes: int
    sizes: Sizes


def frame_sizes(tensors: Mapping[str, Tensor]) -> Found:
    """The network that tensors under our names belong to.

    Raises:
        CheckpointError: a tensor that tells is missing, or not of a possible shape.
    """
    kernels, width = shape_of(tensors, "initial_head.init_kernels.weight", 4)[:2]
    classes = shape_of(tensors, "initial_head.conv_seg.weight", 4)[0]
    hidden = shape_of(tensors, "frame_stages.0.ffn.linear1.weight", 2)[0]
    if width % 32:
        raise CheckpointError(f"initial_head.init_kernels.weight: its width, {width}, is no multiple of 32")
    deformable = "neck.level_embed" in tensors
    encoder = {}
    if deformable:
        layers = {int(m[1]) for key in tensors if (m := re.match(r"neck\.layers\.(\d{1,2})\.", key))}
        encoder = {
            "encoder_layers": max(layers, default=-1) + 1,
            "encoder_hidden": shape_of(tensors, "neck.layers.0.linear1.weight", 2)[0],
        }
    sizes = Sizes(kernels, width, _HEADS, hidden, **encoder)
    return Found(_backbone(tensors), "deformable" if deformable else "fpn", classes, sizes)


@dataclass(frozen=True)
class FoundLinks:
    """What tensors under our names tell of the online system's own parts."""

    things: int
    linking: str | None
    fusion: bool
    embedding_layers: int | None


def links(tensors: Mapping[str, Tensor], classes: int) -> FoundLinks:
    """The parts of the online system that tensors under our names hold; without any, all classes are things.

    Args:
        tensors: under our names.
        classes: things and stuff.

    Raises:
        CheckpointError: the number of thing classes is missing, or impossible.
    """
    layers = sum(bool(re.fullmatch(r"association\.fcs\.\d\.weight", key)) for key in tensors)
    own = any(key.startswith(("association.", "linking.", "fusion.")) for key in tensors)
    things = tensors.get("thing_classes", None if own else torch.tensor(classes))
    if things is None or things.numel() != 1 or not 1 <= int(things) <= classes:
        raise CheckpointError(f"thing_classes, of {classes} classes those that are things, is {things}")
    linking = None
    if "linking.norm.weight" in tensors:
        linking = "update" if "linking.update.fc_layer.weight" in tensors else "ffn"
    embeds = "association.output.weight" in tensors
    return FoundLinks(int(things), linking, "fusion.norm.weight" in tensors, layers if embeds else None)


def _backbone(tensors: Mapping[str, Tensor]) -> str:
    if "backbone.stem.conv1.weight" in tensors:
        return "resnet101" if any(key.startswith("backbone.res4.22.") for key in tensors) else "resnet50"
    (width,) = shape_of(tensors, "backbone.patch_embed.proj.bias", 1)
    for name, variant in VARIANTS.items():
        last, after = (f"backbone.layers.2.blocks.{variant.depths[2] - i}.norm1.weight" for i in (1, 0))
        if variant.width == width and last in tensors and after not in tensors:
            return f"swin_{name}"
    raise CheckpointError(
        f"backbone.patch_embed.proj.bias: with {width} channels the backbone is neither Swin-T, -S, -B nor -L"
    )
