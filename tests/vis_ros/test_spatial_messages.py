"""Messages of tracks in space, written to bytes and read back."""

import numpy as np
import pytest

from vis_core.masks import RunLengths
from vis_core.spatial.tracks import SpatialTrack
from vis_core.structures import Instances, TrackState

pytest.importorskip("rclpy")
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header

from vis_core.errors import MissingDependencyError
from vis_ros import spatial_messages
from vis_ros.spatial_messages import SpatialScene

TRACKED, LOST, ENDED = TrackState.TRACKED, TrackState.LOST, TrackState.ENDED


def track(number, state, position, velocity=(0.5, 0.0, 0.0), measured=True):
    return SpatialTrack(
        number,
        state,
        np.array(position, float),
        np.array(velocity, float),
        np.diag([0.01, 0.02, 0.03, 0.1, 0.2, 0.3]),
        np.array([0.4, 0.5, 1.6]),
        np.array([0.04, 0.05, 0.16]),
        np.array([[0.8, -0.25], [1.2, -0.25], [1.2, 0.25]]),
        measured,
    )


@pytest.fixture
def scene():
    ids, states = [3, 7, 9, 12], [TRACKED, LOST, ENDED, TRACKED]
    instances = Instances(
        stamp=5,
        index=0,
        size=(4, 4),
        track_ids=np.array(ids),
        labels=np.array([0, 1, 0, 0]),
        scores=np.array([0.75, 0, 0, 0.5]),
        track_scores=np.array([0.5, 0.25, 0.125, 0.5]),
        boxes=np.zeros((4, 4)),
        masks=(RunLengths((4, 4)),) * 4,
        states=np.array(states),
        ages=np.zeros(4),
        first_seen=np.zeros(4),
        last_seen=np.zeros(4),
    )
    # 12 has no place yet.
    tracks = [track(3, TRACKED, (1, 0, 0.8)), track(7, LOST, (2, 1, 0.8), measured=False), track(9, ENDED, (3, 0, 1))]
    return SpatialScene(Header(frame_id="map"), tracks, instances, ("person", "cart"))


def through_bytes(message):
    return deserialize_message(serialize_message(message), type(message))


def test_the_tracks_are_written_with_their_place_motion_and_outline(scene):
    message = through_bytes(spatial_messages.to_track_array(scene, "visolo"))
    assert message.header.frame_id == "map" and message.system == "visolo"
    assert [(t.track_id, t.class_name, t.state, t.measured) for t in message.tracks] == [
        (3, "person", 2, True),
        (7, "cart", 3, False),
        (9, "person", 4, True),
    ]
    first = message.tracks[0]
    assert (first.score, first.track_score) == (0.75, 0.5)
    place, size = first.pose.pose.position, first.size
    assert (place.x, place.y, place.z) == (1, 0, 0.8) and (size.x, size.y, size.z) == (0.4, 0.5, 1.6)
    assert np.allclose(np.diag(first.pose.covariance.reshape(6, 6)), [0.01, 0.02, 0.03, 1e6, 1e6, 1e6])
    assert np.allclose(np.diag(first.twist.covariance.reshape(6, 6)), [0.1, 0.2, 0.3, 1e6, 1e6, 1e6])
    assert first.twist.twist.linear.x == 0.5
    corners = [(round(p.x, 6), round(p.y, 6), round(p.z, 6)) for p in first.footprint.points]
    assert corners == [(0.8, -0.25, 0.0), (1.2, -0.25, 0.0), (1.2, 0.25, 0.0)]


def test_in_a_camera_s_frame_the_lower_end_is_where_y_is_greatest(scene):
    upright = SpatialScene(scene.header, scene.tracks, scene.instances, scene.class_names, upright=1)
    point = spatial_messages.to_track_array(upright, "visolo").tracks[0].footprint.points[0]
    assert (round(point.x, 6), round(point.y, 6), round(point.z, 6)) == (0.8, 0.25, -0.25)


def test_a_marker_has_its_track_s_colour_and_goes_when_that_ends(scene):
    message = through_bytes(spatial_messages.to_markers(scene))
    assert [(m.ns, m.id, m.action) for m in message.markers] == [
        *((kind, number, action) for number, action in ((3, 0), (7, 0), (9, 2)) for kind in ("box", "name")),
        ("velocity", 0, 0),
    ]
    box, name, *_, ways = message.markers
    assert (box.type, name.type, ways.type) == (1, 9, 5) and name.text == "person 3"
    assert (box.color.r, box.color.g) == (name.color.r, name.color.g)
    assert message.markers[2].color.a < box.color.a  # it coasts
    assert [(p.x, p.y) for p in ways.points] == [(1, 0), (1.5, 0), (2, 1), (2.5, 1)]
    assert all(m.action or (m.pose.orientation.w == 1 and (m.scale.z > 0 or m.type == 5)) for m in message.markers)


def test_points_carry_their_instance_class_and_score(scene):
    points = {3: np.array([[1, 2, 3], [4, 5, 6]], np.float32), 7: np.array([[7, 8, 9]], np.float32)}
    message = through_bytes(spatial_messages.to_points(scene, points))
    assert (message.height, message.width, message.point_step, message.row_step) == (1, 3, 24, 72)
    assert [(f.name, f.offset, f.datatype) for f in message.fields] == [
        *(("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("instance", 12, 6), ("score", 16, 7), ("label", 20, 2))
    ]
    cloud = np.frombuffer(message.data, np.uint8).reshape(3, 24)
    assert np.array_equal(cloud[:, :12].copy().view("<f4"), [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert cloud[:, 12:16].copy().view("<u4").ravel().tolist() == [3, 3, 7]
    assert cloud[:, 16:20].copy().view("<f4").ravel().tolist() == [0.75, 0.75, 0.0]
    assert cloud[:, 20].tolist() == [1, 1, 2]
    assert spatial_messages.to_points(scene, points, "cart").width == 1
    assert spatial_messages.to_points(scene, {}).width == 0


def test_footprints_are_polygons_with_the_track_s_id(scene):
    messages = [through_bytes(message) for message in spatial_messages.to_polygons(scene)]
    # The first tells that the camera lives; the last that its track has ended.
    assert [(m.polygon.id, len(m.polygon.polygon.points)) for m in messages] == [(0, 0), (3, 3), (7, 3), (9, 0)]
    assert messages[1].header.frame_id == "map"


def test_a_pose_is_headed_as_its_track_moves(scene):
    moving = spatial_messages.to_pose(scene, track(3, TRACKED, (1, 0, 0.8), (0, 1.0, 0)))
    assert (moving.pose.orientation.z, moving.pose.orientation.w) == pytest.approx((np.sqrt(0.5), np.sqrt(0.5)))
    still = spatial_messages.to_pose(scene, track(3, TRACKED, (1, 0, 0.8), (0, 0.01, 0)))
    assert still.pose.orientation.w == 1 and still.pose.position.z == 0.8


def test_detections_are_those_of_vision_msgs_or_name_the_package(scene):
    try:
        import vision_msgs.msg  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependencyError, match="vision-msgs"):
            spatial_messages.to_detections(scene)
        return
    message = through_bytes(spatial_messages.to_detections(scene))
    assert [(d.id, d.results[0].hypothesis.class_id) for d in message.detections] == [("3", "person"), ("7", "cart")]
    assert message.detections[0].bbox.size.z == 1.6
