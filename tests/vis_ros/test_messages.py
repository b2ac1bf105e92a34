from __future__ import annotations

from array import array
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vis_core import masks
from vis_core.errors import InputError
from vis_core.structures import Instances, TrackState
from vis_ros import messages

CLASS_NAMES = ("person", "dog", "car")


def _instances(size: tuple[int, int], seed: int, count: int) -> Instances:
    random = np.random.default_rng(seed)
    stamp = int(random.integers(0, 2 * 10**18))
    shapes = []
    for row in range(count):
        dense = np.zeros(size, bool)
        if row % 3 != 2:
            y, x = random.integers(0, size[0]), random.integers(0, size[1])
            dense[y : y + random.integers(1, 30), x : x + random.integers(1, 30)] = True
            dense &= random.random(size) < 0.9
        shapes.append(masks.encode(dense))
    boxes = np.array([shape.box for shape in shapes], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Instances(
        stamp=stamp,
        index=seed,
        size=size,
        track_ids=random.integers(1, 2**62, count),
        labels=random.integers(0, 3, count),
        scores=random.random(count, np.float32),
        track_scores=random.random(count, np.float32),
        boxes=boxes,
        masks=tuple(shapes),
        states=random.integers(1, 5, count),
        ages=random.integers(0, 2**31, count),
        first_seen=random.integers(0, 2 * 10**18, count),
        last_seen=random.integers(0, 2 * 10**18, count),
    )


def _header(stamp: int):
    std_msgs = pytest.importorskip("std_msgs.msg", reason="needs the ROS 2 wheels or a sourced ROS 2")
    pytest.importorskip("vis_ros.msg", reason="needs the built messages")
    header = std_msgs.Header(frame_id="camera")
    header.stamp = messages.to_stamp(stamp)
    return header


def _assert_same(found: Instances, expected: Instances) -> None:
    assert (found.stamp, found.index, found.size) == (expected.stamp, expected.index, expected.size)
    assert found.masks == expected.masks
    for name in ("track_ids", "labels", "scores", "track_scores", "boxes", "states", "ages", "first_seen", "last_seen"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(0, 12))
def test_instances_survive_the_message_and_the_wire(seed, count):
    expected = _instances((37, 53), seed, count)
    message = messages.to_message(expected, _header(expected.stamp), "visolo", CLASS_NAMES)
    _assert_same(messages.from_message(message, expected.index), expected)
    from rclpy.serialization import deserialize_message, serialize_message

    received = deserialize_message(serialize_message(message), type(message))
    assert received == message
    _assert_same(messages.from_message(received, expected.index), expected)


def test_the_message_names_what_it_holds():
    instances = _instances((20, 30), 1, 4)
    header = _header(instances.stamp)
    message = messages.to_message(instances, header, "visolo", CLASS_NAMES)
    assert message.header is header
    assert (message.height, message.width, message.system) == (20, 30, "visolo")
    for row, track in enumerate(message.tracks):
        assert track.class_name == CLASS_NAMES[instances.labels[row]]
        assert (track.roi.x_offset, track.roi.y_offset, track.roi.width, track.roi.height) == instances.masks[row].box
        assert sum(track.runs) == track.roi.width * track.roi.height


def test_a_lost_track_is_where_it_is_expected_and_has_no_runs():
    instances = replace(
        _instances((20, 30), 1, 4),
        masks=(masks.RunLengths((20, 30)),) * 4,
        states=[TrackState.LOST, TrackState.LOST, TrackState.LOST, TrackState.ENDED],
        boxes=[[3, 4, 9, 16], [0, 0, 0, 0], [-4, 15, 40, 22], [0, 0, 0, 0]],
    )
    message = messages.to_message(instances, _header(instances.stamp), "visolo", CLASS_NAMES)
    rois = [(t.roi.x_offset, t.roi.y_offset, t.roi.width, t.roi.height) for t in message.tracks]
    assert rois == [(3, 4, 6, 12), (0, 0, 0, 0), (0, 15, 30, 5), (0, 0, 0, 0)]
    assert not any(len(track.runs) for track in message.tracks)
    found = messages.from_message(message, instances.index)
    assert found.masks == instances.masks
    assert found.boxes.tolist() == [[3, 4, 9, 16], [0, 0, 0, 0], [0, 15, 30, 20], [0, 0, 0, 0]]
    assert not found.visible.any() and not found.dense_masks().any() and not found.label_image().any()
    message.tracks[0].state = int(TrackState.TRACKED)
    with pytest.raises(InputError, match=r"tracks\[0\]: state 2, a roi of 6x12, and no runs"):
        messages.from_message(message)


def test_the_constants_of_the_message_are_the_states_of_a_track():
    msg = pytest.importorskip("vis_ros.msg", reason="needs the built messages")
    for state in TrackState:
        assert getattr(msg.InstanceTrack, state.name) == state


def test_runs_pass_the_setters_that_check_every_element():
    """Older releases, and ROS_PYTHON_CHECK_FIELDS, take only an array.array without a look at each value."""
    instances = _instances((20, 30), 1, 4)
    message = messages.to_message(instances, _header(0), "visolo", CLASS_NAMES)
    for track in message.tracks:
        assert isinstance(track.runs, array)
        assert (track.runs.typecode, track.runs.itemsize) == ("I", 4)


@pytest.mark.parametrize(
    "changes",
    [{"x_offset": 30}, {"height": 2**31}, {"width": 0}],
)
def test_a_mask_that_contradicts_itself_is_refused(changes):
    instances = _instances((20, 30), 1, 1)
    message = messages.to_message(instances, _header(0), "visolo", CLASS_NAMES)
    for name, value in changes.items():
        setattr(message.tracks[0].roi, name, value)
    with pytest.raises(InputError):
        messages.from_message(message)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"track_id": 2**63}, r"tracks\[1\]: track_id 9223372036854775808 is not in 0 to"),
        ({"track_id": 5}, r"tracks\[1\]: track_id 5 stands there twice"),
        ({"class_id": -1}, "class_id -1 is not in 0 to"),
        ({"class_id": 2**31 - 1}, "class_id 2147483647 is not in 0 to"),
        ({"score": float("nan")}, "score nan is not finite"),
        ({"track_score": float("-inf")}, "track_score -inf is not finite"),
        ({"state": 0}, "state 0 is none of 1, 2, 3, 4"),
        ({"state": 255}, "state 255 is none of"),
    ],
)
def test_a_track_out_of_range_is_refused_by_name_and_value(changes, told):
    message = messages.to_message(_instances((20, 30), 1, 2), _header(0), "visolo", CLASS_NAMES)
    message.tracks[0].track_id = 5
    for name, value in changes.items():
        setattr(message.tracks[1], name, value)
    with pytest.raises(InputError, match=told):
        messages.from_message(message)


@pytest.mark.parametrize("size", [(2**32 - 1, 2**32 - 1), (2**32 - 1, 1), (1, 2**31), (2**15, 2**15)])
def test_an_absurd_size_is_refused_before_memory_is_taken(size):
    message = messages.to_message(Instances.empty(0, 0, (2, 2)), _header(0), "visolo", CLASS_NAMES)
    message.height, message.width = size
    with pytest.raises(InputError, match=f"size {size[1]}x{size[0]} is more than"):
        messages.from_message(message)


def test_a_stamp_before_time_began_is_refused():
    message = messages.to_message(Instances.empty(0, 0, (2, 2)), _header(0), "visolo", CLASS_NAMES)
    message.header.stamp.sec = -1
    with pytest.raises(InputError, match="stamp -1000000000 is negative"):
        messages.from_message(message)


@pytest.mark.parametrize(
    "nanoseconds", [0, 1, 999_999_999, 1_000_000_000, 1_795_437_603_322_313_072, 2**31 * 10**9 - 1]
)
def test_stamps_are_exact_to_the_nanosecond(nanoseconds):
    pytest.importorskip("builtin_interfaces.msg", reason="needs the ROS 2 wheels or a sourced ROS 2")
    stamp = messages.to_stamp(nanoseconds)
    assert 0 <= stamp.nanosec < 10**9
    assert messages.to_nanoseconds(stamp) == nanoseconds


def test_images_of_any_reader_become_frames():
    """A message is known by its fields, so that those of rosbags do as well as those of rclpy."""
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=25))
    fields = {"header": header, "height": 4, "width": 5, "is_bigendian": 0}
    message = SimpleNamespace(step=15, encoding="rgb8", data=pixels.ravel(), **fields)
    frame = messages.to_frame(message, 7)
    assert (frame.stamp, frame.index, frame.size) == (3_000_000_025, 7, (4, 5))
    np.testing.assert_array_equal(frame.image, pixels)


@pytest.mark.parametrize("big_endian", [0, 1])
def test_the_byte_order_of_a_message_counts(big_endian):
    values = np.arange(20, dtype=np.uint16).reshape(4, 5) * 3000
    data = np.frombuffer(values.astype(">u2" if big_endian else "<u2").tobytes(), np.uint8)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=25))
    fields = {"header": header, "height": 4, "width": 5, "is_bigendian": big_endian}
    frame = messages.to_frame(SimpleNamespace(step=10, encoding="mono16", data=data, **fields), 7)
    np.testing.assert_array_equal(frame.image[..., 1], values >> 8)


def test_compressed_images_become_frames():
    import cv2

    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=25))
    data = cv2.imencode(".png", pixels[..., ::-1])[1]
    frame = messages.compressed_to_frame(SimpleNamespace(header=header, format="png", data=data), 7)
    assert (frame.stamp, frame.index) == (3_000_000_025, 7)
    np.testing.assert_array_equal(frame.image, pixels)


def test_label_images_and_pictures_keep_header_and_pixels():
    header = _header(5)
    labels = np.arange(6, dtype=np.uint16).reshape(2, 3) * 300
    message = messages.label_image_message(labels, header)
    assert message.header is header
    assert (message.encoding, message.height, message.width, message.step) == ("16UC1", 2, 3, 6)
    assert message.is_bigendian == 0
    np.testing.assert_array_equal(np.frombuffer(message.data, "<u2").reshape(2, 3), labels)
    picture = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    message = messages.rgb_message(picture[:, ::-1], header)
    assert (message.encoding, message.height, message.width, message.step) == ("rgb8", 2, 3, 9)
    np.testing.assert_array_equal(np.frombuffer(message.data, np.uint8).reshape(2, 3, 3), picture[:, ::-1])
