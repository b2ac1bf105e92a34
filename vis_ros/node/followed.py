"""The track that is followed: which it is, its pose, and its frame in tf."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.qos import QoSProfile

from vis_core.spatial.tracks import SpatialTrack
from vis_core.structures import TrackState
from vis_ros import spatial_messages
from vis_ros.node.topics import ONLY
from vis_ros.spatial_messages import SpatialScene

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode

_TF = "/tf"


class Followed:
    """Publishes ``~/followed_pose`` while someone subscribes, and a frame on ``/tf`` where one is named.

    Args:
        node: that publishes.
        create: makes a publisher, of message type, topic and quality of service.
        frame: name of the frame; empty: none. ``tf2_msgs`` has its messages; without them a warning says so.
        camera: that sees it; where there are several their frames are called ``CAMERA/frame``.
    """

    def __init__(
        self,
        node: LifecycleNode,
        create: Callable[[Any, str, QoSProfile], Any],
        frame: str = "",
        camera: str = ONLY,
    ) -> None:
        self.wanted = ""
        """Id of a track, or name of a class of which the nearest is followed; empty: none."""
        self._node = node
        self._frame = frame if camera == ONLY or not frame else f"{camera}/{frame}"
        self._number: int | None = None
        self.pose = create(PoseStamped, "~/followed_pose", QoSProfile(depth=5))
        self._transforms: Any = None
        if frame:
            try:
                self._kind = import_module("tf2_msgs.msg").TFMessage
            except ImportError:
                node.get_logger().warning(
                    f"follow_frame: {frame} is not published: tf2_msgs is not installed (apt install "
                    "ros-$ROS_DISTRO-tf2-msgs)"
                )
            else:
                self._transforms = node.create_publisher(self._kind, _TF, QoSProfile(depth=100))

    @property
    def is_asked_for(self) -> bool:
        """Whether a frame is published, whoever listens."""
        return self._transforms is not None and bool(self.wanted)

    def publish(self, scene: SpatialScene) -> None:
        """Of a scene, where the track is in it."""
        if not (self.is_asked_for or self.pose.get_subscription_count()):
            return
        track = self._find(scene)
        if track is None:
            return
        if self.pose.get_subscription_count():
            self.pose.publish(spatial_messages.to_pose(scene, track))
        if self._transforms is not None:
            self._transforms.publish(self._kind(transforms=[spatial_messages.to_transform(scene, track, self._frame)]))

    def destroy(self) -> None:
        """What `create` has not made."""
        if self._transforms is not None:
            self._node.destroy_publisher(self._transforms)

    def _find(self, scene: SpatialScene) -> SpatialTrack | None:
        """The track that is asked for; of a class the nearest, and then that one for as long as it lives."""
        alive = {track.track_id: (track, name) for track, _, name in scene.rows() if track.state != TrackState.ENDED}
        if self.wanted.isdecimal():
            return alive.get(int(self.wanted), (None, ""))[0]
        mine = {number: track for number, (track, name) in alive.items() if name == self.wanted}
        if self._number not in mine:
            self._number = min(mine, key=lambda number: float(np.linalg.norm(mine[number].position)), default=None)
        return None if self._number is None else mine[self._number]
