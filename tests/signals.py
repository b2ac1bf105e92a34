"""Signals in a row, to the very end of a process."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def disturb_until_it_ends(process: subprocess.Popen[Any]) -> None:
    """Send all three again and again, until the process is gone."""
    while process.poll() is None:
        for number in SIGNALS:
            process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.002)


def wait_for_input() -> None:
    """Wait for a line on standard input, awake now and then.

    Python runs a handler between two steps of a program: a signal that comes just before a read that waits would be
    seen when the read ends, and no sooner.
    """
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        pass
    sys.stdin.readline()
