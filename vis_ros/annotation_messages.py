"""Tracks as ``foxglove_msgs/ImageAnnotations``: contours and names that Foxglove draws over an image."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import cv2
import numpy as np

from vis_core.structures import Instances, TrackState

_TOLERANCE = 1.0
"""Pixels by which a contour may leave the edge of its mask: corners of ragged masks are many."""
_FONT_SIZE = 14.0
_FILL = 0.25


def annotation_types() -> Any:
    """The module ``foxglove_msgs.msg``, None where it is not installed."""
    try:
        return import_module("foxglove_msgs.msg")
    except ImportError:
        return None


def to_annotations(types: Any, instances: Instances, stamp: Any, class_names: Sequence[str]) -> Any:
    """The ``ImageAnnotations`` of a frame: contours and names of what is seen, thin boxes where lost tracks may be.

    Args:
        types: see `annotation_types`.
        instances: the tracks of the frame.
        stamp: of its image, ``builtin_interfaces/Time``.
        class_names: name of each label.
    """
    from vis_core.video.overlay import track_color

    message = types.ImageAnnotations()
    shown = (TrackState.NEW, TrackState.TRACKED, TrackState.LOST)
    for row in np.flatnonzero(np.isin(instances.states, shown)).tolist():
        lost = instances.states[row] == TrackState.LOST
        left, top, right, bottom = instances.boxes[row].tolist() if lost else _corners(instances.masks[row].box)
        if right <= left or bottom <= top:
            continue
        number = int(instances.track_ids[row])
        red, green, blue = (value / 255 for value in track_color(number))
        colour = types.Color(r=red, g=green, b=blue, a=0.5 if lost else 1.0)
        name = f"{class_names[int(instances.labels[row])]} {number}"
        outlines: list[Any]
        if lost:
            outlines = [[(left, top), (right, top), (right, bottom), (left, bottom)]]
        else:
            outlines = _contours(instances, row)
            name += f" {float(instances.scores[row]):.2f}"
        for outline in outlines:
            drawn = types.PointsAnnotation(timestamp=stamp, type=types.PointsAnnotation.LINE_LOOP)
            drawn.points = [types.Point2(x=float(x), y=float(y)) for x, y in outline]
            drawn.outline_color, drawn.thickness = colour, 1.0 if lost else 2.0
            if not lost:
                drawn.fill_color = types.Color(r=red, g=green, b=blue, a=_FILL)
            message.points.append(drawn)
        text = types.TextAnnotation(timestamp=stamp, text=name, font_size=_FONT_SIZE)
        text.position = types.Point2(x=float(left), y=float(top))
        text.text_color, text.background_color = types.Color(r=1.0, g=1.0, b=1.0, a=1.0), colour
        message.texts.append(text)
    return message


def _corners(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    x, y, width, height = box
    return x, y, x + width, y + height


def _contours(instances: Instances, row: int) -> list[list[list[float]]]:
    """Outer contours of a mask through the middles of its pixels, which lie half a pixel from their corners."""
    mask = instances.masks[row]
    found, _ = cv2.findContours(mask.crop(), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=mask.box[:2])
    return [(cv2.approxPolyDP(contour, _TOLERANCE, closed=True)[:, 0] + 0.5).tolist() for contour in found]
