"""The node's classes are known before one is seen."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from lifecycle_msgs.msg import Transition
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from tests.vis_ros.node.stage import TIMEOUT, Scripted

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def test_names_are_there_from_configure_on_for_who_comes_later_and_are_those_of_the_latest_network(make_stage):
    segmenter = Scripted()
    stage = make_stage(lambda *_, **__: segmenter)
    early = stage.peer.listen(String, "segmenter/class_names", LATCHED)
    assert stage.peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert json.loads(early.get(timeout=TIMEOUT).data) == ["cat", "dog"]
    late = stage.peer.listen(String, "segmenter/class_names", LATCHED)
    assert json.loads(late.get(timeout=TIMEOUT).data) == ["cat", "dog"]
    assert stage.peer.change_state(Transition.TRANSITION_CLEANUP)
    segmenter.class_names = ("Straßenbahn", 'a "quoted" one')
    assert stage.peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert json.loads(early.get(timeout=TIMEOUT).data) == ["Straßenbahn", 'a "quoted" one']


def test_the_place_in_the_list_is_the_class_id_of_a_track(stage):
    names = stage.peer.listen(String, "segmenter/class_names", LATCHED)
    (track,) = stage.exchange(1.0).tracks
    assert json.loads(names.get(timeout=TIMEOUT).data)[track.class_id] == track.class_name
