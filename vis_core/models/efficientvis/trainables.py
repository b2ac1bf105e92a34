"""What the trainer trains of EfficientVIS, and its options; PyTorch is imported when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from vis_core.errors import OptionError
from vis_core.models.efficientvis.choices import ATTENTIONS, CARRIES, DYNAMIC_CONVOLUTIONS, QUERIES_OVER_TIME
from vis_core.system.option import Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vis_core.models.efficientvis.training import EfficientVISTraining


def trainable(
    class_names: tuple[str, ...],
    tensors: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    *,
    depth: Annotated[int, Option("of the ResNet, 50 or 101", 50, 101)] = 50,
    queries: Annotated[int, Option("instances of a clip at most", 1, 1000)] = 10,
    attention: Annotated[str, Option("among the queries of a clip", choices=ATTENTIONS)] = "factorised",
    dynamic_convolution: Annotated[
        str, Option("a query looks into its neighbouring frames too, or not", choices=DYNAMIC_CONVOLUTIONS)
    ] = "temporal",
    queries_over_time: Annotated[
        str, Option("a query of each frame, or one of all frames", choices=QUERIES_OVER_TIME)
    ] = "disentangled",
    successive_clips: Annotated[
        int,
        Option("clips that a drawn clip is cut into, one after the other: 2 want clip.order: successive", 1, 2),
    ] = 2,
    correspondence: Annotated[
        bool, Option("queries stay with their instances from one of these clips to the next (published: true)")
    ] = True,
    carry: Annotated[
        str,
        Option(
            "queries that the second clip begins with: those with an instance, or all; as it will run afterwards",
            choices=CARRIES,
        ),
    ] = "confident",
    frozen_backbone: Annotated[
        bool, Option("backbone and pyramid do not learn: much less memory, for long clips")
    ] = False,
) -> EfficientVISTraining:
    """What the trainer trains: stem, res2 and all norms of the backbone are frozen, as in Sparse R-CNN.

    Args:
        class_names: of the labels.
        tensors: an EfficientVIS of any class and query count, a Sparse R-CNN or QueryInst under our names, or ImageNet
            weights of a ResNet with torchvision's keys; None: none.
        generator: its seed is that of the first weights.
        depth: of the ResNet.
        queries: instances of a clip at most.
        attention: see `network.Stage`, as are dynamic_convolution and queries_over_time.
        dynamic_convolution: the same.
        queries_over_time: the same.
        successive_clips: see `EfficientVISTraining`, as are correspondence and carry.
        correspondence: the same.
        carry: the same.
        frozen_backbone: backbone and pyramid do not learn.
    """
    import torch

    from vis_core.models.efficientvis.network import EfficientVISNetwork
    from vis_core.models.efficientvis.training import EfficientVISTraining, start_from
    from vis_core.nn.backbones.resnet import BLOCKS

    if depth not in BLOCKS:
        raise OptionError(f"efficientvis: depth {depth} is none of {', '.join(map(str, BLOCKS))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        network = EfficientVISNetwork(
            depth,
            len(class_names),
            queries,
            attention=attention,
            dynamic_convolution=dynamic_convolution,
            queries_over_time=queries_over_time,
        )
        network.initialise()
    if tensors is not None:
        start_from(network, tensors)
    parts = ("backbone", "pyramid") if frozen_backbone else ("backbone.stem", "backbone.res2")
    frozen = [network.get_submodule(part) for part in parts]
    return EfficientVISTraining(network, frozen, successive_clips, correspondence, carry)
