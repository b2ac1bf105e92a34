"""The kinds of video: image files, a video file, a camera; each an iterable of frames."""

from __future__ import annotations

import time
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError
from vis_core.files.names import natural_order
from vis_core.structures import Frame
from vis_core.video import images as image_files
from vis_core.video.av1 import AV1Capture, is_av1
from vis_core.video.containers import read_contents
from vis_core.video.images import MAX_PIXELS, header_of, read_image, read_pixels
from vis_core.video.levels import FIRST_IMAGES, Levelling
from vis_core.video.orientation import exif_cause
from vis_core.video.rates import checked_rate

DEFAULT_FPS = 25.0
"""Rate assumed where nothing states one (a folder of images)."""


class Skipped(NamedTuple):
    """A frame that was left out: its name (file, or file and position) and the reason."""

    name: str
    reason: str


class VideoSource(ABC):
    """The frames of one video, in order; may be iterated again, but for a camera.

    Frames carry their position in the video as index, so a frame left out leaves a gap, and have one size: one of
    another size is left out.

    Attributes:
        name: of the video, for people and file names.
        video_id: id in its JSON, else 1.
        length: number of frames; None if unknown. Exact if `length_is_exact`, else what a container announces.
        fps: frames per second.
        size: height and width, pixels.
        notes: sentences on how its images are read, for people.
        categories: name by id, of the JSON that it comes from; empty without one.
        live: frames come when they come, whether or not anybody is ready.
        skipped: what was left out in the latest iteration.
        on_skip: called with each frame left out; default: a warning.
        stop_asked: asked where a live video waits for its next frame; true ends it there.
    """

    length_is_exact = False
    live = False
    categories: Mapping[int, str] = {}

    def __init__(
        self,
        name: str,
        length: int | None,
        fps: float,
        size: tuple[int, int],
        video_id: int = 1,
    ) -> None:
        self.name = name
        self.video_id = video_id
        self.length = length
        self.fps = fps
        self.size = size
        self.skipped: list[Skipped] = []
        self.notes: list[str] = []
        self.on_skip: Callable[[Skipped], None] = _warn
        self.stop_asked: Callable[[], bool] = lambda: False
        # Weak, so that leaving a loop early ends the iteration and its thread at once.
        self._running: Callable[[], Generator[Frame, None, None] | None] = lambda: None

    def __iter__(self) -> Iterator[Frame]:
        self._stop()
        running = self._sound_frames()
        self._running = weakref.ref(running)
        return running

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of files, devices and threads; an iteration that was under way ends."""
        self._stop()

    def _stop(self) -> None:
        running = self._running()
        if running is not None:
            running.close()

    @abstractmethod
    def _read(self) -> Generator[Frame | Skipped, None, None]:
        """The frames as they are read."""

    def _sound_frames(self) -> Generator[Frame, None, None]:
        self.skipped = []
        with closing(self._read()) as items, closing(self._ahead(items)) as coming:
            for item in coming:
                if isinstance(item, Frame) and item.size != self.size:
                    item = Skipped(self._frame_name(item.index), self._size_fault(item))
                if isinstance(item, Frame):
                    yield item
                else:
                    self.skipped.append(item)
                    self.on_skip(item)

    def _ahead(self, items: Iterator[Frame | Skipped]) -> Generator[Frame | Skipped, None, None]:
        """Read one frame ahead in a thread, while the caller works on the one before."""
        with ThreadPoolExecutor(1, thread_name_prefix="vis-video") as reader:
            coming = reader.submit(next, items, None)
            while (item := coming.result()) is not None:
                coming = reader.submit(next, items, None)
                yield item

    def _frame_name(self, index: int) -> str:
        return f"{self.name} frame {index}"

    def _size_fault(self, frame: Frame) -> str:
        (height, width), (h, w) = frame.size, self.size
        return f"is {width}x{height}, the video is {w}x{h}"


class ImageSequence(VideoSource):
    """A video whose frames are image files.

    Args:
        files: the images, in order.
        stamps: time of each frame, nanoseconds; default: by ``fps``.
        turned: images are turned by their EXIF orientation, as viewers do; else they are taken as stored.
        value_range: how 16 bits become 8, as of `Levelling`.

    Raises:
        OptionError: there is no such range.
    """

    length_is_exact = True

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        size: tuple[int, int],
        fps: float = DEFAULT_FPS,
        stamps: Sequence[int] | None = None,
        video_id: int = 1,
        turned: bool = True,
        value_range: str | None = None,
    ) -> None:
        super().__init__(name, len(files), fps, size, video_id)
        self.files = tuple(files)
        self.stamps = None if stamps is None else tuple(stamps)
        self._turned = turned
        self._levelling = Levelling(value_range)

    @classmethod
    def of_folder(
        cls, folder: Path, fps: float = DEFAULT_FPS, turned: bool = True, value_range: str | None = None
    ) -> ImageSequence:
        """The images of a folder in natural order (2 before 10), at the size of the first that is sound.

        Raises:
            InputError: there is none.
            OptionError: there is no such range.
        """
        files = [f for f in folder.iterdir() if f.suffix.lower() in image_files.SUFFIXES and f.name[0] != "."]
        files.sort(key=lambda file: natural_order(file.name))
        if not files:
            raise InputError(f"{folder}: holds no image ({', '.join(image_files.SUFFIXES)})")
        first = ""
        for file in files:
            try:
                size = read_pixels(file, turned).shape[:2]
                return cls(folder.resolve().name, files, size, fps, turned=turned, value_range=value_range)
            except InputError as error:
                first = first or str(error)
        raise InputError(f"{folder}: none of its {len(files)} images can be read; the first: {first}")

    def find_range(self) -> bool:
        """Find by its first images how 16 bits become 8, for all of them; returns whether one of these has 16.

        Raises:
            InputError: no range is given, and they need one.
        """
        deep = False
        for file in self.files[:FIRST_IMAGES]:
            with suppress(InputError):
                if header_of(file).depth == 16:
                    deep = True
                    self._levelling.look(read_pixels(file, self._turned))
        if deep:
            try:
                self.notes.append(f"{self.name}: {self._levelling.told()}")
            except InputError as error:
                raise InputError(f"{self.files[0]}: {error}") from None
            self._levelling.settle()
        return deep

    def _read(self) -> Generator[Frame | Skipped, None, None]:
        if not self._levelling.settled:
            self.find_range()
        for index, file in enumerate(self.files):
            try:
                stamp = round(index * 1e9 / self.fps) if self.stamps is None else self.stamps[index]
                yield Frame(read_image(file, self._turned, self._levelling), stamp, index)
            except InputError as error:
                yield Skipped(str(file), str(error).removeprefix(f"{file}: "))

    def _frame_name(self, index: int) -> str:
        return str(self.files[index])

    def _size_fault(self, frame: Frame) -> str:
        return super()._size_fault(frame) + exif_cause(self.files[frame.index], self.size)


class VideoFile(VideoSource):
    """A video file, in any container and codec that OpenCV reads, or AV1; stamps are the container's.

    A packet that does not decode is a frame left out. What a decoder conceals by itself is not seen from here. The rate
    is the stated one where the frames' times bear it out.

    Raises:
        InputError: the file does not open, holds no frame, or its frames are over `MAX_PIXELS`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        capture = self._open()
        try:
            width, height = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            if width * height > MAX_PIXELS:
                raise InputError(f"{path}: frames of {width}x{height}, at most {MAX_PIXELS} pixels are read")
            count, fps = (
                capture.get(cv2.CAP_PROP_FRAME_COUNT),
                capture.get(cv2.CAP_PROP_FPS),
            )
            fps = fps if 0.01 < fps < 1e4 else DEFAULT_FPS
            rate = checked_rate(path, fps)
            self._contents = read_contents(path)
            # Where nothing is counted, OpenCV's number is the duration times the stated rate.
            length = self._contents.frames or (round(count * rate / fps) if 0 < count < 1e9 else None)
            for _ in range(_attempts(length, 0)):
                found, image = capture.read()
                if found:
                    break
            else:
                raise InputError(f"{path}: holds no frame that decodes")
        finally:
            capture.release()
        # The first frame tells the size, since a rotation stored in the file has been applied to it.
        super().__init__(path.stem, length, rate, image.shape[:2])

    def _open(self) -> cv2.VideoCapture | AV1Capture:
        capture = cv2.VideoCapture(str(self.path))
        if is_av1(capture):
            capture.release()
            return AV1Capture(self.path)
        if not capture.isOpened():
            capture.release()
            raise InputError(f"{self.path}: is no video that this OpenCV reads: damaged, cut off, or an unknown codec")
        return capture

    def _read(self) -> Generator[Frame | Skipped, None, None]:
        capture = self._open()
        try:
            index, failures, stamp, period = 0, 0, -1, round(1e9 / self.fps)
            # The end of a file and a damaged packet look the same; after a packet, later frames still come.
            while failures < _attempts(self.length, index):
                found, image = capture.read()
                if not found:
                    failures += 1
                    continue
                for _ in range(failures):
                    yield Skipped(
                        self._frame_name(index),
                        f"does not decode (after {max(stamp, 0) / 1e9:.3f} s)",
                    )
                    index += 1
                failures = 0
                shown = capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6
                stamp = round(shown) if stamp < shown < 2**62 else max(stamp, 0) + period
                yield Frame(rgb_of(image), stamp, index)
                index += 1
            if missing := self._missing(index):
                yield missing
        finally:
            capture.release()

    def _missing(self, came: int) -> Skipped | None:
        """What the file should hold by its own entries and did not give."""
        due = self._contents.least
        if due is not None and due > came:
            reason = f"the file announces {due} frames, {came} came"
            return Skipped(f"{self.path.name}: {due - came} frames", f"{reason}; damaged or cut off")
        if due is None and self._contents.cut_off:
            reason = f"the file breaks off within its frames, {came} came"
            return Skipped(f"{self.path.name}: its rest", f"{reason}; damaged or cut off")
        return None

    def _frame_name(self, index: int) -> str:
        return f"{self.path.name} frame {index}"


class Camera(VideoSource):
    """A camera device; stamps are the system time at which a frame arrived. It ends when the device does.

    Raises:
        InputError: the device does not open, or gives no picture.
    """

    live = True

    def __init__(self, device: int | str) -> None:
        self._capture = cv2.VideoCapture(device)
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # old pictures must not queue up behind a slow network
        found, image = self._capture.read() if self._capture.isOpened() else (False, None)
        if not found or image is None:
            self._capture.release()
            what = f"/dev/video{device}" if isinstance(device, int) else device
            raise InputError(f"camera {what}: does not open or gives no picture; is it there, free, and permitted?")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        name = f"camera{device}" if isinstance(device, int) else Path(device).name
        super().__init__(name, None, fps if 0.01 < fps < 1e4 else DEFAULT_FPS, image.shape[:2])

    def _read(self) -> Generator[Frame | Skipped, None, None]:
        index = 0
        while True:
            found, image = self._capture.read()
            if not found:
                return
            yield Frame(rgb_of(image), time.time_ns(), index)
            index += 1

    def _ahead(self, items: Iterator[Frame | Skipped]) -> Generator[Frame | Skipped, None, None]:
        yield from items  # a picture taken ahead would be an old one

    def close(self) -> None:
        super().close()
        self._capture.release()


def _attempts(length: int | None, index: int) -> int:
    """How many reads in a row may fail before a file counts as at its end."""
    return min(max(64, 0 if length is None else length - index), 100_000)


def _warn(skipped: Skipped) -> None:
    warnings.warn(f"{skipped.name}: {skipped.reason}; skipped", stacklevel=2)


def rgb_of(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """OpenCV's BGR as RGB."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
