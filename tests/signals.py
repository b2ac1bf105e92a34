"""Signals in a row, to the very end of a process."""

from __future__ import annotations

import signal
import subprocess
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
