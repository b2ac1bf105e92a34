from __future__ import annotations

import pytest

from vis_ros.node.diagnostics import Level, Report, StreamStatistics, to_diagnostic_array
from vis_ros.node.mailbox import Mailbox, take_oldest


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return _Clock()


@pytest.fixture
def mailbox():
    return Mailbox()


@pytest.fixture
def statistics(mailbox, clock):
    return StreamStatistics(mailbox, clock)


def _stream(statistics, mailbox, clock, frames: int, hz: float) -> None:
    for _ in range(frames):
        clock.now += 1 / hz
        statistics.note_image()
        mailbox.put(object())
        take_oldest([mailbox])
        statistics.add_frame(0.02, 1234)
        statistics.add_publication(0.05)


def test_rates_percentiles_and_state_are_those_of_the_stream(statistics, mailbox, clock):
    _stream(statistics, mailbox, clock, 40, 10.0)
    report = statistics.report()
    assert report.level == Level.OK
    assert report.message == "running"
    assert report.values["rate in [Hz]"] == report.values["rate out [Hz]"] == "10.00"
    assert report.values["latency p50 [ms]"] == report.values["latency p95 [ms]"] == "50.00"
    assert report.values["processing p50 [ms]"] == report.values["processing p95 [ms]"] == "20.00"
    assert report.values["state [bytes]"] == "1234"
    assert report.values["images received"] == report.values["results published"] == "40"


def test_rates_forget_what_is_long_past(statistics, mailbox, clock):
    for hz in (30, 30, 30, 30, 30, 30, 10, 10, 10, 10, 10, 10):
        _stream(statistics, mailbox, clock, hz, hz)
        report = statistics.report()
    assert report.values["rate in [Hz]"] == "10.00"


def test_dropped_images_are_reported_without_a_warning(statistics, mailbox, clock):
    for _ in range(5):
        statistics.note_image()
        mailbox.put(object())
    report = statistics.report()
    assert report.values["images dropped"] == "4"
    assert report.level == Level.OK


@pytest.mark.parametrize("images_before", [0, 3])
def test_no_image_for_two_seconds_is_a_warning(statistics, mailbox, clock, images_before):
    _stream(statistics, mailbox, clock, images_before, 10.0)
    clock.now += 1.9
    assert statistics.report().level == Level.OK
    clock.now += 1.1
    report = statistics.report()
    assert report.level == Level.WARN
    assert report.message == "no image for 3 s"
    _stream(statistics, mailbox, clock, 1, 10.0)
    assert statistics.report().level == Level.OK


def test_bad_messages_are_counted_by_reason_and_warned_of_while_recent(statistics, mailbox, clock):
    statistics.count_bad("step")
    statistics.count_bad("step")
    statistics.count_bad("truncated")
    statistics.note_image()
    report = statistics.report()
    assert (report.level, report.message) == (Level.WARN, "3 bad messages")
    assert report.values["bad messages"] == "3"
    assert report.values["bad messages: step"] == "2"
    assert report.values["bad messages: truncated"] == "1"
    for _ in range(8):
        _stream(statistics, mailbox, clock, 10, 10.0)
        report = statistics.report()
    assert report.level == Level.OK
    assert report.values["bad messages"] == "3"


def test_a_failing_segmenter_is_an_error(statistics):
    statistics.note_image()
    statistics.count_failure()
    report = statistics.report()
    assert report.level == Level.ERROR
    assert report.values["segmenter failures"] == "1"


def test_an_incompatible_peer_is_a_warning_that_names_topic_and_policy(statistics):
    statistics.note_image()
    report = statistics.report({("/image", "RELIABILITY")})
    assert (report.level, report.message) == (Level.WARN, "incompatible QoS on /image: RELIABILITY")


def test_losses_and_resets_are_counted(statistics):
    statistics.count_lost(3)
    statistics.count_reset()
    values = statistics.report().values
    assert (values["images lost in transport"], values["resets"]) == ("3", "1")


def test_the_message_carries_the_report():
    builtin_interfaces = pytest.importorskip("builtin_interfaces.msg")
    stamp = builtin_interfaces.Time(sec=5, nanosec=6)
    slow = Report(Level.WARN, "slow", {"a": "1", "b": "2"})
    array = to_diagnostic_array(
        stamp, "cpu", {"vis/segmenter: stream": slow, "other": Report(Level.OK, "inactive", {})}
    )
    status, other = array.status
    assert (other.name, other.message) == ("other", "inactive")
    assert array.header.stamp == stamp
    assert status.level == status.WARN
    assert (status.name, status.hardware_id, status.message) == ("vis/segmenter: stream", "cpu", "slow")
    assert [(pair.key, pair.value) for pair in status.values] == [("a", "1"), ("b", "2")]


def sequence(number: int, publisher: bytes = b"a") -> dict[str, object]:
    return {"publication_sequence_number": number, "publisher_gid": {"data": publisher}}


def test_gaps_of_each_publisher_are_counted_and_warned_of(statistics):
    for number, publisher in ((7, b"a"), (8, b"a"), (500, b"b"), (11, b"a"), (10, b"a"), (12, b"a"), (501, b"b")):
        statistics.note_image(sequence(number, publisher))
    report = statistics.report()
    assert report.values["images missing by sequence number"] == "2"
    assert (report.level, report.message) == (Level.WARN, "2 images published and not received")


@pytest.mark.parametrize("info", [None, {}, {"publication_sequence_number": None, "publisher_gid": {"data": b"a"}}])
def test_where_the_middleware_tells_no_number_gaps_are_unknown(statistics, info):
    statistics.note_image(info)
    assert statistics.report().values["images missing by sequence number"] == "unknown"


def test_ever_new_publishers_take_no_more_memory(statistics):
    for number in range(1000):
        statistics.note_image(sequence(5, number.to_bytes(4, "little")))
    assert len(statistics._gaps._latest) == 100


def test_late_images_are_counted_and_a_reset_is_warned_of_with_its_reason(statistics):
    statistics.note_image()
    statistics.count_late()
    report = statistics.report()
    assert (report.level, report.values["images late"]) == (Level.OK, "1")
    statistics.count_reset("time jumped back by 3.000 s")
    report = statistics.report()
    assert (report.level, report.message) == (Level.WARN, "1 resets, the latest: time jumped back by 3.000 s")
    assert report.values["latest reset"] == "time jumped back by 3.000 s"


def test_a_transport_that_loses_images_is_a_warning_in_its_words(statistics):
    statistics.note_image()
    report = statistics.report(transport_problem="UDP is used")
    assert (report.level, report.message) == (Level.WARN, "UDP is used")
