"""What the node publishes of each answer, and under which ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.qos import QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Float64

from vis_core.structures import Instances
from vis_core.tracking.shown import ShownTracks
from vis_ros import messages
from vis_ros.annotation_messages import annotation_types, to_annotations
from vis_ros.node.class_names import publish_class_names
from vis_ros.node.diagnostics import StreamStatistics
from vis_ros.node.mask_outputs import MaskOutputs, chosen_labels
from vis_ros.node.semantic import LABELS, SemanticOutput
from vis_ros.node.topics import ONLY, topic_of

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode

    from vis_core.system.segmenter import Segmenter
    from vis_ros.node.spatial_outputs import SpatialOutputs

POLICIES = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
"""Those that parameters ``qos_overrides`` may change."""


class Outputs:
    """The publishers of a node for the answers of one segmenter.

    Args:
        node: that publishes.
        segmenter: that answers.
        system: its name.
        warm_up_tracks: tracks with an id up to this were of the warm-up, and are not published.
        highest_id: of all tracks that the node has published; those of this segmenter are called higher.
        on_incompatible: told of a topic and the event of a peer with another quality of service.
        track_id_labels: values of ``~/label_image`` are of track ids, not of positions.
        spatial: keyword arguments of `SpatialOutputs`; None: nothing is published in space.
        camera: whose images are answered; see `topic_of`.
    """

    def __init__(
        self,
        node: LifecycleNode,
        segmenter: Segmenter,
        system: str,
        warm_up_tracks: int,
        highest_id: int,
        on_incompatible: Callable[[str, Any], None],
        track_id_labels: bool = False,
        spatial: Mapping[str, Any] | None = None,
        camera: str = ONLY,
    ) -> None:
        from vis_ros.msg import InstanceTrackArray

        self.highest_id = highest_id
        self._added_to_ids = highest_id
        self._node, self._camera = node, camera
        self._system, self._class_names = system, segmenter.class_names
        self._warm_up_tracks = warm_up_tracks
        self._on_incompatible = on_incompatible
        self._publishers: list[Any] = []
        self._instances = self._create(InstanceTrackArray, "instances", QoSProfile(depth=10))
        self._label_image = self._create(Image, "~/label_image", QoSProfile(depth=5))
        self._overlay = self._create(Image, "~/overlay", QoSProfile(depth=5))
        self._processing_time = self._create(Float64, "~/debug/processing_time_ms", QoSProfile(depth=10))
        self._latency = self._create(Float64, "~/debug/pipeline_latency_ms", QoSProfile(depth=10))
        self._track_id_labels = track_id_labels
        self._chosen = chosen_labels("", segmenter.class_names, "classes")
        self._in_mask = self._chosen
        self._shown_score = segmenter.shown_score
        self._shown = ShownTracks(self._shown_score)
        self._names = publish_class_names(node, segmenter.class_names, camera)
        self._annotation_types = annotation_types()
        self._annotations: Any = None
        if self._annotation_types is not None:
            kind = self._annotation_types.ImageAnnotations
            self._annotations = self._create(kind, "~/annotations", QoSProfile(depth=5))
        self._masks = MaskOutputs(node, self._create, segmenter.class_names, camera)
        self._semantic: SemanticOutput | None = None
        if segmenter.semantic_class_names:
            self._semantic = SemanticOutput(segmenter, self._create)
            if not self._semantic.names_are_published:
                node.get_logger().info(f"{LABELS} is not published: vision_msgs is not installed")
        self.spatial: SpatialOutputs | None = None
        """What is published in space."""
        if spatial is not None:
            from vis_ros.node.spatial_outputs import SpatialOutputs

            self.spatial = SpatialOutputs(node, self._create, segmenter.class_names, system, camera=camera, **spatial)

    @property
    def topic(self) -> str:
        """Of the instances."""
        return str(self._instances.topic_name)

    def set(self, name: str, value: Any) -> None:
        """Change a parameter that is among `parameters.OF_OUTPUTS`; it holds from the next image on.

        Raises:
            OptionError: a class that there is not.
        """
        if name == "classes":
            self._chosen = chosen_labels(value, self._class_names, name)
        elif name == "mask_classes":
            self._in_mask = chosen_labels(value, self._class_names, name)
        elif name == "min_score":
            self._shown.min_score = self._shown_score if value is None else value
        elif self.spatial is not None:
            self.spatial.followed.wanted = value

    def publish(self, instances: Instances, header: Any, image: Any, statistics: StreamStatistics) -> None:
        """The instances of an image, and what of the rest someone listens to."""
        if self._warm_up_tracks:  # their end is reported by the first frame
            instances = instances[instances.track_ids > self._warm_up_tracks]
        if len(instances):
            if self._added_to_ids:
                instances = replace(instances, track_ids=instances.track_ids + self._added_to_ids)
            self.highest_id = max(self.highest_id, int(instances.track_ids.max()))
        instances = self._shown(instances)
        if not self._chosen.all():
            instances = instances[self._chosen[instances.labels]]
        self._instances.publish(messages.to_message(instances, header, self._system, self._class_names))
        # A driver that stamps nothing leaves 0, which is no time of capture.
        latency = (self._node.get_clock().now().nanoseconds - instances.stamp) * 1e-9 if instances.stamp else None
        statistics.add_publication(latency)
        if self._label_image.get_subscription_count():
            labels = instances.label_image()
            if self._track_id_labels:
                labels = np.insert(instances.track_ids % 65535 + 1, 0, 0).astype(np.uint16)[labels]
            self._label_image.publish(messages.label_image_message(labels, header))
        if self._overlay.get_subscription_count():
            from vis_core.video.overlay import draw_overlay

            self._overlay.publish(messages.rgb_message(draw_overlay(image, instances, self._class_names), header))
        if self._annotations is not None and self._annotations.get_subscription_count():
            types, names = self._annotation_types, self._class_names
            self._annotations.publish(to_annotations(types, instances, header.stamp, names))
        if self._semantic is not None:
            self._semantic.publish(header)
        self._masks.publish(instances, header, self._in_mask)
        if self.spatial is not None:
            self.spatial.publish(instances, header)
        if latency is not None:
            self._latency.publish(Float64(data=latency * 1e3))

    def publish_processing_time(self, seconds: float) -> None:
        """From message to publication."""
        self._processing_time.publish(Float64(data=seconds * 1e3))

    def destroy(self) -> None:
        """The publishers, and what subscribes for them."""
        self._masks.destroy()
        if self.spatial is not None:
            self.spatial.destroy()
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()
        self._node.destroy_publisher(self._names)

    def _create(self, message_type: Any, topic: str, quality: QoSProfile) -> Any:
        topic = topic_of(self._camera, topic)
        resolved = self._node.resolve_topic_name(topic)
        publisher = self._node.create_lifecycle_publisher(
            message_type,
            topic,
            quality,
            event_callbacks=PublisherEventCallbacks(
                incompatible_qos=lambda event: self._on_incompatible(resolved, event)
            ),
            qos_overriding_options=QoSOverridingOptions(POLICIES),
        )
        self._publishers.append(publisher)
        return publisher
