"""One stream: messages of a camera become frames, each answer goes out under the header of its image."""

from __future__ import annotations

import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vis_core.errors import printable
from vis_core.structures import Frame, Instances
from vis_ros.encodings import BadImageError, Image
from vis_ros.node.diagnostics import StreamStatistics
from vis_ros.node.mailbox import Mailbox
from vis_ros.node.order import StampOrder

if TYPE_CHECKING:
    from vis_core.system.segmenter import Segmenter

_SAME_TEXT_SECONDS = 5.0


class Log(Protocol):
    """What is needed of a logger; rclpy's and the standard library's have it."""

    def info(self, message: str, /) -> Any: ...

    def warning(self, message: str, /) -> Any: ...

    def error(self, message: str, /) -> Any: ...


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """A message, its stream, its frame or why there is none, and when it was taken from the mailbox."""

    stream: Stream
    message: Any
    frame: Frame | Exception
    at: float


class Stream:
    """Steps a segmenter with the messages of one camera; `Worker` calls it, in its threads.

    The stream begins anew, with what is owed answered first, when `request_reset` was called, when time jumps back, and
    when the size of the images changes. A bad message, an image that comes late, or a frame that the segmenter fails
    at, is logged, counted and left out.

    Args:
        segmenter: ready to run.
        mailbox: of image messages.
        to_frame: makes a frame of a message and its index; raises `BadImageError`.
        publish: takes the instances of a frame, its header and its image.
        finished: takes the seconds that a frame took, from message to publication.
        statistics: told of everything that happens.
        log: where it is written.
        topic: name of the image topic, for the log.
        tolerance: an image whose stamp is earlier than the newest by so many seconds at most comes late.

    Attributes:
        stopping: set when the middleware may be gone: what cannot be published then is no failure.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        mailbox: Mailbox[Any],
        to_frame: Callable[[Any, int], Frame],
        publish: Callable[[Instances, Any, Image], None],
        finished: Callable[[float], None],
        statistics: StreamStatistics,
        log: Log,
        topic: str,
        tolerance: float = 0.0,
    ) -> None:
        self.segmenter, self.mailbox = segmenter, mailbox
        self.stopping = False
        self._to_frame = to_frame
        self._publish = publish
        self._finished = finished
        self._statistics = statistics
        self._log = log
        self._topic = topic
        self._owed: OrderedDict[int, tuple[Any, Image]] = OrderedDict()
        self._index = 0
        self._order = StampOrder(round(tolerance * 1e9))
        self._size: tuple[int, int] | None = None
        self._reset_reason: str | None = None
        self._logged: dict[str, float] = {}

    def request_reset(self, reason: str) -> None:
        """Begin a new stream with the next frame."""
        self._reset_reason = reason

    def take(self, message: Any, ahead: bool) -> Taken:
        """Make a frame of a message.

        Args:
            message: that was taken from the mailbox now.
            ahead: another frame is at work, of this stream or another: begin beside it.
        """
        at = time.perf_counter()
        try:
            frame = self._to_frame(message, self._index)
            self._index += 1
            if ahead:
                self.segmenter.prefetch(frame)
        except Exception as error:
            return Taken(self, message, error, at)
        return Taken(self, message, frame, at)

    def process(self, taken: Taken) -> None:
        """Answer what was taken; what fails is counted, and the stream begins anew."""
        try:
            self._process(taken)
        except Exception as error:
            if not self.stopping:  # else the middleware is shut down before the thread is told
                self._fail(f"stamp {_stamp(taken.message)}: {_named(error)}")

    def begin_anew(self) -> None:
        """Answer what is owed, and forget the stream."""
        try:
            for instances in self.segmenter.flush():
                self._answer(instances)
        except Exception as error:
            self._fail(f"at the end of a stream: {_named(error)}")
        self._end_stream()
        self.segmenter.reset()

    def _process(self, taken: Taken) -> None:
        message, frame = taken.message, taken.frame
        if isinstance(frame, BadImageError):
            self._statistics.count_bad(frame.reason)
            self._leave_out(frame.reason, message, printable(frame))
            return
        if isinstance(frame, Exception):
            raise frame
        if self._reset_reason is None and self._order.is_late(frame.stamp):
            self._statistics.count_late()
            back = self._order.jump(frame.stamp) / 1e9
            self._leave_out("late", message, f"it comes late, its stamp is {back:.3f} s earlier than the newest")
            return
        if (reason := self._reason_to_begin_anew(frame)) is not None:
            self._log.info(f"{self._topic}: a new stream begins at stamp {_stamp(message)}: {reason}")
            self._statistics.count_reset(reason)
            self.begin_anew()
        self._order.add(frame.stamp)
        self._size = frame.size
        self._owed[frame.index] = message.header, frame.image
        while len(self._owed) > self.segmenter.delay + 1:
            self._owed.popitem(last=False)
        answers = self.segmenter.step(frame)
        for instances in answers:
            self._answer(instances)
        seconds = time.perf_counter() - taken.at
        self._statistics.add_frame(seconds, self.segmenter.state_bytes())
        self._finished(seconds)

    def _reason_to_begin_anew(self, frame: Frame) -> str | None:
        requested, self._reset_reason = self._reset_reason, None
        if requested is not None or self._size is None:
            return requested
        if back := self._order.jump(frame.stamp):
            return f"time jumped back by {back / 1e9:.3f} s"
        if frame.size != self._size:
            return f"the image size changed from {self._size[1]}x{self._size[0]} to {frame.size[1]}x{frame.size[0]}"
        return None

    def _end_stream(self) -> None:
        self._owed.clear()
        self._order.end()
        self._size = None

    def _answer(self, instances: Instances) -> None:
        header, image = self._owed.pop(instances.index)
        try:
            self._publish(instances, header, image)
        except Exception as error:
            if self.stopping:
                return
            self._statistics.count_failure()
            self._log_throttled("publish", f"{self._topic}: a result was not published: {_named(error)}", error=True)

    def _fail(self, text: str) -> None:
        self._statistics.count_failure()
        calls = "".join(traceback.format_tb(sys.exc_info()[2]))
        text = f"{self._topic}: the segmenter failed, its state is reset; {text}\n{calls}"
        self._log_throttled("failure", text, error=True)
        self._end_stream()
        try:
            self.segmenter.reset()
        except Exception as error:
            self._log.error(f"{self._topic}: the reset failed too: {_named(error)}")

    def _leave_out(self, key: str, message: Any, reason: str) -> None:
        self._log_throttled(key, f"{self._topic}: image of stamp {_stamp(message)} left out: {reason}")

    def _log_throttled(self, key: str, text: str, error: bool = False) -> None:
        now = time.monotonic()
        if now - self._logged.get(key, -_SAME_TEXT_SECONDS) < _SAME_TEXT_SECONDS:
            return
        self._logged[key] = now
        (self._log.error if error else self._log.warning)(text)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {printable(error)}"


def _stamp(message: Any) -> str:
    stamp = message.header.stamp
    return f"{stamp.sec}.{stamp.nanosec:09d}"
