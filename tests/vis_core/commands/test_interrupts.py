"""Signals to work that takes long."""

import io
import signal
import sys

import pytest

from vis_core.commands.interrupts import interrupts


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


def test_without_a_unit_nothing_is_said_and_the_handlers_come_back(capfd):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with interrupts() as received:
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert capfd.readouterr().err == ""
