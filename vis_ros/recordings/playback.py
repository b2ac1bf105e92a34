"""A recording through the real node: images published at the recorded rate, its answers recorded.

    with ImageBag("street_bag") as bag:
        report = replay(bag, "visolo", {"weights": "visolo.safetensors"}, deliver=print)

`replay` is made of parts that also serve alone: `Session`, `ImagePlayer`, `InstanceRecorder`, `NodeProcess`.
"""

from __future__ import annotations

import queue
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.qos import QoSProfile

from vis_core.errors import InputError, printable
from vis_core.structures import Instances
from vis_ros import messages
from vis_ros.msg import InstanceTrackArray
from vis_ros.node.sequence_gaps import SequenceGaps
from vis_ros.recordings.bags import ImageBag
from vis_ros.recordings.node_process import NodeError, NodeProcess
from vis_ros.recordings.player import ImagePlayer
from vis_ros.recordings.session import Session, free_domain

_DISCOVERY_SECONDS = 30.0
_FIRST_ANSWER_SECONDS = 60.0
_QUIET_SECONDS = 5.0
_DRAIN_SECONDS = 10.0
_MAX_NAME = 100
_MAX_DIGITS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Received:
    """One message of the node.

    Attributes:
        instances: its content.
        class_names: class id to name, of the tracks in it.
        arrival: the node clock's time at which it came, nanoseconds.
        received_at: the same on the monotonic clock, nanoseconds.
        frame_id: of its header, which is the image's.
    """

    instances: Instances
    class_names: Mapping[int, str]
    arrival: int
    received_at: int
    frame_id: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ReplayReport:
    """What came of a replay.

    Attributes:
        sent: images published.
        received: images answered.
        latencies: float64 ``[received]``, milliseconds from an image's publication to its answer's arrival.
        seconds: from the first image to the last answer.
    """

    sent: int
    received: int
    latencies: npt.NDArray[np.float64]
    seconds: float

    @property
    def dropped(self) -> int:
        """Images without an answer."""
        return self.sent - self.received

    def latency(self, percentile: float) -> float | None:
        """A percentile of the latencies, milliseconds, linearly interpolated; None if nothing was answered."""
        return float(np.percentile(self.latencies, percentile)) if len(self.latencies) else None


class ForeignMessageError(InputError):
    """A message that no node of ours publishes, or not in answer to this recording."""


class InstanceRecorder:
    """Hears the instances of a node and hands each message on, in a thread of its own so that arrival times hold.

    A message that is broken, or that comes while 1000 wait to be handed on, is left out: the first one, and at the end
    how many, are told by a warning; so is how many were published and did not come, where the middleware can tell. Each
    message has a number, the ``index`` of its instances; those left out, and those that did not come, too.

    Args:
        session: where to listen.
        deliver: called with each message; what it raises is raised again by `check` and `close`, but for
            `ForeignMessageError`: such a message is left out too.
        topic: relative to the session's namespace.
    """

    def __init__(self, session: Session, deliver: Callable[[Received], None], topic: str = "instances") -> None:
        self._session = session
        self._node = session.node
        self._deliver = deliver
        self._queue: queue.Queue[tuple[int, int, int, Any] | None] = queue.Queue(1000)
        self._error: BaseException | None = None
        self._closing = threading.Event()
        self.topic = session.node.resolve_topic_name(topic)
        self.count = 0
        self.left_out = 0
        self.gaps = SequenceGaps()
        self.last_at = 0
        self._thread = threading.Thread(target=self._run, name="vis-ros-recorder", daemon=True)
        self._thread.start()
        self._subscription = session.node.create_subscription(
            InstanceTrackArray, topic, self._on_message, QoSProfile(depth=1000)
        )

    def publishers(self) -> int:
        """How many publishers there are to hear."""
        return int(self._node.count_publishers(self.topic))

    def check(self) -> None:
        """Raise what ended the listening or the handing on, if anything did."""
        if self._error is not None:
            raise self._error
        self._session.check()

    def close(self) -> None:
        """Stop listening, and hand on what has come, as far as that takes no more than 10 s."""
        self._node.destroy_subscription(self._subscription)
        deadline = time.monotonic() + _DRAIN_SECONDS
        with suppress(queue.Full):
            self._queue.put(None, timeout=_DRAIN_SECONDS)
        self._thread.join(max(deadline - time.monotonic(), 0.0))
        self._closing.set()
        self._thread.join(0.1)
        waiting = sum(item is not None for item in self._queue.queue)
        if self.left_out + waiting:
            warnings.warn(f"{self.topic}: {self.left_out + waiting} messages of {self.count} left out", stacklevel=2)
        if self.gaps.missing:
            warnings.warn(
                f"{self.topic}: {self.gaps.missing} messages were published and did not come; the machine is too busy",
                stacklevel=2,
            )
        self.check()

    def __enter__(self) -> InstanceRecorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            with suppress(Exception):  # the first error is the one to tell
                self.close()

    def _on_message(self, message: Any, info: Any) -> None:
        self.gaps.note(info)
        number, self.count = self.count + self.gaps.missing, self.count + 1
        arrival, received_at = self._node.get_clock().now().nanoseconds, time.monotonic_ns()
        try:
            self._queue.put_nowait((number, arrival, received_at, message))
        except queue.Full:
            self._leave_out(number, "1000 messages wait to be handed on")

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None and not self._closing.is_set():
                number, arrival, received_at, message = item
                self.last_at = received_at
                try:
                    self._deliver(_received(message, number, arrival, received_at))
                except ForeignMessageError as error:
                    self._leave_out(number, f"stamp {messages.stamp_of(message)}: {printable(error)}")
        except BaseException as error:
            self._error = error

    def _leave_out(self, number: int, reason: str) -> None:
        self.left_out += 1
        if self.left_out == 1:
            warnings.warn(f"{self.topic}: message {number} left out: {reason}", stacklevel=1)


def _received(message: Any, number: int, arrival: int, received_at: int) -> Received:
    """What came, checked.

    Raises:
        ForeignMessageError: it is broken.
    """
    try:
        instances = messages.from_message(message, number)
    except InputError as error:
        raise ForeignMessageError(str(error)) from error
    names = {int(track.class_id): printable(track.class_name, _MAX_NAME) for track in message.tracks}
    return Received(instances, names, arrival, received_at, str(message.header.frame_id))


def replay(
    bag: ImageBag,
    system: str,
    parameters: Mapping[str, Any],
    deliver: Callable[[Received, int], None],
    *,
    rate: float = 1.0,
    domain_id: int | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
    on_sent: Callable[[], None] = lambda: None,
    on_output: Callable[[str], None] = lambda line: None,
) -> ReplayReport:
    """Play a recording through real topics into the real node, and hand on what it answers.

    Args:
        bag: the recording.
        system: segmentation system.
        parameters: of the node, beside it; those absent have their defaults.
        deliver: called with each answer, whose ``index`` is its image's position in the topic, and its latency,
            nanoseconds from the image's publication to the arrival.
        rate: 2 is twice as fast as recorded.
        domain_id: ROS domain; None: a free one of its own.
        on_stage: called with what happens next, for people.
        on_sent: called for each image published.
        on_output: called with each line that the node prints.

    Raises:
        NodeError: the node failed; the text holds its last output.
        InputError: the recording is torn.
    """
    ledger = _Ledger()
    image_topic = bag.topic.name.removesuffix("/compressed") if bag.compressed else bag.topic.name

    def on_image(stamp: int, at: int) -> None:
        ledger.note_sent(at)
        on_sent()

    def on_answer(received: Received) -> None:
        image, latency = ledger.note_answer(received)
        deliver(replace(received, instances=replace(received.instances, index=image)), latency)

    with ExitStack() as stack:
        domain = stack.enter_context(free_domain()) if domain_id is None else domain_id
        height, width = bag.size
        session = stack.enter_context(Session(domain, image_bytes=3 * height * width))
        topic = image_topic + "/compressed" if bag.compressed else image_topic
        player = ImagePlayer(session, bag, topic, on_image, numbered=True)
        recorder = stack.enter_context(InstanceRecorder(session, on_answer))
        transport = "compressed" if bag.compressed else "raw"
        process = stack.enter_context(
            NodeProcess(
                session,
                {**parameters, "system": system, "image_transport": transport},
                {"image": image_topic},
                on_output=on_output,
            )
        )
        on_stage("loading the network")
        process.configure()
        process.activate()
        if not process.wait_until(lambda: bool(player.subscriptions() and recorder.publishers()), _DISCOVERY_SECONDS):
            raise NodeError(f"the node is active, but its topics were not found in {_DISCOVERY_SECONDS:g} s")
        on_stage("playing")
        began = time.monotonic_ns()
        count = player.play(rate, process.ended)
        process.check()
        on_stage("waiting for the last answers")
        _wait_for_answers(process, recorder, ledger)
        process.deactivate()  # a system with a delay answers now what it owes
        process.wait_until(lambda: ledger.last_is_answered, _QUIET_SECONDS / 5)
        recorder.close()
    seconds = (max(recorder.last_at, began) - began) / 1e9
    return ReplayReport(count, len(ledger.latencies), np.array(ledger.latencies, np.float64) / 1e6, seconds)


class _Ledger:
    """When each image went out, until it is answered."""

    def __init__(self) -> None:
        self.latencies: list[int] = []
        self._sent: dict[int, int] = {}
        self._count = 0

    @property
    def last_is_answered(self) -> bool:
        """Whether the last image is answered: answers come in order, so nothing more is to come."""
        return self._count > 0 and self._count - 1 not in self._sent

    def note_sent(self, at: int) -> None:
        """The next image goes out, at a monotonic time."""
        self._sent[self._count] = at
        self._count += 1

    def note_answer(self, received: Received) -> tuple[int, int]:
        """An answer came; returns which image it answers, by its ``frame_id``, and its latency, nanoseconds."""
        text = received.frame_id
        image = int(text) if text.isdecimal() and len(text) < _MAX_DIGITS else -1
        if image not in self._sent:
            raise ForeignMessageError(
                f"an answer of frame_id {printable(text, 60)!r} and stamp {received.instances.stamp} answers no image "
                "that waits for one: does another node publish?"
            )
        self.latencies.append(received.received_at - self._sent.pop(image))
        return image, self.latencies[-1]


def _wait_for_answers(process: NodeProcess, recorder: InstanceRecorder, ledger: _Ledger) -> None:
    """Wait until the last image is answered, or nothing has come for much longer than any answer took so far."""
    began = time.monotonic_ns()
    while not ledger.last_is_answered:
        recorder.check()
        latest = max(began, recorder.last_at)
        slowest = max(ledger.latencies, default=None)
        quiet = _FIRST_ANSWER_SECONDS if slowest is None else _QUIET_SECONDS + 3 * slowest / 1e9
        if (time.monotonic_ns() - latest) / 1e9 > quiet:
            return
        process.wait_until(lambda: ledger.last_is_answered, 0.1)
