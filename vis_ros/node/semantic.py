"""The semantic map of systems that tell stuff too, and the names of its classes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image

from vis_ros import messages
from vis_ros.messages import label_info

if TYPE_CHECKING:
    from vis_core.system.segmenter import Segmenter

MAP, LABELS = "~/semantic", "~/semantic/label_info"


class SemanticOutput:
    """Publishes ``~/semantic`` while someone subscribes, and ``~/semantic/label_info`` once, for those who come later.

    The names are a ``vision_msgs/LabelInfo``, where that package is installed.

    Args:
        segmenter: with a semantic map.
        create: makes a publisher, of message type, topic and quality of service.
    """

    def __init__(self, segmenter: Segmenter, create: Callable[[Any, str, QoSProfile], Any]) -> None:
        self._segmenter = segmenter
        self._map = create(Image, MAP, QoSProfile(depth=5))
        self._labels: Any = None
        self._types = label_types()
        if self._types is not None:
            kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self._labels = create(self._types.LabelInfo, LABELS, kept)

    @property
    def names_are_published(self) -> bool:
        """Whether ``vision_msgs`` is there."""
        return self._labels is not None

    def publish(self, header: Any) -> None:
        """The map of the frame that was answered last."""
        if self._labels is not None and self._types is not None:
            self._labels.publish(label_info(self._types, self._segmenter.semantic_class_names, header))
            self._types = None  # once
        if self._map.get_subscription_count():
            classes = self._segmenter.semantic_map()
            if classes is not None:
                self._map.publish(messages.mono_message(classes, header))


def label_types() -> Any:
    """The module with ``LabelInfo`` and ``VisionClass``, None where it is not installed."""
    try:
        return import_module("vision_msgs.msg")
    except ImportError:
        return None
