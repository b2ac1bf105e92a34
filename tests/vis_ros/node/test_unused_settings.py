"""Settings that the node is given and does not use are told by name in its log."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest
import yaml

rclpy = pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from rclpy.node import Node

from tests.vis_ros.node.stage import Scripted
from vis_ros.node import SegmenterNode
from vis_ros.node.unused_settings import warn_of_files


def warnings(text: str) -> list[str]:
    return [line.split("]: ", 1)[1] for line in text.splitlines() if line.startswith("[WARN]")]


def test_a_parameter_that_the_node_lacks_is_told_with_the_nearest_one(make_stage, capfd):
    make_stage(lambda *_, **__: Scripted(), score_treshold=0.3, mask_threshold=0.5, look_ahead=False)
    (unknown,) = [line for line in warnings(capfd.readouterr().err) if "not used" in line]
    assert unknown == "parameter score_treshold is set, but not used: did you mean 'score_threshold'?"


def test_a_parameter_of_other_systems_is_told_with_their_names(make_stage, capfd):
    make_stage(lambda *_, **__: Scripted(), system="minvis", memory_interval=3)
    (unknown,) = [line for line in warnings(capfd.readouterr().err) if "not used" in line]
    assert unknown == "parameter memory_interval is set, but not used: it is one of visolo-lite, visolo"


def test_an_override_of_a_topic_that_the_node_lacks_is_told_once_its_topics_are_there(make_stage, capfd):
    overrides = {f"qos_overrides./vis/{topic}.subscription.reliability": "reliable" for topic in ("image", "imge")}
    stage = make_stage(lambda *_, **__: Scripted(), **overrides)
    assert "not used" not in capfd.readouterr().err
    stage.activate()
    (unknown,) = [line for line in warnings(capfd.readouterr().err) if "not used" in line]
    assert unknown == (
        "parameter qos_overrides./vis/imge.subscription.reliability is set, but not used: "
        "did you mean 'qos_overrides./vis/image.subscription.reliability'?"
    )


@pytest.mark.parametrize("key", ["/**", "/vis/segmenter", "/*/segmenter", "/**/segmenter", "/vis/*", "vis/segmenter"])
def test_a_file_for_the_node_is_not_warned_of_as_the_client_library_uses_it(key, ros_domain_id, tmp_path, capfd):
    """What rcl takes for the node's is what we take for it."""
    overrides, warned = started(tmp_path, f"{key}:\n  ros__parameters:\n    views: 2\n", ros_domain_id, capfd)
    assert overrides == {"views"}
    assert warned == []


def test_a_file_with_nested_keys_is_for_the_node_that_they_make(ros_domain_id, tmp_path, capfd):
    text = "vis:\n  other:\n    ros__parameters: {a: 1}\n  segmenter:\n    ros__parameters: {views: 2}\n"
    overrides, warned = started(tmp_path, text, ros_domain_id, capfd)
    assert overrides == {"views"}
    assert warned == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("segmenter:\n  ros__parameters:\n    views: 2\n", "what it holds is for /segmenter"),
        ("/vis/segmentr:\n  ros__parameters:\n    views: 2\n", "what it holds is for /vis/segmentr"),
        ("/*:\n  ros__parameters:\n    views: 2\n", "what it holds is for /*"),
        ("", "it holds none"),
        ("# views: 2\n", "it holds none"),
    ],
)
def test_a_file_that_sets_nothing_is_told_with_whom_it_is_for(text, found, ros_domain_id, tmp_path, capfd):
    overrides, (warned,) = started(tmp_path, text, ros_domain_id, capfd)
    assert overrides == set()
    path = tmp_path / "given.yaml"
    expected = f"{path} sets no parameter of this node: {found}; the key must be /vis/segmenter or /**"
    assert warned == expected


def started(folder: Path, text: str, domain: int, capfd) -> tuple[set[str], list[str]]:
    """Parameters that a node is given by a file, and what it warns of."""
    path = folder / "given.yaml"
    path.write_text(text)
    arguments = ["--ros-args", "--params-file", str(path)]
    context = rclpy.Context()
    rclpy.init(args=arguments, context=context, domain_id=domain)
    try:
        node = Node("segmenter", namespace="vis", context=context)
        warn_of_files(node, arguments)
        overrides = set(node._parameter_overrides)
        node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)
    return overrides, warnings(capfd.readouterr().err)


def test_a_dump_of_an_active_node_starts_it_again_and_nothing_in_it_is_unused(
    make_stage, ros_domain_id, tmp_path, capfd
):
    """As ``ros2 param dump`` writes it."""
    first = make_stage(lambda *_, **__: Scripted(), views=2)
    first.activate()
    values = values_of(first.node)
    path = tmp_path / "dump.yaml"
    path.write_text(yaml.dump({"/vis/segmenter": {"ros__parameters": values}}))
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "--params-file", str(path)], context=context, domain_id=ros_domain_id)
    capfd.readouterr()
    try:
        node = SegmenterNode(lambda *_, **__: Scripted(), namespace="vis", context=context)
        assert node.get_parameter("autostart").value  # which is what the process asks before it starts by itself
        assert node.start_by_itself()
        again = values_of(node)
        node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)
    assert again == values
    assert "not used" not in capfd.readouterr().err


def values_of(node: Node) -> dict[str, Any]:
    values = {name: parameter.value for name, parameter in node.get_parameters_by_prefix("").items()}
    return {name: list(value) if isinstance(value, (tuple, array)) else value for name, value in values.items()}
