"""Images in, results out: the node through its real topics, with a segmenter that does as it is told."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float64

from tests.vis_ros.node.stage import HEIGHT, TIMEOUT, WIDTH, Scripted, held_executor, image, values_of
from vis_ros import messages
from vis_ros.msg import InstanceTrack


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


@pytest.mark.parametrize("can", [False, True])
def test_with_latest_the_newest_image_replaces_the_waiting_one(make_stage, can):
    segmenter = Scripted(prefetches=can)
    stage = make_stage(lambda *_, **__: segmenter, prefetch=not can)
    stage.activate()
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
    assert segmenter.begun.empty()  # it cannot, or was told not to


def test_a_segmenter_that_prefetches_begins_with_the_next_image_while_one_is_at_work(make_stage):
    segmenter = Scripted(prefetches=True)
    stage = make_stage(lambda *_, **__: segmenter)
    stage.activate()
    segmenter.held = True
    stage.peer.send(1.0)
    assert segmenter.entered.get(timeout=TIMEOUT) == 0
    stage.peer.send(2.0)
    assert segmenter.begun.get(timeout=TIMEOUT) == 1
    for stamp in range(3, 7):
        stage.peer.send(float(stamp))
    stage.diagnostic(lambda status: values_of(status).get("images dropped") == "3")
    segmenter.held = False
    segmenter.go_on.release()
    stamps = [stage.instances.get(timeout=TIMEOUT).header.stamp.sec for _ in range(3)]
    assert stamps == [1, 2, 6]
    # Time that jumps back and a broken image are met as they are without.
    stage.peer.send(1.0)
    assert stage.instances.get(timeout=TIMEOUT).header.stamp.sec == 1
    stage.peer.send(2.0, encoding="no such encoding")
    stage.diagnostic(lambda status: values_of(status).get("bad messages") == "1")
    stage.peer.send(3.0)
    assert stage.instances.get(timeout=TIMEOUT).header.stamp.sec == 3


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


def test_late_images_are_left_out_and_counted_and_the_tracks_go_on(make_stage, segmenter, capfd):
    stage = make_stage(lambda *_, **__: segmenter, drop_policy="every_frame")
    stage.activate()
    resets = segmenter.resets
    first = stage.exchange(10.0).tracks[0].track_id
    for newer, older in ((10.1, 9.9), (10.2, 9.85), (10.3, 10.25)):
        assert stage.exchange(newer).tracks[0].track_id == first
        stage.peer.send(older)
    status = stage.diagnostic(lambda status: values_of(status).get("images late") == "3")
    assert status.level == DiagnosticStatus.OK
    assert values_of(status)["results published"] == "4"
    assert stage.exchange(10.4).tracks[0].track_id == first
    assert segmenter.resets == resets
    assert "comes late, its stamp is 0.200 s earlier" in capfd.readouterr().err


def test_old_stamps_in_between_begin_at_most_one_new_stream(make_stage, segmenter):
    stage = make_stage(lambda *_, **__: segmenter, drop_policy="every_frame")
    stage.activate()
    resets = segmenter.resets
    for number in range(6):
        stage.peer.send(100.0 + number)
        stage.peer.send(50.0 + number)
    stamps = [stage.instances.get(timeout=TIMEOUT).header.stamp.sec for _ in range(7)]
    assert stamps == [100, 50, 101, 102, 103, 104, 105]
    values = values_of(stage.diagnostic(lambda status: values_of(status).get("images late") == "5"))
    assert segmenter.resets == resets + 1
    assert values["latest reset"] == "time jumped back by 50.000 s"


def test_a_burst_is_kept_whole_as_far_as_the_queue_is_long(make_stage, segmenter):
    stage = make_stage(lambda *_, **__: segmenter, drop_policy="every_frame", queue_size=300)
    stage.activate()
    with held_executor(stage):
        for number in range(300):
            stage.peer.send(1.0 + number)
    for index in range(300):
        assert segmenter.entered.get(timeout=TIMEOUT) == index
    values = values_of(stage.diagnostic(lambda status: values_of(status).get("results published") == "300"))
    assert values["images missing by sequence number"] in ("0", "unknown")


def test_images_that_do_not_fit_into_the_middleware_are_counted_as_missing(make_stage, segmenter):
    override = {"qos_overrides./vis/image.subscription.depth": 4}
    stage = make_stage(lambda *_, **__: segmenter, drop_policy="every_frame", **override)
    stage.activate()
    stage.exchange(1.0)
    with held_executor(stage):
        for number in range(20):
            stage.peer.send(2.0 + number)
    status = stage.diagnostic(lambda status: values_of(status).get("results published") == "5")
    if values_of(status)["images missing by sequence number"] == "unknown":
        pytest.skip("rclpy tells no sequence numbers")
    assert values_of(status)["images missing by sequence number"] == "16"
    assert "16 images published and not received" in status.message


def test_what_a_peer_writes_reaches_the_log_on_one_line_and_without_control_characters(stage, capfd):
    stage.peer.send(1.0, encoding="\x1b[2J\nforged: line " + "x" * 100_000)
    stage.diagnostic(lambda status: values_of(status).get("bad messages: encoding") == "1")
    logged = capfd.readouterr().err
    assert "\x1b[2J" not in logged
    assert len(logged) < 2000
    assert not [line for line in logged.splitlines() if line.startswith("forged")]
