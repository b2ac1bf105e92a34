"""Contours and names for Foxglove."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vis_core import masks
from vis_core.structures import Instances, TrackState
from vis_ros.annotation_messages import to_annotations

SIZE = (40, 60)


def blank(*names: str):
    """Stands for a generated class: any field, set by name."""

    class Message:
        LINE_LOOP = 2

        def __init__(self, **fields):
            vars(self).update({name: [] for name in names} | fields)

    return Message


@pytest.fixture(params=["stand-ins", "foxglove_msgs"])
def types(request):
    if request.param == "foxglove_msgs":
        return pytest.importorskip("foxglove_msgs.msg", reason="needs ros-$ROS_DISTRO-foxglove-msgs")
    return SimpleNamespace(
        ImageAnnotations=blank("circles", "points", "texts"),
        PointsAnnotation=blank("points", "outline_colors"),
        TextAnnotation=blank(),
        Point2=blank(),
        Color=blank(),
    )


def rectangle(x: int, y: int, width: int, height: int) -> masks.RunLengths:
    pixels = np.zeros(SIZE, bool)
    pixels[y : y + height, x : x + width] = True
    return masks.encode(pixels)


def frame(*rows) -> Instances:
    """Of rows with a mask, a state and a box."""
    count = len(rows)
    return Instances(
        5, 0, SIZE, np.arange(count) + 7, np.zeros(count), [0.5] * count, [0.5] * count, [row[2] for row in rows],
        tuple(row[0] for row in rows), [row[1] for row in rows], *[np.zeros(count)] * 3,
    )  # fmt: skip


def test_what_is_seen_has_its_contours_and_its_name(types):
    stamp = pytest.importorskip("builtin_interfaces.msg").Time(sec=5)
    two = rectangle(10, 5, 20, 10).dense() | rectangle(40, 20, 10, 10).dense()
    message = to_annotations(types, frame((masks.encode(two), TrackState.NEW, [10, 5, 50, 30])), stamp, ("person",))
    found = {tuple(sorted((point.x, point.y) for point in one.points)) for one in message.points}
    assert found == {
        ((10.5, 5.5), (10.5, 14.5), (29.5, 5.5), (29.5, 14.5)),
        ((40.5, 20.5), (40.5, 29.5), (49.5, 20.5), (49.5, 29.5)),
    }
    assert {(one.type, one.thickness, one.timestamp.sec) for one in message.points} == {(2, 2.0, 5)}
    (text,) = message.texts
    assert (text.text, text.position.x, text.position.y) == ("person 7 0.50", 10, 5)
    assert not message.circles


def test_a_lost_track_has_a_box_where_it_is_expected_and_none_where_it_is_not(types):
    stamp = pytest.importorskip("builtin_interfaces.msg").Time(sec=5)
    nothing = masks.RunLengths(SIZE)
    rows = [
        (nothing, TrackState.LOST, [4, 6, 14, 26]),
        (nothing, TrackState.LOST, [0, 0, 0, 0]),
        (nothing, TrackState.ENDED, [0, 0, 0, 0]),
    ]
    message = to_annotations(types, frame(*rows), stamp, ("person",))
    (box,) = message.points
    assert [(point.x, point.y) for point in box.points] == [(4, 6), (14, 6), (14, 26), (4, 26)]
    assert box.outline_color.a == 0.5 and box.thickness == 1
    assert [text.text for text in message.texts] == ["person 7"]


def test_an_image_without_tracks_clears_what_was_drawn(types):
    stamp = pytest.importorskip("builtin_interfaces.msg").Time(sec=5)
    message = to_annotations(types, Instances.empty(5, 0, SIZE), stamp, ())
    assert not message.points and not message.texts


def test_a_ragged_edge_has_few_corners(types):
    stamp = pytest.importorskip("builtin_interfaces.msg").Time(sec=5)
    pixels = rectangle(5, 5, 40, 30).dense()
    pixels[5, 5:45:2] = pixels[34, 5:45:2] = False
    message = to_annotations(types, frame((masks.encode(pixels), TrackState.TRACKED, [5, 5, 45, 35])), stamp, ("x",))
    assert len(message.points) == 1 and len(message.points[0].points) < 12
