"""The node through its real topics, services and parameters, most of it with a segmenter that does as it is told."""

from __future__ import annotations

import gc
import os
import queue
import signal
import subprocess
import sys
import threading
import weakref
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

rclpy = pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float64, Header
from std_srvs.srv import Trigger

from vis_core import masks
from vis_core.errors import CheckpointError
from vis_core.structures import Frame, Instances, TrackState
from vis_ros import messages
from vis_ros.msg import InstanceTrack, InstanceTrackArray
from vis_ros.segmenter_node import SegmenterNode

REPOSITORY = Path(__file__).resolve().parents[2]
HEIGHT, WIDTH = 24, 32
TIMEOUT = 20.0


class Scripted:
    """A segmenter that sees one square, notes what it is asked, and can be held up or made to fail."""

    def __init__(self, delay: int = 0) -> None:
        from torch import nn

        self.network = nn.Linear(1, 1)
        self.class_names = ("cat", "dog")
        self.delay = delay
        self.frames: list[Frame] = []
        self.resets = 0
        self.entered = queue.Queue[int]()
        self.go_on = threading.Semaphore(0)
        self.held = False
        self.fail_at: set[int] = set()
        self._waiting: list[Frame] = []
        self._next_track = 1
        self._stream_began: int | None = None

    def step(self, frame: Frame) -> list[Instances]:
        warming_up = not self.frames and not self.resets
        if not warming_up:
            self.frames.append(frame)
            self.entered.put(frame.index)
            if self.held:
                self.go_on.acquire()
            if frame.index in self.fail_at:
                raise ValueError("told to fail")
        self._waiting.append(frame)
        return [self._answer(self._waiting.pop(0))] if len(self._waiting) > self.delay else []

    def flush(self) -> list[Instances]:
        answers = [self._answer(frame) for frame in self._waiting]
        self._waiting.clear()
        return answers

    def reset(self) -> None:
        self.resets += 1
        self._waiting.clear()
        self._stream_began = None
        self._next_track += 1

    def state_bytes(self) -> int:
        return 4321

    def _answer(self, frame: Frame) -> Instances:
        height, width = frame.size
        state = TrackState.TRACKED if self._stream_began is not None else TrackState.NEW
        self._stream_began = frame.stamp if self._stream_began is None else self._stream_began
        dense = np.zeros((height, width), bool)
        dense[2:9, 3:14] = True
        dense[4, 5] = False
        mask = masks.encode(dense)
        return Instances(
            stamp=frame.stamp,
            index=frame.index,
            size=frame.size,
            track_ids=[self._next_track],
            labels=[1],
            scores=[0.75],
            track_scores=[0.5],
            boxes=[[3, 2, 14, 9]],
            masks=(mask,),
            states=[state],
            ages=[0],
            first_seen=[self._stream_began],
            last_seen=[frame.stamp],
        )


class Peer(Node):
    """The other side of every topic and service of the node, in a test."""

    def __init__(self, context: Context) -> None:
        super().__init__("peer", namespace="vis", context=context)
        self.inboxes: dict[str, queue.Queue[Any]] = {}
        self.image_publisher = self.create_publisher(Image, "image", qos_profile_sensor_data)

    def listen(self, message_type: type, topic: str, quality: QoSProfile | int = 10) -> queue.Queue[Any]:
        inbox: queue.Queue[Any] = queue.Queue()
        self.create_subscription(message_type, topic, inbox.put, quality)
        self.inboxes[topic] = inbox
        return inbox

    def call(self, service_type: Any, name: str, request: Any) -> Any:
        client = self.create_client(service_type, name)
        if not client.wait_for_service(TIMEOUT):
            raise TimeoutError(name)
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(TIMEOUT):
            raise TimeoutError(name)
        self.destroy_client(client)
        return future.result()

    def change_state(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, "segmenter/change_state", request).success)

    def state(self) -> str:
        return str(self.call(GetState, "segmenter/get_state", GetState.Request()).current_state.label)

    def set_parameter(self, name: str, value: Any) -> Any:
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, "segmenter/set_parameters", request).results[0]

    def send(self, stamp: float, **changes: Any) -> Image:
        message = image(stamp, **changes)
        self.image_publisher.publish(message)
        return message


def image(stamp: float, size: tuple[int, int] = (HEIGHT, WIDTH), **changes: Any) -> Image:
    """A grey image; ``changes`` are made to the message as they are, so that it may contradict itself."""
    height, width = size
    header = Header(frame_id="camera_optical_frame")
    header.stamp = messages.to_stamp(round(stamp * 1e9))
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=width * 3)
    pixels = np.full((height, width, 3), 50, np.uint8)
    message.data = array("B", pixels.tobytes())
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.fixture
def context(ros_domain_id: int) -> Iterator[Context]:
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain_id)
    yield context
    rclpy.try_shutdown(context=context)


class Stage:
    """A node and its peer, spinning."""

    def __init__(self, context: Context, load: Callable[..., Any], parameters: dict[str, Any]) -> None:
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = SegmenterNode(load, namespace="vis", context=context, parameter_overrides=overrides)
        self.peer = Peer(context)
        self.diagnostics = self.peer.listen(DiagnosticArray, "/diagnostics")
        self.instances = self.peer.listen(InstanceTrackArray, "instances")
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._executor.add_node(self.peer)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def activate(self) -> None:
        assert self.peer.change_state(Transition.TRANSITION_CONFIGURE)
        assert self.peer.change_state(Transition.TRANSITION_ACTIVATE)

    def exchange(self, stamp: float, **changes: Any) -> InstanceTrackArray:
        self.peer.send(stamp, **changes)
        return self.instances.get(timeout=TIMEOUT)

    def diagnostic(self, wanted: Callable[[DiagnosticStatus], bool]) -> DiagnosticStatus:
        """The next diagnostic status that is as wanted."""
        while True:
            (status,) = self.diagnostics.get(timeout=TIMEOUT).status
            if wanted(status):
                return status

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(TIMEOUT)
        self.node.destroy_node()
        self.peer.destroy_node()


@pytest.fixture
def make_stage(context: Context) -> Iterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def make(load: Callable[..., Any], **parameters: Any) -> Stage:
        stages.append(Stage(context, load, parameters))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


@pytest.fixture
def segmenter() -> Scripted:
    return Scripted()


@pytest.fixture
def stage(make_stage: Callable[..., Stage], segmenter: Scripted) -> Stage:
    """An active node with a scripted segmenter."""
    stage = make_stage(lambda *_, **__: segmenter)
    stage.activate()
    return stage


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


# Life cycle


def test_the_transitions_load_subscribe_stop_and_free(make_stage):
    loaded: list[weakref.ref[Scripted]] = []

    def load(*arguments, **options):
        segmenter = Scripted()
        loaded.append(weakref.ref(segmenter))
        return segmenter

    stage = make_stage(load)
    peer = stage.peer
    assert peer.state() == "unconfigured"
    assert not loaded
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.state() == "inactive"
    assert len(loaded) == 1
    assert peer.count_subscribers("image") == 0
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    assert peer.state() == "active"
    assert peer.count_subscribers("image") == 1
    assert len(stage.exchange(1.0).tracks) == 1
    assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
    assert peer.count_subscribers("image") == 0
    assert peer.change_state(Transition.TRANSITION_CLEANUP)
    assert peer.state() == "unconfigured"
    gc.collect()
    assert loaded[0]() is None
    assert peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert peer.change_state(Transition.TRANSITION_ACTIVATE)
    assert len(stage.exchange(2.0).tracks) == 1
    assert peer.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert peer.state() == "finalized"


def test_weights_that_cannot_be_loaded_leave_the_node_unconfigured_and_alive(make_stage):
    attempts: list[Any] = []

    def load(*arguments, **options):
        attempts.append(options["weights"])
        if len(attempts) == 1:
            raise CheckpointError("missing.pth: no such file")
        return Scripted()

    stage = make_stage(load, weights="missing.pth")
    assert not stage.peer.change_state(Transition.TRANSITION_CONFIGURE)
    assert stage.peer.state() == "unconfigured"
    status = stage.diagnostic(lambda status: status.level == DiagnosticStatus.ERROR)
    assert "missing.pth: no such file" in status.message
    assert stage.peer.set_parameter("weights", "there.pth").successful
    stage.activate()
    assert attempts == [Path("missing.pth"), Path("there.pth")]
    assert len(stage.exchange(1.0).tracks) == 1


def test_tracks_of_the_warm_up_are_never_published(make_stage):
    class Ending(Scripted):
        """Reports the end of the warm-up's track with the first frame, as real systems do."""

        def step(self, frame):
            (answer,) = super().step(frame)
            if len(self.frames) == 1:
                ended = answer[[0, 0]]
                object.__setattr__(ended, "track_ids", np.array([answer.track_ids[0], 1]))
                return [ended]
            return [answer]

    stage = make_stage(lambda *_, **__: Ending())
    stage.activate()
    assert [track.track_id for track in stage.exchange(1.0).tracks] == [2]


def test_a_second_activation_is_a_new_stream(stage, segmenter):
    stage.exchange(5.0)
    resets = segmenter.resets
    assert stage.peer.change_state(Transition.TRANSITION_DEACTIVATE)
    assert segmenter.resets == resets + 1
    assert stage.peer.change_state(Transition.TRANSITION_ACTIVATE)
    assert stage.exchange(6.0).tracks[0].state == InstanceTrack.NEW


# Images in, results out


def test_the_result_carries_header_size_system_and_the_whole_track(stage):
    sent = stage.peer.send(12.5)
    message = stage.instances.get(timeout=TIMEOUT)
    assert message.header == sent.header
    assert (message.height, message.width, message.system) == (HEIGHT, WIDTH, "visolo-lite")
    (track,) = message.tracks
    assert (track.track_id, track.class_id, track.class_name) == (2, 1, "dog")
    assert (track.score, track.track_score, track.state) == (0.75, 0.5, InstanceTrack.NEW)
    assert (track.first_seen, track.last_seen) == (sent.header.stamp, sent.header.stamp)
    assert (track.roi.x_offset, track.roi.y_offset, track.roi.width, track.roi.height) == (3, 2, 11, 7)
    assert sum(track.runs) == 77


def test_the_segmenter_sees_the_pixels_in_rgb(stage, segmenter):
    pixels = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint32).astype(np.uint8).reshape(HEIGHT, WIDTH, 3)
    stage.exchange(1.0, encoding="bgr8", data=array("B", pixels.tobytes()))
    np.testing.assert_array_equal(segmenter.frames[0].image, pixels[..., ::-1])
    assert segmenter.frames[0].stamp == 1_000_000_000


def test_compressed_images_come_from_the_topic_of_image_transport(make_stage, segmenter):
    stage = make_stage(lambda *_, **__: segmenter, image_transport="compressed")
    stage.activate()
    publisher = stage.peer.create_publisher(CompressedImage, "image/compressed", qos_profile_sensor_data)
    raw = image(3.0)
    pixels = np.full((HEIGHT, WIDTH, 3), (10, 120, 230), np.uint8)
    message = CompressedImage(header=raw.header, format="rgb8; jpeg compressed bgr8")
    message.data = array("B", cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes())
    publisher.publish(message)
    assert stage.instances.get(timeout=TIMEOUT).header == raw.header
    assert np.abs(segmenter.frames[0].image.astype(int) - pixels).max() < 12


def test_results_of_a_system_with_a_delay_go_out_under_their_own_headers(make_stage):
    segmenter = Scripted(delay=2)
    stage = make_stage(lambda *_, **__: segmenter, drop_policy="every_frame")
    stage.activate()
    sent = [stage.peer.send(float(stamp)) for stamp in range(1, 6)]
    received = [stage.instances.get(timeout=TIMEOUT) for _ in range(3)]
    assert stage.peer.change_state(Transition.TRANSITION_DEACTIVATE)
    received += [stage.instances.get(timeout=TIMEOUT) for _ in range(2)]
    assert [message.header for message in received] == [message.header for message in sent]


def test_with_latest_the_newest_image_replaces_the_waiting_one(stage, segmenter):
    segmenter.held = True
    stage.peer.send(1.0)
    segmenter.entered.get(timeout=TIMEOUT)
    for stamp in range(2, 7):
        stage.peer.send(float(stamp))
    status = stage.diagnostic(lambda status: values_of(status).get("images received") == "6")
    assert values_of(status)["images dropped"] == "4"
    segmenter.held = False
    segmenter.go_on.release()
    stamps = [stage.instances.get(timeout=TIMEOUT).header.stamp.sec for _ in range(2)]
    assert stamps == [1, 6]


def test_with_every_frame_images_queue_and_the_oldest_leaves_a_full_queue(make_stage, segmenter):
    stage = make_stage(lambda *_, **__: segmenter, drop_policy="every_frame", queue_size=3)
    stage.activate()
    segmenter.held = True
    stage.peer.send(1.0)
    segmenter.entered.get(timeout=TIMEOUT)
    for stamp in range(2, 7):
        stage.peer.send(float(stamp))
    status = stage.diagnostic(lambda status: values_of(status).get("images received") == "6")
    assert values_of(status)["images dropped"] == "2"
    segmenter.held = False
    segmenter.go_on.release()
    stamps = [stage.instances.get(timeout=TIMEOUT).header.stamp.sec for _ in range(4)]
    assert stamps == [1, 4, 5, 6]


BAD = {
    "step": {"step": 5},
    "encoding": {"encoding": "rgb9"},
    "truncated": {"data": array("B", bytes(100))},
    "size": {"height": 0},
}


@pytest.mark.parametrize(
    "absurd", [{"height": 2**31, "width": 2}, {"height": 65536, "width": 65536, "step": 65536 * 3}]
)
def test_an_absurd_size_is_a_bad_message_and_takes_no_memory(stage, absurd):
    stage.peer.send(1.0, **absurd)
    status = stage.diagnostic(lambda status: values_of(status).get("bad messages: size") == "1")
    assert status.level == DiagnosticStatus.WARN
    assert stage.exchange(2.0).header.stamp.sec == 2


def test_bad_messages_are_logged_with_topic_and_stamp_counted_and_the_node_goes_on(make_stage, segmenter, capfd):
    stage = make_stage(lambda *_, **__: segmenter, drop_policy="every_frame")
    stage.activate()
    for changes in BAD.values():
        stage.peer.send(7.25, **changes)
        stage.peer.send(7.25, **changes)
    assert stage.exchange(8.0).header.stamp.sec == 8
    counts = values_of(stage.diagnostic(lambda status: values_of(status).get("bad messages") == "8"))
    assert {reason: counts[f"bad messages: {reason}"] for reason in BAD} == dict.fromkeys(BAD, "2")
    lines = [line for line in capfd.readouterr().err.splitlines() if "left out" in line]
    assert len(lines) == len(BAD)
    assert all("/vis/image" in line and "7.250000000" in line for line in lines)


def test_a_frame_that_the_segmenter_fails_at_is_counted_and_the_next_goes_on(stage, segmenter, capfd):
    segmenter.fail_at = {1}
    stage.exchange(1.0)
    resets = segmenter.resets
    stage.peer.send(2.0)
    status = stage.diagnostic(lambda status: status.level == DiagnosticStatus.ERROR)
    assert values_of(status)["segmenter failures"] == "1"
    assert segmenter.resets == resets + 1
    assert stage.exchange(3.0).header.stamp.sec == 3
    logged = capfd.readouterr().err
    assert "ValueError: told to fail" in logged
    assert "in step" in logged
    assert "2.000000000" in logged


# Streams that begin anew


def test_the_reset_service_begins_a_new_stream(stage, segmenter):
    first = stage.exchange(1.0)
    assert stage.exchange(2.0).tracks[0].track_id == first.tracks[0].track_id
    response = stage.peer.call(Trigger, "segmenter/reset", Trigger.Request())
    assert response.success
    assert stage.exchange(3.0).tracks[0].track_id == first.tracks[0].track_id + 1


def test_the_reset_service_says_so_when_there_is_no_stream(make_stage, segmenter):
    response = make_stage(lambda *_, **__: segmenter).peer.call(Trigger, "segmenter/reset", Trigger.Request())
    assert not response.success
    assert "not active" in response.message


@pytest.mark.parametrize(
    ("second", "logged"),
    [
        ({"stamp": 9.5}, "jumped back by 0.500 s"),
        ({"stamp": 11.0, "size": (20, 40)}, "from 32x24 to 40x20"),
    ],
)
def test_a_jump_back_in_time_or_another_size_begins_a_new_stream(stage, segmenter, capfd, second, logged):
    resets = segmenter.resets
    stage.exchange(10.0)
    assert segmenter.resets == resets
    assert stage.exchange(**second).tracks[0].state == InstanceTrack.NEW
    assert segmenter.resets == resets + 1
    assert logged in capfd.readouterr().err


def test_equal_and_growing_stamps_go_on_with_the_stream(stage, segmenter):
    resets = segmenter.resets
    for stamp in (1.0, 1.0, 1.5, 9.0):
        stage.exchange(stamp)
    assert segmenter.resets == resets


def test_simulated_time_that_jumps_back_begins_a_new_stream(make_stage, segmenter):
    from rosgraph_msgs.msg import Clock

    stage = make_stage(lambda *_, **__: segmenter, use_sim_time=True)
    stage.activate()
    clock = stage.peer.create_publisher(Clock, "/clock", 10)
    latency = stage.peer.listen(Float64, "segmenter/debug/pipeline_latency_ms")

    def exchange_at(seconds: float) -> float:
        reached = threading.Event()
        handle = stage.node.get_clock().create_jump_callback(
            rclpy.clock.JumpThreshold(min_forward=rclpy.duration.Duration(nanoseconds=1), min_backward=None),
            post_callback=lambda _: reached.set(),
        )
        back = stage.node.get_clock().create_jump_callback(
            rclpy.clock.JumpThreshold(min_forward=None, min_backward=rclpy.duration.Duration(nanoseconds=-1)),
            post_callback=lambda _: reached.set(),
        )
        clock.publish(Clock(clock=messages.to_stamp(round(seconds * 1e9))))
        assert reached.wait(TIMEOUT)
        handle.unregister()
        back.unregister()
        stage.exchange(1.0)
        return latency.get(timeout=TIMEOUT).data

    assert exchange_at(100.0) == pytest.approx(99e3)
    resets = segmenter.resets
    assert exchange_at(101.0) == pytest.approx(100e3)
    assert segmenter.resets == resets
    assert exchange_at(1.25) == pytest.approx(250)
    assert segmenter.resets == resets + 1


# Outputs on demand


def test_label_image_and_overlay_are_made_only_while_someone_listens(stage, monkeypatch):
    made: list[str] = []
    for name in ("label_image_message", "rgb_message"):
        original = getattr(messages, name)
        monkeypatch.setattr(messages, name, lambda *a, _o=original, _n=name: (made.append(_n), _o(*a))[1])
    stage.exchange(1.0)
    assert made == []
    labels = stage.peer.listen(Image, "segmenter/label_image")
    overlays = stage.peer.listen(Image, "segmenter/overlay")
    sent = stage.peer.send(2.0)
    label, overlay = labels.get(timeout=TIMEOUT), overlays.get(timeout=TIMEOUT)
    tracks = stage.instances.get(timeout=TIMEOUT)
    assert made == ["label_image_message", "rgb_message"]
    assert label.header == overlay.header == tracks.header == sent.header
    assert (label.encoding, label.height, label.width, label.step) == ("16UC1", HEIGHT, WIDTH, WIDTH * 2)
    expected = messages.from_message(tracks).label_image()
    assert expected.max() == 1
    np.testing.assert_array_equal(np.frombuffer(label.data, "<u2").reshape(HEIGHT, WIDTH), expected)
    assert (overlay.encoding, overlay.height, overlay.width, overlay.step) == ("rgb8", HEIGHT, WIDTH, WIDTH * 3)
    assert (np.frombuffer(overlay.data, np.uint8) != 50).any()


def test_processing_time_and_latency_are_published_for_every_frame(stage):
    processing = stage.peer.listen(Float64, "segmenter/debug/processing_time_ms")
    latency = stage.peer.listen(Float64, "segmenter/debug/pipeline_latency_ms")
    now = stage.peer.get_clock().now().nanoseconds * 1e-9
    stage.exchange(now)
    assert processing.get(timeout=TIMEOUT).data > 0
    assert 0 < latency.get(timeout=TIMEOUT).data < TIMEOUT * 1e3


def test_images_without_a_stamp_have_results_but_no_latency(stage):
    latency = stage.peer.listen(Float64, "segmenter/debug/pipeline_latency_ms")
    stage.exchange(0.0)
    stage.exchange(5.0)
    now = stage.peer.get_clock().now().nanoseconds * 1e-9
    assert latency.get(timeout=TIMEOUT).data * 1e-3 == pytest.approx(now - 5.0, abs=TIMEOUT)
    values = values_of(stage.diagnostic(lambda status: values_of(status).get("results published") == "2"))
    assert float(values["latency p50 [ms]"]) == float(values["latency p95 [ms]"])


# Diagnostics and QoS


def test_diagnostics_say_what_runs_where_and_how_it_goes(stage):
    stage.exchange(1.0)
    status = stage.diagnostic(lambda status: values_of(status).get("processing p95 [ms]"))
    values = values_of(status)
    assert status.level == DiagnosticStatus.OK
    assert status.name == "vis/segmenter: stream"
    assert status.hardware_id == "cpu"
    assert (values["system"], values["device"], values["precision"]) == ("visolo-lite", "cpu", "float32")
    assert values["state [bytes]"] == "4321"
    assert float(values["latency p95 [ms]"]) > 0
    assert float(values["processing p95 [ms]"]) > 0
    assert values["results published"] == "1"


def test_diagnostics_name_the_state_of_a_node_that_does_not_run(make_stage, segmenter):
    stage = make_stage(lambda *_, **__: segmenter)
    assert stage.diagnostic(lambda status: True).message == "unconfigured"
    assert stage.peer.change_state(Transition.TRANSITION_CONFIGURE)
    stage.diagnostic(lambda status: status.message == "inactive")


def test_an_active_node_without_images_warns(stage):
    status = stage.diagnostic(lambda status: status.level == DiagnosticStatus.WARN)
    assert status.message.startswith("no image for")


def test_a_camera_that_offers_too_little_is_a_warning_that_names_the_policy(make_stage, segmenter):
    override = {"qos_overrides./vis/image.subscription.reliability": "reliable"}
    stage = make_stage(lambda *_, **__: segmenter, **override)
    stage.activate()
    status = stage.diagnostic(lambda status: "incompatible" in status.message)
    assert status.level == DiagnosticStatus.WARN
    assert "incompatible QoS on /vis/image: RELIABILITY" in status.message


def test_a_listener_that_asks_too_much_is_a_warning_that_names_the_policy(stage):
    late_joining = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    stage.peer.listen(InstanceTrackArray, "instances", late_joining)
    status = stage.diagnostic(lambda status: "incompatible" in status.message)
    assert "incompatible QoS on /vis/instances: DURABILITY" in status.message


def test_qos_overrides_change_subscription_and_publication(make_stage, segmenter):
    stage = make_stage(
        lambda *_, **__: segmenter,
        **{
            "qos_overrides./vis/image.subscription.depth": 17,
            "qos_overrides./vis/instances.publisher.durability": "transient_local",
        },
    )
    stage.activate()
    (publisher,) = stage.peer.get_publishers_info_by_topic("/vis/instances")
    assert publisher.qos_profile.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL
    assert publisher.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
    (subscription,) = stage.peer.get_subscriptions_info_by_topic("/vis/image")
    assert subscription.qos_profile.reliability == QoSReliabilityPolicy.BEST_EFFORT
    assert stage.node.get_parameter("qos_overrides./vis/image.subscription.depth").value == 17


# Parameters


def test_parameters_reach_the_loader_and_are_refused_while_configured(make_stage):
    asked: dict[str, Any] = {}

    def load(system, **options):
        asked.update(options, system=system)
        return Scripted()

    stage = make_stage(load, weights="~/w.pth", device="cpu", precision="fp32", input_size=[64, 96], memory_frames=0)
    stage.activate()
    assert asked["system"] == "visolo-lite"
    assert asked["weights"] == Path.home() / "w.pth"
    assert (asked["device"], asked["precision"]) == ("cpu", "fp32")
    assert (asked["input_size"], asked["memory_frames"]) == ((64, 96), None)
    refused = stage.peer.set_parameter("precision", "bf16")
    assert not refused.successful
    assert "clean it up first" in refused.reason


def test_the_score_threshold_may_be_changed_while_the_node_runs(stage, segmenter):
    segmenter.score_threshold = 0.1
    assert stage.peer.set_parameter("score_threshold", 0.375).successful
    assert segmenter.score_threshold == 0.375
    assert not stage.peer.set_parameter("score_threshold", 1.5).successful
    assert segmenter.score_threshold == 0.375


def test_a_value_out_of_range_is_refused_with_the_reason(make_stage, segmenter):
    stage = make_stage(lambda *_, **__: segmenter)
    assert "'fp8' is none of" in stage.peer.set_parameter("precision", "fp8").reason
    assert not stage.peer.set_parameter("queue_size", 0).successful
    assert "multiple of" in stage.peer.set_parameter("input_size", [65, 96]).reason
    assert not stage.peer.set_parameter("system", "visolo").successful


def test_cleanup_returns_the_memory_of_the_network(tiny):
    process = psutil.Process()
    assert tiny.peer.change_state(Transition.TRANSITION_CONFIGURE)
    weights = sum(weight.nbytes for weight in tiny.node._segmenter.network.parameters())
    configured = process.memory_info().rss
    assert tiny.peer.change_state(Transition.TRANSITION_CLEANUP)
    assert configured - process.memory_info().rss > 0.9 * weights > 100e6


def _process(arguments: list[str], domain: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vis_ros.segmenter_node", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "ROS_DOMAIN_ID": str(domain), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


# The real system


@pytest.fixture
def tiny(make_stage: Callable[..., Stage]) -> Stage:
    """A node with VISOLO, small and of random weights."""
    from vis_core import load

    small = {"input_size": [64, 96], "score_threshold": 0.0, "max_instances": 3}
    return make_stage(load, system="visolo", device="cpu", precision="fp32", **small)


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


# The process


@pytest.mark.parametrize("autostart", [True, False])
@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM])
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
