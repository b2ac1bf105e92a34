"""Writing frames to a video file that browsers and players open."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError, MissingDependencyError
from vis_core.files.atomic import errors_name

# VP9: played by every browser and by OpenCV, at any size, under a licence that asks for nothing; AV1 (SVT-AV1) is
# smaller, but OpenCV's wheels do not read it, and it refuses sizes below 64 and can stand still at others.
_CODEC = "libvpx-vp9"
_OPTIONS = {
    "deadline": "realtime",
    "cpu-used": "8",
    "lag-in-frames": "0",
    "row-mt": "1",
    "crf": "30",
    "b": "0",  # a constant quality, whatever it takes
    "colorspace": "smpte170m",
    "color_primaries": "smpte170m",
    "color_trc": "smpte170m",
    "color_range": "tv",
}
_LONGEST_HOLD = 10.0
_FINEST_RATE = 100_000
_SYSTEM_ERRORS = 4096  # above them FFmpeg's own begin


class VideoWriter:
    """Writes RGB frames at a constant rate, under a temporary name until it is closed.

    VP9 in MP4, what tells of the frames before the frames, so that a browser begins before it has all of them.
    Frames keep their time: one that comes late by its stamp lets the frame before stand longer (up to 10 s).

    Args:
        path: where the video stands once closed, ``.mp4``.
        fps: frames per second.

    Raises:
        MissingDependencyError: PyAV is not installed, or without an encoder of VP9.

    Attributes:
        path: where the video stands once closed.
        frames: written so far.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        self.path = Path(path)
        self.fps = fps
        self.frames = 0
        self._av = _pyav()
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)
        self._first_stamp = 0
        self._latest: npt.NDArray[np.uint8] | None = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def write(self, image: npt.NDArray[np.uint8], stamp: int | None = None) -> None:
        """Append a frame.

        Args:
            image: uint8 ``[H, W, 3]`` RGB, of the size of the first.
            stamp: nanoseconds; None: directly after the frame before.

        Raises:
            InputError: another size than the first.
            OSError: it cannot be written.
        """
        if self._container is None:
            self._open(image.shape[:2])
            self._first_stamp = stamp or 0
        if image.shape[:2] != self._size:
            raise InputError(f"{self.path}: frame of {image.shape[:2]}, the video is {self._size}, height and width")
        if stamp is not None and self._latest is not None:
            late = round((stamp - self._first_stamp) * self.fps / 1e9) - self.frames
            for _ in range(min(late, round(_LONGEST_HOLD * self.fps))):
                self._encode(self._latest)
        self._encode(image)
        self._latest = image

    def close(self) -> None:
        """Finish the file and give it its name; nothing stands where no frame came. Closing again does nothing.

        Raises:
            OSError: it cannot be written; what was is removed.
        """
        container, self._container, self._latest = self._container, None, None
        if container is None:
            return
        try:
            with self._errors():
                for packet in self._stream.encode(None):
                    container.mux(packet)
                container.close()
            self._partial.replace(self.path)
        except BaseException:
            with suppress(self._av.error.FFmpegError):
                container.close()
            self._partial.unlink(missing_ok=True)
            raise

    def _open(self, size: tuple[int, ...]) -> None:
        self._size = (size[0], size[1])
        rate = max(Fraction(self.fps).limit_denominator(_FINEST_RATE), Fraction(1, _FINEST_RATE))
        with self._errors():
            self._container = self._av.open(str(self._partial), "w", options={"movflags": "+faststart"})
            self._stream = self._container.add_stream(_CODEC, rate=rate)
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = _OPTIONS

    def _encode(self, image: npt.NDArray[np.uint8]) -> None:
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts = self.frames
        with self._errors():
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        self.frames += 1

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors of FFmpeg as those of the system, which name the file."""
        try:
            with errors_name(self.path):
                yield
        except self._av.error.FFmpegError as error:
            code = error.errno if 0 < error.errno < _SYSTEM_ERRORS else errno.EIO
            raise OSError(code, f"FFmpeg: {error.strerror}", str(self.path)) from error

    @property
    def _partial(self) -> Path:
        return self.path.with_name(f".{self.path.stem}.partial{self.path.suffix}")


def _pyav() -> Any:
    """PyAV, with an encoder of what is written."""
    remedy = "pip install av, or Debian's and Ubuntu's python3-av; without a video: --no-overlay"
    try:
        import av

        av.codec.Codec(_CODEC, "w")
    except ImportError as error:
        raise MissingDependencyError(f"overlay videos are written by PyAV, which is not installed: {remedy}") from error
    except ValueError as error:
        raise MissingDependencyError(f"this PyAV has no encoder {_CODEC}, for overlay videos: {remedy}") from error
    return av
