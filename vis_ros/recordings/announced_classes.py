"""The classes that a node announces beside its instances, heard while it is recorded."""

from __future__ import annotations

import json
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from vis_core.errors import printable
from vis_ros.node.class_names import CLASS_NAMES
from vis_ros.recordings.session import Session

_MOST = 1 << 16
_MAX_NAME = 100


class AnnouncedClasses:
    """Hears ``~/class_names`` of whoever publishes instances: of a node, or of one of its cameras.

    Args:
        session: where to listen.
        topic: of the instances.
    """

    def __init__(self, session: Session, topic: str) -> None:
        self._node, self._topic = session.node, topic
        self._subscriptions: dict[str, Any] = {}
        self.names: tuple[str, ...] | None = None
        """Name of each label; None: nothing was announced, or nothing that names can be."""

    def look(self) -> None:
        """Listen to those that are there by now."""
        name = CLASS_NAMES.removeprefix("~/")
        places = {self._topic.rpartition("/")[0] + f"/{name}"}  # of one of several cameras
        for publisher in self._node.get_publishers_info_by_topic(self._topic):
            namespace = publisher.node_namespace.rstrip("/")
            places.add(f"{namespace}/{publisher.node_name}/{name}")
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for place in places - self._subscriptions.keys():
            self._subscriptions[place] = self._node.create_subscription(String, place, self._take, latched)

    def complete(self, found: dict[int, str]) -> dict[int, str] | None:
        """All classes by label; None: nothing was announced, or instances had others."""
        if self.names is None:
            return None
        names = dict(enumerate(self.names))
        return names if found.items() <= names.items() else None

    def _take(self, message: Any) -> None:
        try:
            names = json.loads(message.data)
        except (ValueError, RecursionError):
            return
        if isinstance(names, list) and 0 < len(names) <= _MOST and all(isinstance(name, str) for name in names):
            self.names = tuple(printable(name, _MAX_NAME) for name in names)
