"""Two independent parts of a network at once on a CPU: of one frame, or of a frame and the next one.

Most operations of a small network are so short that waking the other threads for them takes as long as they do. While
one part waits for that, the other works. Nothing here loads PyTorch: an exported network runs without it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from threading import Lock
from typing import Any, Generic, TypeVar

_First = TypeVar("_First")
_Second = TypeVar("_Second")
_chosen: int | None = None


@contextmanager
def without_gradients() -> Iterator[None]:
    """Inside, PyTorch keeps nothing for gradients, in this thread; nothing to do where it is not loaded."""
    with getattr(sys.modules.get("torch"), "inference_mode", nullcontext)():
        yield


def thread_count() -> int:
    """CPU threads of a network: PyTorch's where it is loaded, else those that were set, else OMP_NUM_THREADS or all."""
    if (torch := sys.modules.get("torch")) is not None:
        return int(torch.get_num_threads())
    if _chosen is not None:
        return _chosen
    of_environment = os.environ.get("OMP_NUM_THREADS", "")
    if of_environment.isdecimal() and int(of_environment):
        return int(of_environment)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_thread_count(threads: int) -> None:
    """Choose the CPU threads of networks that are loaded after this, in this process."""
    global _chosen
    _chosen = threads
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)


def load_torch() -> None:
    """Import PyTorch; the first time, it gets the threads that were chosen before.

    Raises:
        ImportError: it is not installed.
    """
    loaded = sys.modules.get("torch") is not None
    import torch

    if not loaded and _chosen is not None:
        torch.set_num_threads(_chosen)


class SideBySide:
    """Runs two functions at once without gradients: one where it is called, the other in a thread of its own.

    Where a network has one thread there is nothing to share: they run one after the other.
    """

    def __init__(self) -> None:
        self._beside = ThreadPoolExecutor(1)  # begins its thread when it is first asked

    def __call__(self, first: Callable[[], _First], second: Callable[[], _Second]) -> tuple[_First, _Second]:
        """The results of both; an error of either is raised when both have ended."""
        if thread_count() < 2:
            return _without_gradients(first), _without_gradients(second)
        other = self._beside.submit(_without_gradients, second)
        try:
            return _without_gradients(first), other.result()
        finally:
            other.exception()  # waits for it, so that nothing goes on behind an error of the first

    def __deepcopy__(self, memo: dict[int, Any]) -> SideBySide:
        return SideBySide()  # a thread cannot be copied


class Prefetcher(Generic[_First, _Second]):
    """What a function makes of the next item, begun in a thread of its own while another item is at work.

    Args:
        function: of an item; called in that thread, for one item after the other.
    """

    def __init__(self, function: Callable[[_First], _Second]) -> None:
        self.function = function
        self._beside = ThreadPoolExecutor(1)
        self._lock = Lock()
        self._begun: list[tuple[_First, Future[_Second]]] = []  # two at most: the item at work, and the next one

    def begin(self, item: _First) -> None:
        """Begin with an item; of those that were begun and not taken, the latest stays, the others are forgotten."""
        future = self._beside.submit(_without_gradients, partial(self.function, item))
        with self._lock:
            self._begun = [*self._begun[-1:], (item, future)]

    def take(self, item: _First) -> _Second | None:
        """What was made of this very item, waiting for it; None if it was not begun.

        Raises:
            Exception: what the function raised.
        """
        with self._lock:
            found = [future for begun, future in self._begun if begun is item]
            self._begun = [begun for begun in self._begun if begun[0] is not item]
        return found[0].result() if found else None

    def wait(self) -> None:
        """Until everything that was begun is made."""
        with self._lock:
            futures = [future for _, future in self._begun]
        for future in futures:
            future.exception()

    def clear(self) -> None:
        """Forget what was begun."""
        with self._lock:
            self._begun = []

    def made(self) -> list[_Second]:
        """What is ready and was not taken."""
        with self._lock:
            ready = [future for _, future in self._begun if future.done() and not future.exception()]
        return [future.result() for future in ready]


def _without_gradients(function: Callable[[], _First]) -> _First:
    with without_gradients():
        return function()
