"""GMP-VIS (CVPR 2023) and VisTR (CVPR 2021): clip transformers, and instances of frames matched as graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from vis_core.data.vocabularies import class_names_of
from vis_core.errors import CheckpointError
from vis_core.models.gmp_vis.trainables import trainable_online
from vis_core.models.gmp_vis.vistr import VISTR, build_vistr
from vis_core.system.entry import PublishedFormat, System, deferred
from vis_core.system.option import Option, Vocabulary

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vis_core.models.gmp_vis.online import FrameInstances
    from vis_core.system.segmenter import Segmenter
    from vis_core.tracking.graph_association import GraphAssociator

NAME = "gmp-vis"
MODES = ("auto", "online", "published")


def build(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    *,
    mode: Annotated[
        str,
        Option(
            "online: frame by frame, after the paper; published: the code's clip system, as vistr; auto: what the "
            "weights are of, online without any",
            choices=MODES,
        ),
    ] = "auto",
    short_side: Annotated[
        int | None, Option("online: shorter side of the network's image, pixels; none: as frames come", 32, 8192)
    ] = 360,
    longest_side: Annotated[int, Option("online: longer side of the network's image at most, pixels", 32, 8192)] = 640,
    score_threshold: Annotated[float, Option("least class probability of an instance", 0, 1, live=True)] = 0.3,
    birth_score: Annotated[float, Option("online: least class probability of what begins a track", 0, 1)] = 0.5,
    max_instances: Annotated[int, Option("online: instances of a frame at most", 1, 1000, live=True)] = 20,
    edge_weight: Annotated[
        float,
        Option("online: what pairs of neighbours weigh beside single instances in the matching; 0: nothing", 0, 1000),
    ] = 1.0,
    class_aware: Annotated[
        bool, Option("online: only what has the class of a track continues it; harmful where classes flicker")
    ] = False,
    max_lost_frames: Annotated[
        int | None, Option("a track ends when it was not seen for more frames; none: no track ever ends", 0, 1000000)
    ] = 30,
    max_tracks: Annotated[int, Option("online: tracks, live and lost, at most", 1, 1000)] = 64,
    stride: Annotated[
        int | None,
        Option("published: frames between windows; none: four less than a window", 1, 999, streamed=8),
    ] = None,
    unbounded: Annotated[
        bool, Option("published: answer at the end of the video, all slots; memory grows with the video")
    ] = False,
    vocabulary: Vocabulary = "auto",
) -> Segmenter:
    """GMP-VIS; sizes and classes are the tensors', without any an online ResNet-50 for 40 classes.

    Raises:
        CheckpointError: the tensors are of the other mode, or do not fit.
    """
    from vis_core.models.gmp_vis.building import online_network, prepare
    from vis_core.models.gmp_vis.memory_attention import MEMORY_FEATURES
    from vis_core.models.gmp_vis.online import GMPVISModel
    from vis_core.system.driver import StreamSegmenter
    from vis_core.tracking.graph_association import GraphAssociator
    from vis_core.tracking.lifecycle import TrackLifecycle

    if tensors is not None:
        found = "online" if "level_embed" in tensors else "published"
        if mode not in ("auto", found):
            raise CheckpointError(f"{NAME}: these are weights of mode {found!r}, not of {mode!r}")
        mode = found
    if mode == "published":
        return build_vistr(
            tensors,
            metadata,
            device,
            precision,
            stride=stride,
            unbounded=unbounded,
            score_threshold=score_threshold,
            max_lost_frames=max_lost_frames,
            vocabulary=vocabulary,
        )
    network = online_network(tensors)
    prepare(network, device, precision)
    associator: GraphAssociator[FrameInstances] = GraphAssociator(
        edge_weight,
        class_aware,
        birth_score=birth_score,
        max_tracks=max_tracks,
        memory_features=MEMORY_FEATURES if network.matching.aggregation is not None else 0,
    )
    names = class_names_of(metadata, network.classes, vocabulary)
    model = GMPVISModel(network, names, associator, short_side, longest_side, score_threshold, max_instances)
    return StreamSegmenter(model, associator, TrackLifecycle(max_lost_frames, None))


_PUBLISHED = f"{__name__}.published"

GMP_VIS = System(
    name=NAME,
    title="GMP-VIS",
    paper="Qin et al., A Graph Matching Perspective with Transformers on Video Instance Segmentation, CVPR 2023",
    build=build,
    published=PublishedFormat(deferred(_PUBLISHED, "is_gmp_vis"), deferred(_PUBLISHED, "convert")),
    checkpoints_licence="none are public, and the code states none",
    checkpoints_source="nowhere; VisTR's, whose network the published code has: linked from github.com/Epiphqny/VisTR",
    figures={
        "YouTube-VIS 2019 val, ResNet-50": "AP 37.4, AP50 57.4, AP75 37.2, AR1 39.5, AR10 44.2; 73.7 frames/s",
        "YouTube-VIS 2019 val, ResNet-101": "AP 40.4, AP50 55.6, AP75 40.5, AR1 42.8, AR10 46.6; 60.1 frames/s",
    },
    trainable=trainable_online,
)

SYSTEMS = (GMP_VIS, VISTR)
