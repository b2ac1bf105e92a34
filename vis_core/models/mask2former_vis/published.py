"""Keys of the published checkpoints of Mask2Former-VIS and MinVIS, and ours; what a file's shapes tell."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from vis_core.checkpoints import rename
from vis_core.errors import CheckpointError
from vis_core.nn.backbones.swin import VARIANTS

_HEAD = "sem_seg_head."
_PIXEL, _PREDICTOR = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
_LAYERS = 9
_TABLE = (
    (f"{_PIXEL}transformer.level_embed", "pixel_decoder.level_embed"),
    *(
        (f"{_PIXEL}transformer.encoder.layers.{i}.{theirs}", f"pixel_decoder.layers.{i}.{ours}")
        for i in range(6)
        for theirs, ours in (("self_attn.", "attention."), ("", ""))
    ),
    (f"{_PIXEL}adapter_1.", "pixel_decoder.lateral."),
    (f"{_PIXEL}layer_1.", "pixel_decoder.output."),
    (_PIXEL, "pixel_decoder."),
    *(
        (f"{_PREDICTOR}transformer_{theirs}_layers.{i}.{part}", f"decoder.layers.{i}.{ours}")
        for i in range(_LAYERS)
        for theirs, part, ours in (
            ("cross_attention", "multihead_attn.", "cross.attention."),
            ("cross_attention", "norm.", "cross.norm."),
            ("self_attention", "self_attn.", "own.attention."),
            ("self_attention", "norm.", "own.norm."),
            ("ffn", "", "feed_forward."),
        )
    ),
    *((f"{_PREDICTOR}mask_embed.layers.{i}.", f"decoder.mask_embed.{2 * i}.") for i in range(3)),
    (f"{_PREDICTOR}static_query.", "decoder.query_feat."),
    (_PREDICTOR, "decoder."),
)
_DROPPED = ("criterion.", "pixel_mean", "pixel_std")
_DROPPED_ENDS = (".relative_position_index", ".num_batches_tracked")


def recognise(keys: Collection[str]) -> bool:
    """Whether a file with these keys is a published checkpoint of Mask2Former-VIS or MinVIS."""
    names = {key.removeprefix("module.") for key in keys}
    return any(name.startswith(f"{_PREDICTOR}transformer_cross_attention_layers.") for name in names) and (
        f"{_PREDICTOR}mask_embed.layers.0.weight" in names
    )


def convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published tensors under our names; what is of training alone, or follows from the sizes, is dropped."""
    kept: dict[str, Tensor] = {}
    names = {key.removeprefix("module."): x for key, x in tensors.items()}
    old = not any(name.startswith(_PIXEL) for name in names)  # the pixel decoder's part of the name came later
    for name, x in names.items():
        if name.startswith(_DROPPED) or name.endswith(_DROPPED_ENDS):
            continue
        if old and name.startswith(_HEAD) and not name.startswith(_PREDICTOR):
            name = _PIXEL + name.removeprefix(_HEAD)
        kept[name] = x
    return rename(kept, _TABLE)


def sizes(tensors: Mapping[str, Tensor]) -> tuple[str, int, int]:
    """Backbone, classes and queries of the network that tensors under our names belong to.

    Raises:
        CheckpointError: they do not tell.
    """
    shapes = {key: tuple(x.shape) for key, x in tensors.items()}
    for key in ("decoder.class_embed.weight", "decoder.query_feat.weight"):
        if len(shapes.get(key, ())) != 2:
            raise CheckpointError(f"{key}, which gives a size of the network, is {shapes.get(key, 'missing')}")
    classes, queries = shapes["decoder.class_embed.weight"][0] - 1, shapes["decoder.query_feat.weight"][0]
    if not (1 <= classes <= 10_000 and 1 <= queries <= 10_000):
        raise CheckpointError(f"{classes} classes and {queries} queries are not in 1 to 10000")
    return _backbone(shapes), classes, queries


def _backbone(shapes: Mapping[str, tuple[int, ...]]) -> str:
    if "backbone.stem.conv1.weight" in shapes:
        return "resnet101" if any(key.startswith("backbone.res4.22.") for key in shapes) else "resnet50"
    width = shapes.get("backbone.patch_embed.proj.bias", (0,))[0]
    for name, variant in VARIANTS.items():
        last = f"backbone.layers.2.blocks.{variant.depths[2] - 1}.norm1.weight"
        after = f"backbone.layers.2.blocks.{variant.depths[2]}.norm1.weight"
        if variant.width == width and last in shapes and after not in shapes:
            return f"swin_{name}"
    raise CheckpointError("the tensors' backbone is neither ResNet-50, ResNet-101 nor Swin-T, -S, -B or -L")
