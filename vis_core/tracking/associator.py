"""Which detection continues which track: what every way of linking has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vis_core.tracking.lifecycle import TrackLifecycle

Found = TypeVar("Found", contravariant=True)


@dataclass(frozen=True, slots=True)
class Window:
    """Which frames of a stream are looked at together.

    Attributes:
        first: number of the first one, counted from the last reset.
        length: their number.
        size: height and width of each, pixels.
    """

    first: int
    length: int
    size: tuple[int, int]


class Associator(ABC, Generic[Found]):
    """Says which of the instances found in a window continue which tracks; it numbers none.

    What is remembered of a live track stands in `remembered`, by its id; each entry says its size by ``nbytes``.

    Attributes:
        shared_frames: frames that successive windows must share, since tracks are handed over by them.
    """

    shared_frames: int = 0

    def __init__(self) -> None:
        self.remembered: dict[int, Any] = {}

    @abstractmethod
    def associate(
        self, found: Found, window: Window, lifecycle: TrackLifecycle
    ) -> tuple[Sequence[int], Sequence[int | None]]:
        """The rows of what was found that stay, and for each the id of the live track that it continues, or None.

        Args:
            found: the instances of a window.
            window: where they were found.
            lifecycle: knows which tracks are alive, when they were last seen and as what; `TrackLifecycle.end` ends
                tracks by a rule of the associator's own.
        """

    @abstractmethod
    def remember(self, track_ids: Sequence[int | None], found: Found, window: Window) -> None:
        """Keep of the instances what the next window is asked about.

        Args:
            track_ids: of each row of `found`; None: it did not stay, or was shown in none of the frames.
            found: as `associate` got them.
            window: the same.
        """

    def forget(self, track_ids: Iterable[int]) -> None:
        """Drop tracks that have ended."""
        for track_id in track_ids:
            self.remembered.pop(track_id, None)

    def clear(self) -> None:
        """Forget every track: a new stream begins."""
        self.remembered.clear()

    def nbytes(self) -> int:
        """Size of what is remembered, bytes."""
        return sum(entry.nbytes for entry in self.remembered.values())


def shown_rows(track_ids: Sequence[int | None]) -> list[tuple[int, int]]:
    """Rows that have a track, and its id."""
    return [(row, track_id) for row, track_id in enumerate(track_ids) if track_id is not None]
