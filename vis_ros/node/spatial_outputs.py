"""What the node publishes in space, of a depth image beside the camera's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from geometry_msgs.msg import PolygonInstanceStamped
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from vis_core.errors import InputError, printable
from vis_core.spatial.camera import Camera
from vis_core.spatial.measurement import Measurement, measure_instances
from vis_core.spatial.tracks import Pose, SpatialTracks
from vis_core.structures import Instances, TrackState
from vis_ros import spatial_messages
from vis_ros.node.depth import DepthBuffer, camera_of, depth_metres
from vis_ros.node.followed import Followed
from vis_ros.node.topics import ONLY, topic_names, topic_of
from vis_ros.node.transforms import Transforms
from vis_ros.spatial_messages import SpatialScene

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode

_MAP_UP, _CAMERA_UP = 2, 1
"""Axis along which things stand in a map, and in a camera's optical frame."""
_UP = np.array([0.0, -1.0, 0.0])
"""Direction in which things stand before a camera of which nothing is known."""
_MANY_UNPAIRED = 10
"""Images without depth, one after the other, that are not a lost one now and then."""


class SpatialOutputs:
    """Tracks in space, published while someone subscribes to any of their topics.

    Each is published for every image, empty too, under the image's stamp. Without a transform to `target_frame` at
    that stamp they are in the camera's frame, and diagnostics say so.

    Args:
        node: that publishes and subscribes.
        create: makes a publisher, of message type, topic and quality of service.
        class_names: name of each label.
        system: name of the segmentation system.
        slop: seconds by which the stamps of an image and of its depth image may differ.
        target_frame: frame of reference; empty: the camera's.
        rectified: the depth image is free of distortion, whatever the camera info says of its lens.
        acceleration: of objects, metres a second squared; see `SpatialTracks`.
        follow_frame: see `Followed`.
        transforms: where the camera is; None: by tf.
        camera: whose depth is heard; see `topic_of`.
    """

    def __init__(
        self,
        node: LifecycleNode,
        create: Callable[[Any, str, QoSProfile], Any],
        class_names: Sequence[str],
        system: str,
        *,
        slop: float,
        target_frame: str = "",
        rectified: bool = False,
        acceleration: float = 2.0,
        follow_frame: str = "",
        transforms: Transforms | None = None,
        camera: str = ONLY,
    ) -> None:
        from vis_ros.msg import InstanceTrack3DArray

        self._node, self._class_names, self._system = node, tuple(class_names), system
        self._target_frame, self._rectified, self._acceleration = target_frame, rectified, acceleration
        self._transforms = transforms or (Transforms(node) if target_frame else None)
        self._buffer, self._depth_frame = DepthBuffer(round(slop * 1e9)), ""
        self._tracks, self._frame_id = SpatialTracks(acceleration, _CAMERA_UP), ""
        self._camera: tuple[Any, tuple[int, int], Camera] | None = None
        some = QoSProfile(depth=5)
        self._array = create(InstanceTrack3DArray, "~/tracks_3d", QoSProfile(depth=10))
        self._markers = create(MarkerArray, "~/markers", some)
        self._points = create(PointCloud2, "~/points", some)
        self._polygons = create(PolygonInstanceStamped, "~/polygons", QoSProfile(depth=50))
        self._points_of = {
            name: create(PointCloud2, f"~/points/{token}", some) for name, token in topic_names(class_names).items()
        }
        self.followed = Followed(node, create, follow_frame, camera)
        """What is followed; its `wanted` may change."""
        self._publishers = [self._array, self._markers, self._points, self._polygons, self.followed.pose]
        self._publishers += self._points_of.values()
        self._detections: Any = None
        if (detections := spatial_messages.detections_type()) is not None:
            self._detections = create(detections, "~/detections_3d", some)
            self._publishers.append(self._detections)
        self._subscriptions = [
            node.create_subscription(kind, topic_of(camera, topic), add, qos_profile_sensor_data)
            for kind, topic, add in (
                (Image, "depth", self._buffer.add),
                (CameraInfo, "depth/camera_info", self._buffer.add_info),
            )
        ]

    def publish(self, instances: Instances, header: Any) -> None:
        """What is known in space at the time of an image.

        Args:
            instances: the tracks of the image.
            header: of the image.
        """
        if not (self.followed.is_asked_for or any(one.get_subscription_count() for one in self._publishers)):
            self._tracks.clear()  # what nobody asks for is not known when somebody does
            return
        found = self._buffer.nearest(instances.stamp)
        if found is not None:
            self._depth_frame = found[0].header.frame_id
        # An image without depth does not change where the tracks are.
        frame_id = self._depth_frame or header.frame_id
        pose = self._pose(frame_id, instances.stamp)
        reference = self._target_frame if pose is not None else frame_id
        upright = _MAP_UP if pose is not None else _CAMERA_UP
        if reference != self._frame_id:
            self._tracks, self._frame_id = SpatialTracks(self._acceleration, upright), reference
        measurements = {} if found is None else self._measure(instances, *found, pose)
        states = {
            number: TrackState(state) for number, state in zip(instances.track_ids.tolist(), instances.states.tolist())
        }
        pose = pose or Pose.none()
        tracks = self._tracks.step(instances.stamp, states, measurements, pose)
        stamped = copy(header)
        stamped.frame_id = reference
        self._publish(SpatialScene(stamped, tracks, instances, self._class_names, upright), measurements, pose)

    def destroy(self) -> None:
        """The subscriptions, and what is followed; other publishers are of who created them."""
        self.followed.destroy()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        if self._transforms is not None:
            self._transforms.destroy()

    def report(self) -> tuple[list[str], Mapping[str, str]]:
        """What is wrong, and figures by name, for diagnostics."""
        counts = self._buffer.counts
        values = {
            "depth images received": f"{counts.received}",
            "images with depth": f"{counts.paired}",
            "images without depth": f"{counts.unpaired}",
            "bad depth images": f"{counts.bad}",
            "objects with too few points": f"{counts.too_few}",
            "frame of 3-D tracks": self._frame_id,
        }
        problems = [counts.reason] if counts.reason else []
        if counts.unpaired_in_a_row >= (_MANY_UNPAIRED if counts.paired else 1):
            problems.append(self._why_unpaired())
        if self._transforms is not None and self._transforms.problem:
            problems.append(f"3-D tracks are in the camera's frame: {self._transforms.problem}")
        return problems, values

    def _why_unpaired(self) -> str:
        """Why images have no depth image."""
        depth, info = (subscription.topic_name for subscription in self._subscriptions)
        nearest = self._buffer.counts.nearest
        for topic in (depth, info):
            if not self._node.count_publishers(topic):
                return f"nobody publishes {topic}"
        if nearest is None:
            return f"nothing arrives on {depth}: is its QoS compatible? ours is best effort, volatile"
        if abs(nearest) > self._buffer.slop / 1e9:
            return (
                f"{depth}: the nearest depth image is {nearest:+.3f} s from the image, "
                f"depth_slop is {self._buffer.slop / 1e9:g} s"
            )
        return f"nothing arrives on {info}: is its QoS compatible? ours is best effort, volatile"

    def _measure(self, instances: Instances, image: Any, info: Any, pose: Pose | None) -> dict[int, Measurement]:
        """Measurements by track id, in the frame of the depth image."""
        try:
            depth = depth_metres(image)
            camera = self._camera_of(info, (depth.shape[0], depth.shape[1]))
        except InputError as error:
            self._note_bad(str(error))
            return {}
        up = _UP if pose is None else pose.rotation[2]
        measured = measure_instances(instances, depth, camera, up)
        self._buffer.note_used(int(instances.visible.sum()) - len(measured))
        return measured

    def _note_bad(self, reason: str) -> None:
        if reason != self._buffer.counts.reason:
            self._node.get_logger().warning(f"{self._subscriptions[0].topic_name}: {printable(reason, 300)}")
        self._buffer.note_bad(printable(reason, 300))

    def _camera_of(self, info: Any, size: tuple[int, int]) -> Camera:
        """The camera of an info; the same object while the info is."""
        known = self._camera
        if known is None or known[1] != size or not _same(known[0], info):
            self._camera = known = (info, size, camera_of(info, size, self._rectified))
        return known[2]

    def _pose(self, frame_id: str, stamp: int) -> Pose | None:
        if self._transforms is None or self._target_frame == frame_id:
            return None
        return self._transforms.pose(self._target_frame, frame_id, stamp)

    def _publish(self, scene: SpatialScene, measurements: Mapping[int, Measurement], pose: Pose) -> None:
        if self._array.get_subscription_count():
            self._array.publish(spatial_messages.to_track_array(scene, self._system))
        if self._markers.get_subscription_count():
            self._markers.publish(spatial_messages.to_markers(scene))
        clouds = [(self._points, None), *((publisher, name) for name, publisher in self._points_of.items())]
        asked = [(publisher, name) for publisher, name in clouds if publisher.get_subscription_count()]
        if asked:
            rotation, move = pose.rotation.astype(np.float32), pose.translation.astype(np.float32)[:, None]
            points = {number: (rotation @ seen.points.T + move).T for number, seen in measurements.items()}
            for publisher, name in asked:
                publisher.publish(spatial_messages.to_points(scene, points, name))
        if self._polygons.get_subscription_count():
            for polygon in spatial_messages.to_polygons(scene):
                self._polygons.publish(polygon)
        if self._detections is not None and self._detections.get_subscription_count():
            self._detections.publish(spatial_messages.to_detections(scene))
        self.followed.publish(scene)


def _same(one: Any, other: Any) -> bool:
    """Whether two camera infos say the same of the camera."""
    names = ("height", "width", "distortion_model", "binning_x", "binning_y", "roi")
    return all(getattr(one, name) == getattr(other, name) for name in names) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("k", "d", "p")
    )
