"""Video K-Net (CVPR 2022): kernels that are tracks, over clips; or kernels frame by frame, with stuff, linked live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import torch
from torch import Tensor

from vis_core.checkpoints import load_tensors
from vis_core.data.vocabularies import class_names_of
from vis_core.errors import CheckpointError, OptionError
from vis_core.models.video_knet import online_training, published, training
from vis_core.models.video_knet.clip import VideoKNetModel
from vis_core.models.video_knet.network import ClipNetwork, FrameNetwork, OnlineNetwork
from vis_core.models.video_knet.online import ASSOCIATIONS, ThingInstances, VideoKNetOnlineModel
from vis_core.models.video_knet.vocabulary import known_labels, numbered_stuff
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.precision import exact_type
from vis_core.nn.prepacked_convolution import pack_convolutions
from vis_core.nn.winograd import use_winograd
from vis_core.system.driver import StreamSegmenter
from vis_core.system.entry import PublishedFormat, System
from vis_core.system.option import GRAPH, EdgeWeight, MaxLostFrames, MaxLostTracks, Option, Vocabulary, linkage
from vis_core.system.segmenter import Segmenter
from vis_core.tracking.associator import Associator
from vis_core.tracking.graph_association import Detections, GraphAssociator
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.overlap import OverlapAssociator
from vis_core.tracking.quasi_dense import METRICS, QuasiDenseAssociator

CLIP, ONLINE = "video-knet", "video-knet-online"
_Network = TypeVar("_Network", bound=FrameNetwork)


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
    network = _ready(_clip_network(tensors), device, precision)
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
    if association == GRAPH and published_id_alignment:
        raise OptionError(f"option association: {GRAPH} has no published_id_alignment")
    network = _ready(_online_network(tensors, association), device, precision)
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


def _clip_network(tensors: Mapping[str, Tensor] | None) -> ClipNetwork:
    if tensors is None:
        return _random(ClipNetwork, "resnet50", "fpn", 40)
    found = _told(CLIP, published.frame_sizes, tensors)
    network = ClipNetwork(found.backbone, found.neck, found.classes, found.sizes)
    load_tensors(network, tensors, CLIP)
    return network


def _online_network(tensors: Mapping[str, Tensor] | None, association: str) -> OnlineNetwork:
    if tensors is None:
        return _random(OnlineNetwork, "resnet50", "fpn", 40)
    if association != "embedding":
        tensors = {key: x for key, x in tensors.items() if not key.startswith("clip_stages.")}
    found = _told(ONLINE, published.frame_sizes, tensors)
    links = _told(ONLINE, published.links, tensors, found.classes)
    if links.embedding_layers is None and association == "embedding":
        of_clips = f"load them as {CLIP!r}, or " if any(key.startswith("clip_stages.") for key in tensors) else ""
        raise CheckpointError(
            f"{ONLINE}: association.output.weight is missing: the weights hold no embeddings; {of_clips}use "
            f"association 'kernel' or {GRAPH!r}"
        )
    network = OnlineNetwork(
        found.backbone,
        found.neck,
        links.things,
        found.classes - links.things,
        links.linking,
        links.fusion,
        links.embedding_layers,
        found.sizes,
    )
    own = {"thing_classes": torch.tensor(links.things)}
    load_tensors(network, own | dict(tensors), ONLINE)
    return network


def _told(name: str, function: Any, *arguments: Any) -> Any:
    """What the tensors tell; an error names the system."""
    try:
        return function(*arguments)
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error


def _random(kind: type[_Network], *arguments: Any) -> _Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind(*arguments)
        network.initialise()
    return network


def _ready(network: _Network, device: torch.device, precision: str) -> _Network:
    """The network for inference; with ``auto`` all of it is float32: a kernel's pooling mask is hard."""
    network.eval().requires_grad_(False)
    if isinstance(network.backbone, ResNet):
        network.backbone.fold_norms()
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.backbone.to(exact_type(precision))
    pack_convolutions(network)
    use_winograd(network)
    network.join_finest_level()
    return network


_PAPER = (
    "Li et al., Video K-Net: A Simple, Strong, and Unified Baseline for Video Segmentation, CVPR 2022, arXiv 2204.04656"
)
_SOURCE = "github.com/lxtGH/Video-K-Net, README (OneDrive and Baidu)"

VIDEO_KNET = System(
    name=CLIP,
    title="Video K-Net",
    paper=_PAPER,
    build=build_clip,
    published=PublishedFormat(published.is_clip, published.convert),
    checkpoints_licence="none stated (its code: MIT)",
    checkpoints_source=_SOURCE,
    figures={
        "YouTube-VIS 2019 val, ResNet-50": "AP 40.5",
        "YouTube-VIS 2019 val, Swin-B": "AP 54.1 (51.5 in an earlier version of the paper)",
    },
    trainable=training.trainable,
)

VIDEO_KNET_ONLINE = System(
    name=ONLINE,
    title="Video K-Net, online",
    paper=_PAPER,
    build=build_online,
    published=PublishedFormat(published.is_online, published.convert),
    checkpoints_licence="none stated (its code: MIT)",
    checkpoints_source=_SOURCE,
    figures={"VIPSeg": "VPQ 39.8 (panoptic)"},
    trainable=online_training.trainable,
)

SYSTEMS = (VIDEO_KNET, VIDEO_KNET_ONLINE)
