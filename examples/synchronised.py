"""Image, instances and label image of one moment, brought together by message_filters.

    sudo apt install ros-$ROS_DISTRO-message-filters
    python examples/synchronised.py --ros-args -r __ns:=/vis -r image:=/camera/image_raw

The node copies headers unchanged, so stamps are equal and need no tolerance. Images wait for their answers: the queue
must hold rate x greatest latency + 1 of them.
"""

import rclpy
from message_filters import Subscriber, TimeSynchronizer
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time
from sensor_msgs.msg import Image

from vis_ros.msg import InstanceTrackArray

JUMP = 1_000_000_000  # nanoseconds


class Together(Node):
    """Takes the three messages of each image that was answered."""

    def __init__(self, queue_size: int = 30, **node_arguments) -> None:
        super().__init__("together", **node_arguments)
        self._queue_size = queue_size
        self._topics = (
            Subscriber(self, Image, "image", qos_profile=qos_profile_sensor_data),
            Subscriber(self, InstanceTrackArray, "instances", qos_profile=queue_size),
            Subscriber(self, Image, "segmenter/label_image", qos_profile=queue_size),
        )
        self._latest = 0
        self._begin()

    def on_moment(self, image: Image, instances: InstanceTrackArray, labels: Image) -> None:
        """Yours: ``labels`` holds 1 + the position in ``instances.tracks`` at each pixel of ``image``, or 0."""
        self.get_logger().info(f"{len(instances.tracks)} tracks in {image.width}x{image.height}")

    def _begin(self) -> None:
        """A synchronizer with empty queues, in place of the one before."""
        for topic in self._topics:
            topic.callbacks = {}
        self._topics[0].registerCallback(self._watch)
        TimeSynchronizer(self._topics, self._queue_size).registerCallback(self.on_moment)

    def _watch(self, image: Image) -> None:
        """Where time jumps back, as when a bag begins again, full queues would throw the new messages away."""
        stamp = Time.from_msg(image.header.stamp).nanoseconds
        if self._latest - stamp > JUMP:
            self._begin()
        self._latest = stamp


def main() -> None:
    """Run until Ctrl-C."""
    rclpy.init()
    node = Together()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
