"""Keys of VisTR's published files, and of those that the code of GMP-VIS writes, and ours."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping

from torch import Tensor

from vis_core.checkpoints import rename, shape_of
from vis_core.errors import CheckpointError
from vis_core.models.gmp_vis.clip_network import ClipNetwork
from vis_core.nn.backbones import resnet
from vis_core.nn.backbones.resnet import ResNet

HEADS, SLOTS = 8, 10  # of which no trace is in a file
_BACKBONE = "vistr.backbone.0.body."
_TABLE = (
    ("gmm.cross_graph", "cross_graph"),
    ("vistr.transformer.encoder.layers.", "encoder."),
    ("vistr.transformer.decoder.layers.", "decoder."),
    ("vistr.transformer.decoder.norm.", "decoder_norm."),
    ("vistr.", ""),
)
_LAYERS = (
    (r"^(encoder|decoder)\.(\d+)\.linear", r"\1.\2.feedforward.linear"),
    (r"^(encoder|decoder)\.(\d+)\.self_attn\.", r"\1.\2.self_attention.attention."),
    (r"^decoder\.(\d+)\.multihead_attn\.", r"decoder.\1.cross_attention.attention."),
    (r"^(encoder|decoder)\.(\d+)\.norm1\.", r"\1.\2.self_attention.norm."),
    (r"^encoder\.(\d+)\.norm2\.", r"encoder.\1.feedforward.norm."),
    (r"^decoder\.(\d+)\.norm2\.", r"decoder.\1.cross_attention.norm."),
    (r"^decoder\.(\d+)\.norm3\.", r"decoder.\1.feedforward.norm."),
)
_BOX_LAYER = re.compile(r"^bbox_embed\.layers\.(\d)\.")
_MATCHING = ("cross_graph.", "proposal2matching.", "fc.")

_log = logging.getLogger(__name__)


def is_vistr(keys: Collection[str]) -> bool:
    """Whether keys are those of a file of VisTR or of the code of GMP-VIS."""
    return "vistr.query_embed.weight" in keys and "insmask_head.0.weight" in keys


def is_gmp_vis(keys: Collection[str]) -> bool:
    """Whether keys are those of a file of the code of GMP-VIS: VisTR's and those of its own parts."""
    return is_vistr(keys) and "proposal2matching.weight" in keys


def convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under our names; what GMP-VIS adds to VisTR is logged where it is missing, and not needed to segment."""
    backbone = {key.removeprefix(_BACKBONE): x for key, x in tensors.items() if key.startswith(_BACKBONE)}
    found = {f"backbone.{key}": x for key, x in resnet.from_torchvision(backbone).items()}
    others = {key: x for key, x in tensors.items() if not key.startswith(_BACKBONE)}
    for key, x in rename(others, _TABLE).items():
        for pattern, ours in _LAYERS:
            key = re.sub(pattern, ours, key)
        found[_BOX_LAYER.sub(lambda match: f"bbox_embed.{2 * int(match[1])}.", key)] = x
    if missing := [part.rstrip(".") for part in _MATCHING if not any(key.startswith(part) for key in found)]:
        _log.warning(
            "a file of VisTR, without what GMP-VIS adds (%s): clips are joined by masks and places alone",
            ", ".join(missing),
        )
    return found


def network_of(tensors: Mapping[str, Tensor], slots: int = SLOTS) -> ClipNetwork:
    """A network of the tensors' sizes, its weights still to be filled in.

    Args:
        tensors: under our names.
        slots: of a frame.

    Raises:
        CheckpointError: a tensor that tells the sizes is missing or not of a possible shape.
    """
    channels, width = shape_of(tensors, "class_embed.weight", 2)
    queries, _ = shape_of(tensors, "query_embed.weight", 2)
    hidden, _ = shape_of(tensors, "encoder.0.feedforward.linear1.weight", 2)
    if queries % slots:
        raise CheckpointError(f"query_embed.weight has {queries} rows, not a multiple of the {slots} slots of a frame")
    if channels < 3 or width % 48:
        raise CheckpointError(
            f"class_embed.weight is of shape {[channels, width]}; it has a row for no class, one for nothing and some "
            "for classes, and a width that is a multiple of 48"
        )
    layers = max((int(m[1]) + 1 for key in tensors if (m := re.match(r"encoder\.(\d{1,2})\.", key))), default=0)
    depth = 101 if "backbone.res4.6.conv1.weight" in tensors else 50
    return ClipNetwork(
        ResNet(depth),
        queries // slots,
        channels - 2,
        slots,
        any(key.startswith(_MATCHING) for key in tensors),
        width,
        HEADS,
        hidden,
        layers,
    )
