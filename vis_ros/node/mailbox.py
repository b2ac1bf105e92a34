"""Where callbacks leave messages for the worker thread: one slot, or a bounded queue."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A bounded queue that never blocks who puts: when full, the oldest item goes and is counted.

    Args:
        capacity: 1 keeps the newest item only.
        limit: of the sum of sizes; the newest item stays whatever its size.
        size: of an item.
        changed: told of every change; mailboxes that `take_oldest` looks at together share one. None: its own.
    """

    def __init__(
        self,
        capacity: int = 1,
        limit: float = float("inf"),
        size: Callable[[T], float] = lambda item: 0,
        changed: Condition | None = None,
    ) -> None:
        self._items: deque[tuple[T, float, float]] = deque()
        self._capacity, self._limit, self._size = capacity, limit, size
        self._held = 0.0
        self._changed = changed or Condition()
        self._waits_since = 0.0
        self._closed = False
        self._received = 0
        self._dropped = 0

    def put(self, item: T) -> None:
        """Leave an item; after `close` it is ignored."""
        with self._changed:
            if self._closed:
                return
            self._received += 1
            size, now = self._size(item), time.monotonic()
            if not self._items:
                self._waits_since = now
            while self._items and (len(self._items) >= self._capacity or self._held + size > self._limit):
                self._pop()
                self._dropped += 1
            self._items.append((item, size, now))
            self._held += size
            self._changed.notify()

    def close(self) -> None:
        """Wake who waits, and let go of the items."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def _pop(self) -> T:
        item, size, _ = self._items.popleft()
        self._held -= size
        return item

    @property
    def counts(self) -> tuple[int, int]:
        """How many items were put, and how many of them were dropped before anyone took them."""
        with self._changed:
            return self._received, self._dropped


def take_oldest(mailboxes: Sequence[Mailbox[T]]) -> tuple[int, T] | None:
    """Of the mailbox that waits longest its number and its oldest item, waiting for one; None once one is closed.

    What takes the place of a dropped item has waited since that one came: who puts often, and
    so drops most, is served all the same.

    Args:
        mailboxes: that share the condition `changed`.
    """
    changed = mailboxes[0]._changed
    with changed:
        changed.wait_for(lambda: any(one._closed or one._items for one in mailboxes))
        if any(one._closed for one in mailboxes):
            return None
        number = min((n for n, one in enumerate(mailboxes) if one._items), key=lambda n: mailboxes[n]._waits_since)
        mailbox = mailboxes[number]
        item = mailbox._pop()
        if mailbox._items:
            mailbox._waits_since = mailbox._items[0][2]
        return number, item
