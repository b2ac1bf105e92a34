"""Video K-Net in the node: windows of frames, and things with stuff frame by frame, each under its image's header."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image

from tests.vis_core.models import test_video_knet_clip as of_clips
from tests.vis_core.models import test_video_knet_online as online
from tests.vis_ros.node.stage import TIMEOUT

small = of_clips.small  # a fixture


@pytest.mark.parametrize("stride", [1, 2])
def test_the_clip_system_answers_every_image_under_its_own_header(make_stage, small, stride):
    segmenter = of_clips.stream(small, 3, stride)
    stage = make_stage(lambda *_, **__: segmenter, system="video-knet", drop_policy="every_frame")
    stage.activate()
    sent = [stage.peer.send(float(stamp)) for stamp in range(1, 6)]
    received = [stage.instances.get(timeout=TIMEOUT) for _ in range(5 - 5 % stride)]
    assert stage.peer.change_state(Transition.TRANSITION_DEACTIVATE)  # what is owed is answered
    received += [stage.instances.get(timeout=TIMEOUT) for _ in range(5 % stride)]
    assert [message.header for message in received] == [message.header for message in sent]
    assert {message.system for message in received} == {"video-knet"}


def test_the_online_system_tells_things_and_the_class_of_every_pixel(make_stage):
    segmenter = online.stream(online.small_network(2), score_threshold=0.0)
    stage = make_stage(lambda *_, **__: segmenter, system="video-knet-online", drop_policy="every_frame")
    stage.activate()
    maps = stage.peer.listen(Image, "segmenter/semantic")
    sent = [stage.peer.send(float(stamp), size=(60, 90)) for stamp in range(1, 4)]
    received = [stage.instances.get(timeout=TIMEOUT) for _ in sent]
    semantic = [maps.get(timeout=TIMEOUT) for _ in sent]
    assert [m.header for m in received] == [m.header for m in semantic] == [m.header for m in sent]
    for message in semantic:
        values = np.frombuffer(message.data, np.uint8)
        assert values.max() <= len(segmenter.semantic_class_names) and values.any()
