"""The depth images of a stream, and which of them belongs to an image of the camera."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError, printable
from vis_core.spatial.camera import Camera
from vis_core.spatial.measurement import metres
from vis_ros.messages import stamp_of

_ENCODINGS = {"16UC1": np.uint16, "mono16": np.uint16, "32FC1": np.float32}
_MOST_BYTES = 256 * 2**20
"""Of the depth images that wait."""


@dataclass
class DepthCounts:
    """What came of the depth images, and why an image had none.

    Attributes:
        received: depth images.
        paired: images of the camera that had one.
        unpaired: those that had none within the slop.
        unpaired_in_a_row: those since the last that had one.
        bad: depth images or camera infos that could not be used.
        nearest: seconds between the last image without depth and the depth image nearest to it; None: there was none.
        reason: why the last one could not be used; empty: it could.
        too_few: objects that had too few points with depth.
    """

    received: int = 0
    paired: int = 0
    unpaired: int = 0
    unpaired_in_a_row: int = 0
    bad: int = 0
    nearest: float | None = None
    reason: str = ""
    too_few: int = 0


@dataclass
class DepthBuffer:
    """The latest depth images, found by their stamps. Written by the subscription, read by the worker.

    An image is answered long after it came, so the depth image nearest to it has come as well: it is found, not waited
    for. This pairs what the approximate-time policy of message_filters pairs, but cannot lose a pair to a queue that
    is shorter than the latency.

    Args:
        slop: most nanoseconds between the stamps of a pair.
        keep: nanoseconds that a depth image is kept after a newer one came.
    """

    slop: int
    keep: int = 2_000_000_000
    counts: DepthCounts = field(default_factory=DepthCounts)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._images: deque[tuple[int, Any]] = deque()
        self._bytes = 0
        self._info: Any = None

    def add(self, message: Any) -> None:
        """Take a ``sensor_msgs/Image`` of depth."""
        stamp, size = stamp_of(message), len(message.data)
        with self._lock:
            self.counts.received += 1
            if self._images and stamp < self._images[-1][0]:  # time went back: these are of another past
                self._images.clear()
                self._bytes = 0
            self._images.append((stamp, message))
            self._bytes += size
            while len(self._images) > 1 and (self._images[0][0] < stamp - self.keep or self._bytes > _MOST_BYTES):
                self._bytes -= len(self._images.popleft()[1].data)

    def add_info(self, message: Any) -> None:
        """Take the ``sensor_msgs/CameraInfo`` of the depth images."""
        with self._lock:
            self._info = message

    def nearest(self, stamp: int) -> tuple[Any, Any] | None:
        """The depth image of an image's stamp and its camera info; None, and counted: there is none."""
        with self._lock:
            found = min(self._images, key=lambda item: abs(item[0] - stamp), default=None)
            if found is None or abs(found[0] - stamp) > self.slop or self._info is None:
                self.counts.unpaired += 1
                self.counts.unpaired_in_a_row += 1
                self.counts.nearest = None if found is None else (found[0] - stamp) / 1e9
                return None
            self.counts.paired += 1
            self.counts.unpaired_in_a_row = 0
            return found[1], self._info

    def note_bad(self, reason: str) -> None:
        """Count a depth image or a camera info that cannot be used."""
        with self._lock:
            self.counts.bad += 1
            self.counts.reason = reason

    def note_used(self, too_few: int) -> None:
        """A depth image was used; so many objects had too few points with depth in it."""
        with self._lock:
            self.counts.reason = ""
            self.counts.too_few += too_few


def depth_metres(message: Any) -> npt.NDArray[np.float32]:
    """A ``sensor_msgs/Image`` of depth in metres, float32 ``[H, W]``, NaN where there is none.

    The encoding decides the unit: 16UC1 is millimetres, 32FC1 metres (REP 118).

    Raises:
        InputError: another encoding, or the data do not fill the image.
    """
    kind = _ENCODINGS.get(message.encoding)
    if kind is None:
        known = ", ".join(_ENCODINGS)
        raise InputError(f"depth image: encoding {printable(message.encoding, 40)!r} is none of {known}")
    height, width, step = int(message.height), int(message.width), int(message.step)
    wide = width * np.dtype(kind).itemsize
    if min(height, width) < 1 or step < wide or step % np.dtype(kind).itemsize:
        raise InputError(f"depth image: {width}x{height} with rows of {step} bytes cannot be {message.encoding}")
    data = np.frombuffer(message.data, np.uint8)
    if data.size < step * (height - 1) + wide:
        raise InputError(f"depth image: {data.size} bytes do not fill {height} rows of {step}")
    padded = np.zeros(step * height, np.uint8)
    padded[: data.size] = data[: padded.size]
    values = padded.view(np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<"))
    return metres(values.reshape(height, step // np.dtype(kind).itemsize)[:, :width].astype(kind))


def camera_of(info: Any, size: tuple[int, int], rectified: bool) -> Camera:
    """The camera of a ``sensor_msgs/CameraInfo`` for depth images of a size.

    Args:
        info: the message.
        size: height and width of the depth image.
        rectified: the depth image is free of distortion already.

    Raises:
        InputError: an entry cannot be, or the info is of another view.
    """
    region = info.roi
    camera = Camera.calibrated(
        (int(info.height), int(info.width)),
        info.k,
        info.distortion_model,
        info.d,
        info.p,
        (int(info.binning_x), int(info.binning_y)),
        (int(region.x_offset), int(region.y_offset), int(region.width), int(region.height)),
        rectified,
    )
    return camera.of_size(size)
