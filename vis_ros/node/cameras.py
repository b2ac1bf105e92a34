"""One camera of the node: its images in, its stream, what is published of it, and what diagnostics tell of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from threading import Condition
from typing import TYPE_CHECKING, Any

from rclpy.qos import QoSProfile, qos_policy_name_from_kind, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

from vis_core.structures import Frame
from vis_core.video.levels import Levelling
from vis_ros import messages
from vis_ros.node.diagnostics import Report, StreamStatistics
from vis_ros.node.mailbox import Mailbox
from vis_ros.node.outputs import POLICIES, Outputs
from vis_ros.node.parameters import OF_OUTPUTS
from vis_ros.node.stream import Stream
from vis_ros.node.topics import topic_of

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode

    from vis_core.system.segmenter import Segmenter


class Camera:
    """One camera of a node, from configure to cleanup.

    Args:
        node: that subscribes and publishes.
        name: of the camera, which its topics begin with; `topics.ONLY`: they do not.
        segmenter: of its own.
        values: of the node's parameters, checked.
        warm_up_tracks: see `Outputs`, as is highest_id.
        highest_id: of all tracks that the node has published.
    """

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        segmenter: Segmenter,
        values: Mapping[str, Any],
        warm_up_tracks: int,
        highest_id: int,
    ) -> None:
        self.name, self.segmenter = name, segmenter
        self.enabled = True
        """Whether images are worked on."""
        self._node, self._values = node, values
        self._incompatible: set[tuple[str, str]] = set()
        self._statistics: StreamStatistics | None = None
        self._subscription: Any = None
        self.outputs = Outputs(
            node,
            segmenter,
            values["system"],
            warm_up_tracks,
            highest_id,
            self._on_incompatible,
            values["label_image_values"] == "track_id",
            _spatial_settings(values),
            name,
        )

    @property
    def topics(self) -> str:
        """Where images come from, and where instances go to, in words."""
        return f"{self._subscription.topic_name} to {self.outputs.topic}"

    def start(self, changed: Condition, memory: float) -> Stream:
        """Subscribe to the images; returns the stream, for a worker.

        Args:
            changed: of the mailboxes of all cameras.
            memory: bytes that waiting images may take.
        """
        values = self._values
        compressed = values["image_transport"] == "compressed"
        topic = self._node.resolve_topic_name(topic_of(self.name, "image")) + ("/compressed" if compressed else "")
        capacity = values["queue_size"] if values["drop_policy"] == "every_frame" else 1
        mailbox: Mailbox[Any] = Mailbox(capacity, memory, lambda message: len(message.data), changed)
        statistics = self._statistics = StreamStatistics(mailbox)
        log = self._node.get_logger()
        to_frame: Callable[[Any, int], Frame] = partial(
            messages.compressed_to_frame if compressed else messages.to_frame,
            levelling=Levelling(values["range"], lambda text: log.info(f"{topic}: {text}")),
            max_pixels=values["max_image_pixels"],
        )
        stream = Stream(
            self.segmenter,
            mailbox,
            to_frame,
            lambda instances, header, image: self.outputs.publish(instances, header, image, statistics),
            self.outputs.publish_processing_time,
            statistics,
            log,
            topic,
            values["late_tolerance"],
        )

        def on_image(message: Any, info: Any) -> None:
            statistics.note_image(info)
            if self.enabled:
                mailbox.put(message)

        quality = QoSProfile(
            history=qos_profile_sensor_data.history,
            depth=max(capacity, qos_profile_sensor_data.depth),
            reliability=qos_profile_sensor_data.reliability,
            durability=qos_profile_sensor_data.durability,
        )
        self._subscription = self._node.create_subscription(
            CompressedImage if compressed else Image,
            topic,
            on_image,
            quality,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=lambda event: self._on_incompatible(topic, event),
                message_lost=lambda event: statistics.count_lost(event.total_count_change),
            ),
            qos_overriding_options=QoSOverridingOptions(POLICIES),
        )
        return stream

    def unsubscribe(self) -> None:
        """No more images; those that came may still be at work."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def stop(self) -> None:
        """Nothing works any more: there is nothing to report."""
        self._statistics = None

    def set(self, name: str, value: Any) -> None:
        """Change an option of the segmenter, or of what is published, while they run.

        Raises:
            OptionError: it cannot be, or not to this value.
        """
        if name in OF_OUTPUTS:
            self.outputs.set(name, value)
        elif name == "max_lost_seconds":
            self.segmenter.max_lost_seconds = value
        else:
            self.segmenter.set_option(name, value)

    def report(self, transport_problem: str) -> Report | None:
        """The state of the stream, for diagnostics; None: there is none."""
        if self._statistics is None:
            return None
        more = None if self.outputs.spatial is None else self.outputs.spatial.report()
        return self._statistics.report(self._incompatible, transport_problem, more)

    def _on_incompatible(self, topic: str, event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        self._incompatible.add((topic, policy))
        self._node.get_logger().warning(
            f"{topic}: a node there has an incompatible QoS policy, {policy}; nothing is exchanged with it. "
            f"Parameters qos_overrides.{topic}.* change ours"
        )


def _spatial_settings(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Arguments of `SpatialOutputs`; None where no depth is asked for."""
    if not values["depth"]:
        return None
    return {
        "slop": values["depth_slop"],
        "target_frame": values["target_frame"],
        "rectified": values["depth_rectified"],
        "acceleration": values["object_acceleration"],
        "follow_frame": values["follow_frame"],
    }
