"""The thread that works on the streams of all cameras, the oldest image first."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue

from vis_ros.node.mailbox import take_oldest
from vis_ros.node.stream import Stream, Taken

STOP_SECONDS = 10.0
"""How long the frame at work is waited for."""


class Worker:
    """Takes the messages of streams and answers them, in a thread of its own, from `start` to `stop`.

    Args:
        streams: whose mailboxes share one condition; they are closed by `stop`.
        prefetch: segmenters that can are given the next message while one is at work.
    """

    def __init__(self, streams: Sequence[Stream], prefetch: bool = True) -> None:
        self._streams = streams
        self._mailboxes = [stream.mailbox for stream in streams]
        self._stopping = False
        self._prefetches = prefetch and all(stream.segmenter.prefetches for stream in streams)
        self._at_work = False
        self._wanted: SimpleQueue[bool] = SimpleQueue()
        self._taken: SimpleQueue[Taken | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="segmenter", daemon=True)
        self._beside = threading.Thread(target=self._run_beside, name="segmenter-next", daemon=True)

    def start(self) -> None:
        """Begin to take messages."""
        self._thread.start()
        if self._prefetches:
            self._beside.start()

    def stop(self, timeout: float | None = None, answer_owed: bool = True) -> bool:
        """End after the frame at work; returns whether the threads ended within the time. If not, ask again.

        Args:
            timeout: seconds; None: `STOP_SECONDS`.
            answer_owed: publish what systems with a delay still owe.
        """
        self._stopping = True
        for stream in self._streams:
            stream.stopping = True
            stream.mailbox.close()
        deadline = time.monotonic() + (STOP_SECONDS if timeout is None else timeout)
        for thread in (self._thread, self._beside):
            if thread.is_alive():
                thread.join(max(deadline - time.monotonic(), 0.0))
                if thread.is_alive():
                    return False
        if answer_owed:
            for stream in self._streams:
                stream.begin_anew()
        return True

    def request_reset(self, reason: str) -> None:
        """Begin new streams with the next frames."""
        for stream in self._streams:
            stream.request_reset(reason)

    def _run(self) -> None:
        taken = self._take()
        while taken is not None and not self._stopping:
            self._at_work = True
            if self._prefetches:
                self._wanted.put(True)
            taken.stream.process(taken)
            self._at_work = False
            taken = None  # a large image is not kept until the next one comes
            taken = self._taken.get() if self._prefetches else self._take()
        self._wanted.put(False)

    def _run_beside(self) -> None:
        while self._wanted.get():
            self._taken.put(self._take())

    def _take(self) -> Taken | None:
        """The next message, with which its segmenter begins if one is at work; None once the mailboxes are closed."""
        found = take_oldest(self._mailboxes)
        if found is None:
            return None
        number, message = found
        return self._streams[number].take(message, self._at_work)
