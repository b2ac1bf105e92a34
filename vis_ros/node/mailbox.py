"""Where callbacks leave messages for the worker thread: one slot, or a bounded queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A bounded queue that never blocks who puts: when full, the oldest item goes and is counted.

    Args:
        capacity: 1 keeps the newest item only.
        limit: of the sum of sizes; the newest item stays whatever its size.
        size: of an item.
    """

    def __init__(
        self, capacity: int = 1, limit: float = float("inf"), size: Callable[[T], float] = lambda item: 0
    ) -> None:
        self._items: deque[tuple[T, float]] = deque()
        self._capacity, self._limit, self._size = capacity, limit, size
        self._held = 0.0
        self._changed = Condition()
        self._closed = False
        self._received = 0
        self._dropped = 0

    def put(self, item: T) -> None:
        """Leave an item; after `close` it is ignored."""
        with self._changed:
            if self._closed:
                return
            self._received += 1
            size = self._size(item)
            while self._items and (len(self._items) >= self._capacity or self._held + size > self._limit):
                self._pop()
                self._dropped += 1
            self._items.append((item, size))
            self._held += size
            self._changed.notify()

    def take(self) -> T | None:
        """The oldest item, waiting for one; None once the mailbox is closed, whatever it still holds."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items)
            return None if self._closed else self._pop()

    def close(self) -> None:
        """Wake who waits, and let go of the items."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def _pop(self) -> T:
        item, size = self._items.popleft()
        self._held -= size
        return item

    @property
    def counts(self) -> tuple[int, int]:
        """How many items were put, and how many of them were dropped before anyone took them."""
        with self._changed:
            return self._received, self._dropped
