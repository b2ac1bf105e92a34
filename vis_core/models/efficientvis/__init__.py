"""EfficientVIS: tracklet queries and proposals, clip by clip, linked by themselves (CVPR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from vis_core.data.vocabularies import class_names_of
from vis_core.models.efficientvis.choices import (
    ATTENTIONS,
    CARRIES,
    DYNAMIC_CONVOLUTIONS,
    LINKINGS,
    PROPOSALS,
    QUERIES_OVER_TIME,
)
from vis_core.models.efficientvis.trainables import trainable
from vis_core.system.entry import PublishedFormat, System, deferred
from vis_core.system.option import Option, Vocabulary

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vis_core.models.efficientvis.instances import EfficientVISInstances
    from vis_core.system.segmenter import Segmenter
    from vis_core.tracking.associator import Associator

NAME = "efficientvis"


def build(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    *,
    input_size: Annotated[
        tuple[int, int], Option("shorter side of the network's image, and its longer side at most, pixels", 32, 8192)
    ] = (360, 640),
    clip_length: Annotated[
        int | None,
        Option(
            "frames of a window; none: the whole video, answered at its end, and memory grows with it",
            1,
            1000,
            streamed=5,
        ),
    ] = 36,
    stride: Annotated[
        int | None,
        Option("frames between windows; the delay is one less; none: as many as a window has", 1, 1000, streamed=1),
    ] = None,
    carry: Annotated[
        str, Option("which queries start the next window: those that were sure in this one, or all", choices=CARRIES)
    ] = "confident",
    proposals_carry: Annotated[
        str, Option("where a carried query starts to look: where was learned, or where it was last", choices=PROPOSALS)
    ] = "learned",
    linking: Annotated[
        str,
        Option(
            "who is who: by the queries that are carried, or, with learned queries in each window, by masks in the "
            "frames that windows share",
            choices=LINKINGS,
        ),
    ] = "queries",
    link_threshold: Annotated[
        float, Option("with handcrafted linking: least IoU of the masks of a track and what continues it", 0, 1)
    ] = 0.5,
    score_threshold: Annotated[float, Option("least mean score over a window of an instance", 0, 1, live=True)] = 0.3,
    presence_threshold: Annotated[
        float, Option("least score in a frame that shows an instance", 0, 1, live=True)
    ] = 0.05,
    max_lost_clips: Annotated[
        int, Option("windows in a row in which a track may be unsure before it ends", 0, 100000, streamed=10)
    ] = 1,
    attention: Annotated[str, Option("of the queries; an ablation of the paper", choices=ATTENTIONS)] = "factorised",
    dynamic_convolution: Annotated[
        str,
        Option("on the neighbour frames too, or not; an ablation of the paper", choices=DYNAMIC_CONVOLUTIONS),
    ] = "temporal",
    queries_over_time: Annotated[
        str, Option("a query of each frame, or one of a window; an ablation of the paper", choices=QUERIES_OVER_TIME)
    ] = "disentangled",
    vocabulary: Vocabulary = "auto",
) -> Segmenter:
    """EfficientVIS; depth, classes and number of queries are the tensors', without any ResNet-50's, 40 and 10."""
    from vis_core.models.efficientvis.building import ready_network
    from vis_core.models.efficientvis.model import EfficientVISModel
    from vis_core.models.efficientvis.slots import Slots
    from vis_core.system.driver import StreamSegmenter, check_windows
    from vis_core.tracking.lifecycle import TrackLifecycle
    from vis_core.tracking.overlap import OverlapAssociator

    slots = Slots(carry, proposals_carry, max_lost_clips) if linking == "queries" else None
    associator: Associator[EfficientVISInstances] = slots or OverlapAssociator(link_threshold, same_label=True)
    if stride is None:
        stride = 1 if clip_length is None else clip_length - associator.shared_frames
    check_windows(clip_length, stride, associator)
    options = {
        "attention": attention,
        "dynamic_convolution": dynamic_convolution,
        "queries_over_time": queries_over_time,
    }
    network = ready_network(tensors, device, precision, options)
    names = class_names_of(metadata, network.classes, vocabulary)
    model = EfficientVISModel(network, names, slots, input_size, score_threshold, presence_threshold)
    # The slots end tracks by a rule of their own; a window may be longer than any age.
    return StreamSegmenter(model, associator, TrackLifecycle(None), clip_length, stride)


_PUBLISHED = f"{__name__}.published"

SYSTEM = System(
    name=NAME,
    title="EfficientVIS",
    paper="Wu et al., Efficient Video Instance Segmentation via Tracklet Query and Proposal, CVPR 2022, "
    "arXiv 2203.01853",
    build=build,
    published=PublishedFormat(deferred(_PUBLISHED, "recognise"), deferred(_PUBLISHED, "convert")),
    checkpoints_licence="none are public; Sparse R-CNN's and QueryInst's, to train from: MIT",
    checkpoints_source="nowhere; to train from: github.com/PeizeSun/SparseR-CNN, github.com/hustvl/QueryInst",
    figures={
        "YouTube-VIS 2019 val, ResNet-50": "AP 37.9, AP50 59.7, AP75 43.0, AR1 40.3, AR10 46.6; 36 frames/s",
        "YouTube-VIS 2019 val, ResNet-101": "AP 39.8, AP50 61.8, AP75 44.7, AR1 42.1, AR10 49.8; 32 frames/s",
        "YouTube-VIS 2021 val, ResNet-50": "AP 34.0, AP50 57.5, AP75 37.3, AR1 33.8, AR10 42.5",
    },
    trainable=trainable,
)

SYSTEMS = (SYSTEM,)
