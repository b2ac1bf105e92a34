"""The segmenter in a process and an executor of your own, beside a node of yours.

    python examples/own_executor.py --ros-args -r __ns:=/vis -r image:=/camera/image_raw

``SegmenterNode`` is a lifecycle node as any other: give it parameters by the command line, a file, or
``parameter_overrides``, and change its state by its services or its ``trigger_...`` methods.
"""

import json
import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded: idle threads of the network sleep

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from vis_ros.msg import InstanceTrackArray
from vis_ros.node import SegmenterNode
from vis_ros.node.transport import use_shared_memory


class Watcher(Node):
    """Says which classes there are, and who is seen."""

    def __init__(self) -> None:
        super().__init__("watcher")
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(String, "segmenter/class_names", self._on_names, latched)
        self.create_subscription(InstanceTrackArray, "instances", self._on_instances, 10)

    def _on_names(self, message: String) -> None:
        self.get_logger().info(f"classes: {', '.join(json.loads(message.data))}")

    def _on_instances(self, message: InstanceTrackArray) -> None:
        seen = [f"{track.class_name} {track.track_id}" for track in message.tracks if track.runs]
        self.get_logger().info(f"seen at {message.header.stamp.sec} s: {', '.join(seen) or 'nobody'}")


def main() -> None:
    """Run both nodes until Ctrl-C."""
    use_shared_memory()  # before rclpy.init; the camera's process needs it too
    rclpy.init()
    segmenter, watcher = SegmenterNode(), Watcher()
    executor = SingleThreadedExecutor()
    executor.add_node(segmenter)
    executor.add_node(watcher)
    try:
        if not segmenter.start_by_itself():  # configure: loads the network; activate: subscribes
            sys.exit("the segmenter did not start; its log says why")
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        segmenter.destroy_node()  # ends its worker thread
        watcher.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
