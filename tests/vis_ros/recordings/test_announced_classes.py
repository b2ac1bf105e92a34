"""The classes that a node announces, heard beside its instances."""

from __future__ import annotations

import json
import threading

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from vis_ros.msg import InstanceTrackArray
from vis_ros.recordings.announced_classes import AnnouncedClasses
from vis_ros.recordings.session import Session, free_domain

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def session():
    with free_domain() as domain, Session(domain) as own:
        yield own


def heard(announced: AnnouncedClasses) -> tuple[str, ...]:
    waiting = threading.Event()
    while announced.names is None:
        announced.look()
        waiting.wait(0.01)
    return announced.names


@pytest.mark.parametrize(
    ("instances", "place"), [("instances", "{node}/class_names"), ("a/instances", "a/class_names")]
)
def test_all_classes_of_a_node_and_of_one_of_several_cameras_are_known(session, instances, place):
    node = session.node
    node.create_publisher(InstanceTrackArray, instances, 10)
    names = node.create_publisher(String, place.format(node=node.get_name()), LATCHED)
    names.publish(String(data=json.dumps(["person", "dog"])))
    announced = AnnouncedClasses(session, node.resolve_topic_name(instances))
    assert heard(announced) == ("person", "dog")
    assert announced.complete({1: "dog"}) == {0: "person", 1: "dog"}
    assert announced.complete({}) == {0: "person", 1: "dog"}
    assert announced.complete({1: "cat"}) is None and announced.complete({7: "dog"}) is None


@pytest.mark.parametrize("data", ["", "{}", "[]", "[1]", "[" * 100_000, '"person"'])
def test_what_no_list_of_names_is_is_left_out(session, data):
    announced = AnnouncedClasses(session, "/vis/instances")
    announced._take(String(data=data))
    assert announced.names is None and announced.complete({0: "x"}) is None
