"""TeViT in the node: windows of frames, every answer under its own stamp."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from lifecycle_msgs.msg import Transition

import vis_core
from tests.vis_ros.node.stage import TIMEOUT


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of a shallow backbone and a narrow head of two stages."""
    import json

    import torch

    from vis_core.checkpoints import write_tensors
    from vis_core.models.tevit.msgshift import MsgShifT
    from vis_core.models.tevit.network import TeViTNetwork
    from vis_core.nn.region_queries import Dimensions

    torch.manual_seed(0)
    backbone = MsgShifT(tokens=8, widths=(64, 64, 64, 64), depths=(1, 1, 1, 1))
    network = TeViTNetwork(backbone, 2, 4, Dimensions(32, 8, 8, 64, 2))
    network.initialise()
    path = tmp_path_factory.mktemp("weights") / "narrow.safetensors"
    metadata = {"format": "vis_core 1", "system": "tevit", "class_names": json.dumps(["cat", "dog"])}
    write_tensors(path, network.state_dict(), metadata)
    return path


@pytest.mark.parametrize(("length", "stride", "backbone"), [(5, 2, "window"), (3, 1, "stream")])
def test_it_answers_every_image_under_its_own_header(make_stage, weights, length, stride, backbone):
    stage = make_stage(
        vis_core.load,
        system="tevit",
        weights=str(weights),
        device="cpu",
        drop_policy="every_frame",
        clip_length=length,
        stride=stride,
        backbone=backbone,
        short_side=32,
        longest_side=64,
        score_threshold=0.0,
        presence_threshold=0.0,
    )
    stage.activate()
    sent = [stage.peer.send(float(stamp)) for stamp in range(1, 6)]
    received = [stage.instances.get(timeout=TIMEOUT) for _ in range(5 - 5 % stride)]
    assert stage.peer.change_state(Transition.TRANSITION_DEACTIVATE)  # what is owed is answered
    received += [stage.instances.get(timeout=TIMEOUT) for _ in range(5 % stride)]
    assert [message.header for message in received] == [message.header for message in sent]
    assert {message.system for message in received} == {"tevit"}
    names = {track.class_name for message in received for track in message.tracks}
    assert names and names <= {"cat", "dog"}
