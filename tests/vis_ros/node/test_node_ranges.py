"""Images of 16 bits and large ones, through the node: its parameters ``range`` and ``max_image_pixels``."""

from __future__ import annotations

from array import array

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from tests.vis_ros.node.stage import HEIGHT, WIDTH, values_of

THERMAL = np.linspace(7000, 8000, HEIGHT * WIDTH).round().astype(np.uint16).reshape(HEIGHT, WIDTH)


def thermal(big_endian: bool = False) -> dict:
    data = array("B", THERMAL.astype(">u2" if big_endian else "<u2").tobytes())
    return {"encoding": "16UC1", "step": WIDTH * 2, "is_bigendian": int(big_endian), "data": data}


@pytest.mark.parametrize("big_endian", [False, True])
def test_a_thermal_image_is_seen_by_its_range_which_is_told_once(make_stage, segmenter, capfd, big_endian):
    stage = make_stage(lambda *_, **__: segmenter, range="7000,8000")
    stage.activate()
    for stamp in (1.0, 2.0):
        stage.exchange(stamp, **thermal(big_endian))
    seen = segmenter.frames[-1].image
    assert seen.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(seen[..., 0], ((THERMAL - 7000.0) * 256 / 1001).astype(np.uint8))
    told = [line for line in capfd.readouterr().err.splitlines() if "16-bit values" in line]
    assert len(told) == 1 and "/vis/image: 16-bit values 7000 to 8000 become 0 to 255" in told[0]


def test_without_a_range_such_an_image_is_bad_and_the_parameter_is_named(make_stage, segmenter, capfd):
    stage = make_stage(lambda *_, **__: segmenter)
    stage.activate()
    stage.peer.send(1.0, **thermal())
    stage.diagnostic(lambda status: values_of(status).get("bad messages: range") == "1")
    assert "7000 to 8000 use less than a tenth" in (told := capfd.readouterr().err)
    assert "parameter range of the node" in told
    stage.exchange(2.0)


def test_a_range_that_is_none_is_refused(make_stage, segmenter):
    stage = make_stage(lambda *_, **__: segmenter)
    answer = stage.peer.set_parameter("range", "8000,7000")
    assert not answer.successful
    assert "give auto, or MIN,MAX" in answer.reason
    assert stage.peer.set_parameter("range", "auto").successful


def test_the_largest_image_that_is_taken_is_a_parameter(make_stage, segmenter):
    stage = make_stage(lambda *_, **__: segmenter, max_image_pixels=HEIGHT * WIDTH - 1)
    stage.activate()
    stage.peer.send(1.0)
    stage.diagnostic(lambda status: values_of(status).get("bad messages: size") == "1")
