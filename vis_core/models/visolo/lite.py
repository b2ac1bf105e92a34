"""visolo-lite: VISOLO with EfficientNet-Lite0, small enough to ship and quick on two CPU cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from vis_core.errors import ExportError
from vis_core.masks import RunLengths
from vis_core.models.visolo import test_time_augmentation
from vis_core.models.visolo.detection import Detections
from vis_core.models.visolo.guided_filter import guided, without_specks
from vis_core.models.visolo.memory import FrameMemory
from vis_core.models.visolo.model import FrameFeatures, GridReading, ViewFeatures, VISOLOModel
from vis_core.models.visolo.shipped import OTHER_VIEWS
from vis_core.models.visolo.test_time_augmentation import View
from vis_core.nn.concurrency import SideBySide
from vis_core.nn.graphs import Graph
from vis_core.structures import Frame


class VISOLOLiteModel(VISOLOModel):
    """VISOLO on a light network, several views of a frame averaged if asked, masks' edges at the image's.

    Args:
        min_part: parts of a mask that have less than this share of its largest part's pixels are left out.
        views: of each frame that are averaged, 1 to 4: as it is, and as `OTHER_VIEWS` has them.
        options: of `VISOLOModel`.
    """

    fixed_options = ("input_size", "views")
    quick = True

    def __init__(self, *arguments: Any, min_part: float, views: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.min_part = min_part
        interval, limit = self.memory.interval, self.memory.limit
        self._views = [View(self.transform, *view, FrameMemory(interval, limit)) for view in OTHER_VIEWS[: views - 1]]
        self._side_by_side = SideBySide()

    def encode(self, frame: Frame) -> FrameFeatures:
        images = [self.transform(frame.image), *(view.image(frame) for view in self._views)]
        return FrameFeatures(frame.stamp, tuple(self.extract(image) for image in images))

    def encode_ahead(self, frame: Frame) -> FrameFeatures:
        features = self.encode(frame)
        if self.exported:
            return features
        views = tuple(replace(view, mask_features=self.mask_features(view.maps)) for view in features.views)
        return replace(features, views=views)

    def read(self, features: FrameFeatures, number: int) -> tuple[GridReading, Tensor | None]:
        first, *others = features.views
        if self.device.type != "cpu" and not others:
            return super().read(features, number)
        readings = [self._read_view(first, self.memory, number)]
        for view, seen in zip(self._views, others):
            reading, mask_features = self._read_view(seen, view.memory, number)
            view.memory.append(reading.entry)
            readings.append(view.as_first(reading, mask_features, self.network.grid, readings[0][1].shape[1:]))
        return test_time_augmentation.averaged(readings) if others else readings[0]

    def _read_view(self, view: ViewFeatures, memory: FrameMemory, number: int) -> tuple[GridReading, Tensor]:
        """What a view says; its mask features, if they are not there, are made beside the grid's branches on a CPU."""

        def read() -> GridReading:
            return self.read_grid(view, memory, number)

        def masks() -> Tensor:
            return self.mask_features(view.maps)

        if view.mask_features is not None:
            return read(), view.mask_features
        return self._side_by_side(read, masks) if self.device.type == "cpu" else (read(), masks())

    def detect(self, maps: Sequence[Tensor], reading: GridReading, mask_features: Tensor | None) -> Detections:
        return self._tidied(super().detect(maps, reading, mask_features))

    def encode_masks(self, found: Detections, image: Tensor, size: tuple[int, int]) -> list[RunLengths]:
        if self.mask_resize == "guided":
            found = self._tidied(guided(found, image, self.mask_threshold))
        return super().encode_masks(found, image, size)

    def _tidied(self, found: Detections) -> Detections:
        return replace(found, masks=without_specks(found.masks, self.min_part)) if self.min_part else found

    def graphs(self) -> Mapping[str, Graph]:
        if self._views:
            raise ExportError(
                f"views={1 + len(self._views)}: cannot be exported, since the graphs are of one size; use views=1"
            )
        return super().graphs()

    def reset(self) -> None:
        super().reset()
        for view in self._views:
            view.memory.clear()

    def nbytes(self) -> int:
        return super().nbytes() + sum(view.memory.nbytes() for view in self._views)
