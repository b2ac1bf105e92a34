"""A node and the other side of all its topics and services, for tests."""

from __future__ import annotations

import queue
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vis_core import masks
from vis_core.structures import Frame, Instances, TrackState
from vis_core.system.segmenter import Segmenter
from vis_ros import messages
from vis_ros.msg import InstanceTrackArray
from vis_ros.node.segmenter_node import SegmenterNode

HEIGHT, WIDTH = 24, 32
TIMEOUT = 120.0


class Scripted:
    """A segmenter that sees one square, notes what it is asked, and can be held up or made to fail."""

    runs_on = None
    shown_score = 0.0

    def __init__(self, delay: int = 0, prefetches: bool = False) -> None:
        from torch import nn

        self.network = nn.Linear(1, 1)
        self.class_names = ("cat", "dog")
        self.semantic_class_names: tuple[str, ...] = ()
        self.delay = delay
        self.prefetches = prefetches
        self.begun = queue.Queue[int]()
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

    def prefetch(self, frame: Frame) -> None:
        self.begun.put(frame.index)

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

    def semantic_map(self):
        """The number of the frame, everywhere."""
        return np.full((HEIGHT, WIDTH), len(self.frames), np.uint8)

    def run(self, frames):
        return Segmenter.run(self, frames)

    def set_option(self, name, value):
        setattr(self, name, value)

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


def until(holds: Callable[[], Any]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < end, "it never held"
        time.sleep(0.005)


@contextmanager
def held_executor(stage: Stage) -> Iterator[None]:
    """Inside, the executor of a node and its peer works on nothing: what comes waits in the middleware."""
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go_on.wait(TIMEOUT)
        timer.cancel()

    timer = stage.peer.create_timer(0.001, hold)
    assert held.wait(TIMEOUT)
    try:
        yield
    finally:
        go_on.set()


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


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}
