"""VISOLO: grid-based space-time aggregation for efficient online video instance segmentation (CVPR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from vis_core.data.vocabularies import class_names_of, numbered, stated_names
from vis_core.models.visolo import shipped
from vis_core.models.visolo.trainables import trainable, trainable_lite
from vis_core.system.entry import PublishedFormat, System, deferred
from vis_core.system.option import EdgeWeight, MaxLostFrames, MaxLostTracks, Option, Vocabulary, linkage

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vis_core.system.segmenter import Segmenter

_InputSize = Annotated[
    tuple[int, int], Option("height and width of the network's input, pixels", 16, 4096, multiple_of=16)
]
_MemoryFrames = Annotated[int | None, Option("past frames that are read at most; none: all, for ever", 2, 10000)]
_MemoryInterval = Annotated[int, Option("every how many frames one is kept in memory", 1, 10000)]
_ScoreThreshold = Annotated[float, Option("least score of a grid cell", 0, 1, live=True)]
_MaskThreshold = Annotated[float, Option("least probability of a mask's pixel", 0, 1)]
_UpdateThreshold = Annotated[float, Option("least score of an instance after matrix NMS", 0, 1)]
_MaxInstances = Annotated[int, Option("instances of a frame at most", 1, 252, live=True)]
_Reweighting = Annotated[
    bool,
    Option("scale a cell's score by its greatest similarity with the frames before (false: an ablation of the paper)"),
]


def build(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    *,
    input_size: _InputSize = (352, 624),
    memory_frames: _MemoryFrames = 6,
    memory_interval: _MemoryInterval = 5,
    max_lost_frames: MaxLostFrames = 30,
    max_lost_tracks: MaxLostTracks = 100,
    score_threshold: _ScoreThreshold = 0.1,
    mask_threshold: _MaskThreshold = 0.5,
    update_threshold: _UpdateThreshold = 0.05,
    tracking_threshold: Annotated[
        float, Option("least similarity of a detection and the track that it continues", 0, 1)
    ] = 0.1,
    max_instances: _MaxInstances = 100,
    mask_resize: Annotated[
        str, Option("resize binary masks as published, or their probabilities", choices=("published", "logits"))
    ] = "published",
    reweighting: _Reweighting = True,
    published_quirks: Annotated[bool, Option("treat empty masks and grid cell 0 as the published code does")] = False,
    convolution: Annotated[
        str,
        Option(
            "form of the mask branch's large convolutions in float32 on a CPU; winograd is quicker, mask features "
            "differ by 1e-5",
            choices=("direct", "winograd"),
        ),
    ] = "direct",
    vocabulary: Vocabulary = "auto",
    association: Annotated[str, linkage("by learned similarity of grid cells, as published", "grid")] = "grid",
    edge_weight: EdgeWeight = 1.0,
) -> Segmenter:
    """VISOLO; depth, class count and width are the tensors', without any ResNet-50's, 40 and 256."""
    from vis_core.models.visolo import segmenters
    from vis_core.models.visolo.building import visolo_network
    from vis_core.models.visolo.torch_grid import TorchGrid
    from vis_core.nn.input_transform import InputTransform

    network, dtype = visolo_network(tensors, device, precision, convolution)
    return segmenters.visolo(
        TorchGrid(network, dtype, InputTransform(input_size).to(device)),
        class_names_of(metadata, network.classes, vocabulary),
        memory_frames=memory_frames,
        memory_interval=memory_interval,
        max_lost_frames=max_lost_frames,
        max_lost_tracks=max_lost_tracks,
        score_threshold=score_threshold,
        mask_threshold=mask_threshold,
        update_threshold=update_threshold,
        tracking_threshold=tracking_threshold,
        max_instances=max_instances,
        mask_resize=mask_resize,
        reweighting=reweighting,
        published_quirks=published_quirks,
        association=association,
        edge_weight=edge_weight,
    )


def build_lite(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    *,
    input_size: _InputSize = shipped.INPUT_SIZE,
    memory_frames: _MemoryFrames = 3,
    memory_interval: _MemoryInterval = 5,
    max_lost_frames: MaxLostFrames = 30,
    max_lost_tracks: MaxLostTracks = 100,
    score_threshold: _ScoreThreshold = 0.15,
    mask_threshold: _MaskThreshold = 0.45,
    update_threshold: _UpdateThreshold = 0.05,
    max_instances: _MaxInstances = 100,
    mask_resize: Annotated[
        str,
        Option(
            "edges follow the image's; or resize binary masks as published, or probabilities",
            choices=("guided", "published", "logits"),
        ),
    ] = "guided",
    reweighting: _Reweighting = False,
    birth_threshold: Annotated[
        float, Option("least score of what begins a track; what is less may continue one", 0, 1)
    ] = 0.3,
    first_birth_threshold: Annotated[
        float, Option("the same in a stream's first frame, where all is new; if less", 0, 1)
    ] = 0.2,
    min_part: Annotated[
        float,
        Option("parts of a mask smaller than this share of its largest are left out", 0, 1, former="least_part"),
    ] = 0.0,
    views: Annotated[
        int,
        Option(
            "views of a frame that are averaged, of: as it is; larger, mirrored; still larger; mirrored",
            1,
            1 + len(shipped.OTHER_VIEWS),
            quality=4,
        ),
    ] = 1,
    association: Annotated[str, linkage("by motion and learned similarity of grid cells", "motion")] = "motion",
    edge_weight: EdgeWeight = 1.0,
) -> Segmenter:
    """visolo-lite; class count and widths are the tensors'."""
    from vis_core.models.visolo import segmenters
    from vis_core.models.visolo.building import visolo_lite_network
    from vis_core.models.visolo.views import network_of_views

    network, dtype = visolo_lite_network(tensors, device, precision)
    classes = network.classes
    if "class_names" in metadata:
        names = stated_names(metadata["class_names"], classes)
    else:
        names = shipped.CLASS_NAMES if classes == len(shipped.CLASS_NAMES) else numbered(classes)
    return segmenters.visolo_lite(
        network_of_views(network, dtype, device, input_size, views, memory_interval, memory_frames),
        names,
        memory_frames=memory_frames,
        memory_interval=memory_interval,
        max_lost_frames=max_lost_frames,
        max_lost_tracks=max_lost_tracks,
        score_threshold=score_threshold,
        mask_threshold=mask_threshold,
        update_threshold=update_threshold,
        max_instances=max_instances,
        mask_resize=mask_resize,
        reweighting=reweighting,
        birth_threshold=birth_threshold,
        first_birth_threshold=first_birth_threshold,
        min_part=min_part,
        association=association,
        edge_weight=edge_weight,
    )


_PUBLISHED = f"{__name__}.published"

SYSTEM = System(
    name="visolo",
    title="VISOLO",
    paper="Han et al., VISOLO: Grid-Based Space-Time Aggregation for Efficient Online Video Instance Segmentation, "
    "CVPR 2022, arXiv 2112.04177",
    build=build,
    build_exported=deferred(f"{__name__}.segmenters", "exported_visolo"),
    published=PublishedFormat(deferred(_PUBLISHED, "recognise"), deferred(_PUBLISHED, "convert")),
    checkpoints_licence="non-commercial use only (the repository states Apache-2.0 and, beside it, non-commercial use)",
    checkpoints_source="github.com/SuHoHan95/VISOLO, linked from its README",
    figures={
        "YouTube-VIS 2019 val, ResNet-50": "AP 38.6, AP50 56.3, AP75 43.7, AR1 35.7, AR10 42.5; 40.0 frames/s (V100)",
        "YouTube-VIS 2021 val, ResNet-50": "AP 36.9, AP50 54.7, AP75 40.2, AR1 30.6, AR10 40.9",
    },
    trainable=trainable,
)

LITE = System(
    name=shipped.NAME,
    title="VISOLO-Lite",
    paper="this project: VISOLO with EfficientNet-Lite0 (Tan and Le, ICML 2019) and narrow branches",
    build=build_lite,
    build_exported=deferred(f"{__name__}.segmenters", "exported_visolo_lite"),
    published=None,
    checkpoints_licence="Apache-2.0; what the training images allow is in the model card",
    checkpoints_source="part of this package",
    default_weights=shipped.default_weights,
    shown_score=0.4,
    trainable=trainable_lite,
    starting_weights={
        "imagenet": deferred("vis_core.nn.backbones.efficientnet_lite", "installed_weights"),
        "shipped": shipped.shipped_weights,
    },
)

SYSTEMS = (LITE, SYSTEM)
