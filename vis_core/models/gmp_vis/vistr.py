"""VisTR (CVPR 2021) as a system; the published form of GMP-VIS runs the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from vis_core.data.vocabularies import class_names_of
from vis_core.errors import OptionError
from vis_core.models.gmp_vis.trainables import trainable_vistr
from vis_core.system.entry import PublishedFormat, System, deferred
from vis_core.system.option import MaxLostFrames, MaxLostTracks, Option, Vocabulary

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vis_core.system.segmenter import Segmenter

NAME = "vistr"
PUBLISHED_SHORT_SIDE = 300


def build_vistr(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    *,
    short_side: Annotated[
        int, Option("shorter side of the network's image, pixels; published: 300", 32, 8192)
    ] = PUBLISHED_SHORT_SIDE,
    longest_side: Annotated[
        int | None, Option("longer side of the network's image at most, pixels; none: it has no end, as published", 32)
    ] = None,
    stride: Annotated[
        int | None,
        Option(
            "frames between windows, at least four less than a window, whose length the weights fix (published: 36); "
            "the delay is one less; none: four less than a window",
            1,
            999,
            streamed=8,
        ),
    ] = None,
    unbounded: Annotated[
        bool, Option("answer at the end of the video, all slots as published; memory grows with the video")
    ] = False,
    score_threshold: Annotated[
        float, Option("least mean score of an instance over the frames of a window that show it", 0, 1, live=True)
    ] = 0.3,
    presence_threshold: Annotated[
        float, Option("least score in a frame that shows an instance", 0, 1, live=True)
    ] = 0.05,
    link_threshold: Annotated[
        float,
        Option(
            "least mean IoU of the masks, in the frames that windows share, of a slot and the track it continues",
            0,
            1.5,
        ),
    ] = 0.1,
    link_embeddings: Annotated[
        bool,
        Option("link by the cosine of embeddings too; the published training leaves these as they were at random"),
    ] = False,
    max_lost_frames: MaxLostFrames = 30,
    max_lost_tracks: MaxLostTracks = 100,
    vocabulary: Vocabulary = "auto",
) -> Segmenter:
    """VisTR; backbone, classes and length of a window are the tensors', without any ResNet-50's, 40 and 36.

    Raises:
        CheckpointError: the tensors do not fit.
        OptionError: windows would share too few frames, or there are no embeddings to link by.
    """
    from vis_core.models.gmp_vis.building import clip_network, prepare
    from vis_core.models.gmp_vis.clip import VisTRModel, VisTRVideoModel, WholePixels
    from vis_core.models.gmp_vis.linking import ClipAssociator, VideoAssociator
    from vis_core.system.driver import StreamSegmenter
    from vis_core.tracking.lifecycle import TrackLifecycle

    network = clip_network(tensors)
    if link_embeddings and not network.matching:
        raise OptionError("option link_embeddings: these weights have no embeddings; they are a file of VisTR")
    associator = ClipAssociator(link_threshold, network.clip_length)
    longest = network.clip_length - associator.shared_frames
    if stride is not None and stride > longest:
        raise OptionError(
            f"option stride: {stride} leaves windows of {network.clip_length} frames less than "
            f"{associator.shared_frames} shared ones, by which tracks are handed over; choose at most {longest}"
        )
    prepare(network, device, precision)
    names = class_names_of(metadata, network.classes, vocabulary)
    parts = (network, names, WholePixels(short_side, longest_side), link_threshold, link_embeddings)
    if unbounded:
        return StreamSegmenter(VisTRVideoModel(*parts), VideoAssociator(), TrackLifecycle(None, None), clip_length=None)
    model, lifecycle = VisTRModel(*parts), TrackLifecycle(max_lost_frames, max_lost_tracks)
    model.score_threshold, model.presence_threshold = score_threshold, presence_threshold
    return StreamSegmenter(model, associator, lifecycle, network.clip_length, longest if stride is None else stride)


_PUBLISHED = "vis_core.models.gmp_vis.published"

VISTR = System(
    name=NAME,
    title="VisTR",
    paper="Wang et al., End-to-End Video Instance Segmentation with Transformers, CVPR 2021, arXiv 2011.14503",
    build=build_vistr,
    published=PublishedFormat(deferred(_PUBLISHED, "is_vistr"), deferred(_PUBLISHED, "convert")),
    checkpoints_licence="Apache-2.0, that of their repository; none is stated for the files themselves",
    checkpoints_source="linked from github.com/Epiphqny/VisTR",
    figures={
        "YouTube-VIS 2019 val, ResNet-50": "AP 35.6, AP50 56.8, AP75 37.0, AR1 35.2, AR10 40.2 (vistr_r50.pth)",
        "YouTube-VIS 2019 val, ResNet-101": "AP 38.6, AP50 61.3, AP75 42.3, AR1 37.6, AR10 44.2 (vistr_r101.pth)",
    },
    trainable=trainable_vistr,
)
