"""What the trainer trains of TeViT, and its options; PyTorch is imported when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from vis_core.models.tevit.choices import BACKBONES, INTERACTIONS, MESSENGERS, SHIFTS
from vis_core.system.option import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vis_core.models.tevit.network import Backbone
    from vis_core.models.tevit.training import TeViTTraining

PUBLISHED_DROP_PATH = {"msgshift": 0.1, "swin_large": 0.2}
_SWIN_WINDOW = 7


def trainable(
    class_names: tuple[str, ...],
    tensors: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    *,
    backbone: Annotated[str, Option("with messengers between the frames, or without", choices=BACKBONES)] = "msgshift",
    queries: Annotated[int, Option("instances of a clip at most; published: 100, with Swin 300", 1, 1000)] = 100,
    query_interaction: Annotated[
        str, Option("over frames, then over time; or an ablation of the paper", choices=INTERACTIONS)
    ] = "spatiotemporal",
    messengers: Annotated[
        str,
        Option(
            "what msgshift's tokens do after each block: move along time, or attend to each other; or there are none; "
            "an ablation of the paper",
            choices=MESSENGERS,
        ),
    ] = "shift",
    messenger_tokens: Annotated[
        int, Option("of each frame, with msgshift; an ablation of the paper; 0: none", 0, 1024, multiple_of=4)
    ] = 32,
    shift: Annotated[
        str, Option("of these tokens: a clip's ends exchange them, as published, or keep their own", choices=SHIFTS)
    ] = "cyclic",
    drop_path: Annotated[
        float | None,
        Option(
            "share of a frame's residuals that are left out in the last block, less in earlier ones; none: as "
            "published, 0.1 with msgshift, 0.2 with Swin; a ResNet has no such thing",
            0,
            0.9,
        ),
    ] = None,
) -> TeViTTraining:
    """What the trainer trains; of a ResNet stem and res2 are frozen, and all statistics of its norms.

    Args:
        class_names: of the labels.
        tensors: a TeViT or QueryInst of any class and query count under our names, or ImageNet weights: of a PVTv2-B1
            or a Swin with its authors' keys, of a ResNet with torchvision's; None: none.
        generator: its seed is that of the first weights.
        backbone: one of `BACKBONES`.
        queries: instances of a clip at most.
        query_interaction: see `network.Stage`.
        messengers: see `MsgShifT`, as are messenger_tokens and shift.
        messenger_tokens: the same.
        shift: the same.
        drop_path: see `MsgShifT` and `SwinTransformer`.
    """
    from dataclasses import replace

    import torch

    from vis_core.models.tevit.msgshift import MsgShifT
    from vis_core.models.tevit.network import TeViTNetwork
    from vis_core.models.tevit.training import TeViTTraining, start_from
    from vis_core.nn.backbones.resnet import ResNet
    from vis_core.nn.backbones.swin import VARIANTS, SwinTransformer

    rate = PUBLISHED_DROP_PATH.get(backbone, 0.0) if drop_path is None else drop_path
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        made: Backbone
        if backbone == "msgshift":
            made = MsgShifT(messenger_tokens, messengers=messengers, shift=shift, drop_path=rate)
        elif backbone == "swin_large":
            made = SwinTransformer(replace(VARIANTS["large"], window=_SWIN_WINDOW), rate)
        else:
            made = ResNet(50, learns_norms=True)
        network = TeViTNetwork(made, len(class_names), queries, query_interaction=query_interaction)
        network.initialise()
    if tensors is not None:
        start_from(network, tensors)
    frozen = (made.stem, made.get_submodule("res2")) if isinstance(made, ResNet) else ()
    return TeViTTraining(network, frozen)
