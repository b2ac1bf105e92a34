"""The segmenter: a lifecycle node that turns camera images into tracked instances.

    ros2 run vis_ros segmenter --ros-args -r image:=/camera/image_raw -p weights:=visolo.safetensors

Importing this module imports neither torch nor a network: they are loaded when a node is made.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from threading import Condition
from typing import TYPE_CHECKING, Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType, JumpThreshold  # type: ignore[attr-defined]
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import SetBool, Trigger

from vis_core.commands.interrupts import end_undisturbed, handled, interrupt, interrupts
from vis_core.errors import OptionError, VisError, printable
from vis_ros.node import parameters, preparation, transport, unused_settings
from vis_ros.node.cameras import Camera
from vis_ros.node.diagnostics import Level, Report, idle_report, to_diagnostic_array
from vis_ros.node.topics import ONLY, camera_names
from vis_ros.node.worker import Worker

if TYPE_CHECKING:
    from vis_core.system.segmenter import Segmenter

_SIGNAL_SECONDS = 0.1  # a signal is seen after this at most
_MAX_PROBLEM = 2000  # characters of an error in the log and in diagnostics
_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class SegmenterNode(LifecycleNode):  # type: ignore[misc]
    """Subscribes to ``image``, publishes ``instances``; see the README for topics, parameters and services.

    Args:
        load: makes the segmenter, as ``vis_core.load`` does (the default).
        transport_problem: why images will get lost, which diagnostics repeat; empty: nothing is known.
        node_arguments: of ``rclpy.node.Node``: ``namespace``, ``context``, ``parameter_overrides``...
    """

    def __init__(
        self, load: Callable[..., Segmenter] | None = None, transport_problem: str = "", **node_arguments: Any
    ) -> None:
        # Before the rest, because a node that a parameter of the wrong type leaves half made is destroyed too.
        self._load = load
        self._transport_problem = transport_problem
        self._segmenter: Segmenter | None = None
        self._highest_id = 0
        self._enabled = True
        self._worker: Worker | None = None
        self._cameras: list[Camera] = []
        self._running_on: dict[str, str] = {}
        self._problem = ""
        self._jump_handle: Any = None
        super().__init__("segmenter", **node_arguments)
        self._table = parameters.declare(self)
        former = {option.former: name for name, option in self._table.items() if option.former}
        unused_settings.warn_of_parameters(self, former)
        self.add_on_set_parameters_callback(self._check_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Simulated time may stand still; a diagnostic that says so must not.
        self.create_timer(1.0, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(SetBool, "~/enable", self._on_enable)
        backward = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False)
        self._jump_handle = self.get_clock().create_jump_callback(backward, post_callback=self._on_time_jump)

    # Life cycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the weights and run the network once; on failure the node stays unconfigured."""
        try:
            self._make_cameras()
        except Exception as error:
            self._report_problem(f"not configured: {error}")
            self._release()
            return _FAILURE
        self._problem = ""
        running_on = ", ".join(f"{name} {value}" for name, value in self._running_on.items())
        self.get_logger().info(f"configured: {self._value('system')}, {running_on}")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start to work."""
        if not self._cameras:
            return _FAILURE
        super().on_activate(state)  # opens the publishers, before the first result
        try:
            self._start()
        except Exception as error:
            self._report_problem(f"not activated: {error}")
            self._stop()
            super().on_deactivate(state)
            return _FAILURE
        self._problem = ""
        unused_settings.warn_of_parameters(self, {}, of_topics=True)
        self.get_logger().info(f"active: {', '.join(camera.topics for camera in self._cameras)}")
        return _SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, and end after the frame at work; fails while that does not end, and may be asked again."""
        if not self._stop():
            self._report_problem("not deactivated: the frame at work does not end; deactivate again when it has")
            return _FAILURE
        self._problem = ""
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the network."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything."""
        self._stop()
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything; unconfigured then, or finalized where the frame at work does not end."""
        ended = self._stop()
        self._release()
        return super().on_error(state) if ended else _FAILURE

    def destroy_node(self) -> None:
        """Stop the worker, then as usual."""
        self._stop()
        self._segmenter = None
        self._cameras.clear()
        if self._jump_handle is not None:
            self._jump_handle.unregister()
            self._jump_handle = None
        super().destroy_node()

    def start_by_itself(self) -> bool:
        """Configure and activate; returns whether both succeeded."""
        return self.trigger_configure() == _SUCCESS and self.trigger_activate() == _SUCCESS

    def _report_problem(self, text: str) -> None:
        self._problem = printable(text, _MAX_PROBLEM)
        self.get_logger().error(self._problem)

    def _make_cameras(self) -> None:
        values = {name: parameters.check(name, option, self._value(name)) for name, option in self._table.items()}
        first, *others = camera_names(values["cameras"])
        load = self._load or import_module("vis_core.catalog").load
        segmenter = self._segmenter = preparation.make_segmenter(values, load, self.get_logger())
        segmenters = {first: segmenter, **{name: segmenter.another() for name in others}}
        tracks = preparation.warm_up(segmenter)
        self._running_on = preparation.running_on(segmenter)
        for name, one in segmenters.items():
            self._cameras.append(Camera(self, name, one, values, tracks, self._highest_id))
            self._cameras[-1].enabled = self._enabled
        for name in (*parameters.OF_OUTPUTS, "max_lost_seconds"):
            self._set_live(name, values[name])

    def _start(self) -> None:
        changed, memory = Condition(), preparation.free_memory() / 4 / len(self._cameras)
        streams = [camera.start(changed, memory) for camera in self._cameras]
        self._worker = Worker(streams, self._value("prefetch"))
        self._worker.start()

    def _stop(self) -> bool:
        """Whether nothing works any more: while a frame is at work, another worker must not have its segmenter."""
        for camera in self._cameras:
            camera.unsubscribe()
        if self._worker is not None and not self._worker.stop(answer_owed=self.context.ok()):
            self.get_logger().error("the frame at work does not end")
            return False
        self._worker = None
        for camera in self._cameras:
            camera.stop()
        return True

    def _release(self) -> None:
        self._segmenter = None
        self._running_on = {}
        for camera in self._cameras:
            self._highest_id = max(self._highest_id, camera.outputs.highest_id)
            camera.outputs.destroy()
        self._cameras.clear()
        preparation.return_memory()

    # Called by the executor

    def _on_reset(self, request: Any, response: Any) -> Any:
        response.success = self._worker is not None
        if self._worker is not None:
            self._worker.request_reset("the reset service was called")
            response.message = "a new stream begins with the next image"
        else:
            response.message = "the node is not active: there is no stream to reset"
        return response

    def _on_enable(self, request: Any, response: Any) -> Any:
        """Without cleaning up: a network that nobody needs now costs nothing, and is there at once when one does."""
        if request.data and not self._enabled and self._worker is not None:
            self._worker.request_reset("the node was enabled again")
        self._enabled = request.data
        for camera in self._cameras:
            camera.enabled = request.data
        response.success, response.message = True, "enabled" if request.data else "disabled: images are left out"
        return response

    def _on_time_jump(self, jump: Any) -> None:
        if self._worker is not None:
            self._worker.request_reset("the clock jumped back")

    def _check_parameters(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        try:
            for name, value in parameters.check_changes(changes, self._table, self._segmenter is not None).items():
                self._set_live(name, value)
        except OptionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _set_live(self, name: str, value: Any) -> None:
        for camera in self._cameras:
            camera.set(name, value)

    def _publish_diagnostics(self) -> None:
        node = self.get_fully_qualified_name().lstrip("/")
        idle = idle_report(self._state_machine.current_state[1])
        reports = {camera.name: camera.report(self._transport_problem) or idle for camera in self._cameras}
        if not reports:
            reports = dict.fromkeys(self._camera_names(), idle)
        self._diagnostics.publish(
            to_diagnostic_array(
                self.get_clock().now().to_msg(),
                self._running_on.get("device", ""),
                {f"{node}: {name or 'stream'}": self._with_the_node_s(report) for name, report in reports.items()},
            )
        )

    def _camera_names(self) -> tuple[str, ...]:
        try:
            return camera_names(self._value("cameras"))
        except OptionError:  # which the problem tells of
            return (ONLY,)

    def _with_the_node_s(self, report: Report) -> Report:
        """A camera's report, with what is to be said of the node."""
        if not self._enabled:
            report = Report(report.level, f"disabled; {report.message}", report.values)
        if self._problem:
            report = Report(Level.ERROR, self._problem, report.values)
        values = {"system": self._value("system"), **self._running_on, **report.values}
        values["shared memory free [MiB]"] = f"{transport.free_shared_memory() >> 20}"
        return Report(report.level, report.message, values)

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted.

    Args:
        args: command line, such as ``["--ros-args", "--params-file", "visolo.yaml"]``; default that of the process.
            With ``--default-transport`` the shipped transport profile is left out.
    """
    arguments = sys.argv[1:] if args is None else args
    # Threads of the network that wait must not spin: other nodes need the cores. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    node: SegmenterNode | None = None
    # Signals are ours: rclpy's handlers would take the context away from a worker that is about to publish.
    with handled(interrupt), suppress(KeyboardInterrupt):
        try:
            try:
                removed = transport.remove_dead_segments()
                problem = "" if "--default-transport" in arguments else transport.use_shared_memory()
                rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
                node = SegmenterNode(transport_problem=problem)
                unused_settings.warn_of_files(node, arguments)
                if removed:
                    node.get_logger().info(f"{removed >> 20} MiB of shared memory were freed that dead processes left")
            except (ParameterException, RuntimeError, VisError) as error:
                sys.exit(f"segmenter: {error}")
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            if node.get_parameter("autostart").value:
                node.start_by_itself()
            else:
                node.get_logger().info("waits for the lifecycle services")
            # From here a first signal is only noted: raised within rclpy it would leave a callback that began.
            with interrupts() as received:
                while rclpy.ok() and not received:
                    executor.spin_once(timeout_sec=_SIGNAL_SECONDS)
        finally:
            end_undisturbed()
            if node is not None:
                node.destroy_node()
            if rclpy.ok():
                rclpy.shutdown()


if __name__ == "__main__":
    main()
