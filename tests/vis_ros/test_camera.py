"""``vis-ros camera``: a video as a camera's topic."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vis_core.structures import Frame
from vis_core.video.opening import open_video
from vis_core.video.sources import VideoSource
from vis_core.video.writer import VideoWriter
from vis_ros import cli

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from sensor_msgs.msg import Image

from vis_ros import camera, messages
from vis_ros.recordings.session import Session

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 60.0
COUNT = 300


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Grey pictures, each brighter than the one before: longer than any two processes take to find each other."""
    file = tmp_path_factory.mktemp("scene") / "clip.mp4"
    with VideoWriter(file, 10.0) as writer:
        for t in range(COUNT):
            writer.write(np.full((48, 64, 3), (t // 2, t // 3, t // 4), np.uint8))
    return writer.path


def camera_process(domain: int, *arguments: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vis_ros.cli", "camera", *(str(argument) for argument in arguments)],
        cwd=ROOT,
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
def test_a_video_file_goes_out_on_a_real_topic_until_ctrl_c(clip, ros_domain_id, encoding):
    received: queue.Queue[Any] = queue.Queue()
    options = ("--frame-id", "optical", "--encoding", encoding, "--ros-args", "-r", "image:=/front/image_raw")
    with Session(ros_domain_id) as session:
        session.node.create_subscription(Image, "/front/image_raw", received.put, 100)
        began = session.node.get_clock().now().nanoseconds
        with camera_process(ros_domain_id, clip, *options) as process:
            found = [received.get(timeout=TIMEOUT) for _ in range(3)]
            process.send_signal(signal.SIGINT)
            told, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130, told
    assert "/front/image_raw: 1 subscriber" in told
    assert "images on /front/image_raw" in " ".join(told.split())
    assert {(message.encoding, message.header.frame_id) for message in found} == {(encoding, "optical")}
    stamps = [messages.stamp_of(message) for message in found]
    assert began < stamps[0]
    assert stamps == sorted(set(stamps))
    pictures = [frame.image for frame in open_video(clip)]
    got = [messages.to_frame(message, 0).image for message in found]
    assert any(
        all(np.array_equal(a, b) for a, b in zip(got, pictures[first:])) for first in range(COUNT - len(got) + 1)
    )


def test_a_file_ends_the_run_though_nobody_hears_it(clip, ros_domain_id):
    with camera_process(ros_domain_id, clip, "--rate", 1000) as process:
        told, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, told
    assert f"{COUNT} images on /image" in " ".join(told.split())


def frames(*stamps: int) -> list[Frame]:
    return [Frame(np.zeros((1, 1, 3), np.uint8), stamp, index) for index, stamp in enumerate(stamps)]


def test_a_file_is_published_at_its_own_times_or_at_the_rate_asked_for():
    given = frames(0, 100, 250)
    assert [time for time, _ in camera._timed(given, None)] == [0, 100, 250]
    assert [time for time, _ in camera._timed(given, 20.0)] == [0, 50_000_000, 100_000_000]


def test_a_camera_gives_no_more_images_a_second_than_asked_for():
    at_30 = frames(*(round(i * 1e9 / 30 + (i % 3) * 2e6) for i in range(90)))  # as unsteady as cameras are
    assert [len(list(camera._thinned(at_30, rate))) for rate in (None, 60, 30, 15, 10)] == [90, 90, 90, 45, 30]
    late = frames(0, 3_000_000_000, 3_010_000_000, 3_100_000_000)
    assert [frame.index for frame in camera._thinned(late, 10.0)] == [0, 1, 3]  # what was missed is not made up


def test_an_address_is_opened_and_connected_to_again(monkeypatch):
    monkeypatch.setattr("vis_core.video.opening.open_address", lambda address, reconnect: (address, reconnect))
    assert open_video("rtsp://robot.local:554/front") == ("rtsp://robot.local:554/front", 30)


def test_what_is_no_camera_is_told_in_one_message(capsys, tmp_path):
    (tmp_path / "torn.mp4").write_bytes(b"torn")
    for given, text in (
        (tmp_path / "nowhere.mp4", "nowhere.mp4: no such file, folder or camera"),
        (tmp_path / "torn.mp4", "torn.mp4: is no video that this OpenCV reads"),
        ("rtsp://127.0.0.1:9/nothing", "rtsp://127.0.0.1:9/nothing: cannot be reached: Connection refused"),
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(["camera", str(given)])
        assert end.value.code == 2
        assert text in " ".join(capsys.readouterr().err.split())


def test_a_camera_that_ends_ends_the_run(ros_domain_id):
    class Live(VideoSource):
        live = True

        def _read(self):
            yield from frames(0, 10, 20)

    with Session(ros_domain_id) as session:
        publisher = camera.CameraPublisher(session)
        assert publisher.run(Live("live", None, 30.0, (1, 1))) == 3
