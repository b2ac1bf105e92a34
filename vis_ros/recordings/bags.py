"""Camera images in rosbag2 recordings, read through ``rosbags``.

    with ImageBag("street_bag") as bag:
        for frame in bag:
            ...

No ROS installation is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.typesys import Stores, get_typestore

from vis_core.errors import InputError
from vis_core.structures import Frame
from vis_core.video.levels import Levelling
from vis_core.video.sources import DEFAULT_FPS, Skipped, VideoSource
from vis_ros import messages
from vis_ros.encodings import BadImageError
from vis_ros.recordings.recording import RESCUE, Recording, Topic, listed, told

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"


class RecordedImages:
    """The messages of one topic of images in a rosbag2 recording: sqlite3 or MCAP, also compressed with zstd.

    Args:
        path: the recording's folder, or its one ``.mcap`` or ``.db3`` file.
        topic: a topic of images, raw or compressed; default: the only one.

    Raises:
        InputError: no such recording, torn, or without that topic; the text lists what the recording holds.

    Attributes:
        path: of the recording.
        topics: all that it holds.
        topic: the one that is read.
        compressed: its messages are ``CompressedImage``, not ``Image``.
        camera_info: the topic beside it that tells of the camera; None where there is none.
        rate: images per second, by how many there are and how long the recording is.
    """

    def __init__(self, path: str | Path, topic: str | None = None) -> None:
        self.path = Path(path)
        self._recording = Recording(self.path)
        try:
            self.topics = self._recording.topics
            self.topic = _choose(self.path, self.topics, topic)
        except BaseException:
            self._recording.close()
            raise
        self.compressed = self.topic.type == COMPRESSED_IMAGE
        self.camera_info = _camera_info(self.topics, self.topic)
        count, seconds = self.topic.count or 0, self._recording.duration / 1e9
        rate = (count - 1) / seconds if count > 1 and seconds > 0 else DEFAULT_FPS
        self.rate = min(max(rate, 0.01), 1e4)

    def __enter__(self) -> RecordedImages:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """Time of recording (nanoseconds) and serialised message, of each image.

        Raises:
            InputError: the recording turns out to be torn.
        """
        for _, time, data in self._messages([self.topic]):
            yield time, data

    def messages_with_camera_info(self) -> Iterator[tuple[str, int, bytes]]:
        """Topic, time of recording (nanoseconds) and serialised message, of each image and of what tells of the camera.

        Raises:
            InputError: the recording turns out to be torn.
        """
        return self._messages([self.topic, *([] if self.camera_info is None else [self.camera_info])])

    def _messages(self, topics: list[Topic]) -> Iterator[tuple[str, int, bytes]]:
        received = 0
        coming = self._recording.messages(topics)
        while True:
            try:
                topic, time, data = next(coming)
            except StopIteration:
                return
            except InputError:
                raise
            except Exception as error:
                raise InputError(
                    f"{self.path}: torn after {received} of {self.topic.count} images of {self.topic.name}: "
                    f"{told(error)}; holds {listed(self.topics)}; {RESCUE}"
                ) from error
            received += topic == self.topic.name
            yield topic, time, data

    def stamps(self) -> npt.NDArray[np.int64]:
        """int64 ``[count]``: the stamp in the header of each image, nanoseconds.

        Raises:
            InputError: the recording turns out to be torn, or holds fewer images than it announces.
        """
        stamps = np.array([serialised_stamp(data) for _, data in self.messages()], np.int64)
        if len(stamps) != self.topic.count:
            raise self._miscounted(len(stamps))
        return stamps

    def close(self) -> None:
        """Let go of the files."""
        self._recording.close()

    def _miscounted(self, held: int) -> InputError:
        return InputError(
            f"{self.path}: announces {self.topic.count} images of {self.topic.name} but holds {held}; "
            "`ros2 bag reindex` counts anew"
        )


class ImageBag(RecordedImages, VideoSource):
    """The images of one topic of a recording, read one at a time.

    A frame's index is the position of its message in the topic. An image that cannot be used is left out, named by its
    stamp. One iteration at a time.

    Args:
        path, topic: as of `RecordedImages`.
        value_range: how 16 bits of images become 8, as of `Levelling`.

    Raises:
        InputError: as of `RecordedImages`, or none of the images can be used.
        OptionError: there is no such range.
    """

    length_is_exact = True

    def __init__(self, path: str | Path, topic: str | None = None, value_range: str | None = None) -> None:
        notes: list[str] = []
        self._levelling = Levelling(value_range, notes.append)
        RecordedImages.__init__(self, path, topic)
        try:
            VideoSource.__init__(self, self.path.stem, self.topic.count, self.rate, self._first_size())
        except BaseException:
            self._recording.close()
            raise
        self.notes += notes[-1:]

    def __enter__(self) -> ImageBag:
        return self

    def close(self) -> None:
        """Let go of the files; an iteration that was under way ends."""
        VideoSource.close(self)
        RecordedImages.close(self)

    def _read(self) -> Generator[Frame | Skipped, None, None]:
        for index, (_, data) in enumerate(self.messages()):
            name = f"{self.topic.name} stamp {_seconds(data)}"
            try:
                frame = self._to_frame(data, index)
            except BadImageError as error:
                yield Skipped(name, str(error))
                continue
            if frame.size != self.size:
                (height, width), (first_height, first_width) = frame.size, self.size
                yield Skipped(name, f"is {width}x{height}, the first is {first_width}x{first_height}")
                continue
            yield frame

    def _to_frame(self, data: bytes, index: int) -> Frame:
        try:
            message = typestore().deserialize_cdr(data, self.topic.type)
        except Exception as error:  # whatever the bytes make of the parser
            raise BadImageError("truncated", f"is no {self.topic.type}: {told(error)}") from error
        return (messages.compressed_to_frame if self.compressed else messages.to_frame)(message, index, self._levelling)

    def _first_size(self) -> tuple[int, int]:
        """Size of the first image that is sound; the range of 16-bit ones is found by the first few."""
        reason, size = None, None
        for _, data in self.messages():
            try:
                found = self._to_frame(data, 0).size
            except BadImageError as error:
                reason = reason or str(error)
                continue
            size = size or found
            if not self._levelling.wants_more:
                return size
        if size is not None:
            self._levelling.settle()
            return size
        if reason is None:
            raise self._miscounted(0)
        raise InputError(
            f"{self.path}: none of the {self.topic.count} images of {self.topic.name} can be used; the first: {reason}"
        )


def serialised_stamp(data: bytes) -> int:
    """The stamp in the header of a serialised message that begins with one, nanoseconds.

    Raises:
        InputError: it is too short for one.
    """
    if len(data) < 12:
        raise InputError(f"a serialised message of {len(data)} bytes has no stamp")
    seconds, rest = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(seconds) * 1_000_000_000 + int(rest)


def _choose(path: Path, topics: Iterable[Topic], name: str | None) -> Topic:
    holds = f"holds {listed(topics)}"
    images = [topic for topic in topics if topic.type in (IMAGE, COMPRESSED_IMAGE)]
    if name is None:
        if not images:
            raise InputError(f"{path}: no topic of images ({IMAGE} or {COMPRESSED_IMAGE}); {holds}")
        if len(images) > 1:
            raise InputError(f"{path}: several topics of images, name one with --topic; {holds}")
        chosen = images[0]
    else:
        wanted = "/" + name.strip("/")
        found = [topic for topic in topics if topic.name == wanted]
        if not found:
            raise InputError(f"{path}: no topic {wanted}; {holds}")
        chosen = found[0]
        if chosen not in images:
            raise InputError(f"{path}: topic {wanted} is of type {chosen.type}, not of images; {holds}")
    if not chosen.count:
        raise InputError(f"{path}: topic {chosen.name} has no message; {holds}")
    return chosen


def _camera_info(topics: Iterable[Topic], images: Topic) -> Topic | None:
    """The topic where ``image_transport`` has it: beside the raw images."""
    raw = images.name.removesuffix("/compressed") if images.type == COMPRESSED_IMAGE else images.name
    wanted = (raw.rpartition("/")[0] + "/camera_info", CAMERA_INFO)
    return next((topic for topic in topics if (topic.name, topic.type) == wanted), None)


def _seconds(data: bytes) -> str:
    with suppress(InputError):
        seconds, rest = divmod(serialised_stamp(data), 1_000_000_000)
        return f"{seconds}.{rest:09d}"
    return "unknown"


@lru_cache(maxsize=1)
def typestore() -> Any:
    """The message types; those of images have been the same in every release of ROS 2."""
    return get_typestore(Stores.ROS2_HUMBLE)
