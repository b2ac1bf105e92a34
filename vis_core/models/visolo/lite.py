"""visolo-lite: VISOLO with EfficientNet-Lite0, small enough to ship and quick on two CPU cores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vis_core.masks import RunLengths
from vis_core.models.visolo.detection import Detections
from vis_core.models.visolo.grid import GridNetwork, GridReading
from vis_core.models.visolo.guided_filter import guided, without_specks
from vis_core.models.visolo.model import VISOLOModel


class VISOLOLiteModel(VISOLOModel):
    """VISOLO on a light network, masks' edges at the image's.

    Args:
        grid: the network; of several views of a frame, `AveragedViews`.
        class_names: name of each label.
        min_part: parts of a mask that have less than this share of its largest part's pixels are left out.
        options: of `VISOLOModel`.
    """

    fixed_options = ("input_size", "views")
    quick = True

    def __init__(self, grid: GridNetwork, class_names: tuple[str, ...], *, min_part: float, **options: Any) -> None:
        super().__init__(grid, class_names, **options)
        self.min_part = min_part

    def detect(self, seen: Any, reading: GridReading) -> Detections:
        return self._tidied(super().detect(seen, reading))

    def encode_masks(self, found: Detections, seen: Any, size: tuple[int, int]) -> list[RunLengths]:
        if self.mask_resize == "guided":
            found = self._tidied(guided(found, self.grid.image(seen), self.mask_threshold))
        return super().encode_masks(found, seen, size)

    def _tidied(self, found: Detections) -> Detections:
        return replace(found, masks=without_specks(found.masks, self.min_part)) if self.min_part else found
