"""AV1 video, by PyAV: OpenCV's wheels open such a file and decode no frame of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError, MissingDependencyError


def is_av1(capture: cv2.VideoCapture) -> bool:
    """Whether what OpenCV has opened is AV1."""
    return int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True).lower() == b"av01"


class AV1Capture:
    """The part of `cv2.VideoCapture` that reading a file needs.

    Args:
        path: of the file.

    Raises:
        InputError: it holds no video that FFmpeg opens.
        MissingDependencyError: PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import av
        except ImportError as error:
            raise MissingDependencyError(
                f"{path}: is AV1, which is read by PyAV, and that is not installed: pip install av, or Debian's and "
                "Ubuntu's python3-av"
            ) from error
        self._errors = av.error.FFmpegError
        try:
            self._container = av.open(str(path))
            self._stream = self._container.streams.video[0]
        except (self._errors, IndexError) as error:
            raise InputError(f"{path}: is no video that this FFmpeg opens: {error}") from error
        self._stream.thread_type = "AUTO"
        self._rate = self._stream.average_rate
        self._seconds = 0.0
        self._images = self._decoded()

    def get(self, what: int) -> float:
        """Width, height, count and rate as they are stated, and the time of the last frame; 0 where it is unknown."""
        stated = {
            cv2.CAP_PROP_FRAME_WIDTH: self._stream.width,
            cv2.CAP_PROP_FRAME_HEIGHT: self._stream.height,
            cv2.CAP_PROP_FRAME_COUNT: self._stream.frames or self._duration(),
            cv2.CAP_PROP_FPS: self._rate,
            cv2.CAP_PROP_POS_MSEC: self._seconds * 1e3,
        }
        return float(stated[what] or 0)

    def read(self) -> tuple[bool, npt.NDArray[np.uint8]]:
        """The next frame, BGR ``[H, W, 3]``, turned as the file says; False: it does not decode, or there is none."""
        image = next(self._images, None)
        return image is not None, np.zeros((0, 0, 3), np.uint8) if image is None else image

    def release(self) -> None:
        """Close the file."""
        self._container.close()

    def _duration(self) -> float:
        """In frames, where the container states how long it is."""
        seconds = (self._container.duration or 0) / 1e6
        return seconds * float(self._rate or 0)

    def _decoded(self) -> Iterator[npt.NDArray[np.uint8] | None]:
        """Frames; None for a packet that does not decode. It ends where the file does, or breaks off."""
        with suppress(self._errors):
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except self._errors:
                    yield None
                    continue
                for frame in frames:
                    yield self._image(frame)

    def _image(self, frame: Any) -> npt.NDArray[np.uint8]:
        if frame.time is not None:
            self._seconds = float(frame.time)
        image = frame.to_ndarray(format="bgr24")
        quarters = round(getattr(frame, "rotation", 0) / 90)  # PyAV before 14 does not say
        return np.ascontiguousarray(np.rot90(image, quarters)) if quarters % 4 else image
