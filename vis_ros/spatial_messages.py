"""Tracks in space as ROS messages: ours, and those that displays, costmaps and planners take.

The generated classes are imported when a message is made. ``vision_msgs`` is not among the wheels: what needs it says
so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.errors import MissingDependencyError
from vis_core.spatial.tracks import SpatialTrack
from vis_core.structures import Instances, TrackState

_UNKNOWN = 1e6
"""Variance of what is not known: large, so that whoever inverts the matrix still can."""
_POINT = np.dtype(
    {
        "names": ["x", "y", "z", "instance", "score", "label"],
        "formats": ["<f4", "<f4", "<f4", "<u4", "<f4", "u1"],
        "offsets": [0, 4, 8, 12, 16, 20],
        "itemsize": 24,
    }
)
_FIELD_TYPES = {"<f4": 7, "<u4": 6, "|u1": 2}
"""``sensor_msgs/PointField``: FLOAT32, UINT32, UINT8."""
_CUBE, _LINES, _TEXT = 1, 5, 9
"""Types of ``visualization_msgs/Marker``."""
_TEXT_HEIGHT = 0.15
_PALETTE = (
    *((0.12, 0.47, 0.71), (1.00, 0.50, 0.05), (0.17, 0.63, 0.17), (0.84, 0.15, 0.16), (0.58, 0.40, 0.74)),
    *((0.55, 0.34, 0.29), (0.89, 0.47, 0.76), (0.74, 0.74, 0.13), (0.09, 0.75, 0.81), (0.50, 0.50, 0.50)),
)


@dataclass(frozen=True)
class SpatialScene:
    """All that is known in space at the time of one image.

    Attributes:
        header: of the image, with the frame of reference as ``frame_id``.
        tracks: those that have ever been measured.
        instances: the tracks of the image.
        class_names: name of each label.
        upright: axis of the frame of reference along which things stand: 2 (z, up), or 1 (y, down) of a camera.
    """

    header: Any
    tracks: Sequence[SpatialTrack]
    instances: Instances
    class_names: Sequence[str]
    upright: int = 2

    def rows(self) -> Iterable[tuple[SpatialTrack, int, str]]:
        """Each track with its row among the instances, and the name of its class."""
        rows = {number: row for row, number in enumerate(self.instances.track_ids.tolist())}
        for track in self.tracks:
            row = rows[track.track_id]
            yield track, row, self.class_names[int(self.instances.labels[row])]

    @cached_property
    def footprints(self) -> dict[int, Any]:
        """Footprint of each track as ``geometry_msgs/Polygon``, at the height of its lower end."""
        types, down = _types(), 1.0 if self.upright == 1 else -1.0
        out = {}
        for track in self.tracks:
            low = float(track.position[self.upright] + down * track.size[self.upright] / 2)
            corners = [[a, low, b] if self.upright == 1 else [a, b, low] for a, b in track.footprint.tolist()]
            out[track.track_id] = types.Polygon(points=[types.Point32(x=x, y=y, z=z) for x, y, z in corners])
        return out


def to_track_array(scene: SpatialScene, system: str) -> Any:
    """The ``vis_ros/InstanceTrack3DArray`` of a scene; `system` is the name of the segmentation system."""
    types = _types()
    message = types.InstanceTrack3DArray(header=scene.header, system=system)
    for track, row, name in scene.rows():
        one = types.InstanceTrack3D(
            track_id=track.track_id,
            class_id=int(scene.instances.labels[row]),
            class_name=name,
            score=float(scene.instances.scores[row]),
            track_score=float(scene.instances.track_scores[row]),
            state=int(track.state),
            measured=track.measured,
            footprint=scene.footprints[track.track_id],
        )
        for there, values in (
            (one.size, track.size),
            (one.size_deviation, track.size_deviation),
            (one.pose.pose.position, track.position),
            (one.twist.twist.linear, track.velocity),
        ):
            there.x, there.y, there.z = values.tolist()
        one.pose.pose.orientation.w = 1.0
        one.pose.covariance = _covariance(track.covariance[:3, :3])
        one.twist.covariance = _covariance(track.covariance[3:, 3:])
        message.tracks.append(one)
    return message


def to_detections(scene: SpatialScene) -> Any:
    """The ``vision_msgs/Detection3DArray`` of the tracks that are alive; ``id`` is the track's.

    Raises:
        MissingDependencyError: ``vision_msgs`` is not installed.
    """
    vision = _vision_types()
    message = vision.Detection3DArray(header=scene.header)
    for track, row, name in scene.rows():
        if track.state == TrackState.ENDED:
            continue
        detection = vision.Detection3D(header=scene.header, id=str(track.track_id))
        detection.bbox.center.position = _point(track.position)
        detection.bbox.center.orientation.w = 1.0
        detection.bbox.size = _vector(track.size)
        hypothesis = vision.ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = name
        hypothesis.hypothesis.score = float(scene.instances.track_scores[row])
        hypothesis.pose.pose = detection.bbox.center
        hypothesis.pose.covariance = _covariance(track.covariance[:3, :3])
        detection.results = [hypothesis]
        message.detections.append(detection)
    return message


def detections_type() -> Any:
    """``vision_msgs/Detection3DArray``, None where that package is not installed."""
    try:
        return _vision_types().Detection3DArray
    except MissingDependencyError:
        return None


def to_markers(scene: SpatialScene) -> Any:
    """A ``visualization_msgs/MarkerArray``: box and name of each track, and where all will be in a second, as lines.

    A track has one colour for its life; that of a lost one is faint; one that ends is deleted.
    """
    types = _types()
    message = types.MarkerArray()
    ways = types.Marker(header=scene.header, ns="velocity", type=_LINES)
    ways.pose.orientation.w, ways.scale.x = 1.0, 0.03
    ways.color.r = ways.color.g = ways.color.b = ways.color.a = 1.0
    for track, _, name in scene.rows():
        ended = track.state == TrackState.ENDED
        for kind in ("box", "name"):
            marker = copy(types.blank_marker)  # a new one makes twenty messages of what nobody sets
            marker.header, marker.ns, marker.id = scene.header, kind, track.track_id & 0x7FFFFFFF
            message.markers.append(marker)
            if ended:
                marker.action = types.Marker.DELETE
                continue
            marker.pose, marker.scale, marker.color = types.Pose(), types.Vector3(), types.ColorRGBA()
            marker.pose.orientation.w = 1.0
            colour = marker.color
            colour.r, colour.g, colour.b = _PALETTE[track.track_id % len(_PALETTE)]
            if kind == "box":
                marker.type, marker.scale = _CUBE, _vector(np.maximum(track.size, 0.01))
                marker.pose.position = _point(track.position)
                colour.a = 0.6 if track.measured else 0.25
            else:
                marker.type, marker.text, marker.scale.z, colour.a = (
                    _TEXT,
                    f"{name} {track.track_id}",
                    _TEXT_HEIGHT,
                    1.0,
                )
                place = track.position.copy()
                up = -1.0 if scene.upright == 1 else 1.0
                place[scene.upright] += up * (track.size[scene.upright] / 2 + _TEXT_HEIGHT)
                marker.pose.position = _point(place)
        if not ended:
            ways.points += [_point(track.position), _point(track.position + track.velocity)]
    if not ways.points:
        ways.action = types.Marker.DELETE
    message.markers.append(ways)
    return message


def to_points(scene: SpatialScene, points: Mapping[int, npt.NDArray[np.float32]], wanted: str | None = None) -> Any:
    """A ``sensor_msgs/PointCloud2`` of what is seen of the tracks: x, y, z, instance, score, label; unorganised.

    Args:
        scene: whose tracks are taken.
        points: float32 ``[N, 3]`` by track id, in the frame of reference.
        wanted: name of the only class that is taken; None: all.
    """
    types = _types()
    chosen = [
        (track.track_id, row, points[track.track_id])
        for track, row, name in scene.rows()
        if track.track_id in points and wanted in (None, name)
    ]
    cloud = np.zeros(sum(len(seen) for *_, seen in chosen), _POINT)
    start = 0
    for number, row, seen in chosen:  # in place: NumPy joins such arrays without the padding between their rows
        part = cloud[start : start + len(seen)]
        part["x"], part["y"], part["z"] = seen.T
        part["instance"] = number & 0xFFFFFFFF
        part["score"] = scene.instances.scores[row]
        part["label"] = min(int(scene.instances.labels[row]) + 1, 255)
        start += len(seen)
    message = types.PointCloud2(header=scene.header, height=1, width=len(cloud), point_step=_POINT.itemsize)
    assert _POINT.fields is not None
    message.fields = [
        types.PointField(name=name, offset=offset, datatype=_FIELD_TYPES[kind.str], count=1)
        for name, (kind, offset, *_) in _POINT.fields.items()
    ]
    message.row_step = _POINT.itemsize * len(cloud)
    message.is_dense = True
    message.data = types.bytes_of(cloud)
    return message


def to_polygons(scene: SpatialScene) -> list[Any]:
    """The footprint of each track as ``geometry_msgs/PolygonInstanceStamped``; ``id`` is the track's.

    First comes one of id 0 without corners, in every image, so that who waits for polygons knows that the camera lives;
    a track that ends has none either, and takes the place of its last one.
    """
    types = _types()
    out = [types.PolygonInstanceStamped(header=scene.header)]
    for track, *_ in scene.rows():
        message = types.PolygonInstanceStamped(header=scene.header)
        message.polygon.id = track.track_id
        if track.state != TrackState.ENDED:
            message.polygon.polygon = scene.footprints[track.track_id]
        out.append(message)
    return out


def to_pose(scene: SpatialScene, track: SpatialTrack) -> Any:
    """The ``geometry_msgs/PoseStamped`` of a track, headed as it moves, or as the frame is where it stands still."""
    message = _types().PoseStamped(header=scene.header)
    message.pose.position = _point(track.position)
    message.pose.orientation.w = 1.0
    if scene.upright == 2 and np.hypot(*track.velocity[:2]) > 0.1:
        half = np.arctan2(track.velocity[1], track.velocity[0]) / 2
        message.pose.orientation.z, message.pose.orientation.w = float(np.sin(half)), float(np.cos(half))
    return message


def to_transform(scene: SpatialScene, track: SpatialTrack, frame: str) -> Any:
    """The ``geometry_msgs/TransformStamped`` from the frame of reference to a frame of a track, as of `to_pose`."""
    pose = to_pose(scene, track).pose
    message = _types().TransformStamped(header=scene.header, child_frame_id=frame)
    move, place = message.transform.translation, pose.position
    move.x, move.y, move.z = place.x, place.y, place.z
    message.transform.rotation = pose.orientation
    return message


def _point(values: npt.NDArray[np.float64]) -> Any:
    x, y, z = values.tolist()
    return _types().Point(x=x, y=y, z=z)


def _vector(values: npt.NDArray[np.float64]) -> Any:
    x, y, z = values.tolist()
    return _types().Vector3(x=x, y=y, z=z)


def _covariance(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """6x6, row by row, of which the first three are known."""
    out = np.zeros((6, 6))
    out[:3, :3] = values
    out[[3, 4, 5], [3, 4, 5]] = _UNKNOWN
    return out.ravel()


@lru_cache(maxsize=1)
def _types() -> SimpleNamespace:
    from array import array

    from geometry_msgs.msg import (
        Point,
        Point32,
        Polygon,
        PolygonInstanceStamped,
        Pose,
        PoseStamped,
        TransformStamped,
        Vector3,
    )
    from sensor_msgs.msg import PointCloud2, PointField
    from std_msgs.msg import ColorRGBA
    from visualization_msgs.msg import Marker, MarkerArray

    from vis_ros.msg import InstanceTrack3D, InstanceTrack3DArray

    def bytes_of(values: npt.NDArray[Any]) -> array[int]:
        out = array("B")
        out.frombytes(values.view(np.uint8).data)
        return out

    return SimpleNamespace(
        InstanceTrack3D=InstanceTrack3D,
        InstanceTrack3DArray=InstanceTrack3DArray,
        Marker=Marker,
        blank_marker=Marker(),
        ColorRGBA=ColorRGBA,
        Pose=Pose,
        MarkerArray=MarkerArray,
        Point=Point,
        Point32=Point32,
        PointCloud2=PointCloud2,
        PointField=PointField,
        Polygon=Polygon,
        PolygonInstanceStamped=PolygonInstanceStamped,
        PoseStamped=PoseStamped,
        TransformStamped=TransformStamped,
        Vector3=Vector3,
        bytes_of=bytes_of,
    )


@lru_cache(maxsize=1)
def _vision_types() -> Any:
    try:
        import vision_msgs.msg
    except ImportError as error:
        raise MissingDependencyError(
            f"detections_3d needs vision_msgs (apt install ros-$ROS_DISTRO-vision-msgs): {error}"
        ) from None
    return vision_msgs.msg
