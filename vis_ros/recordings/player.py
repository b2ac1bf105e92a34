"""Publishing the images of a recording as its camera did, at the rate at which they were recorded."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TypeVar

from rclpy.duration import Duration
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vis_ros.recordings.bags import RecordedImages, serialised_stamp
from vis_ros.recordings.session import Session

RELIABLE = QoSProfile(depth=10)
"""Heard by whoever subscribes, reliable or best effort."""

_TICK = 0.05
_DISCOVERY_SECONDS, _SETTLE_SECONDS, _LAST_SECONDS = 2.0, 0.2, 1.0
_STAMPED = 12

Item = TypeVar("Item")


class Ending(Protocol):
    """What may end a run early, such as a `threading.Event`."""

    def is_set(self) -> bool:
        """Whether it does."""

    def wait(self, timeout: float, /) -> bool:
        """Whether it does within some seconds."""


def paced(timed: Iterable[tuple[int, Item]], rate: float, ended: Ending) -> Iterator[Item]:
    """Each item when it is due: the first at once, the others as long after it as their times say.

    Args:
        timed: items with their times, nanoseconds.
        rate: 2 is twice as fast.
        ended: no further item comes once it is set.
    """
    offset: float | None = None
    for at, item in timed:
        now, due = time.monotonic(), at / 1e9 / rate
        offset = now - due if offset is None else offset
        if ended.wait(max(offset + due - now, 0.0)):
            return
        yield item


@contextmanager
def heard(publisher: Any, ended: Ending) -> Iterator[None]:
    """While inside, what is published is heard by who is there already, as far as that can be known.

    It waits for a first subscription and a moment longer, in which that one learns of the publisher; at the end for
    reliable ones to have the last message: no longer than 2 s, and 1 s.
    """
    deadline = time.monotonic() + _DISCOVERY_SECONDS
    while not publisher.get_subscription_count() and time.monotonic() < deadline and not ended.wait(_TICK):
        pass
    if publisher.get_subscription_count():
        ended.wait(_SETTLE_SECONDS)
    yield
    publisher.wait_for_all_acked(Duration(seconds=_LAST_SECONDS))


class ImagePlayer:
    """Publishes the images of a recording on a topic, best effort as a camera does, at the rate of their recording.

    Make it before the node that is to see every image: what has been announced first is known first.

    Args:
        session: where to publish.
        bag: the recording; its messages go out unchanged, but for what ``numbered`` and ``stamped_now`` say.
        topic: default: the recording's.
        on_sent: called with the stamp and the monotonic time of each image, just before it goes out.
        numbered: the ``frame_id`` of each header becomes the image's position in the topic, from 0, so that an answer
            tells which image it answers, whatever their stamps.
        stamped_now: the stamp of each header becomes the time at which it goes out; equal stamps that follow each other
            stay equal.
        camera_info: publish what the recording tells of the camera too.
        quality: of service.

    Attributes:
        topic: of the images.
        publisher: of the images.
    """

    def __init__(
        self,
        session: Session,
        bag: RecordedImages,
        topic: str | None = None,
        on_sent: Callable[[int, int], None] = lambda stamp, at: None,
        numbered: bool = False,
        stamped_now: bool = False,
        camera_info: bool = False,
        quality: QoSProfile = qos_profile_sensor_data,
    ) -> None:
        self.topic = topic or bag.topic.name
        self._session = session
        self._bag = bag
        self._on_sent = on_sent
        self._numbered, self._stamped_now = numbered, stamped_now
        self._latest: tuple[int, int] | None = None
        kind = CompressedImage if bag.compressed else Image
        self.publisher = session.node.create_publisher(kind, self.topic, quality)
        self._info: Any = None
        if camera_info and bag.camera_info is not None:
            self._info = session.node.create_publisher(CameraInfo, bag.camera_info.name, quality)

    def subscriptions(self) -> int:
        """How many subscriptions are there to hear it."""
        return int(self.publisher.get_subscription_count())

    def play(self, rate: float = 1.0, ended: Ending | None = None) -> int:
        """Publish all images; returns how many.

        Args:
            rate: 2 is twice as fast as recorded.
            ended: once it is set, no further image goes out.

        Raises:
            InputError: the recording is torn.
        """
        count = 0
        coming = (
            self._bag.messages_with_camera_info()
            if self._info is not None
            else ((self._bag.topic.name, at, data) for at, data in self._bag.messages())
        )
        for topic, data in paced(((at, (topic, data)) for topic, at, data in coming), rate, ended or threading.Event()):
            if self._stamped_now:
                data = self._now(data)
            if topic != self._bag.topic.name:
                self._info.publish(data)
                continue
            self._on_sent(serialised_stamp(data), time.monotonic_ns())
            self.publisher.publish(numbered(data, count) if self._numbered else data)
            count += 1
        return count

    def _now(self, data: bytes) -> bytes:
        if len(data) < _STAMPED:
            return data
        stamp = serialised_stamp(data)
        if self._latest is None or self._latest[0] != stamp:
            self._latest = (stamp, self._session.node.get_clock().now().nanoseconds)
        return restamped(data, self._latest[1])


def restamped(data: bytes, stamp: int) -> bytes:
    """A serialised message that begins with a header, with another stamp (nanoseconds) in it."""
    packed = struct.pack("<iI" if data[1] & 1 else ">iI", *divmod(stamp, 1_000_000_000))
    return data[:4] + packed + data[_STAMPED:]


def numbered(data: bytes, number: int) -> bytes:
    """A serialised message with a number as the ``frame_id`` of its header; one too short for a header is unchanged.

    After the header an image and a compressed one align to 4 bytes at most, so the rest may move by a multiple of 4.
    """
    if len(data) < 16:
        return data
    order: Literal["little", "big"] = "little" if data[1] & 1 else "big"
    rest = 16 + -(-int.from_bytes(data[12:16], order) // 4) * 4
    if rest > len(data):
        return data
    text = str(number).encode() + b"\0"
    return data[:12] + len(text).to_bytes(4, order) + text + bytes(-len(text) % 4) + data[rest:]
