"""The segmenter node in a process of its own, driven through its lifecycle services."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from vis_core.errors import VisError, printable
from vis_ros.recordings.session import Session

START_SECONDS = 600.0
"""Most time that loading and warming up may take: a large network on a slow machine."""

CHANGE_SECONDS = 30.0
"""Most time that any other change of state may take."""

_STOP_SECONDS = 15.0
_OUTPUT_LINES = 40
_MAX_LINE = 2000
_TICK = 0.005


# The kernel is to end the process when the thread that started it ends, even by SIGKILL: PR_SET_PDEATHSIG, SIGTERM.
_DIE_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execvp(sys.argv[1], sys.argv[1:])"


class NodeError(VisError):
    """The node in the other process did not do what was asked; the text ends with its last output."""


class NodeProcess:
    """The segmenter node in a process, driven through its lifecycle services, and ended with the block.

    Make publishers and subscriptions that are to miss nothing before: they are announced in order, so a node that
    answers a service already knows of them. The node also ends with the thread that entered the block.

    Args:
        session: domain and namespace; must outlast it.
        parameters: of the node.
        remap: topic names of the node to others.
        command: what to run; default: the node of this package.
        on_output: called with each line that it prints.
    """

    def __init__(
        self,
        session: Session,
        parameters: Mapping[str, Any],
        remap: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "vis_ros.node.segmenter_node"),
        on_output: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.ended = threading.Event()
        self._session = session
        self._parameters = {**parameters, "autostart": False}
        self._remap = {"__ns": session.namespace, **(remap or {})}
        self._command = command
        self._on_output = on_output
        self._output: deque[str] = deque(maxlen=_OUTPUT_LINES)
        self._stopping = False

    def __enter__(self) -> NodeProcess:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", prefix="vis_ros_", delete=False) as file:
            yaml.safe_dump({"/**": {"ros__parameters": self._parameters}}, file)
        self._file = Path(file.name)
        self._client: Any = self._session.node.create_client(ChangeState, "segmenter/change_state")
        rules = [text for name, target in self._remap.items() for text in ("-r", f"{name}:={target}")]
        package_root = str(Path(__file__).resolve().parents[2])  # may be a source tree
        search = [] if package_root == sysconfig.get_path("purelib") else [package_root]
        try:
            # In a session of its own, so that Ctrl-C reaches only us, and we end it in order.
            self._process: subprocess.Popen[str] = subprocess.Popen(  # noqa: S603
                [
                    sys.executable,
                    "-c",
                    _DIE_WITH_PARENT,
                    *self._command,
                    "--ros-args",
                    "--params-file",
                    file.name,
                    *rules,
                ],
                env={
                    **os.environ,
                    "ROS_DOMAIN_ID": str(self._session.domain_id),
                    "PYTHONPATH": os.pathsep.join(filter(None, (*search, os.environ.get("PYTHONPATH")))),
                    "PYTHONUNBUFFERED": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except BaseException:  # such as Ctrl-C: what has begun ends with this process
            self._file.unlink()
            raise
        self._reader = threading.Thread(target=self._read_output, name="vis-ros-output", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping = True
        try:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
                self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._reader.join(_STOP_SECONDS)
            self._session.node.destroy_client(self._client)
            self._file.unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def output(self) -> str:
        """The last lines that it printed."""
        return "\n".join(self._output)

    def configure(self, timeout: float = START_SECONDS) -> None:
        """Load the weights and warm up.

        Raises:
            NodeError: it failed, or took longer.
        """
        self._change(Transition.TRANSITION_CONFIGURE, "configure", timeout)

    def activate(self, timeout: float = CHANGE_SECONDS) -> None:
        """Subscribe and start to work.

        Raises:
            NodeError: it failed, or took longer.
        """
        self._change(Transition.TRANSITION_ACTIVATE, "activate", timeout)

    def deactivate(self, timeout: float = CHANGE_SECONDS) -> None:
        """Answer what is owed and stop to work.

        Raises:
            NodeError: it failed, or took longer.
        """
        self._change(Transition.TRANSITION_DEACTIVATE, "deactivate", timeout)

    def check(self) -> None:
        """Raise `NodeError` if the process has ended."""
        if self.ended.is_set() and not self._stopping:
            raise self._failure(f"ended by itself with exit code {self._process.wait()}")

    def wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait for a condition; whether it came true in time.

        Raises:
            NodeError: the process ended.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                return False
            self.ended.wait(_TICK)
        return True

    def _change(self, transition: int, name: str, timeout: float) -> None:
        if not self.wait_until(self._client.service_is_ready, timeout):
            raise self._failure(f"offers no lifecycle service after {timeout:g} s")
        self._file.unlink(missing_ok=True)  # it has been read; even a process that is killed leaves nothing behind
        request = ChangeState.Request()
        request.transition.id = transition
        future = self._client.call_async(request)
        if not self.wait_until(future.done, timeout):
            raise self._failure(f"did not {name} in {timeout:g} s")
        if not future.result().success:
            raise self._failure(f"did not {name}")

    def _failure(self, what: str) -> NodeError:
        return NodeError(f"the node {what}. Its last output:\n{self.output or '(none)'}")

    def _read_output(self) -> None:
        stream = self._process.stdout
        for line in stream or ():
            text = printable(line, _MAX_LINE)
            self._output.append(text)
            self._on_output(text)
        if stream is not None:
            stream.close()
        self._process.wait()
        self.ended.set()
