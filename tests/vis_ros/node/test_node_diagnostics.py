"""What the node says of itself, and what it asks of the topics."""

from __future__ import annotations

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy

from tests.vis_ros.node.stage import values_of
from vis_ros.msg import InstanceTrackArray


def test_diagnostics_say_what_runs_where_and_how_it_goes(stage):
    stage.exchange(1.0)
    status = stage.diagnostic(lambda status: values_of(status).get("processing p95 [ms]"))
    values = values_of(status)
    assert status.level == DiagnosticStatus.OK
    assert status.name == "vis/segmenter: stream"
    assert status.hardware_id == "cpu"
    assert (values["system"], values["device"], values["precision"]) == ("visolo-lite", "cpu", "float32")
    assert values["state [bytes]"] == "4321"
    assert float(values["latency p95 [ms]"]) > 0
    assert float(values["processing p95 [ms]"]) > 0
    assert values["results published"] == "1"
    assert int(values["shared memory free [MiB]"]) >= 0


def test_diagnostics_name_the_state_of_a_node_that_does_not_run(make_stage, segmenter):
    stage = make_stage(lambda *_, **__: segmenter)
    status = stage.diagnostic(lambda status: True)
    assert (status.level, status.message.partition(":")[0]) == (DiagnosticStatus.WARN, "unconfigured")
    assert stage.peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert stage.diagnostic(lambda status: status.message == "inactive").level == DiagnosticStatus.OK
    assert stage.peer.change_state(Transition.TRANSITION_INACTIVE_SHUTDOWN)
    status = stage.diagnostic(lambda status: status.message.startswith("finalized: it never works again"))
    assert status.level == DiagnosticStatus.STALE


def test_an_active_node_without_images_warns(stage):
    status = stage.diagnostic(lambda status: status.level == DiagnosticStatus.WARN)
    assert status.message.startswith("no image for")


def test_a_camera_that_offers_too_little_is_a_warning_that_names_the_policy(make_stage, segmenter):
    override = {"qos_overrides./vis/image.subscription.reliability": "reliable"}
    stage = make_stage(lambda *_, **__: segmenter, **override)
    stage.activate()
    status = stage.diagnostic(lambda status: "incompatible" in status.message)
    assert status.level == DiagnosticStatus.WARN
    assert "incompatible QoS on /vis/image: RELIABILITY" in status.message


def test_a_listener_that_asks_too_much_is_a_warning_that_names_the_policy(stage):
    late_joining = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    stage.peer.listen(InstanceTrackArray, "instances", late_joining)
    status = stage.diagnostic(lambda status: "incompatible" in status.message)
    assert "incompatible QoS on /vis/instances: DURABILITY" in status.message


def test_qos_overrides_change_subscription_and_publication(make_stage, segmenter):
    stage = make_stage(
        lambda *_, **__: segmenter,
        **{
            "qos_overrides./vis/image.subscription.depth": 17,
            "qos_overrides./vis/instances.publisher.durability": "transient_local",
        },
    )
    stage.activate()
    (publisher,) = stage.peer.get_publishers_info_by_topic("/vis/instances")
    assert publisher.qos_profile.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL
    assert publisher.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
    (subscription,) = stage.peer.get_subscriptions_info_by_topic("/vis/image")
    assert subscription.qos_profile.reliability == QoSReliabilityPolicy.BEST_EFFORT
    assert stage.node.get_parameter("qos_overrides./vis/image.subscription.depth").value == 17
