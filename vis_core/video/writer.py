"""Writing frames to a video file that opens elsewhere."""

from __future__ import annotations

import errno
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError

# MPEG-4 part 2 and Motion JPEG are the encoders that every build of OpenCV with FFmpeg holds; H.264 is in few.
_CODECS = (("mp4v", ".mp4"), ("MJPG", ".avi"))
_LONGEST_HOLD = 10.0
_LITTLE = 2**20  # bytes: a disk with less is full, for a video


class VideoWriter:
    """Writes RGB frames at a constant rate, under a temporary name until it is closed.

    Frames keep their time: one that comes late by its stamp lets the frame before stand longer (up to 10 s).

    Args:
        path: ``.mp4``; becomes ``.avi`` where OpenCV has no encoder for that. `path` tells.
        fps: frames per second.

    Attributes:
        path: where the video stands once closed.
        frames: written so far.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        self.path = Path(path)
        self.fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._first_stamp = 0
        self.frames = 0
        self._latest: npt.NDArray[np.uint8] | None = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def write(self, image: npt.NDArray[np.uint8], stamp: int | None = None) -> None:
        """Append a frame.

        Args:
            image: uint8 ``[H, W, 3]`` RGB, of the size of the first (an odd last row or column is cut off).
            stamp: nanoseconds; None: directly after the frame before.

        Raises:
            InputError: another size than the first.
            OSError: no encoder.
        """
        if self._writer is None:
            self._writer = self._open(image.shape[:2])
            self._first_stamp = stamp or 0
        if image.shape[:2] != self._size:
            raise InputError(f"{self.path}: frame of {image.shape[:2]}, the video is {self._size}, height and width")
        frame = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)
        if stamp is not None and self._latest is not None:
            late = round((stamp - self._first_stamp) * self.fps / 1e9) - self.frames
            for _ in range(min(late, round(_LONGEST_HOLD * self.fps))):
                self._writer.write(self._latest)
                self.frames += 1
        self._writer.write(frame)
        self.frames += 1
        self._latest = frame

    def close(self) -> None:
        """Finish the file and give it its name; nothing stands where no frame came. Closing again does nothing.

        Raises:
            OSError: the file that was written does not open again; it is removed.
        """
        writer, self._writer, self._latest = self._writer, None, None
        if writer is None:
            return
        writer.release()
        partial = self._partial()
        capture = cv2.VideoCapture(str(partial))
        opens, _ = capture.read()
        capture.release()
        if not opens:
            with suppress(OSError):
                partial.unlink()
            full = shutil.disk_usage(self.path.parent).free < _LITTLE
            reason = "No space left on device" if full else "the video that was written does not open again"
            raise OSError(errno.ENOSPC if full else errno.EIO, reason, str(self.path))
        partial.replace(self.path)

    def _open(self, size: tuple[int, ...]) -> cv2.VideoWriter:
        height, width = size
        for codec, suffix in _CODECS:
            self.path = self.path.with_suffix(suffix)
            fourcc = cv2.VideoWriter.fourcc(*codec)
            writer = cv2.VideoWriter(str(self._partial()), fourcc, self.fps, (width, height))
            if writer.isOpened():
                self._size = (height, width)
                return writer
            writer.release()
        raise OSError(f"{self.path}: this OpenCV ({cv2.__version__}) writes no video there")

    def _partial(self) -> Path:
        return self.path.with_name(f".{self.path.stem}.partial{self.path.suffix}")
