"""What of a stream's tracks is drawn over its frames, and of which of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vis_core.errors import OptionError, nearest
from vis_core.structures import Instances, TrackState
from vis_core.video.overlay import Image, Point, draw_overlay

PARTS = ("masks", "boxes", "labels", "trails")
_TRAIL = 40
"""Frames that a trail goes back."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn.

    Attributes:
        parts: of `PARTS`.
        min_score: running score that a track must have reached; None: the one that the weights are shown with.
        classes: names of the classes that are drawn; none: all.

    Raises:
        OptionError: there is no such part, or the score is not in 0 to 1.
    """

    parts: tuple[str, ...] = ("masks", "labels")
    min_score: float | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise OptionError(f"draw: {part!r} is unknown; {nearest(part, PARTS)}")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise OptionError(f"min_score: {self.min_score} is not in 0 to 1")


class TrackDrawer:
    """Draws the tracks of one stream, frame after frame.

    Args:
        class_names: name of each label.
        drawing: what is drawn.

    Raises:
        OptionError: a class that there is not.
    """

    def __init__(self, class_names: Sequence[str], drawing: Drawing) -> None:
        for name in drawing.classes:
            if name not in class_names:
                raise OptionError(f"classes: {name!r} is unknown; {nearest(name, class_names)}")
        self._class_names, self._parts = class_names, drawing.parts
        self._wanted = np.array([not drawing.classes or name in drawing.classes for name in class_names], np.bool_)
        self._trails: dict[int, deque[Point]] = {}

    def draw(self, image: Image, instances: Instances) -> Image:
        """A copy of the frame with its tracks drawn; see `draw_overlay`."""
        if not self._wanted.all():
            instances = instances[self._wanted[instances.labels]]
        if "trails" in self._parts:
            self._follow(instances)
        return draw_overlay(image, instances, self._class_names, parts=self._parts, trails=self._trails)

    def _follow(self, instances: Instances) -> None:
        """Where each track stood: the middle of its box's lower edge."""
        for row, track_id in enumerate(instances.track_ids.tolist()):
            if instances.states[row] == TrackState.ENDED:
                self._trails.pop(track_id, None)
            elif instances.visible[row] and instances.masks[row].box[2]:
                x, y, width, height = instances.masks[row].box
                self._trails.setdefault(track_id, deque(maxlen=_TRAIL)).append((x + width // 2, y + height - 1))
