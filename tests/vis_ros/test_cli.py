"""The command vis-ros, as users call it."""

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
import psutil
import pytest

from tests.signals import SIGNALS, disturb_until_it_ends
from tests.vis_core.video.image_files import picture, with_orientation
from vis_core.data.file_time import FILE_START
from vis_core.data.synthetic import synthetic_video, write_youtube_vis
from vis_ros import cli, evaluate_bag_command
from vis_ros.recordings.bags import ImageBag

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 60.0
TINY = ("--option", "input_size=64,96", "--precision", "fp32", "--device", "cpu", "--threads", "1")


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("scene")
    videos = [synthetic_video(seed, 8, (72, 96)) for seed in (3, 4)]
    return SimpleNamespace(videos=videos, json=write_youtube_vis(videos, folder, ".png"))


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


@pytest.fixture
def domain(ros_domain_id: int) -> int:
    pytest.importorskip("vis_ros.msg", reason="needs the built messages")
    return ros_domain_id


def process(domain: int, *arguments: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vis_ros.cli", *(str(argument) for argument in arguments)],
        cwd=ROOT,
        env={**os.environ, "ROS_DOMAIN_ID": str(domain), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


# make-bag


def test_a_video_of_a_json_becomes_a_recording_with_its_stamps(run, scene, tmp_path):
    done = run("make-bag", scene.json, tmp_path / "bag", "--video", "synthetic_4", "--storage", "mcap")
    assert done.code == 0
    assert "/camera/image_raw (sensor_msgs/msg/Image, 8 messages), 0 frames skipped" in done.out
    with ImageBag(tmp_path / "bag") as bag:
        assert bag.stamps().tolist() == (FILE_START + scene.videos[1].stamps).tolist()
        for frame, image in zip(bag, scene.videos[1].frames, strict=True):
            np.testing.assert_array_equal(frame.image, image)


def test_a_folder_becomes_a_recording_at_the_rate_asked_for(run, scene, tmp_path):
    folder = scene.json.parent / "frames" / "synthetic_3"
    done = run(
        "make-bag", folder, tmp_path / "bag", "--fps", 20, "--topic", "front", "--encoding", "jpeg",
        "--compression", "zstd", "--frame-id", "optical",
    )  # fmt: skip
    assert done.code == 0
    with ImageBag(tmp_path / "bag") as bag:
        assert bag.topic.name == "/front/compressed"
        assert bag.stamps().tolist() == [FILE_START + 50_000_000 * i for i in range(8)]


def test_a_frame_that_cannot_be_read_is_named_and_left_out(run, tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((24, 32, 3), np.uint8))
    (tmp_path / "1.png").write_bytes(b"torn")
    done = run("make-bag", tmp_path, tmp_path / "bag")
    assert (done.code, "1 frames skipped" in done.out) == (0, True)
    assert "1.png" in done.err
    with ImageBag(tmp_path / "bag") as bag:
        assert bag.stamps().tolist() == [FILE_START, FILE_START + 80_000_000]


def test_several_videos_ask_for_a_name(run, scene, tmp_path):
    done = run("make-bag", scene.json, tmp_path / "bag")
    assert done.code == 2
    assert "name one with --video; it holds synthetic_3 (id 1), synthetic_4 (id 2)" in done.err


def test_a_recording_that_is_there_is_kept_without_force(run, scene, tmp_path):
    arguments = ("make-bag", scene.json, tmp_path / "bag", "--video", 1)
    assert run(*arguments).code == 0
    refused = run(*arguments)
    assert (refused.code, "--force" in refused.err) == (2, True)
    assert run(*arguments, "--force").code == 0


# evaluate-bag


@pytest.fixture
def bag(run, scene, tmp_path) -> Path:
    assert run("make-bag", scene.json, tmp_path / "bag", "--video", 1).code == 0
    return tmp_path / "bag"


def test_a_recording_is_made_of_images_as_they_are_to_be_read(run, tmp_path):
    (tmp_path / "turned").mkdir()
    (tmp_path / "turned" / "0.jpg").write_bytes(with_orientation(cv2.imencode(".jpg", picture())[1].tobytes(), 6))
    made = run("make-bag", tmp_path / "turned", tmp_path / "a")
    assert made.code == 0 and "EXIF turns 1 of the images; they are read as shown" in made.err
    assert run("make-bag", tmp_path / "turned", tmp_path / "b", "--orientation", "stored").code == 0
    for name, size in (("a", (64, 48)), ("b", (48, 64))):
        with ImageBag(tmp_path / name) as bag:
            assert bag.size == size
    (tmp_path / "deep").mkdir()
    deep = np.linspace(7000, 8000, 48 * 64).astype(np.uint16).reshape(48, 64)
    cv2.imwrite(str(tmp_path / "deep" / "0.png"), deep)
    refused = run("make-bag", tmp_path / "deep", tmp_path / "c")
    assert refused.code == 2 and "--range" in refused.err
    assert run("make-bag", tmp_path / "deep", tmp_path / "c", "--range", "auto").code == 0
    with ImageBag(tmp_path / "c") as bag:
        assert len(np.unique(next(iter(bag)).image)) > 200


def test_a_recording_becomes_a_score(run, scene, bag, tmp_path):
    out = tmp_path / "out"
    arguments = ("--ground-truth", scene.json, "--video", 1, "--system", "visolo", "--out", out, *TINY)
    done = run("evaluate-bag", bag, *arguments, "--class-agnostic")
    assert done.code == 0, done.err
    assert "8 of 8 frames paired with 8 images by stamps" in done.out
    assert all(name in done.out for name in ("AP", "AP50", "AP75", "AR1", "AR10", "random weights"))
    assert "weights are random" in done.err
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["version"], metrics["mode"], metrics["answered"]) == (1, "direct", 8)
    assert isinstance(json.loads((out / "results.json").read_text()), list)
    info = json.loads((out / "results.info.json").read_text())
    assert (info["system"], info["weights"], info["options"]) == ("visolo", None, {"input_size": "64,96"})


@pytest.mark.parametrize("live", [(), ("--live",)])
def test_classes_of_which_none_is_a_category_are_refused_before_anything_is_played(run, scene, bag, tmp_path, live):
    if live:
        pytest.importorskip("vis_ros.msg", reason="needs the built messages")
    arguments = ("--ground-truth", scene.json, "--video", 1, "--out", tmp_path / "out", *TINY, *live)
    done = run("evaluate-bag", bag, *arguments)
    assert done.code == 2
    assert "no class (person, vehicle, animal) has the name of a category of the ground truth" in done.err
    assert "--categories FROM=TO" in done.err and "--class-agnostic" in done.err
    done = run("evaluate-bag", bag, *arguments, "--categories", "persn=disc")
    assert (done.code, "there is no class 'persn'" in done.err) == (2, True)
    if not live:
        done = run("evaluate-bag", bag, *arguments, "--categories", "person=disc", "--categories", "vehicle=")
        assert done.code == 0, done.err
        assert "of the results: dropped │ animal" in done.out
        assert "never found │ box, star" in done.out


def test_a_wrong_topic_lists_what_the_recording_holds(run, scene, bag):
    done = run("evaluate-bag", bag, "--ground-truth", scene.json, "--topic", "/rear")
    assert done.code == 2
    assert "no topic /rear; holds /camera/image_raw (sensor_msgs/msg/Image, 8 messages)" in done.err


def test_an_unknown_video_is_told_before_a_network_is_loaded(run, scene, bag, monkeypatch):
    monkeypatch.setattr(evaluate_bag_command, "load_segmenter", lambda *_: pytest.fail("loaded"))
    done = run("evaluate-bag", bag, "--ground-truth", scene.json)
    assert (done.code, "name one with --video" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("nonsense=1", "the node has no such parameter"),
        ("autostart=true", "the node has no such parameter"),
        ("score_threshold", "write it as name=value"),
        ("score_threshold=7", "score_threshold: 7"),
    ],
)
def test_a_wrong_parameter_of_the_node_is_told_before_it_starts(run, scene, bag, domain, option, text):
    done = run("evaluate-bag", bag, "--ground-truth", scene.json, "--video", 1, "--live", "--option", option)
    assert done.code == 2
    assert text in done.err


def test_live_reports_what_was_sent_received_and_dropped_and_how_late(run, scene, tmp_path, domain):
    out, bag = tmp_path / "out", tmp_path / "compressed"
    assert run("make-bag", scene.json, bag, "--video", 1, "--encoding", "png").code == 0
    done = run(
        "evaluate-bag", bag, "--ground-truth", scene.json, "--video", 1, "--live", "--rate", 4, "--out", out,
        "--domain", domain, "--class-agnostic", *TINY,
    )  # fmt: skip
    assert done.code == 0, done.err
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["sent"] == 8
    assert metrics["received"] + metrics["dropped"] == 8
    assert metrics["received"] >= 1
    assert metrics["stream"]["answered_frames"] == metrics["received"]
    assert set(metrics["stream"]["policies"]) == {"strict", "hold", "live", "answered"}
    assert len((out / "stream.jsonl").read_text().splitlines()) == metrics["received"]
    assert all(
        name in done.out for name in ("sent", "received", "dropped", "latency p50", "latency p95", "latency max")
    )


def has_ended(process: psutil.Process) -> bool:
    """Whether it has, even if nobody waited for it yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_an_interrupted_live_run_ends_its_node_and_leaves_no_score(scene, bag, tmp_path, domain):
    out = tmp_path / "out"
    chosen = ("--ground-truth", scene.json, "--video", 1, "--class-agnostic")
    arguments = (*chosen, "--live", "--rate", 0.01, "--out", out, *TINY)
    with process(domain, "evaluate-bag", bag, *arguments) as command:
        waiting = threading.Event()
        while not (nodes := psutil.Process(command.pid).children()):
            assert command.poll() is None
            waiting.wait(0.01)
        command.send_signal(signal.SIGINT)
        told, _ = command.communicate(timeout=TIMEOUT)
    assert command.returncode == 130, told
    assert "no score was written" in told
    # A node that was interrupted while it started ends by itself, just after the command.
    assert any(has_ended(nodes[0]) or waiting.wait(0.01) for _ in range(500))
    assert not out.exists()


# record and run


def test_record_writes_each_message_as_it_comes_until_it_is_interrupted(scene, tmp_path, domain):
    from std_msgs.msg import Header

    from vis_ros import messages
    from vis_ros.msg import InstanceTrackArray
    from vis_ros.recordings.session import Session

    file = tmp_path / "stream.jsonl"
    answers = scene.videos[0].instances()
    with process(domain, "record", file) as command, Session(domain) as session:
        publisher = session.node.create_publisher(InstanceTrackArray, "instances", 100)
        waiting = threading.Event()
        while publisher.get_subscription_count() == 0:
            assert command.poll() is None
            waiting.wait(0.01)
        for answer in answers:
            header = Header(stamp=messages.to_stamp(answer.stamp))
            publisher.publish(messages.to_message(answer, header, "visolo", ("disc", "box", "star")))
        while file.read_text().count("\n") < len(answers):
            assert command.poll() is None
            waiting.wait(0.01)
        command.send_signal(signal.SIGINT)
        told, _ = command.communicate(timeout=TIMEOUT)
    assert command.returncode == 0, told
    assert "8 messages" in " ".join(told.split())
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line, answer in zip(lines, answers, strict=True):
        assert line["stamp"] == answer.stamp
        assert line["arrival"] > 10**18
        expected = [{key: value for key, value in track.items() if key != "bbox"} for track in answer.to_coco()]
        names = [track.pop("class_name") for track in line["tracks"]]
        assert line["tracks"] == expected
        assert names == [("disc", "box", "star")[track["category_id"] - 1] for track in expected]
    info = json.loads(file.with_name("stream.info.json").read_text())
    labels = sorted({int(label) for answer in answers for label in answer.labels})
    assert info["categories"] == [{"id": label + 1, "name": ("disc", "box", "star")[label]} for label in labels]
    assert not info["complete"]


@pytest.mark.parametrize("first", SIGNALS)
def test_signals_in_a_row_leave_the_end_of_a_recording_alone(tmp_path, domain, first):
    with process(domain, "record", tmp_path / "stream.jsonl") as command:
        assert "Recording" in command.stdout.readline()
        command.send_signal(first)
        disturb_until_it_ends(command)
        told, _ = command.communicate(timeout=TIMEOUT)
    assert command.returncode == 0, told
    assert "stream.jsonl: 0 messages" in " ".join(told.split()) and "Traceback" not in told


def test_signals_in_a_row_leave_the_end_of_a_bag_alone(tmp_path, domain):
    (tmp_path / "frames").mkdir()
    for number in range(300):
        cv2.imwrite(str(tmp_path / "frames" / f"{number:03}.png"), np.zeros((240, 320, 3), np.uint8))
    with process(domain, "make-bag", tmp_path / "frames", tmp_path / "bag") as command:
        waiting = threading.Event()
        while not (tmp_path / ".bag.partial" / "bag").exists():
            assert command.poll() is None
            waiting.wait(0.001)
        disturb_until_it_ends(command)
        told, _ = command.communicate(timeout=TIMEOUT)
    assert command.returncode in (130, 143), told
    assert "Traceback" not in told
    assert sorted(entry.name for entry in tmp_path.iterdir()) in (["bag", "frames"], ["frames"])


def test_record_keeps_a_file_that_is_there(run, tmp_path, domain):
    (tmp_path / "stream.jsonl").write_text("kept")
    done = run("record", tmp_path / "stream.jsonl")
    assert (done.code, "--force" in done.err) == (2, True)
    assert (tmp_path / "stream.jsonl").read_text() == "kept"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((), "vis.segmenter"),
        (("--ros-args", "-r", "__ns:=/robot1/eyes"), "robot1.eyes.segmenter"),
    ],
)
def test_run_starts_the_node_from_the_shipped_parameters_and_hands_ros_arguments_on(domain, tmp_path, arguments, name):
    ros = () if "--ros-args" in arguments else ("--ros-args",)
    with process(domain, "run", "visolo", *arguments, *ros, "-p", "autostart:=false") as command:
        first = command.stdout.readline()
        command.send_signal(signal.SIGINT)
        command.communicate(timeout=TIMEOUT)
    assert f"[{name}]: waits for the lifecycle services" in first
    assert command.returncode == 0


def test_run_refuses_an_unknown_system(run, domain):
    done = run("run", "visolo2")
    assert (done.code, "visolo" in done.err) == (2, True)


# The command as such


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_loads_nothing_heavy():
    done = fresh(
        "import sys\nfrom vis_ros import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit:\n"
        "    print(sorted({'torch', 'cv2', 'rclpy', 'rosbags', 'numpy'} & set(sys.modules)))\n"
    )
    assert done.stdout.endswith("[]\n"), done.stderr
    assert all(name in done.stdout for name in ("make-bag", "evaluate-bag", "record", "run"))


def test_the_threads_of_the_network_are_told_not_to_spin_before_torch_is_loaded():
    done = fresh(
        "import os, sys\nos.environ.pop('OMP_WAIT_POLICY', None)\nfrom vis_ros import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit:\n"
        "    print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)\n"
    )
    assert done.stdout.endswith("PASSIVE False\n"), done.stderr


@pytest.mark.parametrize("missing", ["rclpy", "vis_ros.msg"])
@pytest.mark.parametrize("arguments", [["run", "visolo"], ["record", "x.jsonl"]])
def test_without_ros_commands_that_need_it_name_what_to_install(missing, arguments):
    if missing == "vis_ros.msg":
        pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
    done = fresh(f"import sys\nsys.modules['{missing}'] = None\nfrom vis_ros import cli\ncli.main({arguments})\n")
    assert done.returncode == 2
    told = " ".join(done.stderr.split())
    assert "make" in told
    assert ("ROS 2" if missing == "rclpy" else "colcon build") in told
