"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP): work that takes long ends in order, and nothing disturbs its end."""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ignore = ctypes.CDLL(None).signal
_ignore.argtypes, _ignore.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p


@contextmanager
def interrupts(unit: str | None = None) -> Iterator[list[int]]:
    """While inside, the first Ctrl-C (or SIGTERM, SIGHUP) is only noted in the list; the second one interrupts at once.

    After either what follows is the end of the process: see `end_undisturbed`.

    Args:
        unit: after which the work is stopped then, as the user is told; None: nothing is said.
    """
    received: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            interrupt(number, frame)
        if unit is None:
            return
        # Past Python's buffers: the signal may have come in the middle of a write to them, which allows no second one.
        with suppress(OSError):
            os.write(2, f"\nStopping after this {unit}; once more to stop at once.\n".encode())

    with handled(ask):
        try:
            yield received
        finally:
            if received:
                end_undisturbed()


def interrupt(number: int, frame: FrameType | None) -> None:
    """A handler: unwinds what is at work, so that it tidies up; further signals leave it alone."""
    end_undisturbed()
    raise KeyboardInterrupt


def end_undisturbed() -> None:
    """From here to the end of the process signals do nothing: they would cut it short, or spoil the exit code."""
    for number in _SIGNALS:
        signal.signal(number, _do_nothing)
        # Past Python, which complains where one that it has noted, as here in a handler, is ignored before it is seen.
        _ignore(number, signal.SIG_IGN)
    atexit.register(_stay_ignored)


def _stay_ignored() -> None:
    """Python's last steps take its own handlers away, and would leave the default."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _do_nothing:
            signal.signal(number, signal.SIG_IGN)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass


@contextmanager
def handled(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """While inside, the three signals are handled so; but SIGHUP is ignored where it was, as under nohup.

    What was set inside by `end_undisturbed` stays.
    """
    under_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    before = {n: signal.signal(n, handler) for n in _SIGNALS if not (under_nohup and n == signal.SIGHUP)}
    try:
        yield
    finally:
        for number, former in before.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, former)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Around a whole command line: a signal unwinds what is at work; exit code 128 + its number."""

    def end(number: int, frame: FrameType | None) -> None:
        end_undisturbed()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with handled(end):
        yield
