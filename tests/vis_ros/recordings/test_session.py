"""ROS domains that are reserved."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")

from vis_ros.recordings import session
from vis_ros.recordings.session import DomainError, free_domain

ROOT = Path(__file__).resolve().parents[3]


def test_domains_in_use_are_left_alone(monkeypatch):
    with free_domain() as one, free_domain() as other:  # that no session of another test holds
        low, high = sorted((one, other))
    monkeypatch.setattr(session, "_DOMAINS", range(low, high + 1, high - low))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(("", 7400 + 250 * low))
        with free_domain() as domain:
            assert domain == high
            with pytest.raises(DomainError, match=f"{low} to {high}"), free_domain():
                pass
        with free_domain() as domain:
            assert domain == high


def test_a_reserved_domain_leaves_no_file_and_is_free_when_its_process_is_killed(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with free_domain() as only:
        pass
    monkeypatch.setattr(session, "_DOMAINS", range(only, only + 1))
    program = (
        "import signal\n"
        "from vis_ros.recordings import session\n"
        f"session._DOMAINS = range({only}, {only + 1})\n"
        "with session.free_domain() as domain:\n"
        "    print(domain, flush=True)\n"
        "    signal.pause()\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment) as other:
        try:
            assert other.stdout.readline() == f"{only}\n"
            with pytest.raises(DomainError), free_domain():
                pass
        finally:
            other.kill()
    with free_domain() as domain:
        assert domain == only
    assert list(tmp_path.iterdir()) == []
