"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP): work that takes long ends in order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def interrupts(unit: str | None = None) -> Iterator[list[int]]:
    """While inside, the first Ctrl-C (or SIGTERM, SIGHUP) is only noted in the list; the second one interrupts at once.

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

    with handled(ask):
        yield received


@contextmanager
def handled(
    handler: Callable[[int, FrameType | None], object],
    numbers: Iterable[signal.Signals] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
) -> Iterator[None]:
    """While inside, these signals are handled so; but SIGHUP is ignored where it was, as under nohup."""
    under_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    before = {n: signal.signal(n, handler) for n in numbers if not (under_nohup and n == signal.SIGHUP)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """While inside, SIGTERM and SIGHUP unwind what is at work, so that it tidies up; exit code 128 + their number."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with handled(end, (signal.SIGTERM, signal.SIGHUP)):
        yield
