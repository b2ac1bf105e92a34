"""Masks as images, which classes are published, and a node that is switched off and on."""

from __future__ import annotations

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import SetBool

from tests.vis_ros.node.stage import HEIGHT, TIMEOUT, WIDTH, until, values_of

TRUTH = np.zeros((HEIGHT, WIDTH), bool)
TRUTH[2:9, 3:14] = True
TRUTH[4, 5] = False


def listen(stage, topic, kind=Image):
    """What comes on a topic, once the node knows of the subscription."""
    inbox = stage.peer.listen(kind, topic)
    name = stage.peer.resolve_topic_name(topic)
    (publisher,) = (x for x in stage.node._cameras[0].outputs._publishers if x.topic_name == name)
    until(publisher.get_subscription_count)
    return inbox


def pixels(message):
    assert (message.height, message.width) == (HEIGHT, WIDTH)
    kind = {"mono8": np.uint8, "16UC1": np.uint16}[message.encoding]
    return np.frombuffer(message.data, kind).reshape(HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("topic", "value"), [("segmenter/class_mask", 2), ("segmenter/confidence", 191), ("mask/image", 255)]
)
def test_masks_come_as_mono_images_under_the_image_s_header(stage, topic, value):
    inbox = listen(stage, topic)
    sent = stage.peer.send(1.0)
    message = inbox.get(timeout=TIMEOUT)
    assert message.header == sent.header and message.encoding == "mono8"
    assert np.array_equal(pixels(message), TRUTH * value)


def test_chosen_classes_alone_are_in_the_mask_and_an_image_without_any_has_an_empty_one(stage):
    inbox = listen(stage, "mask/image")
    assert stage.peer.set_parameter("mask_classes", "Cat").successful
    assert len(stage.exchange(1.0).tracks) == 1
    assert not pixels(inbox.get(timeout=TIMEOUT)).any()


def test_the_mask_s_camera_info_is_the_camera_s_under_the_image_s_header(stage):
    inbox = listen(stage, "mask/camera_info", CameraInfo)
    publisher = stage.peer.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
    publisher.publish(CameraInfo(height=HEIGHT, width=WIDTH, distortion_model="plumb_bob"))
    until(lambda: stage.node._cameras[0].outputs._masks._info is not None)
    sent = stage.peer.send(1.0)
    message = inbox.get(timeout=TIMEOUT)
    assert message.header == sent.header and (message.width, message.distortion_model) == (WIDTH, "plumb_bob")


def test_the_value_of_a_pixel_may_follow_its_object(make_stage, segmenter):
    stage = make_stage(lambda *_, **__: segmenter, label_image_values="track_id")
    stage.activate()
    inbox = listen(stage, "segmenter/label_image")
    (track,) = stage.exchange(1.0).tracks
    assert np.array_equal(pixels(inbox.get(timeout=TIMEOUT)), TRUTH * (track.track_id % 65535 + 1))


def test_contours_and_names_come_as_annotations_for_every_image(stage):
    kind = pytest.importorskip("foxglove_msgs.msg", reason="needs ros-$ROS_DISTRO-foxglove-msgs").ImageAnnotations
    inbox = listen(stage, "segmenter/annotations", kind)
    (track,) = stage.exchange(1.0).tracks
    message = inbox.get(timeout=TIMEOUT)
    assert message.points and message.points[0].timestamp.sec == 1
    assert [text.text for text in message.texts] == [f"dog {track.track_id} {track.score:.2f}"]


def test_classes_that_nobody_wants_are_not_published(make_stage, segmenter):
    stage = make_stage(lambda *_, **__: segmenter, classes="cat")
    stage.activate()
    inbox = listen(stage, "segmenter/class_mask")
    assert not stage.exchange(1.0).tracks
    assert not pixels(inbox.get(timeout=TIMEOUT)).any()
    assert stage.peer.set_parameter("classes", "cat, DOG").successful
    assert [track.class_name for track in stage.exchange(2.0).tracks] == ["dog"]
    refused = stage.peer.set_parameter("classes", "dgo")
    assert not refused.successful and "'dgo' is no class of these weights; did you mean 'dog'?" in refused.reason


def test_a_track_is_published_from_when_its_running_score_was_reached_once(make_stage, segmenter):
    segmenter.shown_score = 0.6  # as its weights are shown with; the track has 0.5
    stage = make_stage(lambda *_, **__: segmenter)
    stage.activate()
    assert not stage.exchange(1.0).tracks
    assert stage.peer.set_parameter("min_score", 0.5).successful
    assert len(stage.exchange(2.0).tracks) == 1
    assert stage.peer.set_parameter("min_score", -1.0).successful
    assert len(stage.exchange(3.0).tracks) == 1


def test_a_class_that_there_is_not_keeps_the_node_from_being_configured(make_stage, segmenter):
    stage = make_stage(lambda *_, **__: segmenter, classes="horse")
    from lifecycle_msgs.msg import Transition

    assert not stage.peer.change_state(Transition.TRANSITION_CONFIGURE)
    status = stage.diagnostic(lambda status: "not configured" in status.message)
    assert "classes: 'horse' is no class of these weights" in status.message


def test_a_node_that_is_disabled_answers_nothing_until_it_is_enabled(stage, segmenter):
    stage.exchange(1.0)
    answer = stage.peer.call(SetBool, "segmenter/enable", SetBool.Request(data=False))
    assert answer.success and answer.message == "disabled: images are left out"
    stage.peer.send(2.0)
    stage.diagnostic(lambda status: status.message.startswith("disabled"))
    assert stage.peer.call(SetBool, "segmenter/enable", SetBool.Request(data=True)).success
    assert stage.exchange(3.0).header.stamp.sec == 3
    assert [frame.stamp // 10**9 for frame in segmenter.frames] == [1, 3]
    status = stage.diagnostic(lambda status: values_of(status).get("resets") == "1")
    assert values_of(status)["latest reset"] == "the node was enabled again"


def test_a_lost_track_may_end_by_seconds(make_stage, segmenter):
    stage = make_stage(lambda *_, **__: segmenter, max_lost_seconds=2.5)
    stage.activate()
    assert segmenter.max_lost_seconds == 2.5
    assert stage.peer.set_parameter("max_lost_seconds", 0.0).successful
    assert segmenter.max_lost_seconds is None
