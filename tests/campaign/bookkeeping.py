"""What became of every image, and what the processes hold: one account for each time that a camera and a node met."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile

from vis_ros import messages
from vis_ros.msg import InstanceTrackArray
from vis_ros.recordings.session import Session

COUNTED = {
    "received": "images received",
    "answered": "results published",
    "dropped": "images dropped",
    "late": "images late",
    "bad": "bad messages",
    "failures": "segmenter failures",
    "missing": "images missing by sequence number",
    "lost": "images lost in transport",
    "resets": "resets",
}
"""Column, and what the node calls it on ``/diagnostics``."""

_SEGMENT = re.compile(r" (/dev/shm/fast(?:dds|rtps)_[0-9a-f]{16})$")
_STATUSES, _SILENCE_SECONDS = 60, 30.0
_LOSSES = ("dropped", "late", "bad", "failures")
_LATE_AFTER_JUMP = 3  # images at most, see vis_ros/node/order.py
_DRIFT = {"resident [MiB]": 24, "threads": 2, "descriptors": 2, "segments of shared memory": 0}
"""By how much more a process may hold at its end than after its first round."""


class NothingToldError(Exception):
    """The middleware tells no sequence numbers (before Kilted): what is lost on the way cannot be counted."""


def counters(values: Mapping[str, str]) -> dict[str, int] | None:
    """What the node has counted so far; None: it is not active."""
    told = {column: values[key] for column, key in COUNTED.items() if key in values}
    return {column: -1 if count == "unknown" else int(count) for column, count in told.items()} or None


@dataclass
class Account:
    """The images of one camera that one node was to get.

    Attributes:
        name: of camera and node.
        sent: what the camera published.
        unheard: images before the first one that came: publisher and subscriber did not know of each other.
        cut_off: images on their way, or at work, when a process was killed; at most `at_stake`.
        late, bad: so many were sent.
        back: how often time jumped back.
        counted: by the node, in this time.
    """

    name: str
    sent: int = 0
    unheard: int = 0
    cut_off: int = 0
    at_stake: int = 0
    late: int = 0
    bad: int = 0
    back: int = 0
    counted: dict[str, int] = field(default_factory=dict)

    def open(self) -> int:
        """Images that are not accounted for so far."""
        return self.sent - self.unheard - self.counted["received"] - self.counted["missing"]

    def problems(self) -> list[str]:
        """Where it does not balance."""
        counted = self.counted
        found = []
        if self.open() != self.cut_off:
            found.append(f"{self.open()} images are not accounted for, {self.cut_off} were cut off")
        if not 0 <= self.cut_off <= self.at_stake:
            found.append(f"{self.cut_off} images cut off, {self.at_stake} were on their way")
        worked = counted["answered"] + sum(counted[name] for name in _LOSSES)
        if counted["received"] != worked:
            found.append(f"{counted['received']} received, {worked} answered or counted")
        if counted["failures"]:
            found.append(f"the segmenter failed {counted['failures']} times")
        uncertain = counted["dropped"] + counted["missing"] + self.cut_off + self.unheard
        for name, sent, more in (("late", self.late, _LATE_AFTER_JUMP * self.back), ("bad", self.bad, 0)):
            if not sent - uncertain <= counted[name] <= sent + more:
                found.append(f"{sent} {name} images were sent, {counted[name]} counted")
        return [f"{self.name}: {text}" for text in found]

    def row(self) -> list[str]:
        numbers = (self.sent, self.unheard, self.cut_off, *(self.counted[column] for column in COUNTED))
        return [self.name, *map(str, numbers)]


class Observer:
    """Hears what the node answers, and what it says of itself."""

    def __init__(self, session: Session) -> None:
        self._changed = threading.Condition()
        self._status: dict[str, int] | None = None
        self.answers: Counter[int] = Counter()
        """How many there were, by the stamp of their image."""
        session.node.create_subscription(InstanceTrackArray, "instances", self._on_instances, QoSProfile(depth=1000))
        session.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def has(self, stamp: int) -> bool:
        """Whether an image has been answered."""
        return stamp in self.answers

    def hears(self, stamp: int, seconds: float) -> bool:
        """Whether an image is answered within a time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.has(stamp), seconds)

    def settled(self) -> dict[str, int]:
        """What the node has counted, as soon as nothing more comes.

        Raises:
            TimeoutError: it tells nothing, or is always at work.
            NothingToldError: of sequence numbers.
        """
        before = None
        for _ in range(_STATUSES):
            with self._changed:
                self._status = None
                if not self._changed.wait_for(lambda: self._status is not None, _SILENCE_SECONDS):
                    break
                status, self._status = self._status, None
            if status == before and status is not None:
                if status["missing"] < 0:
                    raise NothingToldError(NothingToldError.__doc__)
                return status
            before = status
        raise TimeoutError(f"the node does not tell what it has counted; its latest: {before}")

    def _on_instances(self, message: Any) -> None:
        with self._changed:
            self.answers[messages.stamp_of(message)] += 1
            self._changed.notify_all()

    def _on_diagnostics(self, message: Any) -> None:
        with self._changed:
            self._status = counters({pair.key: pair.value for pair in message.status[0].values})
            self._changed.notify_all()


COLUMNS = ("", "published", "unheard", "cut off", *COUNTED)


def total(accounts: Iterable[Account]) -> Account:
    """The sum of accounts."""
    result = Account("sum", counted=dict.fromkeys(COUNTED, 0))
    for account in accounts:
        for name in ("sent", "unheard", "cut_off", "at_stake", "late", "bad", "back"):
            setattr(result, name, getattr(result, name) + getattr(account, name))
        for column, count in account.counted.items():
            result.counted[column] += count
    return result


def segments_of(process: int) -> set[Path]:
    """Shared memory that a process has mapped and is one process's own; what has been removed is not told."""
    lines = Path(f"/proc/{process}/maps").read_text().splitlines()
    return {Path(found[1]) for line in lines if (found := _SEGMENT.search(line))}


def footprint(process: int) -> dict[str, int]:
    """What a process holds."""
    found = psutil.Process(process)
    return {
        "resident [MiB]": found.memory_info().rss >> 20,
        "threads": found.num_threads(),
        "descriptors": found.num_fds(),
        "segments of shared memory": len(segments_of(process)),
    }


def drifts(name: str, before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """Where a process holds more than it did."""
    return [
        f"{name}: {kind} {before[kind]} before, {after[kind]} after"
        for kind, more in _DRIFT.items()
        if after[kind] > before[kind] + more
    ]


def table(rows: Iterable[Iterable[str]]) -> str:
    """Text in columns, the first one aligned at its left."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))])
        for row in cells
    )
