"""TeViT: messenger shift backbone and spatiotemporal query interaction (CVPR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from vis_core.data.vocabularies import class_names_of
from vis_core.models.tevit.choices import BACKBONE_RUNS, INTERACTIONS, SHIFTS
from vis_core.models.tevit.trainables import trainable
from vis_core.system.entry import PublishedFormat, System, deferred
from vis_core.system.option import MaxLostFrames, MaxLostTracks, Option, Vocabulary

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vis_core.system.segmenter import Segmenter

NAME = "tevit"
PUBLISHED_SIZE, PUBLISHED_SWIN_SIZE = (360, 640), (480, 1333)


def build(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    *,
    short_side: Annotated[
        int | None, Option("shorter side of the network's image at most, pixels; none: 360, with Swin 480", 32, 8192)
    ] = None,
    longest_side: Annotated[
        int | None, Option("longer side of the network's image at most, pixels; none: 640, with Swin 1333", 32, 8192)
    ] = None,
    clip_length: Annotated[int, Option("frames of a window", 2, 1000, streamed=5)] = 36,
    stride: Annotated[
        int | None,
        Option(
            "frames between windows, less than clip_length; the delay is one less; none: one less than clip_length",
            1,
            999,
            streamed=2,
        ),
    ] = None,
    unbounded: Annotated[
        bool,
        Option("answer at the end of the video, the ten best results as published; memory grows with the video"),
    ] = False,
    score_threshold: Annotated[float, Option("least mean score over a window of an instance", 0, 1, live=True)] = 0.3,
    presence_threshold: Annotated[
        float, Option("least score in a frame that shows an instance", 0, 1, live=True)
    ] = 0.05,
    link_threshold: Annotated[
        float, Option("least IoU of the masks of an instance and the track that it continues", 0, 1)
    ] = 0.5,
    max_instances: Annotated[
        int, Option("pairs of instance and class of a window at most; published: 10", 1, 1000, live=True)
    ] = 10,
    max_lost_frames: MaxLostFrames = 30,
    max_lost_tracks: MaxLostTracks = 100,
    backbone: Annotated[
        str,
        Option(
            "with messenger tokens: over each window, as published, or once over each frame, whose tokens then come "
            "from earlier frames alone: quicker, and not the same numbers",
            choices=BACKBONE_RUNS,
        ),
    ] = "window",
    shift: Annotated[
        str,
        Option("of messenger tokens: a window's ends exchange them, as published, or keep their own", choices=SHIFTS),
    ] = "cyclic",
    query_interaction: Annotated[
        str, Option("over frames, then over time; or an ablation of the paper", choices=INTERACTIONS)
    ] = "spatiotemporal",
    vocabulary: Vocabulary = "auto",
) -> Segmenter:
    """TeViT; backbone, classes and number of queries are the tensors', without any MsgShifT's, 40 and 100."""
    from vis_core.models.tevit.building import ready_network
    from vis_core.models.tevit.model import TeViTModel
    from vis_core.nn.backbones.swin import SwinTransformer
    from vis_core.system.driver import StreamSegmenter
    from vis_core.tracking.lifecycle import TrackLifecycle
    from vis_core.tracking.overlap import OverlapAssociator

    network = ready_network(tensors, metadata, device, precision, shift, query_interaction)
    names = class_names_of(metadata, network.classes, vocabulary)
    sides = PUBLISHED_SWIN_SIZE if isinstance(network.backbone, SwinTransformer) else PUBLISHED_SIZE
    model = TeViTModel(
        network,
        names,
        (short_side or sides[0], longest_side or sides[1]),
        unbounded,
        backbone,
        score_threshold,
        presence_threshold,
        max_instances,
    )
    associator = OverlapAssociator(link_threshold, same_label=True, consecutive=True)
    if unbounded:
        return StreamSegmenter(model, associator, TrackLifecycle(None, None), clip_length=None)
    lifecycle = TrackLifecycle(max_lost_frames, max_lost_tracks)
    return StreamSegmenter(model, associator, lifecycle, clip_length, clip_length - 1 if stride is None else stride)


_PUBLISHED = f"{__name__}.published"

SYSTEM = System(
    name=NAME,
    title="TeViT",
    paper="Yang et al., Temporally Efficient Vision Transformer for Video Instance Segmentation, CVPR 2022, "
    "arXiv 2204.08412",
    build=build,
    published=PublishedFormat(deferred(_PUBLISHED, "recognise"), deferred(_PUBLISHED, "convert")),
    checkpoints_licence="MIT, that of their repository; none is stated for the files themselves",
    checkpoints_source="github.com/hustvl/Storage, release v1.1.0, linked from github.com/hustvl/TeViT",
    figures={
        "YouTube-VIS 2019 val, MsgShifT": "AP 46.3, AP50 70.6, AP75 50.9, AR1 45.2, AR10 54.3 (tevit_msgshift.pth)",
        "YouTube-VIS 2019 val, MsgShifT, several scales": "AP 46.9, AP50 70.1, AP75 52.9, AR1 45.0, AR10 53.4 "
        "(tevit_msgshift_mstrain.pth)",
        "YouTube-VIS 2019 val, ResNet-50": "AP 42.1, AP50 67.8, AP75 44.8, AR1 41.3, AR10 49.9 (tevit_r50.pth)",
        "YouTube-VIS 2019 val, Swin-L, 300 queries": "AP 56.8, AP50 80.6, AP75 63.1, AR1 52.0, AR10 63.3 "
        "(tevit_swin-l_mstrain.pth)",
        "YouTube-VIS 2021 val, MsgShifT": "AP 37.9, AP50 61.2, AP75 42.1, AR1 35.1, AR10 44.6 (no checkpoint)",
    },
    trainable=trainable,
)

SYSTEMS = (SYSTEM,)
