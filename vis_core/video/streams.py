"""Videos at an address: a live stream, which is connected to again when it breaks off, and a file on a server."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

import cv2

from vis_core.errors import InputError
from vis_core.files.names import shown_address
from vis_core.structures import Frame
from vis_core.video.images import MAX_PIXELS
from vis_core.video.sources import DEFAULT_FPS, Skipped, VideoSource, rgb_of

RECONNECT = 30.0
"""Seconds for which a stream that broke off is connected to again, if nobody says otherwise."""

_OPEN_SECONDS, _READ_SECONDS = 10.0, 5.0
_LONGEST_PAUSE = 5.0


def open_address(address: str, reconnect: float = RECONNECT) -> VideoSource:
    """The video at an address: a file where it tells how long it is, else a live stream.

    Args:
        address: as FFmpeg takes them: ``rtsp://``, ``http://``, ``https://``, ``rtmp://``, ``udp://``...
        reconnect: as of `Stream`.

    Raises:
        InputError: nothing answers there, or no video; says what is known of why.
    """
    capture = _connected(address, _OPEN_SECONDS)
    found, image = capture.read() if capture.isOpened() else (False, None)
    if not found or image is None:
        capture.release()
        raise InputError(f"{shown_address(address)}: {_why_not(address)}")
    height, width = image.shape[:2]
    if width * height > MAX_PIXELS:
        capture.release()
        raise InputError(f"{shown_address(address)}: frames of {width}x{height}, at most {MAX_PIXELS} pixels are read")
    count, rate = capture.get(cv2.CAP_PROP_FRAME_COUNT), _rate(capture)
    if 0 < count < 1e9:
        capture.release()
        return RemoteFile(address, round(count), rate, (height, width))
    return Stream(address, capture, (height, width), reconnect)


class RemoteFile(VideoSource):
    """A video file on a server, read to its end; stamps are the container's presentation times."""

    def __init__(self, address: str, length: int, fps: float, size: tuple[int, int]) -> None:
        super().__init__(_name(address), length, fps, size)
        self._address = address

    def _read(self) -> Generator[Frame | Skipped, None, None]:
        capture = _connected(self._address, _OPEN_SECONDS)
        try:
            index, stamp, period = 0, -1, round(1e9 / self.fps)
            while True:
                found, image = capture.read()
                if not found or image is None:
                    break
                shown = capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6
                stamp = round(shown) if stamp < shown < 2**62 else max(stamp, 0) + period
                yield Frame(rgb_of(image), stamp, index)
                index += 1
            missing = (self.length or 0) - index
            if missing > max(self.fps, 0.02 * index):  # a container without a count announces it roughly
                reason = f"{self.length} frames are announced, {index} came; the connection was cut or the file is"
                yield Skipped(f"{self.name}: {missing} frames", f"{reason} damaged")
        finally:
            capture.release()


class Stream(VideoSource):
    """A live stream; stamps are the system time at which a picture arrived.

    Pictures are read as they come. Who is slower gets the newest one, and those in between count in its index. Where no
    picture comes for 5 seconds, or the stream ends, it is connected to again; both that and a picture that does not
    come back are told as left out.

    Args:
        address: of the stream.
        capture: opened on it.
        size: height and width of its pictures; later ones of another size are left out.
        reconnect: for how long to try to connect again, seconds, before the video ends; 0: it ends at once.
    """

    live = True

    def __init__(self, address: str, capture: cv2.VideoCapture, size: tuple[int, int], reconnect: float) -> None:
        super().__init__(_name(address), None, _rate(capture), size)
        self._address, self._reconnect = address, reconnect
        self._capture: cv2.VideoCapture | None = capture

    def _read(self) -> Generator[Frame | Skipped, None, None]:
        capture: cv2.VideoCapture | None = self._capture or _connected(self._address, _OPEN_SECONDS)
        self._capture, count = None, 0
        while capture is not None:
            pictures = _Newest(capture, count, self.stop_asked)
            try:
                yield from pictures
            finally:
                pictures.end()
            count = pictures.count
            if self.stop_asked():
                return
            how = f"connecting again for up to {self._reconnect:g} s" if self._reconnect else "the video ends here"
            yield Skipped(self._frame_name(count), f"no picture comes any more; {how}")
            capture = self._connected_again()
        if self._reconnect and not self.stop_asked():
            gone = f"did not come back within {self._reconnect:g} s; the video ends here"
            yield Skipped(self._frame_name(count), gone)

    def _ahead(self, items: Iterator[Frame | Skipped]) -> Generator[Frame | Skipped, None, None]:
        yield from items  # a picture taken ahead would be an old one

    def _connected_again(self) -> cv2.VideoCapture | None:
        """The stream opened anew, or None where it does not come back in time."""
        deadline, pause = time.monotonic() + self._reconnect, 0.5
        while (left := deadline - time.monotonic()) > 0 and not self.stop_asked():
            capture = _connected(self._address, min(_OPEN_SECONDS, left))
            if capture.isOpened():
                return capture
            capture.release()
            time.sleep(max(min(pause, deadline - time.monotonic()), 0))
            pause = min(2 * pause, _LONGEST_PAUSE)
        return None

    def close(self) -> None:
        super().close()
        if self._capture is not None:
            self._capture.release()
            self._capture = None


class _Newest:
    """The newest picture of a capture, which a thread reads from without rest, until it gives no more.

    Attributes:
        count: pictures that came.
    """

    def __init__(self, capture: cv2.VideoCapture, count: int, stop_asked: Callable[[], bool]) -> None:
        self.count = count
        self._stop_asked = stop_asked
        self._capture = capture
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._ended = False
        threading.Thread(target=self._receive, name="vis-stream", daemon=True).start()

    def __iter__(self) -> Iterator[Frame]:
        while True:
            with self._changed:
                while self._frame is None and not self._ended:
                    self._changed.wait(0.2)
                    if self._stop_asked():
                        return
                frame, self._frame = self._frame, None
            if frame is None:
                return
            yield frame

    def end(self) -> None:
        """Ask the thread to end; it does when the read that is under way returns."""
        self._ended = True

    def _receive(self) -> None:
        while not self._ended:
            found, image = self._capture.read()
            if not found or image is None:
                break
            frame = Frame(rgb_of(image), time.time_ns(), self.count)
            with self._changed:
                self._frame, self.count = frame, self.count + 1
                self._changed.notify()
        self._capture.release()
        with self._changed:
            self._ended = True
            self._changed.notify()


def _connected(address: str, seconds: float) -> cv2.VideoCapture:
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 1000 * seconds, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 1000 * _READ_SECONDS]
    return cv2.VideoCapture(address, cv2.CAP_FFMPEG, [int(value) for value in limits])


def _rate(capture: cv2.VideoCapture) -> float:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0.01 < fps < 1000 else DEFAULT_FPS


def _name(address: str) -> str:
    parts = urlsplit(address)
    return PurePosixPath(parts.path).stem or parts.hostname or "stream"


def _why_not(address: str) -> str:
    """What can be found out about an address that gives no picture."""
    import urllib.error  # with TLS a fiftieth of a second, and few programs ask
    import urllib.request

    parts = urlsplit(address)
    try:
        if parts.scheme in ("http", "https"):
            request = urllib.request.Request(*_request(address))  # noqa: S310 it is http
            with urllib.request.urlopen(request, timeout=_READ_SECONDS) as answer:  # noqa: S310
                kind = answer.headers.get_content_type()
            if kind.startswith("text/"):
                return f"is a page ({kind}), not a video; give the address of the video itself"
            return f"is no video that this OpenCV reads ({kind})"
        if parts.hostname and parts.scheme.startswith(("rts", "rtmp")):
            port = parts.port or (1935 if parts.scheme.startswith("rtmp") else 554)
            socket.create_connection((parts.hostname, port), timeout=_READ_SECONDS).close()
            return "a server answers, but gives no picture; are the path, the name and the password right?"
    except urllib.error.HTTPError as error:
        return f"the server answers {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"cannot be reached: {getattr(reason, 'strerror', None) or reason}"
    return "does not open or gives no picture; is the address right, and does something send there?"


def _request(address: str) -> tuple[str, None, dict[str, str]]:
    """Address, data and headers of a request: name and password stand where a server looks for them."""
    parts = urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    headers = {"Authorization": "Basic " + base64.b64encode(unquote(user).encode()).decode()} if user else {}
    return parts._replace(netloc=host).geturl(), None, headers
