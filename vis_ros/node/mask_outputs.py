"""Masks as images of standard types: what semantic costmap layers, and filters of depth images, take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image

from vis_core.errors import OptionError, printable
from vis_core.structures import Instances
from vis_ros import messages
from vis_ros.mask_images import class_mask, confidence_mask, painted
from vis_ros.messages import label_info
from vis_ros.node.semantic import label_types
from vis_ros.node.topics import ONLY, topic_of

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode


class MaskOutputs:
    """Publishes, each for every image while someone subscribes, and under the image's header:

    * ``~/class_mask`` mono8: 1 + label of each pixel, 0 is none; the names on ``~/label_info`` (``vision_msgs``);
    * ``~/confidence`` mono8: score of each pixel's object, 255 is 1;
    * ``mask/image`` mono8: 255 where an object of chosen classes is, and ``mask/camera_info``, that of ``camera_info``.

    Where masks overlap the better score has the pixel.

    Args:
        node: that publishes and subscribes.
        create: makes a publisher, of message type, topic and quality of service.
        class_names: name of each label.
        camera: whose info is heard; see `topic_of`.
    """

    def __init__(
        self,
        node: LifecycleNode,
        create: Callable[[Any, str, QoSProfile], Any],
        class_names: Sequence[str],
        camera: str = ONLY,
    ) -> None:
        some = QoSProfile(depth=5)
        self._node, self._class_names = node, tuple(class_names)
        self._class_mask = create(Image, "~/class_mask", some)
        self._confidence = create(Image, "~/confidence", some)
        self._mask = create(Image, "mask/image", some)
        self._mask_info = create(CameraInfo, "mask/camera_info", some)
        self._types = label_types()
        self._labels: Any = None
        if self._types is not None:
            kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self._labels = create(self._types.LabelInfo, "~/label_info", kept)
        self._info: Any = None
        topic = topic_of(camera, "camera_info")
        self._subscription = node.create_subscription(CameraInfo, topic, self._keep, qos_profile_sensor_data)

    def publish(self, instances: Instances, header: Any, in_mask: npt.NDArray[np.bool_]) -> None:
        """The masks of an image.

        Args:
            instances: its tracks.
            header: the image's, taken unchanged.
            in_mask: bool ``[C]``, whether a label is shown on ``mask/image``.
        """
        if self._labels is not None and self._types is not None:
            self._labels.publish(label_info(self._types, self._class_names, header))
            self._types = None  # once
        if self._class_mask.get_subscription_count():
            self._class_mask.publish(messages.mono_message(class_mask(instances), header))
        if self._confidence.get_subscription_count():
            self._confidence.publish(messages.mono_message(confidence_mask(instances), header))
        if self._mask.get_subscription_count():
            chosen = instances[in_mask[instances.labels]]
            self._mask.publish(messages.mono_message(painted(chosen, np.full(len(chosen), 255, np.uint8)), header))
        if self._info is not None and self._mask_info.get_subscription_count():
            self._info.header = header
            self._mask_info.publish(self._info)

    def destroy(self) -> None:
        """The subscription; the publishers are of who created them."""
        self._node.destroy_subscription(self._subscription)

    def _keep(self, message: Any) -> None:
        self._info = message


def chosen_labels(text: str, class_names: Sequence[str], option: str) -> npt.NDArray[np.bool_]:
    """Which labels a list of class names means, bool ``[C]``.

    Args:
        text: names with commas between them; empty: all.
        class_names: name of each label; case makes no difference.
        option: what the list is of, for the error.

    Raises:
        OptionError: a name is none of them; the text names the nearest one.
    """
    if not text.strip():
        return np.ones(len(class_names), np.bool_)
    labels = {name.lower(): label for label, name in enumerate(class_names)}
    out = np.zeros(len(class_names), np.bool_)
    for name in text.split(","):
        label = labels.get(name.strip().lower())
        if label is None:
            near = get_close_matches(name.strip().lower(), labels, 1)
            hint = f"did you mean {class_names[labels[near[0]]]!r}?" if near else "see ~/class_names"
            raise OptionError(f"{option}: {printable(name.strip(), 60)!r} is no class of these weights; {hint}")
        out[label] = True
    return out
