"""The classes that a node may find, told before it finds one: latched, for those who come later too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from vis_ros.node.topics import topic_of

if TYPE_CHECKING:
    from rclpy.node import Node

CLASS_NAMES = "~/class_names"


def publish_class_names(node: Node, names: Sequence[str], camera: str) -> Any:
    """Publish names as a JSON list, where ``class_id`` of a track is the place of its class; returns the publisher.

    It is there from configure to cleanup, whether or not the node is active.
    """
    publisher = node.create_publisher(
        String, topic_of(camera, CLASS_NAMES), QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    )
    publisher.publish(String(data=json.dumps(list(names))))
    return publisher
