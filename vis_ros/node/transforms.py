"""Where a camera is at the time of an image: tf, where the machine has it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vis_core.errors import printable
from vis_core.spatial.tracks import Pose
from vis_ros.messages import to_stamp

if TYPE_CHECKING:
    from rclpy.node import Node


class Transforms:
    """Looks up transforms at the stamps of images, never the latest. ``tf2_ros`` is imported when one is made.

    Args:
        node: that listens to ``/tf``.
    """

    def __init__(self, node: Node) -> None:
        self.problem = ""
        """Why the last look-up failed; empty: it did not."""
        try:
            tf2_ros = import_module("tf2_ros")
        except ImportError:
            self.problem = "tf2_ros is not installed (apt install ros-$ROS_DISTRO-tf2-ros-py)"
            self._buffer = None
            return
        self._failure = tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def pose(self, target: str, source: str, stamp: int) -> Pose | None:
        """The frame `source` in the frame `target` at a time in nanoseconds; None: it is not known, see `problem`."""
        if self._buffer is None:
            return None
        try:
            found: Any = self._buffer.lookup_transform(target, source, to_stamp(stamp))
        except self._failure as error:
            self.problem = printable(f"no transform from {source} to {target} at the image's stamp: {error}", 300)
            return None
        self.problem = ""
        move, turn = found.transform.translation, found.transform.rotation
        return Pose.from_quaternion((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))

    def destroy(self) -> None:
        """Stop listening."""
        if self._buffer is not None:
            self._listener.unregister()
