"""What a node publishes, heard by the recorder; foreign, broken and too many messages."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from std_msgs.msg import Header

from vis_core.data.synthetic import synthetic_video
from vis_core.structures import Instances
from vis_ros import messages
from vis_ros.msg import InstanceTrackArray
from vis_ros.recordings import playback
from vis_ros.recordings.playback import InstanceRecorder, Received
from vis_ros.recordings.session import Session, free_domain
from vis_ros.recordings.stream_files import new_stream, write_stream_message

TIMEOUT = 120.0


@pytest.fixture(scope="module")
def answers() -> list[Instances]:
    return list(synthetic_video(3, 12, (72, 96)).instances())


@pytest.fixture
def own_session() -> Iterator[Session]:
    with free_domain() as domain, Session(domain) as own:
        yield own


def publish_instances(own: Session, answers: Sequence[Instances]) -> Any:
    publisher = own.node.create_publisher(InstanceTrackArray, "instances", 10)
    waiting = threading.Event()
    while publisher.get_subscription_count() == 0:
        waiting.wait(0.01)
    for answer in answers:
        header = Header(stamp=messages.to_stamp(answer.stamp), frame_id="camera")
        publisher.publish(messages.to_message(answer, header, "visolo", ("disc", "box", "star")))
    return publisher


def test_the_recorder_hands_on_every_message_with_its_arrival(own_session, answers):
    received: queue.Queue[Received] = queue.Queue()
    began = own_session.node.get_clock().now().nanoseconds
    with InstanceRecorder(own_session, received.put) as recorder:
        publish_instances(own_session, answers)
        heard = [received.get(timeout=TIMEOUT) for _ in answers]
        assert recorder.publishers() == 1
    for item, answer in zip(heard, answers, strict=True):
        assert item.instances.stamp == answer.stamp
        assert item.instances.masks == answer.masks
        assert {item.class_names[label] for label in item.instances.labels.tolist()} <= {"disc", "box", "star"}
    arrivals = [item.arrival for item in heard]
    assert arrivals == sorted(arrivals)
    assert arrivals[0] >= began


def test_a_broken_message_is_left_out_with_a_warning_and_the_next_is_heard(own_session, answers):
    received: queue.Queue[Received] = queue.Queue()
    first, second = answers[:2]

    def exchange() -> int:
        with InstanceRecorder(own_session, received.put):
            publisher = publish_instances(own_session, [])
            for answer in (first, second):
                header = Header(stamp=messages.to_stamp(answer.stamp))
                message = messages.to_message(answer, header, "visolo", ("disc", "box", "star"))
                if answer is first:
                    message.tracks[0].runs[0] += 1
                publisher.publish(message)
            return received.get(timeout=TIMEOUT).instances.stamp

    with (
        pytest.warns(UserWarning, match="message 0 left out: stamp 0: mask: runs sum to"),
        pytest.warns(UserWarning, match="1 messages of 2 left out"),
    ):
        assert exchange() == second.stamp
    assert received.empty()


def test_messages_out_of_range_are_counted_told_and_leave_a_gap_in_the_sequence(own_session, answers, tmp_path):
    """What a hostile or foreign node may publish under our type; the names of classes come clean."""
    path, written = tmp_path / "stream.jsonl", threading.Event()
    bad: list[dict[str, Any]] = [{"track_id": 2**64 - 1}, {"score": float("nan")}, {"class_id": -5}, {"state": 9}]
    names: list[str] = []
    with new_stream(path) as stream:

        def deliver(item: Received) -> None:
            write_stream_message(stream, item.instances, item.arrival)
            names.extend(item.class_names.values())
            if item.instances.index == len(bad) + 2:
                written.set()

        def exchange() -> None:
            with InstanceRecorder(own_session, deliver) as recorder:
                publisher = publish_instances(own_session, [])
                for changes in ({}, *bad, {"size": True}, {}):
                    message = messages.to_message(answers[0], Header(), "visolo", ("disc", "box\x1b[31m\n", "star\x1b"))
                    for name, value in changes.items():
                        if name == "size":
                            message.height = message.width = 2**32 - 1
                        else:
                            setattr(message.tracks[0], name, value)
                    publisher.publish(message)
                assert written.wait(TIMEOUT)
                assert (recorder.count, recorder.left_out) == (7, 5)

        with pytest.warns(UserWarning, match="left out") as told:
            exchange()
    texts = [str(warning.message) for warning in told]
    assert any("message 1 left out: stamp 0: tracks[0]: track_id 18446744073709551615" in text for text in texts)
    assert any("5 messages of 7 left out" in text for text in texts)
    assert len(texts) == 2
    assert [json.loads(line)["sequence"] for line in path.read_text().splitlines()] == [0, 6]
    assert names
    assert "\x1b" not in "".join(names)


def test_more_than_can_be_handed_on_is_left_out_and_no_end_is_blocked(own_session, answers, monkeypatch):
    monkeypatch.setattr(playback, "_DRAIN_SECONDS", 0.05)
    begun, go_on = threading.Event(), threading.Event()

    def hang(received: Received) -> None:
        begun.set()
        go_on.wait(TIMEOUT)

    recorder = InstanceRecorder(own_session, hang)
    message = messages.to_message(answers[0], Header(), "visolo", ("disc", "box", "star"))

    def flood() -> None:
        recorder._on_message(message, {})
        assert begun.wait(TIMEOUT)
        for _ in range(1010):
            recorder._on_message(message, {})
        recorder.close()

    with pytest.warns(UserWarning, match="left out") as told:
        flood()
    first, last = (str(warning.message) for warning in told)
    assert "1000 messages wait" in first
    assert "1010 messages of 1011 left out" in last
    go_on.set()


def test_messages_that_were_published_and_did_not_come_are_told_and_leave_a_gap_in_the_sequence(own_session, answers):
    heard: queue.Queue[int] = queue.Queue()
    message = messages.to_message(answers[0], Header(), "visolo", ("disc", "box", "star"))

    def exchange() -> None:
        with InstanceRecorder(own_session, lambda item: heard.put(item.instances.index)) as recorder:
            for number in (7, 8, 11):
                publisher = {"publication_sequence_number": number, "publisher_gid": {"data": b"a"}}
                recorder._on_message(message, publisher)

    with pytest.warns(UserWarning, match="2 messages were published and did not come"):
        exchange()
    assert [heard.get(timeout=TIMEOUT) for _ in range(3)] == [0, 1, 4]


def test_a_dead_thread_is_told_to_whoever_records(own_session, answers):
    class Ended(BaseException):
        pass

    def end(received: Received) -> None:
        raise Ended

    recorder = InstanceRecorder(own_session, end)
    publish_instances(own_session, answers[:1])
    recorder._thread.join(TIMEOUT)
    for ask in (recorder.check, recorder.close):
        with pytest.raises(Ended):
            ask()


def test_a_session_that_no_longer_spins_is_told_to_whoever_records(own_session):
    def fail() -> None:
        raise ValueError("told to fail")

    recorder = InstanceRecorder(own_session, print)
    recorder.check()
    own_session.node.create_timer(0.001, fail)
    own_session._thread.join(TIMEOUT)
    for ask in (recorder.check, recorder.close):
        with pytest.raises(ValueError, match="told to fail"):
            ask()


def test_answers_to_no_image_are_left_out_and_the_others_heard(own_session, answers):
    heard: queue.Queue[int] = queue.Queue()

    def deliver(item: Received) -> None:
        if item.instances.index == 0:
            raise playback.ForeignMessageError("another's")
        heard.put(item.instances.index)

    def exchange() -> None:
        with InstanceRecorder(own_session, deliver):
            publish_instances(own_session, answers[:2])
            assert heard.get(timeout=TIMEOUT) == 1

    with (
        pytest.warns(UserWarning, match="message 0 left out: .*another's"),
        pytest.warns(UserWarning, match="1 messages of 2 left out"),
    ):
        exchange()


@pytest.mark.filterwarnings("ignore:.*messages of .* left out")
def test_an_error_in_handing_on_is_raised_to_whoever_records(own_session, answers):
    failed = threading.Event()

    def fail(received: Received) -> None:
        failed.set()
        raise OSError("the disk is full")

    recorder = InstanceRecorder(own_session, fail)
    publish_instances(own_session, answers[:3])
    assert failed.wait(TIMEOUT)
    with pytest.raises(OSError, match="disk is full"):
        recorder.close()
