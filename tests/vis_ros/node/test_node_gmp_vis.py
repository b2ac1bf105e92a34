"""GMP-VIS in the node: frame by frame, each image answered under its header, in memory that does not grow."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from tests.vis_core.models.gmp_vis.test_online_model import segmenter, sure_network
from tests.vis_ros.node.stage import TIMEOUT


def test_the_online_system_keeps_its_tracks_in_flat_memory(make_stage):
    runner = segmenter(sure_network(), score_threshold=0.0)
    stage = make_stage(lambda *_, **__: runner, system="gmp-vis", drop_policy="every_frame")
    stage.activate()
    sizes, ids = [], []
    for stamp in range(1, 25):
        header = stage.peer.send(float(stamp), size=(64, 96)).header
        message = stage.instances.get(timeout=TIMEOUT)
        assert message.header == header and message.system == "gmp-vis"
        ids.append({track.track_id for track in message.tracks})
        sizes.append(runner.state_bytes())
    assert all(ids) and set.intersection(*ids)
    assert max(sizes[12:]) <= max(sizes[:12])
