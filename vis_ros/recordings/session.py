"""A place among ROS nodes: a context, a node and the thread that spins it, on a domain of its own or a given one."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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

    What reserves it is a socket with a name and no file, which goes with its process, however that ends.

    Raises:
        DomainError: all are in use.
    """
    for domain in random.sample(_DOMAINS, len(_DOMAINS)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reserved:
            try:
                reserved.bind(f"\0vis_ros_domain_{domain}")
            except OSError:  # another's
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
        image_bytes: of the largest image that is published here; None: unknown.
    """

    def __init__(
        self,
        domain_id: int | None = None,
        namespace: str = "/vis",
        arguments: Sequence[str] = (),
        image_bytes: int | None = None,
    ) -> None:
        use_shared_memory(image_bytes)
        self.domain_id = int(os.environ.get("ROS_DOMAIN_ID") or 0) if domain_id is None else domain_id
        self.namespace = "/" + namespace.strip("/")
        self.context = Context()
        rclpy.init(args=list(arguments), context=self.context, domain_id=self.domain_id)
        self.node = Node(f"vis_ros_{os.getpid()}", namespace=self.namespace, context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._spin, name="vis-ros-session", daemon=True)
        self._thread.start()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def check(self) -> None:
        """Raise what ended the thread that spins, if anything did."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Leave the domain."""
        self._executor.shutdown()
        self._thread.join(_STOP_SECONDS)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def _spin(self) -> None:
        try:
            with suppress(ExternalShutdownException):
                self._executor.spin()
        except Exception as error:
            self._error = error


def _is_silent(domain: int) -> bool:
    """Whether no participant of a domain is on this machine: each holds the domain's discovery port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.bind(("", 7400 + 250 * domain))
        return True
    return False
