"""VISOLO: grid-based space-time aggregation for efficient online video instance segmentation (CVPR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor

from vis_core.checkpoints import load_fitting, load_tensors
from vis_core.data.vocabularies import class_names_of, numbered, stated_names
from vis_core.errors import CheckpointError, OptionError
from vis_core.models.visolo import lite, published
from vis_core.models.visolo.association import GridAssociator, graph_associator
from vis_core.models.visolo.lite import VISOLOLiteModel
from vis_core.models.visolo.lite_network import GRID, GRID_KEY, MASK_WIDTH, NAME, WIDTH, grid_of, lite_network, sizes_of
from vis_core.models.visolo.model import VISOLOModel
from vis_core.models.visolo.network import VISOLONetwork
from vis_core.models.visolo.test_time_augmentation import OTHER_VIEWS
from vis_core.models.visolo.training import LiteTraining, VISOLOTraining
from vis_core.nn.backbones import efficientnet_lite, resnet
from vis_core.nn.backbones.efficientnet_lite import INPUT_MEAN, INPUT_STD, installed_weights
from vis_core.nn.backbones.resnet import BLOCKS, ResNet
from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD
from vis_core.nn.precision import compute_type, exact_type
from vis_core.nn.prepacked_convolution import pack_convolutions
from vis_core.nn.winograd import use_winograd
from vis_core.system.driver import StreamSegmenter
from vis_core.system.entry import PublishedFormat, System
from vis_core.system.option import GRAPH, EdgeWeight, MaxLostFrames, MaxLostTracks, Option, Vocabulary, linkage
from vis_core.system.segmenter import Segmenter
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.motion import MotionAssociator

_WIDTHS = range(64, 513, 64)  # bounded before anything is allocated: the size of a network grows with its square

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
    network = _network(tensors)
    dtype = _to_device(network, device, precision)
    exact = next(network.mask.refine2.parameters()).dtype == torch.float32
    if convolution == "winograd" and device.type == "cpu" and exact:
        use_winograd(network.mask)
    model = VISOLOModel(
        network,
        class_names_of(metadata, network.classes, vocabulary),
        dtype,
        input_size=input_size,
        memory_frames=memory_frames,
        memory_interval=memory_interval,
        score_threshold=score_threshold,
        mask_threshold=mask_threshold,
        update_threshold=update_threshold,
        max_instances=max_instances,
        mask_resize=mask_resize,
        published_quirks=published_quirks,
        reweighting=reweighting,
    )
    associator = graph_associator(edge_weight, 0) if association == GRAPH else GridAssociator(tracking_threshold)
    return StreamSegmenter(model, associator, _lifecycle(max_lost_frames, max_lost_tracks))


def build_lite(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    *,
    input_size: _InputSize = lite.INPUT_SIZE,
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
            1 + len(OTHER_VIEWS),
            quality=4,
        ),
    ] = 1,
    association: Annotated[str, linkage("by motion and learned similarity of grid cells", "motion")] = "motion",
    edge_weight: EdgeWeight = 1.0,
) -> Segmenter:
    """visolo-lite; class count and widths are the tensors'."""
    classes, width, mask_width, grid = len(lite.CLASS_NAMES), WIDTH, MASK_WIDTH, GRID
    if tensors is not None:
        classes, width, mask_width = sizes_of(tensors)
        grid = grid_of(tensors)
        tensors = {key: x.float() for key, x in tensors.items() if key != GRID_KEY}
    network = lite_network(classes, width, mask_width, grid)
    _fill(network, tensors, NAME)
    if "class_names" in metadata:
        names = stated_names(metadata["class_names"], classes)
    else:
        names = lite.CLASS_NAMES if classes == len(lite.CLASS_NAMES) else numbered(classes)
    dtype = _to_device(network, device, "fp32" if precision == "auto" and device.type == "cpu" else precision)
    model = VISOLOLiteModel(
        network,
        names,
        dtype,
        input_size=input_size,
        memory_frames=memory_frames,
        memory_interval=memory_interval,
        score_threshold=score_threshold,
        mask_threshold=mask_threshold,
        update_threshold=update_threshold,
        max_instances=max_instances,
        mask_resize=mask_resize,
        reweighting=reweighting,
        min_part=min_part,
        views=views,
        mean=INPUT_MEAN,
        std=INPUT_STD,
    )
    own = MotionAssociator(GridAssociator(0), birth_threshold, first_birth_threshold)
    associator = graph_associator(edge_weight, birth_threshold) if association == GRAPH else own
    return StreamSegmenter(model, associator, _lifecycle(max_lost_frames, max_lost_tracks))


def _network(tensors: Mapping[str, Tensor] | None) -> VISOLONetwork:
    depth, classes, width = 50, 40, 256
    if tensors is not None:
        prediction = tensors.get("category_post.pred.weight")
        if prediction is None or prediction.dim() != 4 or len(prediction) == 0 or prediction.shape[1] not in _WIDTHS:
            found = "missing" if prediction is None else f"of shape {list(prediction.shape)}"
            raise CheckpointError(
                f"visolo: category_post.pred.weight, which gives classes and width, is {found}; expected "
                "[classes, width, 3, 3] with a width that is a multiple of 64, up to 512"
            )
        classes, width = prediction.shape[:2]
        depth = 101 if any(key.startswith("backbone.res4.6.") for key in tensors) else 50
    network = VISOLONetwork(depth, classes, width)
    _fill(network, tensors, "visolo")
    network.backbone.fold_norms()
    return network


def _fill(network: VISOLONetwork, tensors: Mapping[str, Tensor] | None, name: str) -> None:
    """Give a network its weights, random ones if there are none."""
    if tensors is None:
        network.initialise(torch.Generator().manual_seed(0))
    else:
        load_tensors(network, tensors, name)
    network.eval().requires_grad_(False)


def _to_device(network: VISOLONetwork, device: torch.device, precision: str) -> torch.dtype:
    """Bring a network to its device and types; returns the backbone's.

    ``auto`` rounds only what does not show: in bfloat16 throughout, masks differ from float32's down to an IoU of 0.8,
    since the dynamic kernels amplify the rounding of the map that they are made from.
    """
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype = exact_type(precision)
    network.backbone.to(dtype)
    network.mask.to(dtype)
    if precision == "auto":
        network.mask.round_fine(compute_type(precision, device))
    for part in network.children():
        if not isinstance(part, ResNet):  # which packed would answer alike, but not to the last bit
            pack_convolutions(part)
    return dtype


def _lifecycle(max_lost_frames: int | None, max_lost_tracks: int | None) -> TrackLifecycle:
    """Without an age limit no track ends, as published, whatever their number."""
    return TrackLifecycle(max_lost_frames, None if max_lost_frames is None else max_lost_tracks)


_MaxMaskCells = Annotated[int, Option("cells of a frame whose masks are compared", 1, 252, former="most_mask_cells")]
_MaskStride = Annotated[int, Option("stride at which masks are compared: 1, 2 or 4", 1, 4)]
_OtherInstanceWeight = Annotated[
    float,
    Option(
        "what a pixel of another instance weighs in the mask that takes it; 1, as published: no more",
        1,
        100,
        former="rivals",
    ),
]
_SelfMemoryProbability = Annotated[
    float,
    Option(
        "share of the clips in which a frame reads itself too, as the first of a stream does; published: 0",
        0,
        1,
        former="own_memory",
    ),
]
_TrackingWeight = Annotated[float, Option("of the tracking loss", 0, 100)]


def trainable(
    class_names: tuple[str, ...],
    tensors: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    *,
    depth: Annotated[int, Option("of the ResNet, 50 or 101", 50, 101)] = 50,
    max_mask_cells: _MaxMaskCells = 252,
    mask_stride: _MaskStride = 1,
    other_instance_weight: _OtherInstanceWeight = 1.0,
    self_memory_probability: _SelfMemoryProbability = 0.0,
    tracking_weight: _TrackingWeight = 1.0,
) -> VISOLOTraining:
    """What the trainer trains: stem, res2 and all batch norms of the backbone are frozen, as published.

    Args:
        class_names: of the labels.
        tensors: a VISOLO of any class count, or ImageNet weights of a ResNet with torchvision's keys; None: none.
        generator: of the first weights.
        depth: of the ResNet.
        max_mask_cells: see `losses.mask_loss`, as are mask_stride and other_instance_weight.
        mask_stride: the same.
        other_instance_weight: the same.
        self_memory_probability: see `VISOLOTraining`, as is tracking_weight.
        tracking_weight: the same.
    """
    if depth not in BLOCKS:
        raise OptionError(f"visolo: depth {depth} is none of {', '.join(map(str, BLOCKS))}")
    network = VISOLONetwork(depth, len(class_names))
    network.initialise(generator)
    if tensors is not None:
        if resnet.is_torchvision(tensors):
            tensors = {f"backbone.{key}": x for key, x in resnet.from_torchvision(tensors, stages=3).items()}
        load_fitting(network, tensors, "visolo")
    return VISOLOTraining(
        network,
        IMAGENET_MEAN,
        IMAGENET_STD,
        (network.backbone.stem, network.backbone.res2),
        max_mask_cells=max_mask_cells,
        mask_stride=mask_stride,
        other_instance_weight=other_instance_weight,
        self_memory_probability=self_memory_probability,
        tracking_weight=tracking_weight,
    )


def trainable_lite(
    class_names: tuple[str, ...],
    tensors: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    *,
    width: Annotated[int, Option("channels of the grid's branches", 64, 512, multiple_of=64)] = WIDTH,
    mask_width: Annotated[int, Option("channels of the mask branch", 64, 512, multiple_of=64)] = MASK_WIDTH,
    grid: Annotated[tuple[int, int], Option("rows and columns of the grid", 4, 64)] = GRID,
    category_prior: Annotated[float, Option("probability of a class that a cell starts with", 1e-4, 0.5)] = 0.02,
    frozen_stride: Annotated[int, Option("the backbone learns beyond its map at this stride; 0: all of it", 0, 32)] = 4,
    max_mask_cells: _MaxMaskCells = 16,
    mask_stride: _MaskStride = 2,
    other_instance_weight: _OtherInstanceWeight = 1.0,
    self_memory_probability: _SelfMemoryProbability = 0.3,
    tracking_weight: _TrackingWeight = 0.25,
) -> VISOLOTraining:
    """What the trainer trains.

    Args:
        class_names: of the labels.
        tensors: a visolo-lite of any class count, or ImageNet weights of EfficientNet-Lite0; None: from nothing.
        generator: of the first weights.
        width: channels of the grid's branches.
        mask_width: channels of the mask branch.
        grid: its rows and columns.
        category_prior: probability of a class that a cell starts with.
        frozen_stride: the backbone learns beyond its map at this stride; 0: all of it.
        max_mask_cells: see `losses.mask_loss`, as are mask_stride and other_instance_weight.
        mask_stride: the same.
        other_instance_weight: the same.
        self_memory_probability: see `VISOLOTraining`.
        tracking_weight: of the tracking loss, whose sum over cells is many times the others.
    """
    network = lite_network(len(class_names), width, mask_width, grid)
    network.initialise(generator)
    bias = network.category_post.pred.bias
    assert bias is not None
    torch.nn.init.constant_(bias, -float(torch.tensor(1 / category_prior - 1).log()))
    if tensors is not None:
        if efficientnet_lite.is_published(tensors):
            network.backbone.body.load_state_dict(efficientnet_lite.from_published(tensors))
        else:
            load_fitting(network, {key: x for key, x in tensors.items() if key != GRID_KEY}, NAME)
    return LiteTraining(
        network,
        INPUT_MEAN,
        INPUT_STD,
        network.backbone.body.below(frozen_stride) if frozen_stride else [],
        published_extents=False,
        max_mask_cells=max_mask_cells,
        mask_stride=mask_stride,
        other_instance_weight=other_instance_weight,
        self_memory_probability=self_memory_probability,
        tracking_weight=tracking_weight,
    )


SYSTEM = System(
    name="visolo",
    title="VISOLO",
    paper="Han et al., VISOLO: Grid-Based Space-Time Aggregation for Efficient Online Video Instance Segmentation, "
    "CVPR 2022, arXiv 2112.04177",
    build=build,
    published=PublishedFormat(published.recognise, published.convert),
    checkpoints_licence="non-commercial use only (the repository states Apache-2.0 and, beside it, non-commercial use)",
    checkpoints_source="github.com/SuHoHan95/VISOLO, linked from its README",
    figures={
        "YouTube-VIS 2019 val, ResNet-50": "AP 38.6, AP50 56.3, AP75 43.7, AR1 35.7, AR10 42.5; 40.0 frames/s (V100)",
        "YouTube-VIS 2021 val, ResNet-50": "AP 36.9, AP50 54.7, AP75 40.2, AR1 30.6, AR10 40.9",
    },
    trainable=trainable,
)

LITE = System(
    name=NAME,
    title="VISOLO-Lite",
    paper="this project: VISOLO with EfficientNet-Lite0 (Tan and Le, ICML 2019) and narrow branches",
    build=build_lite,
    published=None,
    checkpoints_licence="Apache-2.0; what the training images allow is in the model card",
    checkpoints_source="part of this package",
    default_weights=lite.default_weights,
    shown_score=0.4,
    trainable=trainable_lite,
    starting_weights={"imagenet": installed_weights, "shipped": lite.shipped_weights},
)

SYSTEMS = (LITE, SYSTEM)
