"""Signals to work that takes long."""

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.signals import SIGNALS, disturb_until_it_ends
from vis_core.commands.interrupts import ended_in_order, interrupts

ROOT = Path(__file__).resolve().parents[3]


def test_a_signal_in_the_middle_of_a_write_is_only_noted(monkeypatch, capfd):
    class Interrupted(io.RawIOBase):
        told = False

        def writable(self):
            return True

        def write(self, content):
            if not self.told:
                self.told = True
                signal.raise_signal(signal.SIGTERM)
            return len(content)

    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BufferedWriter(Interrupted()), write_through=True))
    with interrupts("step") as received:
        print("step 1", file=sys.stderr, flush=True)
        assert received == [signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert "Stopping after this step" in capfd.readouterr().err


def test_without_a_signal_the_handlers_come_back(capfd):
    before = [signal.getsignal(number) for number in SIGNALS]
    with interrupts():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("unit", ["step", None])
def test_what_follows_an_interrupted_work_is_disturbed_by_nothing(unit, capfd):
    with ended_in_order():
        with interrupts(unit) as received:
            signal.raise_signal(signal.SIGTERM)
        for number in SIGNALS:
            signal.raise_signal(number)
    for number in SIGNALS:
        signal.raise_signal(number)
    assert received == [signal.SIGTERM]
    assert capfd.readouterr().err.count("Stopping") == (unit is not None)


PROGRAM = """
import sys
from vis_core.commands.interrupts import ended_in_order, interrupts
{before}
with ended_in_order():
    try:
        with interrupts("frame") as received:
            print("works", flush=True)
            while not received:
                input()
            {work}
        sys.exit(128 + received[0])
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        print("tidies up", flush=True)
        for i in range(10**6):
            pass
        print("done", flush=True)
"""


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("work", ["pass", "input()"])
def test_signals_in_a_row_leave_the_end_and_the_exit_code_alone(first, work):
    program = PROGRAM.format(before="import atexit; atexit.register(print, 'gone', flush=True)", work=work)
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        told = [process.stdout.readline()]
        process.send_signal(first)
        process.stdin.write("\n" * 2)
        process.stdin.flush()
        if work == "input()":
            process.send_signal(signal.SIGTERM)
        while line := process.stdout.readline():  # as fast as can be, to the very end
            told.append(line)
            for number in SIGNALS:
                process.send_signal(number)
        disturb_until_it_ends(process)
    assert told == ["works\n", "tidies up\n", "done\n", "gone\n"]
    assert process.returncode in (128 + first, 130)
