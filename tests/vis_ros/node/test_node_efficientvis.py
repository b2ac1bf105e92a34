"""EfficientVIS in the node: windows of frames, every answer under its own stamp."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from lifecycle_msgs.msg import Transition

import vis_core
from tests.vis_ros.node.stage import TIMEOUT


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of a narrow head of two stages."""
    import json

    import torch

    from vis_core.checkpoints import write_tensors
    from vis_core.models.efficientvis.network import EfficientVISNetwork
    from vis_core.nn.region_queries import Dimensions

    torch.manual_seed(0)
    network = EfficientVISNetwork(50, 2, 4, Dimensions(32, 8, 8, 64, 2))
    network.initialise()
    path = tmp_path_factory.mktemp("weights") / "narrow.safetensors"
    metadata = {"format": "vis_core 1", "system": "efficientvis", "class_names": json.dumps(["cat", "dog"])}
    write_tensors(path, network.state_dict(), metadata)
    return path


@pytest.mark.parametrize(("length", "stride"), [(3, 1), (3, 2), (1, 1)])
def test_it_answers_every_image_under_its_own_header(make_stage, weights, length, stride):
    parameters = {"clip_length": length, "stride": stride, "input_size": [32, 64], "score_threshold": 0.0}
    stage = make_stage(
        vis_core.load,
        system="efficientvis",
        weights=str(weights),
        device="cpu",
        drop_policy="every_frame",
        presence_threshold=0.0,
        **parameters,
    )
    stage.activate()
    sent = [stage.peer.send(float(stamp)) for stamp in range(1, 6)]
    received = [stage.instances.get(timeout=TIMEOUT) for _ in range(5 - 5 % stride)]
    assert stage.peer.change_state(Transition.TRANSITION_DEACTIVATE)  # what is owed is answered
    received += [stage.instances.get(timeout=TIMEOUT) for _ in range(5 % stride)]
    assert [message.header for message in received] == [message.header for message in sent]
    assert {message.system for message in received} == {"efficientvis"}
    assert {track.class_name for message in received for track in message.tracks} <= {"cat", "dog"}
