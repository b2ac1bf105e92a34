"""The messages of this package as ``rosbags`` makes them: recordings of answers need no ROS installation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

INSTANCES = "vis_ros/msg/InstanceTrackArray"
LABEL_INFO = "vision_msgs/msg/LabelInfo"
DEFINITIONS = {
    "vis_ros/msg/InstanceTrack": """
uint8 NEW=1
uint8 TRACKED=2
uint8 LOST=3
uint8 ENDED=4
uint64 track_id
int32 class_id
string class_name
float32 score
float32 track_score
uint8 state
uint32 age
builtin_interfaces/Time first_seen
builtin_interfaces/Time last_seen
sensor_msgs/RegionOfInterest roi
uint32[] runs
""",
    INSTANCES: """
std_msgs/Header header
uint32 height
uint32 width
string system
vis_ros/InstanceTrack[] tracks
""",
    "vision_msgs/msg/VisionClass": """
uint16 class_id
string class_name
""",
    LABEL_INFO: """
std_msgs/Header header
vision_msgs/VisionClass[] class_map
float32 threshold
""",
}
"""By type; those of vis_ros are the files in ``msg/``, which an installation without ROS does not have."""


def answer_types() -> tuple[Any, SimpleNamespace]:
    """A type store that knows all messages of answers, and what `vis_ros.messages` makes them of."""
    store = get_typestore(Stores.ROS2_HUMBLE)  # those of images have been the same in every release of ROS 2
    for name, text in DEFINITIONS.items():
        store.register(get_types_from_msg(text, name))
    types = SimpleNamespace(
        Image=lambda: _blank(store, "sensor_msgs/msg/Image"),
        InstanceTrack=lambda: _blank(store, "vis_ros/msg/InstanceTrack"),
        InstanceTrackArray=lambda: _blank(store, INSTANCES),
        VisionClass=store.types["vision_msgs/msg/VisionClass"],
        LabelInfo=store.types[LABEL_INFO],
        sequence=np.ascontiguousarray,
    )
    return store, types


def _blank(store: Any, name: str) -> Any:
    """A message with empty fields, as the generated classes begin; it may hold no array of fixed length."""
    values: dict[str, Any] = {}
    for field, (kind, about) in store.fielddefs[name][1]:
        if kind == Nodetype.NAME:
            values[field] = _blank(store, about)
        elif kind == Nodetype.SEQUENCE:
            values[field] = []
        else:
            values[field] = "" if about[0] == "string" else 0
    return store.types[name](**values)
