"""Recordings through real topics into the real node, in a process of its own."""

from __future__ import annotations

import json
import queue
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rosbags.rosbag2 import StoragePlugin, Writer

from vis_core.data.synthetic import CLASS_NAMES, synthetic_video, write_youtube_vis
from vis_core.errors import InputError
from vis_core.structures import Instances
from vis_ros import messages
from vis_ros.recordings import node_process, playback, player
from vis_ros.recordings.bag_evaluation import answer_directly, answer_live, evaluate_bag
from vis_ros.recordings.bag_writer import write_bag
from vis_ros.recordings.bags import ImageBag, typestore
from vis_ros.recordings.node_process import NodeError, NodeProcess
from vis_ros.recordings.playback import Received, replay
from vis_ros.recordings.player import ImagePlayer
from vis_ros.recordings.session import Session, free_domain

TIMEOUT = 120.0
# Small, and with a mask threshold at which random masks are parts of the image.
TINY = {"input_size": [64, 96], "threads": 1, "precision": "fp32", "mask_threshold": 0.9999999}


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("scene")
    video = synthetic_video(3, 12, (72, 96))
    ground_truth = write_youtube_vis([video], folder)
    write_bag((video.frame(t) for t in range(len(video))), folder / "raw")
    write_bag((video.frame(t) for t in range(len(video))), folder / "png", encoding="png", storage="mcap")
    return SimpleNamespace(video=video, ground_truth=ground_truth, raw=folder / "raw", png=folder / "png")


@pytest.fixture
def own_session() -> Iterator[Session]:
    with free_domain() as domain, Session(domain) as own:
        yield own


def children() -> list[psutil.Process]:
    """Processes that live under this one, but for the one that multiprocessing keeps once it was used by any test."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
        and "multiprocessing.resource_tracker" not in " ".join(child.cmdline())
    ]


# The parts


@pytest.mark.parametrize("kind", ["raw", "png"])
def test_images_are_published_unchanged_and_in_order(own_session, scene, kind):
    with ImageBag(getattr(scene, kind)) as bag:
        sent: list[int] = []
        player = ImagePlayer(own_session, bag, on_sent=lambda stamp, at: sent.append(stamp))
        received: queue.Queue[Any] = queue.Queue()
        message_type = player.publisher.msg_type
        own_session.node.create_subscription(message_type, bag.topic.name, received.put, 100)
        # Best effort is not heard by a reliable subscription: this one must stay silent.
        assert player.subscriptions() == 0
        patient = QoSProfile(depth=100, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        own_session.node.create_subscription(message_type, bag.topic.name, received.put, patient)
        waiting = threading.Event()
        while player.subscriptions() == 0:
            waiting.wait(0.01)
        assert player.play(rate=20) == 12
        convert = messages.compressed_to_frame if bag.compressed else messages.to_frame
        for t in range(12):
            frame = convert(received.get(timeout=TIMEOUT), t)
            np.testing.assert_array_equal(frame.image, scene.video.frames[t])
            assert frame.stamp == scene.video.stamps[t]
        assert received.empty()
        assert sent == scene.video.stamps.tolist()


def received(image: int | str, at: int = 0, stamp: int = 0) -> Received:
    return Received(Instances.empty(stamp, 0, (2, 2)), {}, 0, at, str(image))


def test_an_answer_is_that_of_its_image_though_others_of_its_stamp_were_dropped():
    ledger = playback._Ledger()
    for at in (100, 200, 300):
        ledger.note_sent(at)
    assert ledger.note_answer(received(1, 250)) == (1, 50)
    assert not ledger.last_is_answered
    assert ledger.note_answer(received(2, 390)) == (2, 90)
    assert ledger.last_is_answered


@pytest.mark.parametrize("image", [0, 1, "camera", "", "-1", "9" * 30])
def test_an_answer_to_no_image_or_a_second_one_is_an_error(image):
    ledger = playback._Ledger()
    ledger.note_sent(100)
    ledger.note_answer(received(0, 200))
    with pytest.raises(InputError, match=f"frame_id '{image}' and stamp 7 .*does another node publish"):
        ledger.note_answer(received(image, 300, 7))


@pytest.mark.parametrize("kind", ["raw", "png"])
@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize("frame_id", ["", "cam", "camera/optical_frame"])
def test_the_number_of_an_image_takes_the_place_of_its_frame_id_and_of_nothing_else(scene, kind, little, frame_id):
    with ImageBag(getattr(scene, kind)) as bag:
        message = typestore().deserialize_cdr(next(bag.messages())[1], bag.topic.type)
        message.header.frame_id = frame_id
        data = bytes(typestore().serialize_cdr(message, bag.topic.type, little_endian=little))
        for number in (0, 7, 123, 123456):
            message.header.frame_id = str(number)
            numbered = player.numbered(data, number)
            assert numbered == bytes(typestore().serialize_cdr(message, bag.topic.type, little_endian=little))
        assert [player.numbered(data[:cut], 7) for cut in (0, 1, 12, 15)] == [data[:cut] for cut in (0, 1, 12, 15)]


@pytest.mark.parametrize("waited", ["_FIRST_ANSWER_SECONDS", "_QUIET_SECONDS"])
def test_waiting_for_answers_ends_when_nothing_comes(monkeypatch, waited):
    monkeypatch.setattr(playback, waited, 0.05)
    ledger = playback._Ledger()
    for _ in range(2):
        ledger.note_sent(0)
    if waited == "_QUIET_SECONDS":
        ledger.note_answer(received(0, 10))
    recorder = SimpleNamespace(last_at=0, check=lambda: None)
    process = SimpleNamespace(wait_until=lambda condition, timeout: threading.Event().wait(0.01))
    playback._wait_for_answers(process, recorder, ledger)
    assert not ledger.last_is_answered


def restamped(scene: SimpleNamespace, folder: Path, stamps: list[int]) -> Path:
    """The scene, recorded as before, by a camera that stamps otherwise."""
    with ImageBag(scene.raw) as bag, Writer(folder, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection(bag.topic.name, bag.topic.type, typestore=typestore())
        for (time, data), stamp in zip(bag.messages(), stamps, strict=True):
            writer.write(connection, time, data[:4] + struct.pack("<iI", *divmod(stamp, 10**9)) + data[12:])
    return folder


@pytest.mark.filterwarnings("ignore:.*stamps do not grow")
@pytest.mark.parametrize(
    "stamps", [[0] * 12, [5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10], [9, 10, 11, 12, 1, 2, 3, 4, 5, 6, 7, 8]]
)
def test_answers_find_their_frames_though_stamps_repeat_or_go_back(scene, tmp_path, monkeypatch, stamps):
    """Perfect answers, each 1 ms late, to all images but two; the stream tells the same as if all were well stamped."""
    answers = scene.video.instances()
    kept = [t for t in range(12) if t not in (0, 7)]
    names = dict(enumerate(CLASS_NAMES))

    def play(bag, system, parameters, deliver):
        for t in kept:
            instances = replace(answers[t], stamp=int(bag.stamps()[t]), index=t)
            deliver(Received(instances, names, 0, 0, str(t)), 10**6)
        return playback.ReplayReport(12, len(kept), np.ones(len(kept)), 1.0)

    monkeypatch.setattr(playback, "replay", play)
    found = []
    for name, path in (("well", scene.raw), ("odd", restamped(scene, tmp_path / "bag", stamps))):
        with ImageBag(path) as bag:

            def answer(pairing, take, folder, bag=bag):
                return answer_live(bag, "visolo", {}, pairing, take, folder / "stream.jsonl")

            found.append(evaluate_bag(bag, scene.ground_truth, tmp_path / name, answer, by="order"))
    well, odd = found
    assert odd["scores"] == well["scores"]
    assert odd["scores"]["AP"] > 0.5
    for key in ("policies", "latency_s", "time_to_first_detection_s", "answered_frames", "dropped_frames", "rate_hz"):
        assert odd["stream"][key] == well["stream"][key], key
    streams = [(tmp_path / name / "stream.jsonl").read_text() for name in ("well", "odd")]
    assert streams[0] == streams[1]
    assert [json.loads(line)["frame"] for line in streams[1].splitlines()] == kept


# The whole


def test_live_answers_are_those_of_the_same_frames_stepped_directly(scene, tmp_path, one_thread):
    import vis_core

    options = {**TINY, "input_size": (64, 96), "device": "cpu"}
    del options["threads"]
    with pytest.warns(UserWarning, match="random"):
        segmenter = vis_core.load("visolo", **options)
    stages: list[str] = []
    with ImageBag(scene.raw) as bag:
        expected = evaluate_bag(
            bag,
            scene.ground_truth,
            tmp_path / "direct",
            lambda pairing, take, _: answer_directly(bag, segmenter, pairing, take),
            class_agnostic=True,
        )
        metrics = evaluate_bag(
            bag,
            scene.ground_truth,
            tmp_path / "live",
            lambda pairing, take, folder: answer_live(
                bag,
                "visolo",
                {**TINY, "drop_policy": "every_frame", "queue_size": 100},
                pairing,
                take,
                folder / "stream.jsonl",
                rate=4.0,
                on_stage=stages.append,
            ),
            class_agnostic=True,
        )
    assert stages == ["loading the network", "playing", "waiting for the last answers"]
    assert (metrics["mode"], metrics["sent"], metrics["received"], metrics["dropped"]) == ("live", 12, 12, 0)
    assert metrics["scores"] == expected["scores"]
    direct, live = (
        [
            {key: entry[key] for key in ("category_id", "segmentations")} | {"score": pytest.approx(entry["score"])}
            for entry in json.loads((tmp_path / name / "results.json").read_text())
        ]
        for name in ("direct", "live")
    )
    assert [entry["segmentations"] for entry in live] == [entry["segmentations"] for entry in direct]
    lines = [json.loads(line) for line in (tmp_path / "live" / "stream.jsonl").read_text().splitlines()]
    assert [line["stamp"] for line in lines] == scene.video.stamps.tolist()
    latencies = [(line["arrival"] - line["stamp"]) / 1e6 for line in lines]
    assert min(latencies) > 0
    assert metrics["latency_ms"]["max"] == pytest.approx(max(latencies))
    assert sum(len(line["tracks"]) for line in lines) > 0
    assert {frozenset(track) for line in lines for track in line["tracks"]} == {
        frozenset(("track_id", "category_id", "class_name", "score", "segmentation"))
    }
    assert children() == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*stamps do not grow")
def test_live_answers_of_a_camera_that_stamps_nothing_are_of_the_same_frames(scene, tmp_path, one_thread):
    import vis_core

    options = {name: value for name, value in TINY.items() if name not in ("input_size", "threads")}
    with pytest.warns(UserWarning, match="random"):
        segmenter = vis_core.load("visolo", **options, input_size=(64, 96), device="cpu")

    def direct(pairing, take, folder):
        return answer_directly(bag, segmenter, pairing, take)

    def live(pairing, take, folder):
        parameters = {**TINY, "drop_policy": "every_frame", "queue_size": 100}
        return answer_live(bag, "visolo", parameters, pairing, take, folder / "stream.jsonl", rate=4.0)

    with ImageBag(restamped(scene, tmp_path / "bag", [0] * 12)) as bag:
        how: dict[str, Any] = {"by": "order", "class_agnostic": True}
        expected = evaluate_bag(bag, scene.ground_truth, tmp_path / "direct", direct, **how)
        metrics = evaluate_bag(bag, scene.ground_truth, tmp_path / "live", live, **how)
    assert (metrics["sent"], metrics["received"], metrics["dropped"]) == (12, 12, 0)
    assert metrics["scores"] == expected["scores"]
    found = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("direct", "live")]
    assert [entry["segmentations"] for entry in found[0]] == [entry["segmentations"] for entry in found[1]]
    lines = [json.loads(line) for line in (tmp_path / "live" / "stream.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["stamp"]) for line in lines] == list(enumerate(scene.video.stamps.tolist()))
    assert sum(len(line["tracks"]) for line in lines) > 0


def test_a_node_that_fails_to_load_shows_what_it_said(scene, tmp_path):
    with ImageBag(scene.raw) as bag, pytest.raises(NodeError, match=r"did not configure(.|\n)*missing\.safetensors"):
        replay(bag, "visolo", {"weights": str(tmp_path / "missing.safetensors")}, lambda item, latency: None)
    assert children() == []


def test_a_node_that_dies_ends_the_replay_with_its_exit_code(scene):
    def kill() -> None:
        for child in children():
            child.kill()

    with ImageBag(scene.raw) as bag, pytest.raises(NodeError, match="ended by itself with exit code -9"):
        replay(bag, "visolo", TINY, lambda item, latency: None, rate=0.01, on_sent=kill)
    assert children() == []


def test_a_process_that_does_not_obey_is_ended_all_the_same(own_session, monkeypatch):
    monkeypatch.setattr(node_process, "_STOP_SECONDS", 0.1)
    command = (sys.executable, "-c", "import signal; signal.signal(15, lambda *_: None); print('deaf'); signal.pause()")
    heard: queue.Queue[str] = queue.Queue()
    with NodeProcess(own_session, {}, command=command, on_output=heard.put) as process:
        assert heard.get(timeout=TIMEOUT) == "deaf"
        with pytest.raises(NodeError, match=r"no lifecycle service(.|\n)*deaf"):
            process.configure(timeout=0.1)
    assert process.ended.wait(TIMEOUT)
    assert children() == []
