"""What the trainer trains of GMP-VIS and VisTR, and its options; PyTorch is imported when one is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from vis_core.errors import OptionError
from vis_core.system.option import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vis_core.models.gmp_vis.clip_training import ClipTraining
    from vis_core.models.gmp_vis.online_training import OnlineTraining


def trainable_online(
    class_names: tuple[str, ...],
    tensors: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    *,
    depth: Annotated[int, Option("of the ResNet, 50 or 101", 50, 101)] = 50,
    queries: Annotated[int, Option("instances of a frame at most", 1, 1000)] = 100,
    temporal: Annotated[
        bool, Option("what instances are matched by looks at what was remembered of the tracks")
    ] = False,
    permutation_weight: Annotated[float, Option("of the loss of the matched graphs of two frames", 0, 1000)] = 1.0,
    contrastive_weight: Annotated[float, Option("of the contrastive loss of the embeddings", 0, 1000)] = 1.0,
    edge_weight: Annotated[float, Option("what edges weigh in the matching that is taught", 0, 100)] = 1.0,
) -> OnlineTraining:
    """What the trainer trains of the online GMP-VIS: stem and res2 of the backbone are frozen.

    Args:
        class_names: of the labels.
        tensors: an online GMP-VIS of any class count, or ImageNet weights of a ResNet with torchvision's keys; None.
        generator: its seed is that of the first weights.
        depth: of the ResNet.
        queries: instances of a frame at most.
        temporal: see `OnlineNetwork`.
        permutation_weight: see `OnlineTraining`, as are contrastive_weight and edge_weight.
        contrastive_weight: the same.
        edge_weight: the same.
    """
    import torch

    from vis_core.checkpoints import load_fitting
    from vis_core.models.gmp_vis.online_network import DEFAULT, OnlineNetwork
    from vis_core.models.gmp_vis.online_training import OnlineTraining
    from vis_core.nn.backbones import resnet

    if depth not in resnet.BLOCKS:
        raise OptionError(f"gmp-vis: depth {depth} is none of {', '.join(map(str, resnet.BLOCKS))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        network = OnlineNetwork(depth, len(class_names), temporal, DEFAULT._replace(queries=queries))
        network.initialise()
    if tensors is not None:
        if resnet.is_torchvision(tensors):
            tensors = {f"backbone.{key}": x for key, x in resnet.from_torchvision(tensors).items()}
        load_fitting(network, tensors, "gmp-vis")
    frozen = [network.get_submodule(part) for part in ("backbone.stem", "backbone.res2")]
    return OnlineTraining(network, frozen, permutation_weight, contrastive_weight, edge_weight)


def trainable_vistr(
    class_names: tuple[str, ...],
    tensors: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    *,
    depth: Annotated[int, Option("of the ResNet, 50 or 101", 50, 101)] = 50,
    clip_length: Annotated[
        int, Option("frames that the network looks at together, those of a clip of the training: clip.frames", 2, 128)
    ] = 36,
    dropout: Annotated[float, Option("of the transformer, as published 0.1", 0, 0.9)] = 0.1,
    published_quirks: Annotated[
        bool,
        Option(
            "train as the code of GMP-VIS does: slots are assigned to the instances they are least like, some frames "
            "teach another one's, earlier layers and embeddings are not taught"
        ),
    ] = False,
    permutation_weight: Annotated[float, Option("of the loss of the matched graphs of two frames", 0, 1000)] = 1.0,
    contrastive_weight: Annotated[float, Option("of the contrastive loss of the embeddings", 0, 1000)] = 1.0,
    edge_weight: Annotated[float, Option("what edges weigh in the matching that is taught", 0, 100)] = 1.0,
) -> ClipTraining:
    """What the trainer trains of VisTR: stem and res2 of the backbone are frozen.

    Args:
        class_names: of the labels.
        tensors: a VisTR or published GMP-VIS of any class count and clip length under our names, or ImageNet weights of
            a ResNet with torchvision's keys; None: none.
        generator: its seed is that of the first weights.
        depth: of the ResNet.
        clip_length: frames of a clip; weights for longer clips give their first frames' queries.
        dropout: see `ClipNetwork`.
        published_quirks: see `ClipTraining`, as are the others.
        permutation_weight: the same.
        contrastive_weight: the same.
        edge_weight: the same.
    """
    import torch

    from vis_core.models.gmp_vis.clip_network import ClipNetwork
    from vis_core.models.gmp_vis.clip_training import ClipTraining, start_from
    from vis_core.nn.backbones.resnet import BLOCKS, ResNet

    if depth not in BLOCKS:
        raise OptionError(f"vistr: depth {depth} is none of {', '.join(map(str, BLOCKS))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        network = ClipNetwork(ResNet(depth), clip_length, len(class_names), dropout=dropout)
        network.initialise()
    if tensors is not None:
        start_from(network, tensors)
    frozen = [network.get_submodule(part) for part in ("backbone.stem", "backbone.res2")]
    return ClipTraining(network, frozen, published_quirks, permutation_weight, contrastive_weight, edge_weight)
