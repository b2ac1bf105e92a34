"""Tracks in space: images and depth in through real topics, standard messages out."""

from __future__ import annotations

import sys
from array import array
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from geometry_msgs.msg import PolygonInstanceStamped, PoseStamped
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from tests.vis_ros.node.stage import TIMEOUT, Scripted, until, values_of
from vis_core.data.synthetic_depth import Solid, depth_video
from vis_core.structures import Instances, TrackState
from vis_ros import messages
from vis_ros.msg import InstanceTrack3DArray

SOLIDS = (
    Solid("ball", (0.5, 0.5, 0.5), (-0.6, 0.3, 3.0), (0.4, 0.0, 0.0)),
    Solid("box", (0.5, 0.8, 0.5), (0.7, 0.4, 3.2), (-0.2, 0.0, 0.3), yaw=0.5, turn=0.6),
)
FIRST_ID = 5
QUALITY = 50


@pytest.fixture(scope="module")
def video():
    return depth_video(SOLIDS, 14)


class Knowing(Scripted):
    """A segmenter that knows the masks of a video by the stamps of its frames."""

    def __init__(self, video) -> None:
        super().__init__()
        self.class_names = ("ball", "box")
        self._video = video

    def _answer(self, frame):
        found = np.flatnonzero(self._video.stamps == frame.stamp)
        if not found.size:
            return Instances.empty(frame.stamp, frame.index, frame.size)
        t = int(found[0])
        masks = [self._video.mask(t, item) for item in range(2)]
        return Instances(
            stamp=frame.stamp,
            index=frame.index,
            size=frame.size,
            track_ids=[FIRST_ID, FIRST_ID + 1],
            labels=[0, 1],
            scores=[0.75, 0.5],
            track_scores=[0.75, 0.5],
            boxes=np.zeros((2, 4)),
            masks=masks,
            states=[TrackState.TRACKED if t else TrackState.NEW] * 2,
            ages=[t, t],
            first_seen=[int(self._video.stamps[0])] * 2,
            last_seen=[frame.stamp] * 2,
        )


class Scene:
    """A node that sees a video with depth."""

    def __init__(self, make_stage, video, **parameters):
        self.video = video
        self.stage = make_stage(lambda *_, **__: Knowing(video), depth=True, drop_policy="every_frame", **parameters)
        self.peer = self.stage.peer
        self._depth = self.peer.create_publisher(Image, "depth", qos_profile_sensor_data)
        self._info = self.peer.create_publisher(CameraInfo, "depth/camera_info", qos_profile_sensor_data)

    def listen(self, message_type, topic):
        """What comes on a topic, once the node knows of the subscription."""
        inbox = self.peer.listen(message_type, topic, QUALITY)
        name = self.peer.resolve_topic_name(topic)
        (publisher,) = (x for x in self.stage.node._cameras[0].outputs.spatial._publishers if x.topic_name == name)
        until(publisher.get_subscription_count)
        return inbox

    def header(self, t):
        return Header(stamp=messages.to_stamp(int(self.video.stamps[t])), frame_id="camera_optical")

    def send_depth(self, t, encoding="32FC1", late=0, values=None, frame_id="camera_optical"):
        """The depth image of a frame and the camera's info, before the image itself."""
        values = self.video.depth[t] if values is None else values
        if encoding == "16UC1":
            values = np.rint(values * 1000).astype(np.uint16)
        header = self.header(t)
        header.stamp, header.frame_id = messages.to_stamp(int(self.video.stamps[t]) + late), frame_id
        height, width = values.shape
        info = CameraInfo(header=header, height=height, width=width, distortion_model="plumb_bob")
        info.k = self.video.camera.matrix.ravel()
        self._info.publish(info)
        depth = Image(header=header, height=height, width=width, encoding=encoding, step=values.strides[0])
        depth.data = array("B", values.tobytes())
        self._depth.publish(depth)
        buffer = self.stage.node._cameras[0].outputs.spatial._buffer
        until(lambda: buffer.counts.received > t and buffer._info is not None)

    def send_image(self, t):
        frame = self.video.frames[t]
        image = Image(header=self.header(t), height=240, width=320, encoding="rgb8", step=960)
        image.data = array("B", frame.tobytes())
        self.peer.image_publisher.publish(image)
        return self.stage.instances.get(timeout=TIMEOUT)


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
def test_positions_and_velocities_are_those_of_the_scene_under_the_ids_of_the_image(make_stage, video, encoding):
    scene = Scene(make_stage, video)
    scene.stage.activate()
    inbox = scene.listen(InstanceTrack3DArray, "segmenter/tracks_3d")
    for t in range(len(video)):
        scene.send_depth(t, encoding)
        flat = scene.send_image(t)
        message = inbox.get(timeout=TIMEOUT)
        assert message.header == flat.header and message.system == "visolo-lite"
        assert [(x.track_id, x.state, x.class_name) for x in message.tracks] == [
            (x.track_id, x.state, x.class_name) for x in flat.tracks
        ]
        for item, track in enumerate(message.tracks):
            place, motion = track.pose.pose.position, track.twist.twist.linear
            assert np.linalg.norm(np.array([place.x, place.y, place.z]) - video.positions[t, item]) < 0.03
            assert track.measured
            if t >= 10:
                assert np.linalg.norm(np.array([motion.x, motion.y, motion.z]) - video.velocities[item]) < 0.1
    assert 0.4 < message.tracks[0].size.x < 0.6 and len(message.tracks[0].footprint.points) >= 3


def test_every_standard_topic_carries_the_tracks(make_stage, video):
    scene = Scene(make_stage, video, follow="box")
    scene.stage.activate()
    topics = {
        "markers": MarkerArray,
        "points": PointCloud2,
        "polygons": PolygonInstanceStamped,
        "followed_pose": PoseStamped,
    }
    inboxes = {name: scene.listen(kind, f"segmenter/{name}") for name, kind in topics.items()}
    scene.send_depth(0)
    ids = [track.track_id for track in scene.send_image(0).tracks]
    found = {name: inbox.get(timeout=TIMEOUT) for name, inbox in inboxes.items()}
    assert all(message.header.frame_id == "camera_optical" for name, message in found.items() if name != "markers")
    assert {marker.id for marker in found["markers"].markers} == {0, *ids}
    cloud = np.frombuffer(found["points"].data, np.uint8).reshape(-1, found["points"].point_step)
    assert set(cloud[:, 12:16].copy().view("<u4").ravel().tolist()) == set(ids)
    polygons = [found["polygons"], *(inboxes["polygons"].get(timeout=TIMEOUT) for _ in ids)]
    assert [message.polygon.id for message in polygons] == [0, *ids]
    assert abs(found["followed_pose"].pose.position.x - video.positions[0, 1, 0]) < 0.03
    assert scene.peer.set_parameter("follow", str(ids[0])).successful
    scene.send_depth(1)
    scene.send_image(1)
    assert abs(inboxes["followed_pose"].get(timeout=TIMEOUT).pose.position.x - video.positions[1, 0, 0]) < 0.03


def test_each_class_has_a_cloud_of_its_own(make_stage, video):
    scene = Scene(make_stage, video)
    scene.stage.activate()
    inboxes = {name: scene.listen(PointCloud2, f"segmenter/points/{name}") for name in ("ball", "box")}
    whole = scene.listen(PointCloud2, "segmenter/points")
    scene.send_depth(0)
    ids = [track.track_id for track in scene.send_image(0).tracks]
    clouds = [np.frombuffer(x.get(timeout=TIMEOUT).data, np.uint8).reshape(-1, 24) for x in (*inboxes.values(), whole)]
    assert [set(cloud[:, 12:16].copy().view("<u4").ravel().tolist()) for cloud in clouds[:2]] == [{i} for i in ids]
    assert np.array_equal(np.concatenate(clouds[:2]), clouds[2])


def test_a_frame_goes_with_what_is_followed(make_stage, video):
    kind = pytest.importorskip("tf2_msgs.msg", reason="needs ros-$ROS_DISTRO-tf2-msgs").TFMessage
    scene = Scene(make_stage, video, follow="box", follow_frame="person")
    inbox = scene.peer.listen(kind, "/tf", QUALITY)
    scene.stage.activate()
    publisher = scene.stage.node._cameras[0].outputs.spatial.followed._transforms
    until(publisher.get_subscription_count)
    scene.send_depth(0)
    scene.send_image(0)
    (transform,) = inbox.get(timeout=TIMEOUT).transforms
    assert transform.child_frame_id == "person" and transform.header == scene.header(0)
    move = transform.transform.translation
    assert np.linalg.norm(np.array([move.x, move.y, move.z]) - video.positions[0, 1]) < 0.03
    assert transform.transform.rotation.w == 1


def test_a_frame_without_its_messages_is_told_and_the_rest_goes_on(make_stage, video, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_msgs", None)
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", None)
    scene = Scene(make_stage, video, follow="box", follow_frame="person")
    scene.stage.activate()
    inbox = scene.listen(PoseStamped, "segmenter/followed_pose")
    scene.send_depth(0)
    scene.send_image(0)
    assert abs(inbox.get(timeout=TIMEOUT).pose.position.x - video.positions[0, 1, 0]) < 0.03


def test_an_image_without_depth_has_an_empty_answer_and_diagnostics_say_how_far_the_stamps_are(make_stage, video):
    scene = Scene(make_stage, video)
    scene.stage.activate()
    inbox = scene.listen(InstanceTrack3DArray, "segmenter/tracks_3d")
    scene.send_depth(0, late=50_000_000)
    scene.send_image(0)
    message = inbox.get(timeout=TIMEOUT)
    assert not message.tracks and message.header == scene.header(0)
    status = scene.stage.diagnostic(lambda status: values_of(status).get("images without depth") == "1")
    assert "/vis/depth: the nearest depth image is +0.050 s from the image, depth_slop is 0.017 s" in status.message


def test_depth_that_ends_is_told_and_the_tracks_stay_where_they_were(make_stage, video):
    scene = Scene(make_stage, video)
    scene.stage.activate()
    inbox = scene.listen(InstanceTrack3DArray, "segmenter/tracks_3d")
    scene.send_depth(0, frame_id="depth_optical")
    scene.send_image(0)
    assert inbox.get(timeout=TIMEOUT).header.frame_id == "depth_optical"
    for t in range(2, 13):
        scene.send_image(t)
        message = inbox.get(timeout=TIMEOUT)
        assert message.header.frame_id == "depth_optical" and not any(track.measured for track in message.tracks)
        assert len(message.tracks) == 2
    status = scene.stage.diagnostic(lambda status: values_of(status).get("images without depth") == "11")
    assert "/vis/depth: the nearest depth image is -0.400 s from the image" in status.message


def test_a_depth_image_that_cannot_be_used_is_counted_and_told(make_stage, video):
    scene = Scene(make_stage, video)
    scene.stage.activate()
    inbox = scene.listen(InstanceTrack3DArray, "segmenter/tracks_3d")
    scene.send_depth(0, values=np.zeros((100, 200), np.float32), encoding="8UC1")
    scene.send_image(0)
    assert not inbox.get(timeout=TIMEOUT).tracks
    status = scene.stage.diagnostic(lambda status: values_of(status).get("bad depth images") == "1")
    assert "encoding '8UC1' is none of 16UC1, mono16, 32FC1" in status.message
    scene.send_depth(1, values=np.zeros_like(video.depth[1]))
    scene.send_image(1)
    assert not inbox.get(timeout=TIMEOUT).tracks
    status = scene.stage.diagnostic(lambda status: values_of(status).get("objects with too few points") == "2")
    assert "8UC1" not in status.message  # that is over


def test_nothing_is_measured_while_nobody_listens(make_stage, video):
    scene = Scene(make_stage, video)
    scene.stage.activate()
    scene.send_depth(0)
    scene.send_image(0)
    assert scene.stage.node._cameras[0].outputs.spatial._buffer.counts.paired == 0


@pytest.fixture
def tf2(monkeypatch):
    """Stands for tf2_ros: a camera that looks along x from a metre above the ground; `known` may be taken away."""

    class TransformException(Exception):
        pass

    class Buffer:
        known = True

        def lookup_transform(self, target, source, time):
            if not Buffer.known:
                raise TransformException("extrapolation into the future")
            assert (target, source) == ("map", "camera_optical") and time.sec > 1_000_000_000
            turn = SimpleNamespace(x=-0.5, y=0.5, z=-0.5, w=0.5)
            return SimpleNamespace(
                transform=SimpleNamespace(translation=SimpleNamespace(x=0.0, y=0.0, z=1.0), rotation=turn)
            )

    module = ModuleType("tf2_ros")
    module.Buffer, module.TransformException = Buffer, TransformException
    module.TransformListener = lambda buffer, node: SimpleNamespace(unregister=lambda: None)
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    return Buffer


def test_tracks_stand_in_the_target_frame_and_in_the_camera_s_without_a_transform(make_stage, video, tf2):
    scene = Scene(make_stage, video, target_frame="map")
    scene.stage.activate()
    inbox = scene.listen(InstanceTrack3DArray, "segmenter/tracks_3d")
    scene.send_depth(0)
    scene.send_image(0)
    message = inbox.get(timeout=TIMEOUT)
    place, (x, y, z) = message.tracks[0].pose.pose.position, video.positions[0, 0]
    assert message.header.frame_id == "map" and np.allclose([place.x, place.y, place.z], [z, -x, 1 - y], atol=0.03)
    assert message.tracks[1].size.z == pytest.approx(0.8, abs=0.05)
    tf2.known = False
    scene.send_depth(1)
    scene.send_image(1)
    message = inbox.get(timeout=TIMEOUT)
    assert message.header.frame_id == "camera_optical" and len(message.tracks) == 2
    status = scene.stage.diagnostic(lambda status: "3-D tracks are in the camera's frame" in status.message)
    assert "extrapolation into the future" in status.message
