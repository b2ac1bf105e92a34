"""Ctrl-C and SIGTERM: work that takes long ends in order."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def interrupts(unit: str | None = None) -> Iterator[list[int]]:
    """While inside, the first Ctrl-C (or SIGTERM) is only noted in the list; the second one interrupts at once.

    Args:
        unit: after which the work is stopped then, as the user is told; None: nothing is said.
    """
    received: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt
        if unit is None:
            return
        # Past Python's buffers: the signal may have come in the middle of a write to them, which allows no second one.
        with suppress(OSError):
            os.write(2, f"\nStopping after this {unit}; once more to stop at once.\n".encode())

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
