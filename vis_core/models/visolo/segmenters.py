"""VISOLO and visolo-lite on a network, whichever runs it: model, associator and life cycle of tracks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vis_core.errors import CheckpointError, printable
from vis_core.models.visolo.association import GridAssociator, graph_associator
from vis_core.models.visolo.exported_grid import OUTPUTS, ExportedGrid
from vis_core.models.visolo.grid import GridNetwork
from vis_core.models.visolo.instances import VISOLOInstances
from vis_core.models.visolo.lite import VISOLOLiteModel
from vis_core.models.visolo.model import VISOLOModel
from vis_core.models.visolo.shipped import INPUT_MEAN, INPUT_STD
from vis_core.nn.image_resize import IMAGENET_MEAN, IMAGENET_STD, ArrayTransform
from vis_core.nn.runtimes import Run
from vis_core.system.driver import StreamSegmenter
from vis_core.system.option import GRAPH
from vis_core.tracking.associator import Associator
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.motion import MotionAssociator


def visolo(
    grid: GridNetwork,
    class_names: tuple[str, ...],
    *,
    tracking_threshold: float,
    association: str,
    edge_weight: float,
    max_lost_frames: int | None,
    max_lost_tracks: int | None,
    **options: Any,
) -> StreamSegmenter[Any, VISOLOInstances]:
    """VISOLO; the options are those of the system, and what is left of `VISOLOModel`."""
    associator: Associator[VISOLOInstances] = GridAssociator(tracking_threshold)
    if association == GRAPH:
        associator = graph_associator(edge_weight, 0)
    model = VISOLOModel(grid, class_names, **options)
    return StreamSegmenter(model, associator, _lifecycle(max_lost_frames, max_lost_tracks))


def visolo_lite(
    grid: GridNetwork,
    class_names: tuple[str, ...],
    *,
    birth_threshold: float,
    first_birth_threshold: float,
    association: str,
    edge_weight: float,
    max_lost_frames: int | None,
    max_lost_tracks: int | None,
    **options: Any,
) -> StreamSegmenter[Any, VISOLOInstances]:
    """visolo-lite; the options are those of the system, and what is left of `VISOLOLiteModel`."""
    associator: Associator[VISOLOInstances] = MotionAssociator(
        GridAssociator(0), birth_threshold, first_birth_threshold
    )
    if association == GRAPH:
        associator = graph_associator(edge_weight, birth_threshold)
    model = VISOLOLiteModel(grid, class_names, **options)
    return StreamSegmenter(model, associator, _lifecycle(max_lost_frames, max_lost_tracks))


def exported_visolo(
    runs: Mapping[str, Run],
    class_names: tuple[str, ...],
    *,
    input_size: tuple[int, int],
    convolution: str,
    vocabulary: str,
    **options: Any,
) -> StreamSegmenter[Any, VISOLOInstances]:
    """VISOLO on exported graphs, whose convolutions and class names are as they were exported."""
    return visolo(_grid(runs, class_names, input_size, IMAGENET_MEAN, IMAGENET_STD), class_names, **options)


def exported_visolo_lite(
    runs: Mapping[str, Run],
    class_names: tuple[str, ...],
    *,
    input_size: tuple[int, int],
    views: int,
    **options: Any,
) -> StreamSegmenter[Any, VISOLOInstances]:
    """visolo-lite on exported graphs, which are of one view."""
    return visolo_lite(_grid(runs, class_names, input_size, INPUT_MEAN, INPUT_STD), class_names, **options)


def _grid(
    runs: Mapping[str, Run],
    class_names: tuple[str, ...],
    size: tuple[int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> ExportedGrid:
    for name, outputs in OUTPUTS.items():
        if name not in runs or runs[name].outputs != outputs:
            found = f"gives {printable(', '.join(runs[name].outputs))}" if name in runs else "is missing"
            raise CheckpointError(f"graph {name!r}, which is to give {', '.join(outputs)}, {found}; export it anew")
    image, categories = runs["frame"].shapes.get("image"), runs["window"].shapes["category_scores"]
    if image != (1, 3, *size):
        raise CheckpointError(f"takes images {image}, and states input_size {size}")
    if categories[:1] != (len(class_names),):
        raise CheckpointError(f"gives scores {categories}, and states {len(class_names)} classes")
    return ExportedGrid(runs, size, ArrayTransform(size, mean, std))


def _lifecycle(max_lost_frames: int | None, max_lost_tracks: int | None) -> TrackLifecycle:
    """Without an age limit no track ends, as published, whatever their number."""
    return TrackLifecycle(max_lost_frames, None if max_lost_frames is None else max_lost_tracks)
