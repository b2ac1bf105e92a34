"""Several cameras, one network: what each of them gets, and what nodes of their own would have given."""

from __future__ import annotations

from array import array

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from lifecycle_msgs.msg import Transition
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import SetBool, Trigger

from tests.vis_ros.node.stage import HEIGHT, TIMEOUT, WIDTH, Scripted, image, until, values_of
from vis_core.errors import OptionError
from vis_ros.msg import InstanceTrackArray

CAMERAS = ("front", "left")


class Twins(Scripted):
    """A scripted segmenter, and those made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.others: list[Scripted] = []

    def another(self) -> Scripted:
        self.others.append(Scripted())
        self.others[-1].resets = 1  # only the first is warmed up
        self.others[-1]._next_track = 100
        return self.others[-1]


class Lens:
    """The other side of one camera's topics."""

    def __init__(self, stage, name):
        self.stage, self.name = stage, name
        self.publisher = stage.peer.create_publisher(Image, f"{name}/image", qos_profile_sensor_data)
        self.instances = stage.peer.listen(InstanceTrackArray, f"{name}/instances")
        until(self.publisher.get_subscription_count)
        self.heard(f"{name}/instances")

    def heard(self, topic):
        """Wait until the node knows who listens."""
        name = self.stage.peer.resolve_topic_name(topic)
        found = [x for one in self.stage.node._cameras for x in one.outputs._publishers if x.topic_name == name]
        (publisher,) = found
        until(publisher.get_subscription_count)

    def listen(self, topic, kind=Image):
        inbox = self.stage.peer.listen(kind, f"{self.name}/{topic}")
        self.heard(f"{self.name}/{topic}")
        return inbox

    def exchange(self, stamp, **changes):
        self.publisher.publish(image(stamp, **changes))
        return self.instances.get(timeout=TIMEOUT)


@pytest.fixture
def segmenter():
    return Twins()


@pytest.fixture
def stage(make_stage, segmenter):
    stage = make_stage(lambda *_, **__: segmenter, cameras=", ".join(CAMERAS))
    stage.activate()
    return stage


@pytest.fixture
def lenses(stage):
    return [Lens(stage, name) for name in CAMERAS]


def statuses(stage, wanted):
    """The statuses of the next diagnostics that are as wanted, by name."""
    while True:
        found = {status.name: status for status in stage.diagnostics.get(timeout=TIMEOUT).status}
        if wanted(found):
            return found


def noise(seed, stamp):
    pixels = np.random.default_rng([seed, stamp]).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    return {"data": array("B", pixels.tobytes())}


def seen(message):
    return [(t.roi, list(t.runs), t.score, t.track_score, t.class_id, t.state, t.age) for t in message.tracks]


def test_two_cameras_get_to_the_bit_what_two_nodes_would_give_them(tiny):
    stamps = range(1, 6)
    alone = []
    for seed in range(len(CAMERAS)):
        tiny.activate()
        until(tiny.peer.image_publisher.get_subscription_count)
        alone.append([seen(tiny.exchange(stamp, **noise(seed, stamp))) for stamp in stamps])
        assert tiny.peer.change_state(Transition.TRANSITION_DEACTIVATE)
        assert tiny.peer.change_state(Transition.TRANSITION_CLEANUP)
    assert tiny.peer.set_parameter("cameras", ",".join(CAMERAS)).successful
    tiny.activate()
    lenses = [Lens(tiny, name) for name in CAMERAS]
    for lens, other in zip(lenses, reversed(lenses)):
        assert lens.stage.node._cameras[0].segmenter.network is other.stage.node._cameras[1].segmenter.network
    together, ids = [[], []], [set(), set()]
    for stamp in stamps:
        for seed, lens in enumerate(lenses):  # both wait at once
            lens.publisher.publish(image(stamp, **noise(seed, stamp)))
        for mine, its, lens in zip(together, ids, lenses):
            message = lens.instances.get(timeout=TIMEOUT)
            mine.append(seen(message))
            its.update(track.track_id for track in message.tracks)
    assert together == alone
    assert any(runs for frames in together for tracks in frames for _, runs, *_ in tracks)
    assert not ids[0] & ids[1]


def test_every_topic_of_a_camera_begins_with_its_name_and_no_other_topic_is_there(stage, lenses):
    mine = {
        name.removeprefix("/vis/")
        for name, _ in stage.node.get_publisher_names_and_types_by_node("segmenter", "/vis")
        if name.startswith("/vis/")
    }
    assert {topic for topic in mine if topic.split("/")[0] not in CAMERAS} == {"segmenter/transition_event"}
    each = [{topic.removeprefix(f"{name}/") for topic in mine if topic.startswith(f"{name}/")} for name in CAMERAS]
    assert each[0] == each[1] >= {"instances", "label_image", "overlay", "mask/image", "class_names", "class_mask"}
    heard = {name for name, _ in stage.node.get_subscriber_names_and_types_by_node("segmenter", "/vis")}
    assert {f"/vis/{name}/{topic}" for name in CAMERAS for topic in ("image", "camera_info")} <= heard
    assert "/vis/image" not in heard


def test_what_else_is_published_is_of_the_camera_whose_image_it_was(stage, lenses):
    masks = [lens.listen("mask/image") for lens in lenses]
    infos = [lens.listen("mask/camera_info", CameraInfo) for lens in lenses]
    calibrated = stage.peer.create_publisher(CameraInfo, "left/camera_info", qos_profile_sensor_data)
    until(calibrated.get_subscription_count)
    calibrated.publish(CameraInfo(height=77))
    until(lambda: stage.node._cameras[1].outputs._masks._info is not None)
    for stamp, lens in enumerate(lenses, 1):
        lens.exchange(stamp)
    assert [inbox.get(timeout=TIMEOUT).header.stamp.sec for inbox in masks] == [1, 2]
    assert infos[1].get(timeout=TIMEOUT).height == 77
    assert infos[0].empty() and masks[0].empty() and masks[1].empty()


def test_each_camera_has_a_stream_a_drop_count_and_a_diagnostic_of_its_own(stage, segmenter, lenses):
    front, left = lenses
    segmenter.held = True
    front.publisher.publish(image(1.0))
    segmenter.entered.get(timeout=TIMEOUT)
    left.publisher.publish(image(1.0))
    counts = [camera._statistics._mailbox for camera in stage.node._cameras]
    until(lambda: counts[1].counts == (1, 0))
    for number, stamp in enumerate((2.0, 3.0, 4.0), 2):
        front.publisher.publish(image(stamp))
        until(lambda number=number: counts[0].counts[0] == number)
    segmenter.held = False
    segmenter.go_on.release()
    assert front.instances.get(timeout=TIMEOUT).header.stamp.sec == 1
    assert left.instances.get(timeout=TIMEOUT).header.stamp.sec == 1
    assert front.instances.get(timeout=TIMEOUT).header.stamp.sec == 4
    names = [f"vis/segmenter: {name}" for name in CAMERAS]
    found = statuses(stage, lambda found: values_of(found[names[0]]).get("results published") == "2")
    assert list(found) == names
    values = [values_of(found[name]) for name in names]
    assert [x["images received"] for x in values] == ["4", "1"]
    assert [x["images dropped"] for x in values] == ["2", "0"]
    assert [x["results published"] for x in values] == ["2", "1"]
    # A jump back in time of one camera is none of the other's business.
    resets = [one.resets for one in (segmenter, *segmenter.others)]
    front.exchange(0.5)
    assert [one.resets for one in (segmenter, *segmenter.others)] == [resets[0] + 1, resets[1]]


def test_a_segmenter_that_fails_at_an_image_of_one_camera_goes_on_with_the_other(stage, segmenter, lenses):
    front, left = lenses
    segmenter.fail_at = {0}
    front.publisher.publish(image(1.0))
    assert left.exchange(1.0).tracks[0].track_id == 100
    assert front.exchange(2.0).header.stamp.sec == 2
    found = statuses(stage, lambda found: values_of(found["vis/segmenter: front"]).get("segmenter failures") == "1")
    failures = [values_of(status)["segmenter failures"] for status in found.values()]
    assert failures == ["1", "0"]


def test_services_and_parameters_are_of_all_cameras(stage, segmenter, lenses):
    assert stage.peer.set_parameter("classes", "cat").successful
    assert [lens.exchange(1.0).tracks for lens in lenses] == [[], []]
    assert stage.peer.set_parameter("classes", "").successful
    resets = [one.resets for one in (segmenter, *segmenter.others)]
    assert stage.peer.call(Trigger, "segmenter/reset", Trigger.Request()).success
    for lens in lenses:
        lens.exchange(2.0)
    assert [one.resets for one in (segmenter, *segmenter.others)] == [n + 1 for n in resets]
    assert stage.peer.call(SetBool, "segmenter/enable", SetBool.Request(data=False)).success
    found = statuses(stage, lambda found: found["vis/segmenter: left"].message.startswith("disabled"))
    assert all(status.message.startswith("disabled") for status in found.values())
    for lens in lenses:
        lens.publisher.publish(image(3.0))
    until(lambda: all(c._statistics._latest_image is not None for c in stage.node._cameras))
    assert stage.peer.call(SetBool, "segmenter/enable", SetBool.Request(data=True)).success
    assert [lens.exchange(4.0).header.stamp.sec for lens in lenses] == [4, 4]


def test_a_system_that_has_one_stream_over_a_network_is_refused_in_words(make_stage):
    class One(Scripted):
        def another(self):
            raise OptionError("this system runs one stream over a network; load it once for each stream")

    stage = make_stage(lambda *_, **__: One(), cameras="front,left")
    assert not stage.peer.change_state(Transition.TRANSITION_CONFIGURE)
    found = statuses(stage, lambda found: any("one stream over a network" in x.message for x in found.values()))
    assert list(found) == ["vis/segmenter: front", "vis/segmenter: left"]


def test_a_name_that_cannot_be_is_refused_when_it_is_set(stage):
    assert stage.peer.change_state(Transition.TRANSITION_DEACTIVATE)
    assert stage.peer.change_state(Transition.TRANSITION_CLEANUP)
    refused = stage.peer.set_parameter("cameras", "front,front")
    assert not refused.successful and "stands there twice" in refused.reason
