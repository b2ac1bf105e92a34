"""visolo-lite: VISOLO with EfficientNet-Lite0, small enough to ship and quick on two processor cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.checkpoints import load_fitting, load_tensors
from vis_core.data.vocabularies import class_names as names_in
from vis_core.errors import CheckpointError
from vis_core.models.visolo.detection import Detections
from vis_core.models.visolo.guided_filter import guided
from vis_core.models.visolo.memory import Entry, FrameMemory
from vis_core.models.visolo.model import VISOLO, GridReading
from vis_core.models.visolo.network import VISOLONetwork
from vis_core.models.visolo.test_time_augmentation import OTHER_VIEWS, Reading, View, averaged
from vis_core.models.visolo.training import VISOLOTraining
from vis_core.nn.backbones import efficientnet_lite
from vis_core.nn.backbones.efficientnet_lite import INPUT_MEAN, INPUT_STD, EfficientNetLite
from vis_core.nn.concurrency import Ahead, SideBySide
from vis_core.nn.precision import compute_type
from vis_core.nn.prepacked_convolution import pack_convolutions
from vis_core.structures import Frame, Instances
from vis_core.tracking.motion import MotionAssociator

NAME = "visolo-lite"
CLASS_NAMES = ("person", "vehicle", "animal")
INPUT_SIZE = (256, 448)
WIDTH, MASK_WIDTH = 128, 64
GRID = (16, 28)  # denser than in the paper: one cell, one object
_WIDTHS = range(64, 513, 64)
_GRID_KEY, _GRIDS = "grid", range(4, 65)

_Look = tuple[Tensor, list[Tensor], Tensor]
"""Of a view of a frame: the network's input, the backbone's maps, the mask features."""


class LiteBackbone(nn.Module):
    """EfficientNet-Lite0 as VISOLO's backbone: the map at stride 32 joins that at stride 16, for its meaning."""

    channels = (24, 40, 432)

    def __init__(self) -> None:
        super().__init__()
        self.body = EfficientNetLite()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps at strides 4, 8 and 16 of normalised images ``[B, 3, H, W]``."""
        r2, r3, r4, r5 = self.body(images)
        r5 = F.interpolate(r5, r4.shape[2:], mode="bilinear", align_corners=False)
        return [r2, r3, torch.cat((r4, r5), 1)]


class VISOLOLite(VISOLO):
    """VISOLO whose identities follow motion too.

    Grid similarity learnt from few images confuses people who look alike; where they are tells them apart.

    Args:
        birth_threshold: least score of a detection that begins a track; what is less may continue one.
        first_birth_threshold: the same in a stream's first frame, if it is less.
        least_part: parts of a mask that have less than this share of its largest part's pixels are left out.
        views: of each frame that are averaged, 1 to 4: as it is, and as `OTHER_VIEWS` has them.
        options: of `VISOLO`.
    """

    quick = True

    def __init__(
        self,
        *arguments: Any,
        birth_threshold: float,
        first_birth_threshold: float,
        least_part: float,
        views: int,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.least_part = least_part
        interval, limit = self.memory.interval, self.memory.limit
        self._views = [View(self.transform, *view, FrameMemory(interval, limit)) for view in OTHER_VIEWS[: views - 1]]
        self.motion = MotionAssociator(birth_threshold, first_birth_threshold)
        self._side_by_side = SideBySide()
        self._ahead = Ahead(self._looks)
        self._stamp: int | None = None
        self._time, self._interval = 0.0, 0.1

    def step(self, frame: Frame) -> list[Instances]:
        elapsed = 0.0 if self._stamp is None else (frame.stamp - self._stamp) / 1e9
        if elapsed > 0:  # else the clock stands still or was set back: as long as the last time
            self._interval = elapsed
        self._time += self._interval
        instances = super().step(frame)
        self._stamp = frame.stamp  # after a reset that another size of frame may have brought
        return instances

    @property
    def looks_ahead(self) -> bool:  # type: ignore[override]
        return self.device.type == "cpu" and torch.get_num_threads() > 1

    def look_ahead(self, frame: Frame) -> None:
        if self.looks_ahead:
            self._ahead.begin(frame)

    def _looks(self, frame: Frame) -> list[_Look]:
        """All that needs no other frame."""
        looks = []
        for view in (None, *self._views):
            image = self.transform(frame.image) if view is None else view.image(frame)
            maps = self.extract(image)
            looks.append((image, maps, self.network.mask_features(maps)[0]))
        return looks

    def look(self, frame: Frame) -> tuple[Tensor, list[Tensor], list[_Look] | None]:
        looks = self._ahead.take(frame)
        return super().look(frame) if looks is None else (*looks[0][:2], looks)

    def read(self, maps: list[Tensor], frame: Frame, made: list[_Look] | None) -> tuple[GridReading, Tensor | None]:
        if self.device.type != "cpu" and not self._views:
            return super().read(maps, frame, None)
        readings = [self._read_view(maps, self.memory, None if made is None else made[0][2])]
        for i, view in enumerate(self._views, 1):
            seen, features = (self.extract(view.image(frame)), None) if made is None else made[i][1:]
            reading = self._read_view(seen, view.memory, features)
            view.memory.append(reading[0][-1])
            readings.append(view.as_first(reading, self.network.grid, readings[0][1].shape[1:]))
        return averaged(readings) if self._views else readings[0]

    def _read_view(self, maps: list[Tensor], memory: FrameMemory, features: Tensor | None) -> Reading:
        """What a view's maps say; its mask features, if they are not there, are made beside on a processor."""

        def read() -> GridReading:
            return self.read_grid(maps[-1].float(), memory)

        def masks() -> Tensor:
            return self.network.mask_features(maps)[0]

        if features is not None:
            return read(), features
        return self._side_by_side(read, masks) if self.device.type == "cpu" else (read(), masks())

    def detect(self, *outputs: Any) -> Detections:
        return self._tidied(super().detect(*outputs))

    def finished(self, found: Detections, image: Tensor) -> Detections:
        if self.mask_resize != "guided":
            return found
        return self._tidied(guided(found, image, self.mask_threshold))

    def _tidied(self, found: Detections) -> Detections:
        return replace(found, masks=_without_specks(found.masks, self.least_part)) if self.least_part else found

    def link(self, found: Detections, entry: Entry) -> tuple[Detections, list[int | None]]:
        ended = self.lifecycle.expire()
        self.associator.forget(ended)
        self.motion.forget(ended)
        similarity = self.associator.similarity(entry.reference[:, found.cells], self.lifecycle)
        continues, stay = self.motion.associate(
            _boxes(found.masks),
            found.scores.cpu().numpy(),
            similarity.numpy(),
            found.vectors.cpu().numpy(),
            self.lifecycle,
            self._time,
        )
        rows = torch.from_numpy(np.flatnonzero(stay)).to(found.cells.device)
        return found.chosen(rows), [i for i, stays in zip(continues, stay) if stays]

    def remember(self, track_ids: list[int], found: Detections, query: Tensor) -> None:
        super().remember(track_ids, found, query)
        self.motion.remember(track_ids, _boxes(found.masks), found.scores.cpu().numpy(), self._time)

    def reset(self) -> None:
        super().reset()
        self.motion.clear()
        for view in self._views:
            view.memory.clear()
        self._stamp = None

    def state_bytes(self) -> int:
        return super().state_bytes() + self.motion.nbytes() + sum(view.memory.nbytes() for view in self._views)


def _boxes(masks: Tensor) -> npt.NDArray[np.float64]:
    """Tight boxes x1, y1, x2, y2 ``[N, 4]`` of masks bool ``[N, h, w]`` that are not empty, w a multiple of 8."""
    out = np.zeros((len(masks), 4))
    if not len(masks):
        return out
    words = masks.cpu().numpy().view(np.uint64)  # eight pixels at a time
    columns, rows = np.bitwise_or.reduce(words, axis=1).view(np.bool_), (words != 0).any(axis=2)
    for occupied, low, high in ((columns, 0, 2), (rows, 1, 3)):
        out[:, low] = occupied.argmax(1)
        out[:, high] = occupied.shape[1] - occupied[:, ::-1].argmax(1)
    return out


def _without_specks(masks: Tensor, least: float) -> Tensor:
    """Masks bool ``[N, h, w]`` without parts that have less than the share `least` of the largest part's pixels.

    A speck elsewhere in the picture stretches the box, and with it the place where a track is looked for next.
    """
    dense = masks.cpu().numpy().copy()
    for mask, (left, top, right, bottom) in zip(dense, _boxes(masks).astype(int)):
        inside = mask[top:bottom, left:right]
        if not inside.size:
            continue
        count, parts, about, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
        areas = about[1:, cv2.CC_STAT_AREA]
        if count > 2 and areas.min() < least * areas.max():
            inside &= np.concatenate(([False], areas >= least * areas.max()))[parts]
    return torch.from_numpy(dense).to(masks.device)


def default_weights() -> Path | None:
    """The weight file that is part of the package, None if it is not installed."""
    path = Path(str(resources.files("vis_core.models.visolo"))) / "visolo_lite.safetensors"
    return path if path.is_file() else None


def shipped_weights() -> Path:
    """The weight file that is part of the package, to train from.

    Raises:
        CheckpointError: it is not there.
    """
    path = default_weights()
    if path is None:
        raise CheckpointError(f"{NAME}: this installation has no visolo_lite.safetensors; install the package anew")
    return path


def lite_network(
    classes: int, width: int = WIDTH, mask_width: int = MASK_WIDTH, grid: tuple[int, int] = GRID
) -> VISOLONetwork:
    """VISOLO's network on the light backbone, with paraboloids and with skip connections of one convolution each."""
    return VISOLONetwork(LiteBackbone(), classes, width, mask_width, place=True, grid=grid, skip_blocks=False)


def build(
    tensors: Mapping[str, Tensor] | None,
    metadata: Mapping[str, str],
    device: torch.device,
    precision: str,
    **options: Any,
) -> VISOLOLite:
    """The segmenter; class count and widths are the tensors'."""
    classes, width, mask_width = len(CLASS_NAMES), WIDTH, MASK_WIDTH
    grid = GRID
    if tensors is not None:
        classes, width, mask_width = _sizes(tensors)
        grid = _grid(tensors)
        tensors = {key: x.float() for key, x in tensors.items() if key != _GRID_KEY}
    network = lite_network(classes, width, mask_width, grid)
    if tensors is None:
        network.initialise(torch.Generator().manual_seed(0))
    else:
        load_tensors(network, tensors, NAME)
    network.eval().requires_grad_(False)
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype = _dtype(precision, device)
    network.backbone.to(dtype)
    network.mask.to(dtype)
    pack_convolutions(network)
    if "class_names" in metadata:
        names = names_in(metadata["class_names"], classes)
    else:
        names = CLASS_NAMES if classes == len(CLASS_NAMES) else tuple(f"class {i + 1}" for i in range(classes))
    return VISOLOLite(network, names, dtype, mean=INPUT_MEAN, std=INPUT_STD, **options)


def trainable(
    class_names: tuple[str, ...],
    tensors: Mapping[str, Tensor] | None,
    generator: torch.Generator,
    width: int = WIDTH,
    mask_width: int = MASK_WIDTH,
    grid: tuple[int, int] = GRID,
    category_prior: float = 0.02,
    most_mask_cells: int = 16,
    mask_stride: int = 2,
    rivals: float = 1.0,
    own_memory: float = 0.3,
    frozen_stride: int = 4,
    tracking_weight: float = 0.25,
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
        most_mask_cells: see `losses.mask_loss`.
        mask_stride: see `losses.mask_loss`.
        rivals: see `losses.mask_loss`.
        own_memory: see `VISOLOTraining`.
        frozen_stride: the backbone learns beyond its map at this stride; 0: all of it.
        tracking_weight: of the tracking loss, whose sum over cells is many times the others.
    """
    network = lite_network(len(class_names), width, mask_width, grid)
    network.initialise(generator)
    bias = network.category_post.pred.bias
    assert bias is not None
    nn.init.constant_(bias, -float(torch.tensor(1 / category_prior - 1).log()))
    if tensors is not None:
        if efficientnet_lite.is_published(tensors):
            network.backbone.body.load_state_dict(efficientnet_lite.from_published(tensors))
        else:
            load_fitting(network, {key: x for key, x in tensors.items() if key != _GRID_KEY}, NAME)
    frozen = network.backbone.body.below(frozen_stride) if frozen_stride else []
    return LiteTraining(
        network,
        INPUT_MEAN,
        INPUT_STD,
        frozen,
        published_extents=False,
        most_mask_cells=most_mask_cells,
        mask_stride=mask_stride,
        rivals=rivals,
        own_memory=own_memory,
        tracking_weight=tracking_weight,
    )


class LiteTraining(VISOLOTraining):
    """The network with its losses; its weights say what grid they were taught on."""

    def weights(self) -> dict[str, Tensor]:
        return {**super().weights(), _GRID_KEY: torch.tensor(self.network.grid)}


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    """Float32 for ``auto`` on a processor: depthwise convolutions are slow there in bfloat16."""
    return torch.float32 if precision == "auto" and device.type == "cpu" else compute_type(precision, device)


def _sizes(tensors: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """Classes, width and mask width of the network that tensors belong to."""
    category, kernel = tensors.get("category_post.pred.weight"), tensors.get("kernel_post.pred.weight")
    for key, x in (("category_post.pred.weight", category), ("kernel_post.pred.weight", kernel)):
        if x is None or x.dim() != 4 or len(x) == 0 or x.shape[1] not in _WIDTHS:
            found = "missing" if x is None else f"of shape {list(x.shape)}"
            raise CheckpointError(f"{NAME}: {key}, which gives the sizes of the network, is {found}")
    assert category is not None and kernel is not None
    if len(kernel) not in _WIDTHS:
        raise CheckpointError(
            f"{NAME}: kernel_post.pred.weight gives {len(kernel)} mask channels, not a multiple of 64"
        )
    return len(category), category.shape[1], len(kernel)


def _grid(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """Rows and columns of the grid that tensors were taught on."""
    found = tensors.get(_GRID_KEY)
    if found is None or found.shape != (2,) or any(n not in _GRIDS for n in found.tolist()):
        what = "missing" if found is None else f"{found.flatten()[:8].tolist()} of shape {list(found.shape)}"
        raise CheckpointError(f"{NAME}: {_GRID_KEY}, rows and columns of the network's grid (4 to 64), is {what}")
    rows, columns = (int(n) for n in found.tolist())
    return rows, columns
