"""Whether an image goes on with its stream, comes late, or shows that time jumped back: told by the stamps."""

from __future__ import annotations

_IN_A_ROW = 3


class StampOrder:
    """The newest stamp of a stream, and what to make of an earlier one.

    Earlier by no more than the tolerance is late: networks swap messages. Earlier than that is time that jumped back.
    Where such an image was at once followed by one that is newer than all before, old ones come between the others;
    from then on those are late too, unless more than 3 come in a row.

    Args:
        tolerance: nanoseconds.
    """

    def __init__(self, tolerance: int) -> None:
        self._tolerance = tolerance
        self._newest: int | None = None
        self._before: int | None = None
        """The newest stamp of the stream before, while it may still go on."""
        self._since: tuple[int, int] = (0, 0)
        """First stamp of this stream, and how many came after it."""
        self._between = 0
        """How much earlier than the others those are that come between them."""
        self._late = 0

    def is_late(self, stamp: int) -> bool:
        """Whether an image comes too late to be worked on."""
        back = self.jump(stamp)
        if back <= self._tolerance:
            return back > 0
        if back > self._between or self._late == _IN_A_ROW:
            return False
        self._late += 1
        return True

    def jump(self, stamp: int) -> int:
        """By how many nanoseconds a stamp is earlier than the newest; 0: it is not."""
        return 0 if self._newest is None else max(self._newest - stamp, 0)

    def add(self, stamp: int) -> None:
        """An image that is worked on."""
        self._late = 0
        if self._newest is None:
            self._since = stamp, 0
        first, count = self._since
        if self._before is not None:
            if stamp >= self._before > first:
                self._between = 2 * (self._before - first)
            if stamp >= self._before or count == _IN_A_ROW:
                self._before = None
        self._since = first, count + 1
        self._newest = stamp

    def end(self) -> None:
        """A new stream begins with the next image."""
        self._before, self._newest = self._newest, None
