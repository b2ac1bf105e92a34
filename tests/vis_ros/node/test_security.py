"""The SROS2 policy that ships says what the node does."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from vis_ros.node import sros2_policy

SHIPPED = Path(__file__).resolve().parents[3] / "config" / "sros2_policy.xml"
# Of systems, releases and settings that the node here is not of.
OPTIONAL = {
    "/vis/segmenter/semantic",
    "/vis/segmenter/semantic/label_info",
    "/vis/segmenter/get_type_description",
    "/vis/segmenter/detections_3d",
    "/vis/segmenter/class_mask",
    "/vis/segmenter/confidence",
    "/vis/segmenter/label_info",
    "/vis/segmenter/enable",
    "/vis/mask/image",
    "/vis/mask/camera_info",
    "/camera/camera_info",
    "/camera/image_raw/compressed",
    "/clock",
    "/tf",
    "/tf_static",
    "/vis/segmenter/annotations",
}
OF_DEPTH = {
    *(f"/vis/segmenter/{name}" for name in ("tracks_3d", "markers", "points", "points/*", "polygons", "followed_pose")),
    *("/camera/depth", "/camera/depth/camera_info"),
}


def allowed(enclave: str, policy: str = "") -> dict[str, set[str]]:
    """Full names by what may be done with them; by the policy that ships, or another."""
    policy = policy or SHIPPED.read_text("utf-8")
    (profile,) = ElementTree.fromstring(policy.encode()).findall(
        f"./enclaves/enclave[@path='{enclave}']/profiles/profile"
    )
    namespace, node = profile.attrib["ns"].rstrip("/"), profile.attrib["node"]
    found: dict[str, set[str]] = {}
    for rules in profile:
        (does,) = rules.attrib
        names = {(entry.text or "").replace("~", f"{namespace}/{node}") for entry in rules}
        found[does] = {name if name.startswith("/") else f"{namespace}/{name}" for name in names}
    return found


@pytest.mark.parametrize("depth", [False, True])
def test_the_policy_allows_the_node_its_topics_and_services_and_no_others(make_stage, segmenter, depth):
    stage = make_stage(lambda *_, **__: segmenter, **({"depth": True, "target_frame": "map"} if depth else {}))
    stage.activate()
    me = ("segmenter", "/vis")
    has = {
        "publish": stage.node.get_publisher_names_and_types_by_node(*me),
        "subscribe": stage.node.get_subscriber_names_and_types_by_node(*me),
        "reply": stage.node.get_service_names_and_types_by_node(*me),
    }
    policy = allowed("/vis/segmenter")
    for does, names_and_types in has.items():
        names = {name for name, _ in names_and_types}
        for name in ("image", "camera_info", "depth"):
            names = {given.replace(f"/vis/{name}", f"/camera/{name}") for given in names}
        names = {name.replace("/camera/image", "/camera/image_raw") for name in names}
        names = {re.sub(r"/segmenter/points/\w+$", "/segmenter/points/*", name) for name in names}
        assert names <= policy[does], does
        assert policy[does] - names <= (OPTIONAL if depth else OPTIONAL | OF_DEPTH), does


def test_only_the_operator_may_ask_and_each_name_is_one_of_the_node():
    node = allowed("/vis/segmenter")
    assert allowed("/vis/operator")["request"] <= node["reply"]
    for enclave in ("/camera", "/vis/listener", "/vis/operator"):
        rules = allowed(enclave)
        assert ("request" in rules) == (enclave == "/vis/operator")
        assert rules["publish"] <= {"/parameter_events", "/rosout", *node["subscribe"] - {"/clock"}}
        assert rules.get("subscribe", set()) <= {"/clock", *node["publish"]}


def test_a_policy_for_several_cameras_allows_each_its_topics(make_stage, segmenter):
    segmenter.another = lambda: segmenter
    stage = make_stage(lambda *_, **__: segmenter, depth=True, cameras="front,left")
    stage.activate()
    policy = sros2_policy.policy_for(("front", "left"), SHIPPED)
    me, of_node = ("segmenter", "/vis"), allowed("/vis/segmenter", policy)
    published = {name for name, _ in stage.node.get_publisher_names_and_types_by_node(*me)}
    published = {re.sub(r"/points/\w+$", "/points/*", name) for name in published}
    assert published <= of_node["publish"] and {"/vis/front/instances", "/vis/left/tracks_3d"} <= published
    heard = {name for name, _ in stage.node.get_subscriber_names_and_types_by_node(*me)}
    heard = {re.sub("^/vis/(front|left)/", r"/\1/", name).replace("/image", "/image_raw") for name in heard}
    assert heard <= of_node["subscribe"] and "/front/image_raw" in heard
    assert not any("/camera" in name and "/camera_info" not in name for names in of_node.values() for name in names)
    assert of_node["reply"] == allowed("/vis/segmenter")["reply"]
    front = allowed("/front", policy)["publish"]
    assert {"/front/image_raw", "/front/depth/camera_info", "/rosout"} <= front and "/left/image_raw" not in front
    assert {"/vis/front/instances", "/vis/left/class_names"} <= allowed("/vis/listener", policy)["subscribe"]


def test_the_policy_is_printed_and_a_name_that_cannot_be_is_told(capsys, monkeypatch):
    monkeypatch.setattr(sros2_policy, "installed_file", lambda *_: SHIPPED)
    sros2_policy.main([])
    assert capsys.readouterr().out == SHIPPED.read_text("utf-8")
    sros2_policy.main(["front"])
    assert "<topic>front/instances</topic>" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="cameras: '2nd' cannot be part of a topic's name"):
        sros2_policy.main(["2nd"])
