"""The life cycle of the node, its parameters, and streams that begin anew."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="needs the ROS 2 wheels or a sourced ROS 2")
pytest.importorskip("vis_ros.msg", reason="needs the built messages")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

from tests.vis_ros.node.stage import TIMEOUT, Scripted
from vis_core.errors import CheckpointError
from vis_ros import messages
from vis_ros.msg import InstanceTrack
from vis_ros.node import worker


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


def test_no_track_id_comes_again_after_cleanup_and_configure(make_stage):
    stage = make_stage(lambda *_, **__: Scripted())
    used: list[int] = []
    for stamp in (1.0, 2.0, 3.0):
        stage.activate()
        used.append(stage.exchange(stamp).tracks[0].track_id)
        assert stage.exchange(stamp).tracks[0].track_id == used[-1]
        assert stage.peer.change_state(Transition.TRANSITION_DEACTIVATE)
        assert stage.peer.change_state(Transition.TRANSITION_CLEANUP)
    assert used == sorted(set(used))


def test_while_a_frame_does_not_end_the_node_is_not_deactivated_and_no_second_worker_begins(make_stage, monkeypatch):
    segmenter = Scripted()
    stage = make_stage(lambda *_, **__: segmenter)
    stage.activate()
    monkeypatch.setattr(worker, "STOP_SECONDS", 0.05)
    segmenter.held = True
    stage.peer.send(1.0)
    segmenter.entered.get(timeout=TIMEOUT)
    for _ in range(2):
        assert not stage.peer.change_state(Transition.TRANSITION_DEACTIVATE)
    assert stage.peer.state() == "active"
    assert not stage.peer.change_state(Transition.TRANSITION_ACTIVATE)
    assert not stage.peer.change_state(Transition.TRANSITION_CLEANUP)
    status = stage.diagnostic(lambda status: status.level == DiagnosticStatus.ERROR)
    assert "not deactivated: the frame at work does not end" in status.message
    segmenter.held = False
    segmenter.go_on.release()
    stage.instances.get(timeout=TIMEOUT)
    monkeypatch.setattr(worker, "STOP_SECONDS", TIMEOUT)
    assert stage.peer.change_state(Transition.TRANSITION_DEACTIVATE)
    stage.diagnostic(lambda status: (status.level, status.message) == (DiagnosticStatus.OK, "inactive"))
    assert stage.peer.change_state(Transition.TRANSITION_ACTIVATE)
    assert stage.exchange(2.0).header.stamp.sec == 2
    assert sum(thread.name == "segmenter" for thread in threading.enumerate()) == 1


def test_a_parameter_of_a_peer_reaches_log_and_diagnostics_without_control_characters(make_stage, capfd):
    stage = make_stage(lambda *_, **options: (_ for _ in ()).throw(CheckpointError(f"{options['weights']}: no file")))
    assert stage.peer.set_parameter("weights", "\x1b]0;mine\x07\n" + "w" * 10_000).successful
    assert not stage.peer.change_state(Transition.TRANSITION_CONFIGURE)
    status = stage.diagnostic(lambda status: status.level == DiagnosticStatus.ERROR)
    for text in (status.message, capfd.readouterr().err):
        assert "\x1b]0;mine" not in text
        assert "not configured: " in text
        assert len(text) < 5000
