"""Mask2Former-VIS (2021) and MinVIS (NeurIPS 2022): one network, offline over clips or online frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from vis_core.data.vocabularies import class_names_of
from vis_core.models.mask2former_vis.trainables import trainable
from vis_core.system.entry import PublishedFormat, System, deferred
from vis_core.system.option import GRAPH, EdgeWeight, MaxLostFrames, MaxLostTracks, Option, Vocabulary, linkage

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vis_core.models.mask2former_vis.decoding import QueryInstances
    from vis_core.models.mask2former_vis.minvis import MinVISInstances
    from vis_core.system.clip import ClipModel
    from vis_core.system.segmenter import Segmenter
    from vis_core.tracking.associator import Associator

_ShortSide = Annotated[
    int | None,
    Option(
        "shorter side of the network's input, pixels (published: 360 for ResNets, 480 for most Swins); none: of the "
        "frame",
        32,
        4096,
    ),
]
_LongestSide = Annotated[int, Option("longer side of the network's input at most, pixels", 32, 8192)]
_Unbounded = Annotated[
    bool, Option("answer at the end of the video, the ten best results as published; memory grows with the video")
]
_ScoreThreshold = Annotated[float, Option("least class probability of an instance", 0, 1, live=True)]
_MaxInstances = Annotated[int, Option("instances of a frame at most", 1, 1000, live=True)]


def _build_mask2former_vis(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    *,
    short_side: _ShortSide = 360,
    longest_side: _LongestSide = 1333,
    unbounded: _Unbounded = False,
    score_threshold: _ScoreThreshold = 0.3,
    max_lost_frames: MaxLostFrames = 30,
    max_lost_tracks: MaxLostTracks = 100,
    max_instances: _MaxInstances = 50,
    vocabulary: Vocabulary = "auto",
    clip_length: Annotated[int, Option("frames of a window", 2, 1000)] = 5,
    stride: Annotated[int, Option("frames between windows, less than clip_length; the delay is one less", 1, 999)] = 1,
    link_overlap: Annotated[
        float, Option("least IoU of the masks of an instance and the track that it continues", 0, 1)
    ] = 0.3,
) -> Segmenter:
    from vis_core.models.mask2former_vis.building import ready_network
    from vis_core.models.mask2former_vis.model import Mask2FormerVISModel, PixelEncoder
    from vis_core.system.driver import StreamSegmenter
    from vis_core.tracking.lifecycle import TrackLifecycle
    from vis_core.tracking.overlap import OverlapAssociator

    network = ready_network("mask2former-vis", tensors, device, precision)
    names = class_names_of(metadata, network.classes, vocabulary)
    encoder = PixelEncoder(network, short_side, longest_side)
    model = Mask2FormerVISModel(network, names, encoder, unbounded, score_threshold, max_instances)
    if unbounded:
        return _whole_video(model)
    lifecycle = TrackLifecycle(max_lost_frames, max_lost_tracks)
    return StreamSegmenter(model, OverlapAssociator(link_overlap), lifecycle, clip_length, stride)


def _build_minvis(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    *,
    short_side: _ShortSide = 360,
    longest_side: _LongestSide = 1333,
    unbounded: _Unbounded = False,
    score_threshold: _ScoreThreshold = 0.3,
    max_lost_frames: MaxLostFrames = 30,
    max_lost_tracks: MaxLostTracks = 100,
    max_instances: _MaxInstances = 50,
    vocabulary: Vocabulary = "auto",
    min_similarity: Annotated[
        float,
        Option("least cosine of a track's query and the one that continues it", -1, 1, former="least_similarity"),
    ] = 0.5,
    return_similarity: Annotated[float, Option("least cosine of a lost track's query and one elsewhere", -1, 1)] = 0.75,
    association: Annotated[str, linkage("in slots, by queries, as published", "slots")] = "slots",
    edge_weight: EdgeWeight = 1.0,
) -> Segmenter:
    from vis_core.models.mask2former_vis.building import ready_network
    from vis_core.models.mask2former_vis.minvis import MinVISModel, MinVISVideoModel
    from vis_core.models.mask2former_vis.model import PixelEncoder
    from vis_core.models.mask2former_vis.slots import SlotAssociator
    from vis_core.system.driver import StreamSegmenter
    from vis_core.tracking.graph_association import Detections, GraphAssociator
    from vis_core.tracking.lifecycle import TrackLifecycle

    network = ready_network("minvis", tensors, device, precision)
    names = class_names_of(metadata, network.classes, vocabulary)
    encoder = PixelEncoder(network, short_side, longest_side)
    if unbounded:
        return _whole_video(MinVISVideoModel(network, names, encoder))
    model = MinVISModel(network, names, encoder, score_threshold, max_instances)
    associator: Associator[MinVISInstances] = SlotAssociator(min_similarity, return_similarity)
    if association == GRAPH:
        associator = GraphAssociator(edge_weight, birth_score=0, memory_features=0, describe=Detections.of)
    return StreamSegmenter(model, associator, TrackLifecycle(max_lost_frames, max_lost_tracks))


def _whole_video(model: ClipModel[Any, QueryInstances]) -> Segmenter:
    """The video as one clip, in which no track ends."""
    from vis_core.system.driver import StreamSegmenter
    from vis_core.tracking.lifecycle import TrackLifecycle
    from vis_core.tracking.overlap import OverlapAssociator

    return StreamSegmenter(model, OverlapAssociator(0.3), TrackLifecycle(None, None), clip_length=None)


_FIGURES = {
    "mask2former-vis": {
        "YouTube-VIS 2019 val, ResNet-50": "AP 46.4, AP50 68.0, AP75 50.0 (short side 360; model_final_34112b.pkl)",
        "YouTube-VIS 2019 val, ResNet-101": "AP 49.2 (360; model_final_a34dca.pkl)",
        "YouTube-VIS 2019 val, Swin-T": "AP 51.5 (480; model_final_26fffe.pkl)",
        "YouTube-VIS 2019 val, Swin-S": "AP 54.3 (480; model_final_4a5174.pkl)",
        "YouTube-VIS 2019 val, Swin-B": "AP 59.5 (480; model_final_221a8a.pkl)",
        "YouTube-VIS 2019 val, Swin-L, 200 queries": "AP 60.4 (480; model_final_c5c739.pkl)",
        "YouTube-VIS 2021 val, ResNet-50": "AP 40.6 (360; model_final_b8aae2.pkl)",
        "YouTube-VIS 2021 val, ResNet-101": "AP 42.4 (360; model_final_6efd7a.pkl)",
        "YouTube-VIS 2021 val, Swin-T": "AP 45.9 (480; model_final_965185.pkl)",
        "YouTube-VIS 2021 val, Swin-S": "AP 48.6 (480; model_final_0dec91.pkl)",
        "YouTube-VIS 2021 val, Swin-B": "AP 52.0 (480; model_final_a9b925.pkl)",
        "YouTube-VIS 2021 val, Swin-L, 200 queries": "AP 52.6 (360; model_final_4da256.pkl)",
    },
    "minvis": {
        "YouTube-VIS 2019 val, ResNet-50": "AP 47.3 (short side 360; minvis_ytvis19_R50.pth)",
        "YouTube-VIS 2019 val, Swin-L, 200 queries": "AP 62.0 (480; minvis_ytvis19_swin_large.pth); with labels on 10, "
        "5, 1 % of the frames (_r10, _r5, _r1): 60.9, 59.7, 58.9",
        "YouTube-VIS 2021 val, ResNet-50": "AP 43.9 (360; minvis_ytvis21_R50.pth)",
        "YouTube-VIS 2021 val, Swin-L, 200 queries": "AP 55.4 (360; minvis_ytvis21_swin_large.pth); 10, 5, 1 %: 54.8, "
        "54.5, 52.6",
        "OVIS val, ResNet-50": "AP 26.7 (360; minvis_ovis_R50.pth)",
        "OVIS val, Swin-L, 200 queries": "AP 41.7 (480; minvis_ovis_swin_large.pth); 10, 5, 1 %: 37.1, 35.7, 31.8",
    },
}

_PUBLISHED = f"{__name__}.published"
_PUBLISHED_FORMAT = PublishedFormat(deferred(_PUBLISHED, "recognise"), deferred(_PUBLISHED, "convert"))

MASK2FORMER_VIS = System(
    name="mask2former-vis",
    title="Mask2Former-VIS",
    paper="Cheng et al., Mask2Former for Video Instance Segmentation, arXiv 2112.10764",
    build=_build_mask2former_vis,
    published=_PUBLISHED_FORMAT,
    checkpoints_licence="CC BY-NC 4.0: non-commercial use only (its code: MIT)",
    checkpoints_source="github.com/facebookresearch/Mask2Former, MODEL_ZOO.md, Video Instance Segmentation",
    figures=_FIGURES["mask2former-vis"],
    trainable=partial(trainable, True),
)

MINVIS = System(
    name="minvis",
    title="MinVIS",
    paper="Huang et al., MinVIS: A Minimal Video Instance Segmentation Framework without Video-based Training, "
    "NeurIPS 2022, arXiv 2208.02245",
    build=_build_minvis,
    published=_PUBLISHED_FORMAT,
    checkpoints_licence="CC BY-NC-SA 4.0: non-commercial use only (its code: Nvidia Source Code License-NC)",
    checkpoints_source="huggingface.co/deahuang/MinVIS-Model-Zoo, linked from github.com/NVlabs/MinVIS, MODEL_ZOO.md",
    figures=_FIGURES["minvis"],
    trainable=partial(trainable, False),
)

SYSTEMS = (MASK2FORMER_VIS, MINVIS)
