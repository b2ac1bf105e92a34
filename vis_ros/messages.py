"""ROS messages to and from `Frame` and `Instances`: the only file that knows the fields of the messages.

Messages that are read may come from ``rclpy`` or from ``rosbags``. Those that are made are of the classes in ``types``,
by default the generated ones, which are imported when the first is made, so that reading needs no ROS installation;
`vis_ros.recordings.recorded_types` gives those of ``rosbags``.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core import masks as run_lengths
from vis_core.errors import InputError, MissingDependencyError
from vis_core.structures import Frame, Instances, TrackState
from vis_core.video.levels import Levelling
from vis_ros import encodings

_SECOND = 1_000_000_000
_MAX_SIDE, _MAX_PIXELS = 1 << 15, 1 << 26
_MAX_TRACKS, _MAX_CLASSES = 1 << 16, 1 << 16
_STATES = frozenset(map(int, TrackState))


def to_nanoseconds(stamp: Any) -> int:
    """A ``builtin_interfaces/Time`` as nanoseconds."""
    return int(stamp.sec) * _SECOND + int(stamp.nanosec)


def to_stamp(nanoseconds: int) -> Any:
    """Nanoseconds as a ``builtin_interfaces/Time``."""
    seconds, rest = divmod(int(nanoseconds), _SECOND)
    return _message_types().Time(sec=seconds, nanosec=rest)


def stamp_of(message: Any) -> int:
    """The stamp of a message with a header, nanoseconds."""
    return to_nanoseconds(message.header.stamp)


def to_frame(
    message: Any, index: int, levelling: Levelling | None = None, max_pixels: int = encodings.MAX_PIXELS
) -> Frame:
    """The frame in a ``sensor_msgs/Image``; pixels of ``rgb8`` without padding are shared with the message.

    Args:
        message: the image.
        index: position in the stream.
        levelling: how 16 bits become 8, the same for all images of a stream.
        max_pixels: of the largest image that is taken.

    Raises:
        BadImageError: the message is broken, its encoding unknown, or its values need a range.
    """
    shape = message.height, message.width, message.step, message.encoding, bool(message.is_bigendian)
    return Frame(encodings.to_rgb(message.data, *shape, levelling, max_pixels), stamp_of(message), index)


def compressed_to_frame(
    message: Any, index: int, levelling: Levelling | None = None, max_pixels: int = encodings.MAX_PIXELS
) -> Frame:
    """The frame in a ``sensor_msgs/CompressedImage`` (JPEG or PNG); as of `to_frame`.

    Raises:
        BadImageError: the message is broken, neither JPEG nor PNG, or its values need a range.
    """
    pixels = encodings.compressed_to_rgb(message.data, message.format, levelling, max_pixels)
    return Frame(pixels, stamp_of(message), index)


def to_message(
    instances: Instances, header: Any, system: str, class_names: Sequence[str], types: SimpleNamespace | None = None
) -> Any:
    """The ``vis_ros/InstanceTrackArray`` of a frame.

    Args:
        instances: the tracks of the frame.
        header: the header of its image, taken unchanged.
        system: name of the segmentation system.
        class_names: name of each label.
        types: of the messages that are made.
    """
    types = types or _message_types()
    height, width = instances.size
    tracks = []
    # Setters of the generated classes look at every element of a sequence, but take an array.array as it is.
    for row in zip(
        instances.track_ids.tolist(),
        instances.labels.tolist(),
        instances.scores.tolist(),
        instances.track_scores.tolist(),
        instances.states.tolist(),
        instances.ages.tolist(),
        instances.first_seen.tolist(),
        instances.last_seen.tolist(),
        _regions(instances),
        instances.masks,
    ):
        track_id, label, score, track_score, state, age, first_seen, last_seen, region, mask = row
        track = types.InstanceTrack()
        track.track_id = track_id
        track.class_id = label
        track.class_name = class_names[label]
        track.score = score
        track.track_score = track_score
        track.state = state
        track.age = age
        track.first_seen.sec, track.first_seen.nanosec = divmod(first_seen, _SECOND)
        track.last_seen.sec, track.last_seen.nanosec = divmod(last_seen, _SECOND)
        roi = track.roi
        roi.x_offset, roi.y_offset, roi.width, roi.height = region
        track.runs = types.sequence(mask.runs)
        tracks.append(track)
    message = types.InstanceTrackArray()
    message.header = header
    message.height, message.width = height, width
    message.system = system
    message.tracks = tracks
    return message


def _regions(instances: Instances) -> list[tuple[int, int, int, int]]:
    """The roi of each row: the box of its mask; of a lost one where it is expected."""
    out = [mask.box for mask in instances.masks]
    height, width = instances.size
    for row in np.flatnonzero(instances.states == TrackState.LOST).tolist():
        left, top, right, bottom = np.rint(instances.boxes[row].clip(0, (width, height) * 2)).astype(int).tolist()
        out[row] = (left, top, right - left, bottom - top)
    return out


def from_message(message: Any, index: int = 0) -> Instances:
    """The instances in a ``vis_ros/InstanceTrackArray``.

    Args:
        message: the tracks of one frame.
        index: position of the frame in the stream.

    Raises:
        InputError: a value is out of range, two tracks have one id, a mask leaves the image, or its runs do not fill
            its box.
    """
    size = (int(message.height), int(message.width))
    tracks = message.tracks
    if stamp_of(message) < 0:
        raise InputError(f"stamp {stamp_of(message)} is negative")
    _check(size, tracks)
    masks, regions = [], []
    for position, track in enumerate(tracks):
        roi = track.roi
        box = (int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height))
        masks.append(run_lengths.from_box(size, box, np.asarray(track.runs, np.uint32)))
        lost = track.state == TrackState.LOST
        if box[2] * box[3] and not len(track.runs) and not lost:
            raise InputError(f"tracks[{position}]: state {track.state}, a roi of {box[2]}x{box[3]}, and no runs")
        regions.append(box if lost else masks[-1].box)
    boxes = np.array(regions, np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Instances(
        stamp=stamp_of(message),
        index=index,
        size=size,
        track_ids=np.array([track.track_id for track in tracks], np.int64),
        labels=np.array([track.class_id for track in tracks], np.int64),
        scores=np.array([track.score for track in tracks], np.float32),
        track_scores=np.array([track.track_score for track in tracks], np.float32),
        boxes=boxes,
        masks=tuple(masks),
        states=np.array([track.state for track in tracks], np.uint8),
        ages=np.array([track.age for track in tracks], np.int64),
        first_seen=np.array([to_nanoseconds(track.first_seen) for track in tracks], np.int64),
        last_seen=np.array([to_nanoseconds(track.last_seen) for track in tracks], np.int64),
    )


def _check(size: tuple[int, int], tracks: Sequence[Any]) -> None:
    """Refuse what no node of ours publishes, before memory is taken for it.

    Raises:
        InputError: the text names the value.
    """
    height, width = size
    if max(size) > _MAX_SIDE or height * width > _MAX_PIXELS:
        raise InputError(f"size {width}x{height} is more than {_MAX_PIXELS} pixels, or {_MAX_SIDE} a side")
    if len(tracks) > _MAX_TRACKS:
        raise InputError(f"{len(tracks)} tracks are more than {_MAX_TRACKS}")
    seen: set[int] = set()
    for position, track in enumerate(tracks):
        place, number = f"tracks[{position}]", int(track.track_id)
        if not 0 <= number < 1 << 63:
            raise InputError(f"{place}: track_id {number} is not in 0 to {(1 << 63) - 1}")
        if number in seen:
            raise InputError(f"{place}: track_id {number} stands there twice")
        seen.add(number)
        if not 0 <= track.class_id < _MAX_CLASSES:
            raise InputError(f"{place}: class_id {track.class_id} is not in 0 to {_MAX_CLASSES - 1}")
        for name in ("score", "track_score"):
            if not math.isfinite(getattr(track, name)):
                raise InputError(f"{place}: {name} {getattr(track, name)} is not finite")
        if track.state not in _STATES:
            raise InputError(f"{place}: state {track.state} is none of {', '.join(map(str, sorted(_STATES)))}")


def label_image_message(labels: npt.NDArray[np.uint16], header: Any, types: SimpleNamespace | None = None) -> Any:
    """A ``sensor_msgs/Image`` 16UC1 of a label image.

    Args:
        labels: uint16 ``[H, W]``, 0 = background, else 1 + position in the tracks array.
        header: the header of the camera image, taken unchanged.
        types: of the message that is made.
    """
    return _image_message(np.ascontiguousarray(labels, "<u2"), "16UC1", header, types)


def mono_message(image: npt.NDArray[np.uint8], header: Any, types: SimpleNamespace | None = None) -> Any:
    """A ``sensor_msgs/Image`` mono8.

    Args:
        image: uint8 ``[H, W]``.
        header: taken unchanged.
        types: of the message that is made.
    """
    return _image_message(np.ascontiguousarray(image), "mono8", header, types)


def rgb_message(image: npt.NDArray[np.uint8], header: Any, encoding: str = "rgb8") -> Any:
    """A ``sensor_msgs/Image`` of colours.

    Args:
        image: uint8 ``[H, W, 3]``, in the order of the encoding.
        header: taken unchanged.
        encoding: ``rgb8`` or ``bgr8``.
    """
    return _image_message(np.ascontiguousarray(image), encoding, header)


def label_info(types: Any, class_names: tuple[str, ...], header: Any) -> Any:
    """A ``vision_msgs/LabelInfo``: which class each value of an image of classes is; 0 is none.

    Args:
        types: holds ``LabelInfo`` and ``VisionClass``.
        class_names: of the values from 1 on.
        header: taken unchanged.
    """
    classes = [types.VisionClass(class_id=i, class_name=name) for i, name in enumerate(class_names, 1)]
    return types.LabelInfo(header=header, class_map=classes, threshold=0.0)


def _image_message(pixels: npt.NDArray[Any], encoding: str, header: Any, types: SimpleNamespace | None = None) -> Any:
    types = types or _message_types()
    message = types.Image()
    message.header = header
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.is_bigendian = 0
    message.step = pixels.strides[0]
    message.data = types.sequence(pixels.reshape(-1).view(np.uint8))
    return message


def _sequence(values: npt.NDArray[Any]) -> array[int]:
    """Numbers of 8 or 32 bits as the generated classes take them without a look at each."""
    out = array("B" if values.dtype == np.uint8 else "I")
    out.frombytes(np.ascontiguousarray(values).view(np.uint8).data)
    return out


@lru_cache(maxsize=1)
def _message_types() -> SimpleNamespace:
    try:
        from builtin_interfaces.msg import Time
        from sensor_msgs.msg import Image

        from vis_ros.msg import InstanceTrack, InstanceTrackArray
    except ImportError as error:
        raise MissingDependencyError(
            f"ROS messages are missing ({error}): source the workspace that vis_ros was built in, or run `make`"
        ) from error
    return SimpleNamespace(
        Time=Time,
        Image=Image,
        InstanceTrack=InstanceTrack,
        InstanceTrackArray=InstanceTrackArray,
        sequence=_sequence,
    )
