"""The answers to a recording as a recording: its images, and what the node would have published of them.

Needs no ROS installation.
"""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from vis_core.errors import InputError
from vis_core.files.atomic import errors_name
from vis_core.structures import Instances
from vis_ros import messages
from vis_ros.mask_images import class_mask, confidence_mask
from vis_ros.recordings.bags import COMPRESSED_IMAGE, IMAGE, RecordedImages
from vis_ros.recordings.recorded_types import INSTANCES, LABEL_INFO, answer_types

if TYPE_CHECKING:
    from vis_core.system.segmenter import Segmenter

FOLDER = "vis_bag"
OUTPUTS = (f"{FOLDER}/{FOLDER}.mcap", f"{FOLDER}/metadata.yaml")
"""What may be written, as patterns."""

_NAMESPACE, _NODE = "/vis", "/vis/segmenter"
_STRING = "std_msgs/msg/String"
_TOPICS = {
    f"{_NAMESPACE}/instances": INSTANCES,
    f"{_NODE}/label_image": IMAGE,
    f"{_NODE}/overlay/compressed": COMPRESSED_IMAGE,
    f"{_NODE}/class_mask": IMAGE,
    f"{_NODE}/confidence": IMAGE,
}
_SEMANTIC = f"{_NODE}/semantic"
_LATCHED = {
    f"{_NODE}/class_names": _STRING,
    f"{_NODE}/label_info": LABEL_INFO,
    f"{_NODE}/semantic/label_info": LABEL_INFO,
}
_TIME = QosTime(0, 0)
_LATCH = Qos(
    QosHistory.KEEP_LAST,
    1,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    _TIME,
    _TIME,
    QosLiveliness.AUTOMATIC,
    _TIME,
    False,
)


class AnswersBag:
    """Writes an MCAP recording of a recording's images, of what tells of their camera, and of the answers to them.

    Topics, types and headers are those of the node as it is launched, and times those of the images; the overlay is a
    JPEG, as ``image_transport`` has it. `check_topics` should have been asked first.

    Args:
        images: the recording; it is read a second time, beside whoever reads it now.
        folder: where the recording, `FOLDER`, is made.
        segmenter: that answers.
        system: its name.
        start: index of the first image that is taken.
    """

    def __init__(self, images: RecordedImages, folder: Path, segmenter: Segmenter, system: str, start: int = 0) -> None:
        self.path = folder / FOLDER
        self._segmenter, self._system, self._start = segmenter, system, start
        self._store, self._types = answer_types()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it was told when the recording was opened first
            self._images = RecordedImages(images.path, images.topic.name)
        self._coming = self._images.messages_with_camera_info()
        self._position = -1
        self._tells_stuff = bool(segmenter.semantic_class_names) and not segmenter.delay
        self._named = False
        # 8 is the newest metadata whose QoS entry Humble still reads.
        self._writer = Writer(self.path, version=8, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        topics = dict(_TOPICS)
        for topic in (self._images.topic, self._images.camera_info):
            if topic is not None:
                topics[topic.name] = topic.type
        if self._tells_stuff:
            topics[_SEMANTIC] = IMAGE
        self._connections = {name: self._connected(name, kind) for name, kind in topics.items()}

    def write(self, instances: Instances, drawn: npt.NDArray[np.uint8]) -> None:
        """The answer to an image, and uint8 ``[H, W, 3]``, the image with it drawn in; images come before answers.

        Raises:
            OSError: it cannot be written.
        """
        with errors_name(self.path):
            time, header = self._copy_up_to(instances.index)
            if not self._named:
                self._name(time, header)
            names, types = self._segmenter.class_names, self._types
            said = (
                messages.to_message(instances, header, self._system, names, types),
                messages.label_image_message(instances.label_image(), header, types),
                self._compressed(drawn, header),
                messages.mono_message(class_mask(instances), header, types),
                messages.mono_message(confidence_mask(instances), header, types),
            )
            for topic, message in zip(_TOPICS, said, strict=True):
                self._write(topic, time, message)
            classes = self._segmenter.semantic_map() if self._tells_stuff else None
            if classes is not None:
                self._write(_SEMANTIC, time, messages.mono_message(classes, header, types))

    def close(self) -> None:
        """Finish the recording; it is whole however many answers came."""
        with errors_name(self.path):
            try:
                if self._named:
                    self._copy_camera_info()
            finally:
                self._images.close()
                self._writer.close()

    def _copy_up_to(self, index: int) -> tuple[int, Any]:
        """Copy what comes up to an image; returns when that was recorded, and its header."""
        images = self._images.topic
        for topic, time, data in self._coming:
            self._position += topic == images.name
            if self._position + (topic != images.name) < self._start:
                continue  # what tells of the camera goes with the image that comes next
            self._writer.write(self._connections[topic], time, data)
            if topic == images.name and self._position == index:
                return time, self._store.deserialize_cdr(data, images.type).header
        raise InputError(f"{self._images.path}: image {index} of {images.name} is not there any more")

    def _copy_camera_info(self) -> None:
        """Copy what comes before the next image."""
        with suppress(InputError):  # torn: whoever reads the images tells it
            for topic, time, data in self._coming:
                if topic == self._images.topic.name:
                    return
                self._writer.write(self._connections[topic], time, data)

    def _name(self, time: int, header: Any) -> None:
        """The names of the classes, once."""
        names = self._segmenter.class_names
        said: list[Any] = [self._store.types[_STRING](data=json.dumps(list(names)))]
        said.append(messages.label_info(self._types, names, header))
        if self._tells_stuff:
            said.append(messages.label_info(self._types, self._segmenter.semantic_class_names, header))
        for (topic, kind), message in zip(_LATCHED.items(), said):
            self._connections[topic] = self._connected(topic, kind, _LATCH)
            self._write(topic, time, message)
        self._named = True

    def _compressed(self, drawn: npt.NDArray[np.uint8], header: Any) -> Any:
        _, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
        kind = self._store.types[COMPRESSED_IMAGE]
        return kind(header=header, format="rgb8; jpeg compressed bgr8", data=data.reshape(-1))

    def _connected(self, name: str, kind: str, *quality: Qos) -> Any:
        return self._writer.add_connection(name, kind, typestore=self._store, offered_qos_profiles=quality)

    def _write(self, topic: str, time: int, message: Any) -> None:
        connection = self._connections[topic]
        self._writer.write(connection, time, bytes(self._store.serialize_cdr(message, connection.msgtype)))


def check_topics(images: RecordedImages) -> None:
    """See before any work that answers have topics of their own.

    Raises:
        InputError: the images are on one of them.
    """
    if images.topic.name in {*_TOPICS, *_LATCHED, _SEMANTIC}:
        raise InputError(
            f"{images.path}: {images.topic.name} is a topic that --bag writes; leave --bag out, or name the topic of "
            "the camera by --topic"
        )
