"""Video K-Net (CVPR 2022): kernels that are tracks, over clips; or kernels frame by frame, with stuff, linked live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from vis_core.data.vocabularies import class_names_of
from vis_core.errors import OptionError
from vis_core.models.video_knet.choices import ASSOCIATIONS, CLIP, METRICS, ONLINE
from vis_core.models.video_knet.trainables import trainable_clip, trainable_online
from vis_core.system.entry import PublishedFormat, System, deferred
from vis_core.system.option import GRAPH, EdgeWeight, MaxLostFrames, MaxLostTracks, Option, Vocabulary, linkage

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vis_core.models.video_knet.online import ThingInstances
    from vis_core.system.segmenter import Segmenter
    from vis_core.tracking.associator import Associator


def build_clip(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    *,
    input_size: Annotated[
        tuple[int, int],
        Option("shorter side of the network's image at most, and its longer side at most, pixels", 32, 8192),
    ] = (360, 640),
    unbounded: Annotated[
        bool, Option("answer at the end of the video, the ten best results as published; memory grows with the video")
    ] = False,
    clip_length: Annotated[int, Option("frames of a window", 2, 1000)] = 5,
    stride: Annotated[int, Option("frames between windows, less than clip_length; the delay is one less", 1, 999)] = 1,
    link_overlap: Annotated[
        float, Option("least IoU of the masks of an instance and the track that it continues", 0, 1)
    ] = 0.3,
    score_threshold: Annotated[float, Option("least class probability of an instance", 0, 1, live=True)] = 0.3,
    max_instances: Annotated[int, Option("instances of a frame at most", 1, 1000, live=True)] = 50,
    max_lost_frames: MaxLostFrames = 30,
    max_lost_tracks: MaxLostTracks = 100,
    vocabulary: Vocabulary = "auto",
) -> Segmenter:
    """The clip system; backbone, neck, classes and kernels are the tensors', without any ResNet-50's, 40 and 100."""
    from vis_core.models.video_knet.building import clip_network, ready
    from vis_core.models.video_knet.clip import VideoKNetModel
    from vis_core.system.driver import StreamSegmenter
    from vis_core.tracking.lifecycle import TrackLifecycle
    from vis_core.tracking.overlap import OverlapAssociator

    network = ready(clip_network(tensors), device, precision)
    names = class_names_of(metadata, network.classes, vocabulary)
    model = VideoKNetModel(network, names, input_size, unbounded, score_threshold, max_instances)
    associator = OverlapAssociator(link_overlap)
    if unbounded:
        return StreamSegmenter(model, associator, TrackLifecycle(None, None), clip_length=None)
    return StreamSegmenter(model, associator, TrackLifecycle(max_lost_frames, max_lost_tracks), clip_length, stride)


def build_online(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    *,
    short_side: Annotated[
        int | None, Option("shorter side of the network's image, pixels; none: as frames come (published)", 32, 4096)
    ] = None,
    score_threshold: Annotated[float, Option("least score of an instance", 0, 1, live=True)] = 0.25,
    birth_score: Annotated[float, Option("least score of an instance that begins a track", 0, 1)] = 0.35,
    min_similarity: Annotated[float, Option("least similarity of a track and what continues it", 0, 1)] = 0.5,
    metric: Annotated[str, Option("how the similarity of embeddings is made of their products", choices=METRICS)] = (
        "bisoftmax"
    ),
    same_label: Annotated[bool, Option("only what has the label of a track continues it")] = True,
    association: Annotated[
        str,
        linkage("by learned embeddings, as published, or by the kernels of any K-Net", *ASSOCIATIONS),
    ] = "embedding",
    edge_weight: EdgeWeight = 1.0,
    max_lost_frames: Annotated[int, Option("a track ends when it was not seen for more frames", 1, 1000)] = 5,
    published_id_alignment: Annotated[
        bool,
        Option(
            "reproduce published results: when a duplicate was left out, identities move to the instance before; boxes "
            "ignore the padding"
        ),
    ] = False,
    vocabulary: Vocabulary = "auto",
) -> Segmenter:
    """The online system; its parts are those that the tensors hold, without any ResNet-50's for 40 things, no stuff."""
    from vis_core.models.video_knet import building
    from vis_core.models.video_knet.online import VideoKNetOnlineModel
    from vis_core.models.video_knet.vocabulary import known_labels, numbered_stuff
    from vis_core.system.driver import StreamSegmenter
    from vis_core.tracking.graph_association import Detections, GraphAssociator
    from vis_core.tracking.lifecycle import TrackLifecycle
    from vis_core.tracking.quasi_dense import QuasiDenseAssociator

    if association == GRAPH and published_id_alignment:
        raise OptionError(f"option association: {GRAPH} has no published_id_alignment")
    network = building.ready(building.online_network(tensors, association), device, precision)
    known = known_labels(network.things, network.stuff)
    if known is not None and "class_names" not in metadata:
        names = tuple(known.names[i] for i in known.things)
    else:
        names = class_names_of(metadata, network.things, vocabulary)
    semantic = known or numbered_stuff(names, network.stuff)
    known_by = "embedding" if association == GRAPH else association
    model = VideoKNetOnlineModel(
        network, names, semantic, short_side, score_threshold, known_by, published_id_alignment
    )
    associator: Associator[ThingInstances] = QuasiDenseAssociator(
        birth_score=birth_score,
        min_similarity=min_similarity,
        memory_frames=max_lost_frames,
        same_label=same_label,
        metric=metric,
        published_alignment=published_id_alignment,
    )
    if association == GRAPH:
        associator = GraphAssociator(edge_weight, birth_score=birth_score, memory_features=0, describe=Detections.of)
    return StreamSegmenter(model, associator, TrackLifecycle(None if published_id_alignment else max_lost_frames, None))


_PAPER = (
    "Li et al., Video K-Net: A Simple, Strong, and Unified Baseline for Video Segmentation, CVPR 2022, arXiv 2204.04656"
)
_SOURCE = "github.com/lxtGH/Video-K-Net, README (OneDrive and Baidu)"
_PUBLISHED = f"{__name__}.published"

VIDEO_KNET = System(
    name=CLIP,
    title="Video K-Net",
    paper=_PAPER,
    build=build_clip,
    published=PublishedFormat(deferred(_PUBLISHED, "is_clip"), deferred(_PUBLISHED, "convert")),
    checkpoints_licence="none stated (its code: MIT)",
    checkpoints_source=_SOURCE,
    figures={
        "YouTube-VIS 2019 val, ResNet-50": "AP 40.5",
        "YouTube-VIS 2019 val, Swin-B": "AP 54.1 (51.5 in an earlier version of the paper)",
    },
    trainable=trainable_clip,
)

VIDEO_KNET_ONLINE = System(
    name=ONLINE,
    title="Video K-Net, online",
    paper=_PAPER,
    build=build_online,
    published=PublishedFormat(deferred(_PUBLISHED, "is_online"), deferred(_PUBLISHED, "convert")),
    checkpoints_licence="none stated (its code: MIT)",
    checkpoints_source=_SOURCE,
    figures={"VIPSeg": "VPQ 39.8 (panoptic)"},
    trainable=trainable_online,
)

SYSTEMS = (VIDEO_KNET, VIDEO_KNET_ONLINE)
