"""``vis-ros play``: the images of a recording on real topics."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from vis_core.data.synthetic import synthetic_video
from vis_ros import cli, messages
from vis_ros.recordings.bag_writer import write_bag
from vis_ros.recordings.bags import RecordedImages, serialised_stamp, typestore

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vis_ros.recordings import player
from vis_ros.recordings.session import Session

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT = 60.0
COUNT = 5


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("scene")
    video = synthetic_video(3, COUNT, (24, 32))
    frames = [video.frame(t) for t in range(COUNT)]
    write_bag(frames, folder / "raw")
    write_bag(frames, folder / "png", encoding="png", storage="mcap")
    types = typestore()
    kind, info = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
    with (
        RecordedImages(folder / "raw") as images,
        Writer(folder / "depth", version=8, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        depth = writer.add_connection("/front/depth", kind, typestore=types)
        about = writer.add_connection("/front/camera_info", info, typestore=types)
        for time, data in images.messages():
            message = types.deserialize_cdr(data, kind)
            roi = types.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
            three, four = np.eye(3).reshape(-1), np.eye(3, 4).reshape(-1)
            told = types.types[info](message.header, 24, 32, "plumb_bob", np.zeros(5), three, three, four, 0, 0, roi)
            pixels = np.full(24 * 32, 1.5, np.float32).view(np.uint8)
            message.encoding, message.step, message.data = "32FC1", 128, pixels
            writer.write(depth, time, bytes(types.serialize_cdr(message, kind)))
            writer.write(about, time, bytes(types.serialize_cdr(told, info)))
    return SimpleNamespace(video=video, folder=folder, stamps=video.stamps.tolist())


@contextmanager
def playing(domain: int, *arguments: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "vis_ros.cli", *(str(argument) for argument in arguments)],
        cwd=ROOT,
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def heard(domain: int, kind: Any, topic: str, arguments: tuple[Any, ...], count: int) -> tuple[list[Any], str, int]:
    """So many messages as a reliable subscriber has them of a loop, then Ctrl-C; what was told, and the exit code.

    A loop, since the two find each other when they do: the first message may come before that.
    """
    received: queue.Queue[Any] = queue.Queue()
    with Session(domain) as session:
        session.node.create_subscription(kind, topic, received.put, 100)
        with playing(domain, "play", "--loop", "--rate", 20, *arguments) as process:
            found = [received.get(timeout=TIMEOUT) for _ in range(count)]
            process.send_signal(signal.SIGINT)
            told, _ = process.communicate(timeout=TIMEOUT)
    return found, " ".join(told.split()), process.returncode


@pytest.mark.parametrize(("name", "kind"), [("raw", Image), ("png", CompressedImage)])
def test_images_go_out_as_they_were_recorded_and_again_until_ctrl_c(scene, ros_domain_id, name, kind):
    with RecordedImages(scene.folder / name) as images:
        topic = images.topic.name
    found, told, code = heard(ros_domain_id, kind, topic, (scene.folder / name,), 2 * COUNT)
    assert code == 130, told
    convert = messages.to_frame if name == "raw" else messages.compressed_to_frame
    first = scene.stamps.index(messages.stamp_of(found[0]))
    for t, message in enumerate(found, first):
        assert messages.stamp_of(message) == scene.stamps[t % COUNT]
        np.testing.assert_array_equal(convert(message, t).image, scene.video.frames[t % COUNT])
    assert f"{topic}: 1 subscriber" in told
    assert f"images on {topic}" in told


def test_a_recording_ends_though_nobody_hears_it(scene, ros_domain_id):
    with playing(ros_domain_id, "play", scene.folder / "raw", "--rate", 20) as process:
        told, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, told
    assert "/camera/image_raw: 0 subscribers" in told
    assert f"{COUNT} images on /camera/image_raw" in " ".join(told.split())


def test_stamps_can_be_those_of_the_publication_and_names_are_those_that_ros_is_told(scene, ros_domain_id):
    ros = ("--ros-args", "-r", "/camera/image_raw:=/image")
    arguments = (scene.folder / "raw", "--stamp", "now", *ros)
    with Session(ros_domain_id) as session:
        began = session.node.get_clock().now().nanoseconds
    found, told, code = heard(ros_domain_id, Image, "/image", arguments, COUNT)
    assert code == 130, told
    stamps = [messages.stamp_of(message) for message in found]
    assert began < stamps[0]
    assert stamps == sorted(set(stamps))


def test_images_that_nothing_here_decodes_are_played_with_their_camera_info(scene, ros_domain_id):
    received: queue.Queue[Any] = queue.Queue()
    with Session(ros_domain_id) as session, RecordedImages(scene.folder / "depth") as images:
        session.node.create_subscription(CameraInfo, "/front/camera_info", received.put, 100)
        session.node.create_subscription(Image, "/front/depth", received.put, 100)
        played = player.ImagePlayer(session, images, stamped_now=True, camera_info=True, quality=player.RELIABLE)
        waiting = threading.Event()
        while not played.subscriptions() or session.node.count_subscribers("/front/camera_info") == 0:
            waiting.wait(0.01)
        assert played.play(rate=50) == COUNT
        found = [received.get(timeout=TIMEOUT) for _ in range(2 * COUNT)]
    depths = [message for message in found if isinstance(message, Image)]
    infos = [message for message in found if isinstance(message, CameraInfo)]
    assert [message.encoding for message in depths] == ["32FC1"] * COUNT
    assert [info.distortion_model for info in infos] == ["plumb_bob"] * COUNT
    assert [messages.stamp_of(info) for info in infos] == [messages.stamp_of(depth) for depth in depths]


def test_messages_are_due_as_far_apart_as_they_were_recorded(monkeypatch):
    clock, waits = [100.0], []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        clock[0] += seconds
        return False

    monkeypatch.setattr(player.time, "monotonic", lambda: clock[0])
    ended = SimpleNamespace(wait=wait, is_set=lambda: False)
    came = []
    for item in player.paced([(7_000_000_000, "a"), (7_500_000_000, "b"), (8_500_000_000, "c")], 2.0, ended):
        came.append(item)
        clock[0] += 0.1  # what publishing takes does not add up
    assert came == ["a", "b", "c"]
    assert waits == pytest.approx([0.0, 0.15, 0.4])


def test_no_item_comes_after_the_end_is_set():
    ended = threading.Event()
    coming = player.paced([(0, "a"), (10**15, "b")], 1.0, ended)
    assert next(coming) == "a"
    ended.set()
    assert list(coming) == []


@pytest.mark.parametrize("little", [True, False])
def test_another_stamp_changes_nothing_else(scene, little):
    with RecordedImages(scene.folder / "raw") as images:
        message = typestore().deserialize_cdr(next(images.messages())[1], images.topic.type)
    data = bytes(typestore().serialize_cdr(message, images.topic.type, little_endian=little))
    stamped = player.restamped(data, 5_000_000_007)
    assert serialised_stamp(stamped) == 5_000_000_007
    assert player.restamped(stamped, serialised_stamp(data)) == data


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("nowhere",), "nowhere: no such file or folder"),
        (("{raw}", "--topic", "/rear"), "no topic /rear; holds /camera/image_raw"),
        (("{raw}", "--rate", "0"), "--rate"),
        (("{raw}", "--stamp", "later"), "--stamp"),
    ],
)
def test_what_is_wrong_is_told_in_one_message(scene, capsys, arguments, text):
    with pytest.raises(SystemExit) as end:
        cli.main(["play", *(argument.format(raw=scene.folder / "raw") for argument in arguments)])
    assert end.value.code == 2
    assert text in " ".join(capsys.readouterr().err.split())
