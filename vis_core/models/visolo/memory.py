"""What VISOLO remembers of past frames: which entries stay, and which are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vis_core.system.clip import size_of


@dataclass(frozen=True, eq=False)
class Entry:
    """Features of one past frame, already converted for reading, arrays of the network's own kind.

    Attributes:
        frame: its number in the stream.
        reference: reference side of the similarity, ``[128, 252]``.
        category: converted category feature, ``[256, 252]``.
        kernel: converted kernel feature, ``[256, 252]``.
    """

    frame: int
    reference: Any
    category: Any
    kernel: Any

    def nbytes(self) -> int:
        """Size of the features."""
        return size_of(self.reference, self.category, self.kernel)


class FrameMemory:
    """Every `interval`-th frame from the first one, and the last two: the published rule of what is remembered.

    Args:
        interval: every how many frames one is kept.
        limit: how many entries are read at most: the last two and the newest kept ones; None: all, for ever.
    """

    def __init__(self, interval: int, limit: int | None) -> None:
        self.interval = interval
        self.limit = limit
        self._kept: list[Entry] = []
        self._recent: list[Entry] = []

    @property
    def readable(self) -> list[Entry]:
        """The entries that the next frame reads, oldest first."""
        if self.limit is None:
            return self._kept + self._recent
        count = max(self.limit - 2, 0)
        return self._kept[len(self._kept) - min(count, len(self._kept)) :] + self._recent[-self.limit :]

    @property
    def previous(self) -> Entry:
        """The frame before the next one."""
        return self._recent[-1]

    @property
    def newest_kept(self) -> Entry | None:
        """The newest entry that is kept beyond the last two once the next frame is stored; None before frame 2."""
        if len(self._recent) < 2:
            return None
        oldest = self._recent[0]
        return oldest if oldest.frame % self.interval == 0 else self._kept[-1]

    def append(self, entry: Entry) -> None:
        """Store the frame that was just processed."""
        self._recent.append(entry)
        if len(self._recent) <= 2:
            return
        leaving = self._recent.pop(0)
        if leaving.frame % self.interval == 0:
            self._kept.append(leaving)
            if self.limit is not None:
                # One more than is read stays: reweighting looks at the newest kept frame even where none is read.
                del self._kept[: -max(self.limit - 2, 1)]

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._recent.clear()

    def nbytes(self) -> int:
        """Size of all entries."""
        return sum(entry.nbytes() for entry in self._kept + self._recent)
