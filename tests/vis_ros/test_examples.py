"""The programs in examples/ do what they say, through real topics."""

from __future__ import annotations

import importlib.util
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from rclpy.executors import SingleThreadedExecutor

from tests.vis_ros.node.stage import Peer, image

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 120.0


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_vis_ros_and_its_node_package_import_without_rclpy():
    program = "import sys, vis_ros, vis_ros.node; assert not {'rclpy', 'torch'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    from vis_ros.node import SegmenterNode
    from vis_ros.node.segmenter_node import SegmenterNode as same

    assert SegmenterNode is same


def test_the_segmenter_runs_in_an_executor_of_ones_own_beside_another_node(context, ros_domain_id):
    """And the other node knows the classes before one is seen."""
    process = subprocess.Popen(
        [
            *(sys.executable, ROOT / "examples" / "own_executor.py"),
            *("--ros-args", "-r", "__ns:=/vis", "-p", "device:=cpu", "-p", "input_size:=[64, 96]"),
        ],
        env={
            **os.environ,
            "ROS_DOMAIN_ID": str(ros_domain_id),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout], daemon=True)
    reader.start()

    def until(text: str) -> str:
        while text not in (line := lines.get(timeout=TIMEOUT)):
            pass
        return line

    peer = Peer(context)
    try:
        assert "classes: person, vehicle, animal" in until("classes: ")
        ended, stamp = threading.Event(), 100

        def film() -> None:
            moment = float(stamp)
            while not ended.wait(0.1):
                moment += 0.1
                peer.send(moment)

        camera = threading.Thread(target=film)
        camera.start()
        try:
            assert "nobody" in until("seen at 10")  # the image is grey
        finally:
            ended.set()
            camera.join()
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 0
        reader.join(TIMEOUT)
        rest = "".join(lines.get_nowait() for _ in range(lines.qsize()))
        assert "Traceback" not in rest, rest
    finally:
        process.kill()
        process.wait()
        peer.destroy_node()


def message_filters() -> ModuleType:
    return pytest.importorskip("message_filters", reason="needs message_filters (ros-$ROS_DISTRO-message-filters)")


@pytest.mark.parametrize(("latency", "queue_size", "lost"), [(14, 15, False), (14, 14, True), (14, 30, False)])
def test_a_queue_of_rate_times_latency_and_one_loses_no_pair(latency, queue_size, lost):
    """Images come, and the answer to the one that came ``latency`` images before."""
    filters = message_filters()
    images, answers, pairs = filters.SimpleFilter(), filters.SimpleFilter(), []
    filters.TimeSynchronizer([images, answers], queue_size).registerCallback(lambda *pair: pairs.append(pair))
    for number in range(100):
        images.signalMessage(image(number / 30))
        if number >= latency:
            answers.signalMessage(image((number - latency) / 30))
    assert (len(pairs) < 100 - latency) == lost
    assert all(taken.header.stamp == answered.header.stamp for taken, answered in pairs)


def test_image_instances_and_label_image_come_together_also_after_time_jumped_back(stage, context):
    message_filters()
    together = load("synchronised")
    moments: queue.Queue[tuple] = queue.Queue()

    class Noting(together.Together):
        def on_moment(self, *messages) -> None:
            moments.put(messages)

    node = Noting(queue_size=3, namespace="vis", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin, daemon=True)
    spinning.start()
    try:
        ended = threading.Event()

        def film(begin: float) -> None:
            moment = begin
            while not ended.wait(0.05):
                moment += 0.05
                stage.peer.send(moment)

        for begin in (1000.0, 10.0):
            ended.clear()
            camera = threading.Thread(target=film, args=(begin,))
            camera.start()
            try:
                while (moment := moments.get(timeout=TIMEOUT))[0].header.stamp.sec // 1000 != begin // 1000:
                    pass
            finally:
                ended.set()
                camera.join()
            for later in range(5):  # never answered, since they contradict themselves: they fill the queue of images
                stage.peer.send(begin + 900 + later, step=1)
            taken, instances, labels = moment
            assert taken.header == instances.header == labels.header
            assert (taken.encoding, labels.encoding, len(instances.tracks)) == ("rgb8", "16UC1", 1)
    finally:
        executor.shutdown()
        spinning.join(TIMEOUT)
        node.destroy_node()
