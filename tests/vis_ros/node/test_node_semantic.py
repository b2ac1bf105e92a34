"""The semantic map of systems that tell stuff too: made while someone listens, with the names of its classes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from sensor_msgs.msg import Image

from tests.vis_ros.node.stage import HEIGHT, TIMEOUT, WIDTH, Scripted
from vis_ros import messages
from vis_ros.messages import label_info


def begun(make_stage, names):
    segmenter = Scripted()
    segmenter.semantic_class_names = names
    stage = make_stage(lambda *_, **__: segmenter)
    stage.activate()
    return stage


def test_the_map_is_made_only_while_someone_listens_under_the_image_s_header(make_stage, monkeypatch):
    made = []
    original = messages.mono_message
    monkeypatch.setattr(messages, "mono_message", lambda *a: (made.append(1), original(*a))[1])
    stage = begun(make_stage, ("road", "car"))
    stage.exchange(1.0)
    assert not made
    maps = stage.peer.listen(Image, "segmenter/semantic")
    sent = stage.peer.send(2.0)
    found = maps.get(timeout=TIMEOUT)
    assert found.header == sent.header
    assert (found.encoding, found.height, found.width, found.step) == ("mono8", HEIGHT, WIDTH, WIDTH)
    assert np.frombuffer(found.data, np.uint8).tolist() == [2] * (HEIGHT * WIDTH)


def test_a_system_of_instances_alone_has_no_such_topic(make_stage):
    stage = begun(make_stage, ())
    stage.exchange(1.0)
    assert not [name for name, _ in stage.peer.get_topic_names_and_types() if "semantic" in name]


def test_the_names_of_the_classes_are_told_by_their_values_in_the_map():
    types = SimpleNamespace(LabelInfo=SimpleNamespace, VisionClass=SimpleNamespace)
    found = label_info(types, ("road", "car"), "header")
    assert [(one.class_id, one.class_name) for one in found.class_map] == [(1, "road"), (2, "car")]
    assert found.header == "header"
