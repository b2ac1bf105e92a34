"""The node with real systems, and as a process that is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from array import array
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

rclpy = pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from lifecycle_msgs.msg import Transition
from rclpy.executors import SingleThreadedExecutor

from tests.signals import SIGNALS, disturb_until_it_ends
from tests.vis_ros.node.stage import HEIGHT, TIMEOUT, WIDTH, Peer, values_of
from vis_core.structures import TrackState
from vis_ros import messages
from vis_ros.msg import InstanceTrackArray

REPOSITORY = Path(__file__).resolve().parents[3]


def test_cleanup_returns_the_memory_of_the_network(tiny):
    process = psutil.Process()
    assert tiny.peer.change_state(Transition.TRANSITION_CONFIGURE)
    weights = sum(weight.nbytes for weight in tiny.node._segmenter.network.parameters())
    configured = process.memory_info().rss
    assert tiny.peer.change_state(Transition.TRANSITION_CLEANUP)
    assert configured - process.memory_info().rss > 0.9 * weights > 100e6


def test_visolo_runs_from_image_topic_to_tracks(tiny, capfd):
    tiny.activate()
    assert "no weights given" in capfd.readouterr().err
    random = np.random.default_rng(0)
    sent, tracks = [], []
    for stamp in range(1, 5):
        pixels = cv2.resize(random.integers(0, 256, (4, 6, 3), np.uint8), (WIDTH, HEIGHT))
        message = tiny.exchange(float(stamp), data=array("B", pixels.tobytes()))
        instances = messages.from_message(message)
        sent.append(stamp * 10**9)
        tracks.append(instances)
        assert instances.visible.sum() <= 3
        assert (instances.track_scores <= 1).all()
    assert [instances.stamp for instances in tracks] == sent
    assert sum(len(instances) for instances in tracks) > 0
    assert (tracks[0].states == TrackState.NEW).all()
    tiny.diagnostic(lambda status: int(values_of(status).get("state [bytes]", 0)) > 0)


def test_without_any_parameter_the_node_runs_the_weights_that_ship(make_stage, capfd):
    from vis_core import load

    stage = make_stage(load)
    stage.activate()
    message = stage.exchange(1.0)
    assert message.system == "visolo-lite"
    assert "random" not in capfd.readouterr().err
    status = stage.diagnostic(lambda status: values_of(status).get("results published") == "1")
    assert values_of(status)["system"] == "visolo-lite"


@pytest.mark.parametrize("system", ["minvis", "mask2former-vis"])
def test_query_based_systems_run_from_image_topic_to_tracks(make_stage, system):
    """Random weights; every query is an instance."""
    from vis_core import load

    stage = make_stage(load, system=system, device="cpu", short_side=64, score_threshold=0.0, max_instances=3)
    stage.activate()
    messages_of = [stage.exchange(float(stamp)) for stamp in range(1, 4)]
    assert [message.header.stamp.sec for message in messages_of] == [1, 2, 3]
    assert {message.system for message in messages_of} == {system}
    first = messages.from_message(messages_of[0])
    assert 0 < first.visible.sum() <= 3 and (first.states == TrackState.NEW).all()
    assert all(track.class_name for message in messages_of for track in message.tracks)


def _process(arguments: list[str], domain: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vis_ros.node.segmenter_node", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "ROS_DOMAIN_ID": str(domain), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("autostart", [True, False])
@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_node_ends_at_once_without_noise(ros_domain_id, with_signal, autostart):
    parameters = {"autostart": str(autostart).lower(), "input_size": "[64, 96]", "max_instances": "1"}
    arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    log = []
    with _process(["--ros-args", *arguments], ros_domain_id) as process:
        for line in process.stdout:
            log.append(line)
            if ("active: /image to /instances" if autostart else "waits for the lifecycle services") in line:
                break
        process.send_signal(with_signal)
        rest, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, "".join(log) + rest
    assert rest == ""


@pytest.mark.parametrize("first", SIGNALS)
def test_signals_in_a_row_leave_the_end_of_a_node_alone(ros_domain_id, first):
    with _process(["--ros-args", "-p", "autostart:=false"], ros_domain_id) as process:
        assert "waits for the lifecycle services" in process.stdout.readline()
        process.send_signal(first)
        disturb_until_it_ends(process)
        rest, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, rest
    assert rest == ""


def test_a_node_interrupted_at_work_ends_without_noise(ros_domain_id, context):
    peer = Peer(context)
    instances = peer.listen(InstanceTrackArray, "instances")
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(peer)
    spinning = threading.Thread(target=executor.spin, daemon=True)
    spinning.start()
    arguments = ["-r", "__ns:=/vis", "-p", "input_size:=[64, 96]", "-p", "max_instances:=1"]
    with _process(["--ros-args", *arguments], ros_domain_id) as process:
        for line in process.stdout:
            if "active:" in line:
                break
        camera_stops = threading.Event()

        def film() -> None:
            stamp = 0
            while not camera_stops.wait(0.005):
                stamp += 1
                peer.send(float(stamp))

        camera = threading.Thread(target=film)
        camera.start()
        instances.get(timeout=TIMEOUT)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=TIMEOUT)
        camera_stops.set()
        camera.join(TIMEOUT)
    executor.shutdown()
    spinning.join(TIMEOUT)
    peer.destroy_node()
    assert process.returncode == 0, rest
    assert rest == ""


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["-p", "queue_size:=many"], "queue_size"), (["-p", "queue_size:=0"], "queue_size"), (["-p"], "arguments")],
)
def test_a_wrong_command_line_is_an_error_without_a_traceback(ros_domain_id, arguments, named):
    with _process(["--ros-args", *arguments], ros_domain_id) as process:
        output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert named in output
    assert "Traceback" not in output


def test_a_node_does_not_outlive_the_process_that_started_it():
    code = (
        "import os, sys, threading\n"
        "from vis_ros.recordings.node_process import NodeProcess\n"
        "from vis_ros.recordings.session import Session, free_domain\n"
        "waits = (sys.executable, '-c', 'import os, signal; print(os.getpid(), flush=True); signal.pause()')\n"
        "started = threading.Event()\n"
        "tell = lambda line: (print(line, flush=True), started.set())\n"
        "with free_domain() as domain, Session(domain) as session:\n"
        "    with NodeProcess(session, {}, command=waits, on_output=tell):\n"
        "        started.wait()\n"
        "        os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(done.stdout)).wait(TIMEOUT)
