"""A recording without ground truth: results, overlay, and a recording of the answers that any tool opens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vis_core.data.synthetic import synthetic_video
from vis_ros import cli, messages
from vis_ros.mask_images import class_mask, confidence_mask
from vis_ros.recordings.bag_writer import write_bag
from vis_ros.recordings.bags import ImageBag, typestore
from vis_ros.recordings.recorded_types import DEFINITIONS

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT = 60.0
COUNT = 6
SMALL = ("--option", "input_size=64,96", "--option", "views=1", "--precision", "fp32", "--device", "cpu")
NODE = "/vis/segmenter"


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("scene")
    video = synthetic_video(3, COUNT, (72, 96))
    write_bag((video.frame(t) for t in range(COUNT)), folder / "street", frame_id="front")
    return SimpleNamespace(video=video, bag=folder / "street")


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs the command in this process; returns its exit code, output and messages on one line each."""
    monkeypatch.setattr("warnings.showwarning", None)

    def call(*arguments: Any) -> SimpleNamespace:
        try:
            cli.main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=" ".join(out.split()), err=" ".join(err.split()))

    return call


def held(bag: Path) -> dict[str, list[Any]]:
    """Messages of a recording by topic, read by what stands in it alone."""
    found: dict[str, list[Any]] = {}
    with Reader(bag) as reader:
        store = get_typestore(Stores.EMPTY)
        for connection in reader.connections:
            store.register(
                {
                    name: fields
                    for name, fields in get_types_from_msg(connection.msgdef.data, connection.msgtype).items()
                    if name not in store.types
                }
            )
            assert store.hash_rihs01(connection.msgtype) == connection.digest
        for connection, time, data in reader.messages():
            message = store.deserialize_cdr(data, connection.msgtype)
            found.setdefault(connection.topic, []).append(SimpleNamespace(time=time, data=bytes(data), message=message))
    return found


def test_definitions_are_those_of_the_messages_that_are_built():
    for name, text in DEFINITIONS.items():
        package, _, kind = name.split("/")
        if package == "vis_ros":
            built = (ROOT / "msg" / f"{kind}.msg").read_text()
            assert get_types_from_msg(text, name) == get_types_from_msg(built, name)


def test_a_recording_becomes_results_an_overlay_and_a_recording_of_the_answers(run, scene, tmp_path):
    out = tmp_path / "out"
    done = run("segment-bag", scene.bag, "--out", out, "--bag", "--min-score", "0", *SMALL)
    assert done.code == 0, done.err
    assert all(str(out / name) in done.out for name in ("results.json", "overlay.mp4", "vis_bag"))
    assert sorted(path.name for path in out.iterdir()) == [
        "overlay.mp4", "results.info.json", "results.json", "vis_bag",
    ]  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    assert results and all(len(track["segmentations"]) == COUNT for track in results)
    info = json.loads((out / "results.info.json").read_text())
    assert (info["system"], [video["name"] for video in info["videos"]]) == ("visolo-lite", ["street"])

    found = held(out / "vis_bag")
    each = {"/camera/image_raw", "/vis/instances", *(f"{NODE}/{name}" for name in (
        "label_image", "overlay/compressed", "class_mask", "confidence",
    ))}  # fmt: skip
    assert {topic: len(of) for topic, of in found.items()} == {
        **dict.fromkeys(each, COUNT), f"{NODE}/class_names": 1, f"{NODE}/label_info": 1,
    }  # fmt: skip
    with ImageBag(scene.bag) as images:
        assert [(item.time, item.data) for item in found["/camera/image_raw"]] == list(images.messages())
    for topic in each:
        assert [messages.stamp_of(item.message) for item in found[topic]] == scene.video.stamps.tolist()
        assert {item.message.header.frame_id for item in found[topic]} == {"front"}
    names = json.loads(found[f"{NODE}/class_names"][0].message.data)
    assert [entry.class_name for entry in found[f"{NODE}/label_info"][0].message.class_map] == names
    seen = set()
    for t in range(COUNT):
        at = {topic: of[t].message for topic, of in found.items() if topic in each}
        answer = at["/vis/instances"]
        instances = messages.from_message(answer, t)
        assert answer.system == "visolo-lite"
        assert [track.class_name for track in answer.tracks] == [names[label] for label in instances.labels]
        seen |= {int(track.track_id) for track in answer.tracks if len(track.runs)}
        for topic, encoding, kind, expected in (
            ("label_image", "16UC1", np.uint16, instances.label_image()),
            ("class_mask", "mono8", np.uint8, class_mask(instances)),
            ("confidence", "mono8", np.uint8, confidence_mask(instances)),
        ):
            image = at[f"{NODE}/{topic}"]
            assert image.encoding == encoding
            assert image.step == image.width * np.dtype(kind).itemsize
            np.testing.assert_array_equal(np.frombuffer(image.data, kind).reshape(72, 96), expected)
        drawn = at[f"{NODE}/overlay/compressed"]
        assert cv2.imdecode(drawn.data, cv2.IMREAD_COLOR).shape == (72, 96, 3)
    assert seen == {track["track_id"] for track in results}
    with ImageBag(out / "vis_bag", f"{NODE}/overlay/compressed") as overlay:  # ours reads it too
        assert len(list(overlay)) == COUNT


def test_the_answers_are_those_of_vis_segment_on_the_same_frames(run, scene, tmp_path):
    from vis_core.commands import main

    folder = tmp_path / "street"
    folder.mkdir()
    for t in range(COUNT):
        cv2.imwrite(str(folder / f"{t}.png"), cv2.cvtColor(scene.video.frames[t], cv2.COLOR_RGB2BGR))
    main.app(["segment", str(folder), "--fps", "10", "--out", str(tmp_path / "a"), *SMALL], standalone_mode=False)
    assert run("segment-bag", scene.bag, "--out", tmp_path / "b", "--no-overlay", *SMALL).code == 0
    first, second = (json.loads((tmp_path / name / "results.json").read_text()) for name in "ab")
    assert first == second
    assert not (tmp_path / "b" / "overlay.mp4").exists()


def with_camera_info(scene: SimpleNamespace, folder: Path, broken: int | None = None) -> Path:
    """The scene as a driver records it, with the camera's info before each image."""
    types = typestore()
    info = "sensor_msgs/msg/CameraInfo"
    with ImageBag(scene.bag) as images, Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        picture = writer.add_connection("/front/image_raw", images.topic.type, typestore=types)
        about = writer.add_connection("/front/camera_info", info, typestore=types)
        for t, (time, data) in enumerate(images.messages()):
            message = types.deserialize_cdr(data, images.topic.type)
            roi = types.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
            three, four = np.eye(3).reshape(-1), np.eye(3, 4).reshape(-1)
            told = types.types[info](message.header, 72, 96, "plumb_bob", np.zeros(5), three, three, four, 0, 0, roi)
            writer.write(about, time, bytes(types.serialize_cdr(told, info)))
            if t == broken:
                message.encoding = "nonsense"
            writer.write(picture, time, bytes(types.serialize_cdr(message, images.topic.type)))
    return folder


def test_camera_info_is_copied_and_an_image_that_cannot_be_used_has_no_answer(run, scene, tmp_path):
    bag = with_camera_info(scene, tmp_path / "bag", broken=2)
    done = run("segment-bag", bag, "--out", tmp_path / "out", "--bag", "--no-overlay", *SMALL)
    assert done.code == 0, done.err
    assert "nonsense" in done.err
    found = held(tmp_path / "out" / "vis_bag")
    counts = {topic: len(of) for topic, of in found.items()}
    assert (counts["/front/image_raw"], counts["/front/camera_info"], counts["/vis/instances"]) == (6, 6, 5)
    stamps = scene.video.stamps.tolist()
    assert [messages.stamp_of(item.message) for item in found["/vis/instances"]] == stamps[:2] + stamps[3:]


def test_a_part_of_a_recording_is_all_that_the_new_one_holds(run, scene, tmp_path):
    done = run("segment-bag", scene.bag, "--out", tmp_path, "--bag", "--start", 2, "--max-frames", 3, *SMALL)
    assert done.code == 0, done.err
    found = held(tmp_path / "vis_bag")
    for topic in ("/camera/image_raw", "/vis/instances"):
        assert [messages.stamp_of(item.message) for item in found[topic]] == scene.video.stamps.tolist()[2:5]


def test_what_is_there_stays_without_force_and_goes_as_a_whole_with_it(run, scene, tmp_path):
    arguments = ("segment-bag", scene.bag, "--out", tmp_path / "out", "--max-frames", 1, *SMALL)
    assert run(*arguments, "--bag").code == 0
    refused = run(*arguments)
    assert (refused.code, "--force" in refused.err) == (2, True)
    assert run(*arguments, "--no-overlay", "--force").code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.info.json", "results.json"]


def test_ctrl_c_keeps_what_is_done_and_the_recording_is_whole(scene, tmp_path):
    long = synthetic_video(3, 200, (72, 96))
    write_bag((long.frame(t) for t in range(200)), tmp_path / "long")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vis_ros.cli", "segment-bag", str(tmp_path / "long"), "--out", str(out), "--bag"]
    with subprocess.Popen(
        [*command, *SMALL],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        waiting = threading.Event()
        rows = out / ".partial.segment-bag" / "results.json.rows.jsonl"
        while not (rows.exists() and rows.stat().st_size):
            assert process.poll() is None
            waiting.wait(0.01)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130, told
    assert "Stopped early" in told
    found = held(out / "vis_bag")
    answered = len(found["/vis/instances"])
    assert 0 < answered < 200
    assert len(found["/camera/image_raw"]) == answered
    results = json.loads((out / "results.json").read_text())
    assert {i for track in results for i, mask in enumerate(track["segmentations"]) if mask} <= {*range(answered)}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--system", "visolo-light"), "visolo-light"),
        (("--option", "nope=1"), "nope: unknown option"),
        (("--weights", "nowhere.safetensors"), "nowhere.safetensors: no such weight file"),
        (("--device", "gpu"), "device 'gpu'"),
        (("--topic", "/rear"), "no topic /rear; holds /camera/image_raw"),
    ],
)
def test_what_is_wrong_is_told_before_torch_is_loaded(scene, tmp_path, arguments, text):
    code = (
        "import sys\nfrom vis_ros import cli\n"
        f"try:\n    cli.main({['segment-bag', str(scene.bag), '--out', str(tmp_path / 'out'), *arguments]!r})\n"
        "except SystemExit as end:\n    print(end.code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "2 False\n"
    assert text in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_a_recording_of_answers_is_neither_replaced_by_its_own_nor_taken_for_a_camera(run, scene, tmp_path):
    assert run("segment-bag", scene.bag, "--out", tmp_path / "out", "--bag", "--max-frames", 2, *SMALL).code == 0
    made = tmp_path / "out" / "vis_bag"
    for given in (made, made / "vis_bag.mcap"):
        done = run("segment-bag", given, "--out", tmp_path / "out", "--force", *SMALL)
        assert (done.code, "would replace" in done.err) == (2, True)
    topic = ("--topic", f"{NODE}/overlay/compressed", "--out", tmp_path / "again")
    done = run("segment-bag", made, *topic, "--bag", *SMALL)
    assert (done.code, "is a topic that --bag writes" in done.err) == (2, True)
    assert not (tmp_path / "again").exists()
    assert run("segment-bag", made, *topic, *SMALL).code == 0
