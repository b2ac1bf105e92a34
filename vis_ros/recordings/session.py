"""A place among ROS nodes: a context, a node and the thread that spins it, on a domain of its own or a given one."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from vis_core.errors import VisError
from vis_ros.node.transport import use_shared_memory

_STOP_SECONDS = 15.0
_DOMAINS = range(1, 102)  # those whose ports lie below the ephemeral ones of Linux


class DomainError(VisError):
    """No ROS domain is free."""


@contextmanager
def free_domain() -> Iterator[int]:
    """A ROS domain that nobody on this machine uses, reserved among the users of this function while inside.

    Raises:
        DomainError: all are in use.
    """
    for domain in random.sample(_DOMAINS, len(_DOMAINS)):
        path = Path(tempfile.gettempdir()) / f"vis_ros_domain_{domain}.lock"
        with ExitStack() as stack:
            try:
                lock = stack.enter_context(path.open("a"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # reserved, or the file is another user's
                continue
            if _is_silent(domain):
                yield domain
                return
    raise DomainError(f"ROS domains {_DOMAINS.start} to {_DOMAINS.stop - 1} are all in use; name one with --domain")


class Session:
    """A ROS context and node of its own on one domain, spinning in a thread, with the shared-memory transport.

    Args:
        domain_id: ROS domain; None: that of the environment.
        namespace: of the node; relative topics and the driven node are in it.
        arguments: ROS arguments, such as ``["--ros-args", "-p", "use_sim_time:=true"]``.
    """

    def __init__(self, domain_id: int | None = None, namespace: str = "/vis", arguments: Sequence[str] = ()) -> None:
        use_shared_memory()
        self.domain_id = int(os.environ.get("ROS_DOMAIN_ID") or 0) if domain_id is None else domain_id
        self.namespace = "/" + namespace.strip("/")
        self.context = Context()
        rclpy.init(args=list(arguments), context=self.context, domain_id=self.domain_id)
        self.node = Node(f"vis_ros_{os.getpid()}", namespace=self.namespace, context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name="vis-ros-session", daemon=True)
        self._thread.start()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leave the domain."""
        self._executor.shutdown()
        self._thread.join(_STOP_SECONDS)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()


def _is_silent(domain: int) -> bool:
    """Whether no participant of a domain is on this machine: each holds the domain's discovery port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.bind(("", 7400 + 250 * domain))
        return True
    return False
