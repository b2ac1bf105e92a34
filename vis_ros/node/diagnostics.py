"""What the node says about itself on ``/diagnostics``: rates, losses, latency, bad messages, incompatible QoS."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from threading import Lock
from typing import Any

import numpy as np

from vis_ros.node.mailbox import Mailbox
from vis_ros.node.sequence_gaps import SequenceGaps

NO_IMAGE_SECONDS = 2.0
"""Without an image for this long, an active node warns."""

_WINDOW_FRAMES = 300
_WINDOW_SECONDS = 5.0


class Level(IntEnum):
    """Values of ``diagnostic_msgs/DiagnosticStatus.level``."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class Report:
    """One diagnostic status: how bad, in a sentence, and the figures by name."""

    level: Level
    message: str
    values: Mapping[str, str]


@dataclass(frozen=True)
class _Totals:
    time: float
    received: int = 0
    published: int = 0
    bad: int = 0
    failures: int = 0
    resets: int = 0
    missing: int = 0


class StreamStatistics:
    """Counts what happens to a stream; any thread may tell it, and any may ask for a report.

    Percentiles are those of the latest 300 frames; rates, and what is warned of, those of about the latest 5 seconds.

    Args:
        mailbox: where images arrive; it counts those received and dropped.
        clock: seconds, monotonic.
    """

    def __init__(self, mailbox: Mailbox[Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._mailbox = mailbox
        self._clock = clock
        self._lock = Lock()
        self._latest_image: float | None = None
        self._started = clock()
        self._published = 0
        self._failures = 0
        self._resets = 0
        self._reset_reason = ""
        self._late = 0
        self._lost = 0
        self._gaps = SequenceGaps()
        self._bad: Counter[str] = Counter()
        self._processing: deque[float] = deque(maxlen=_WINDOW_FRAMES)
        self._latencies: deque[float] = deque(maxlen=_WINDOW_FRAMES)
        self._state_bytes = 0
        self._history: deque[_Totals] = deque([_Totals(self._started)])

    def note_image(self, info: Any = None) -> None:
        """An image arrived.

        Args:
            info: rclpy's ``MessageInfo``. Where it tells publisher and sequence number, as in Kilted, the images
                are counted that were published after the first one that came, and did not come.
        """
        self._latest_image = self._clock()
        with self._lock:
            self._gaps.note(info)

    def count_bad(self, reason: str) -> None:
        """An image message could not be used."""
        with self._lock:
            self._bad[reason] += 1

    def count_failure(self) -> None:
        """The segmenter raised an exception."""
        with self._lock:
            self._failures += 1

    def count_reset(self, reason: str = "") -> None:
        """A new stream began, for a reason."""
        with self._lock:
            self._resets += 1
            self._reset_reason = reason

    def count_late(self) -> None:
        """An image came late, and was left out."""
        with self._lock:
            self._late += 1

    def count_lost(self, number: int) -> None:
        """The middleware reported images that it lost."""
        with self._lock:
            self._lost += number

    def add_frame(self, processing_seconds: float, state_bytes: int) -> None:
        """A frame was worked on, in so many seconds; what lives on takes so many bytes."""
        with self._lock:
            self._processing.append(processing_seconds)
            self._state_bytes = state_bytes

    def add_publication(self, latency_seconds: float | None) -> None:
        """A result was published, so many seconds after its image was captured; None: that is unknown."""
        with self._lock:
            self._published += 1
            if latency_seconds is not None:
                self._latencies.append(latency_seconds)

    def report(
        self,
        incompatible: Collection[tuple[str, str]] = (),
        transport_problem: str = "",
        more: tuple[Sequence[str], Mapping[str, str]] | None = None,
    ) -> Report:
        """The state of the stream now.

        Args:
            incompatible: topic and QoS policy of each peer with which nothing is exchanged.
            transport_problem: why images will get lost; empty: nothing is known.
            more: what else is wrong, and figures by name.
        """
        now = self._clock()
        received, dropped = self._mailbox.counts
        with self._lock:
            bad = sum(self._bad.values())
            totals = _Totals(now, received, self._published, bad, self._failures, self._resets, self._gaps.missing)
            self._history.append(totals)
            while now - self._history[1].time >= _WINDOW_SECONDS:
                self._history.popleft()
            past = self._history[0]
            seconds = max(now - past.time, 1e-9)
            values = {
                "images received": f"{received}",
                "images dropped": f"{dropped}",
                "images late": f"{self._late}",
                "images lost in transport": f"{self._lost}",
                "images missing by sequence number": f"{self._gaps.missing}" if self._gaps.told else "unknown",
                "results published": f"{self._published}",
                "rate in [Hz]": f"{(received - past.received) / seconds:.2f}",
                "rate out [Hz]": f"{(self._published - past.published) / seconds:.2f}",
                "latency p50 [ms]": _percentile(self._latencies, 50),
                "latency p95 [ms]": _percentile(self._latencies, 95),
                "processing p50 [ms]": _percentile(self._processing, 50),
                "processing p95 [ms]": _percentile(self._processing, 95),
                "bad messages": f"{totals.bad}",
                **{f"bad messages: {reason}": f"{count}" for reason, count in sorted(self._bad.items())},
                "segmenter failures": f"{self._failures}",
                "resets": f"{self._resets}",
                "latest reset": self._reset_reason,
                "state [bytes]": f"{self._state_bytes}",
            }
        warnings = [transport_problem] if transport_problem else []
        if more is not None:
            warnings += more[0]
            values |= more[1]
        warnings += [f"incompatible QoS on {topic}: {policy}" for topic, policy in sorted(incompatible)]
        silent = now - (self._started if self._latest_image is None else self._latest_image)
        if silent > NO_IMAGE_SECONDS:
            warnings.append(f"no image for {silent:.0f} s")
        if totals.bad > past.bad:
            warnings.append(f"{totals.bad - past.bad} bad messages")
        if totals.missing > past.missing:
            warnings.append(f"{totals.missing - past.missing} images published and not received")
        if totals.resets > past.resets:
            warnings.append(f"{totals.resets - past.resets} resets, the latest: {self._reset_reason}")
        if totals.failures > past.failures:
            warnings.insert(0, f"the segmenter failed at {totals.failures - past.failures} frames")
            return Report(Level.ERROR, "; ".join(warnings), values)
        return Report(Level.WARN if warnings else Level.OK, "; ".join(warnings) or "running", values)


def idle_report(state: str) -> Report:
    """What a node says that works on no stream.

    Args:
        state: of its life cycle, as ROS calls it: ``unconfigured``, ``inactive``, ``finalized``...
    """
    if state == "finalized":
        return Report(Level.STALE, "finalized: it never works again; end the process and start the node anew", {})
    if state == "unconfigured":
        return Report(Level.WARN, "unconfigured: no network is loaded; it waits for configure and activate", {})
    return Report(Level.OK, state, {})


def to_diagnostic_array(stamp: Any, hardware_id: str, reports: Mapping[str, Report]) -> Any:
    """The ``diagnostic_msgs/DiagnosticArray`` of reports.

    Args:
        stamp: a ``builtin_interfaces/Time``.
        hardware_id: what it runs on.
        reports: what to say, by name of the status.
    """
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

    array = DiagnosticArray()
    array.status = [
        DiagnosticStatus(
            level=bytes([report.level]),
            name=name,
            message=report.message,
            hardware_id=hardware_id,
            values=[KeyValue(key=key, value=value) for key, value in report.values.items()],
        )
        for name, report in reports.items()
    ]
    array.header.stamp = stamp
    return array


def _percentile(seconds: Iterable[float], percent: float) -> str:
    values = np.fromiter(seconds, np.float64)
    return f"{np.percentile(values, percent) * 1e3:.2f}" if values.size else ""
