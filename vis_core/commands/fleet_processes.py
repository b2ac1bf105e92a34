"""Inputs answered by processes of this machine, several at a time."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vis_core.commands.fleet_records import OUTCOME

_TICK, _PATIENCE = 0.05, 60.0
_PLACE = "vis-fleet-"
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Work:
    """An input that is to be answered.

    Attributes:
        source: the input.
        folder: that its results go to.
        command: that answers it, as a list of words; the first one stands for Python.
        log: file for all that the command says.
    """

    source: str
    folder: Path
    command: tuple[str, ...]
    log: Path


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a command: its exit code, its last message and its figures."""

    code: int
    message: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder; what killed processes have left of theirs goes."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PLACE}*-*"):
        number = left.name.removeprefix(_PLACE).partition("-")[0]
        if number.isdecimal() and not Path("/proc", number).exists():
            shutil.rmtree(left, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{_PLACE}{os.getpid()}-")


class Process:
    """A command in a process of its own, which a Ctrl-C of this one does not reach, and which ends when this one does.

    Args:
        command: its words.
        log: file for all that it says.
        threads: of the libraries that it uses.
    """

    def __init__(self, command: Sequence[str], log: Path, threads: int) -> None:
        self._log = log
        self._place = scratch()
        self._outcome = Path(self._place.name, "outcome.json")
        environment = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        with log.open("wb") as out:
            self._process = subprocess.Popen(  # noqa: S603 our own command
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment | {OUTCOME: str(self._outcome)},
                start_new_session=True,
                preexec_fn=_end_with_parent,  # one call of C, which takes no lock
            )

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def answer(self) -> Answer | None:
        """What came of it; None while it runs."""
        if (code := self._process.poll()) is None:
            return None
        try:
            figures = json.loads(self._outcome.read_text("utf-8"))
        except (OSError, ValueError):
            figures = {}
        self._place.cleanup()
        return Answer(code, "" if code == 0 else _last_message(self._log, code), figures)

    def wait(self) -> Answer:
        """What came of it, when it has ended."""
        self._process.wait()
        answer = self.answer()
        assert answer is not None
        return answer

    def end(self) -> None:
        """Kill it, if it still runs."""
        self._process.kill()
        self._process.wait()
        self._place.cleanup()


def run_here(
    works: Sequence[Work],
    count: int,
    threads: int,
    received: Sequence[int],
    on_end: Callable[[Work, Answer], None],
) -> None:
    """Answer inputs, several at a time.

    Args:
        works: the inputs.
        count: how many at a time.
        threads: of each process.
        received: signals that came; with the first no more are begun, and those at work are told to end in order.
        on_end: told of each that has ended.
    """
    waiting, running = list(works), dict[Process, Work]()
    with _all_ended(running):
        forwarded = 0
        while running or (waiting and not received):
            while waiting and len(running) < count and not received:
                work = waiting.pop(0)
                running[Process(work.command, work.log, threads)] = work
            for number in received[forwarded:]:
                for process in running:
                    process.signal(number)
            forwarded = len(received)
            for process in list(running):
                if (answer := process.answer()) is not None:
                    on_end(running.pop(process), answer)
            time.sleep(_TICK)


@contextmanager
def _all_ended(running: dict[Process, Work]) -> Iterator[None]:
    """Whatever ends this, the processes are asked to end at once, and none is left."""
    try:
        yield
    finally:
        for process in running:
            process.signal(signal.SIGINT)
        deadline = time.monotonic() + _PATIENCE
        while any(process.answer() is None for process in running) and time.monotonic() < deadline:
            time.sleep(_TICK)
        for process in running:
            process.end()


def _end_with_parent() -> None:
    _libc.prctl(_DIES_WITH_PARENT, signal.SIGTERM)


def _last_message(log: Path, code: int) -> str:
    """What a command said last: the error that it told, else its last line."""
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [i for i, line in enumerate(lines) if line.startswith("error:")]
    if errors:
        return " ".join(lines[errors[-1] :]).removeprefix("error:").strip()
    ended = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{ended}: {lines[-1]}" if lines else ended
