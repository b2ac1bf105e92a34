"""A camera that publishes what it is told: a JSON object an image on its standard input, a line on its output when
that is out."""

from __future__ import annotations

import json
import sys
from array import array
from typing import Any

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from vis_ros import messages
from vis_ros.recordings.session import Session

CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1, "rgba8": 4, "bayer_rggb8": 1, "yuv422_yuy2": 2}


def image(stamp: int, size: tuple[int, int], encoding: str, cut: int, changes: dict[str, Any]) -> Image:
    """A dark image whose upper left quarter is bright.

    Args:
        stamp: nanoseconds.
        size: height and width.
        encoding: of `CHANNELS`.
        cut: bytes that are missing at the end.
        changes: made to the message as they are, so that it may contradict itself.
    """
    height, width = size
    channels = CHANNELS[encoding]
    row = b"\xc0" * (width // 2 * channels) + b"\x20" * (width // 2 * channels)
    dark = b"\x20" * (width * channels)
    data = row * (height // 2) + dark * (height // 2)
    message = Image(height=height, width=width, encoding=encoding, step=width * channels)
    message.header.stamp = messages.to_stamp(stamp)
    message.header.frame_id = "camera"
    message.data = array("B", data[: len(data) - cut])
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def main() -> None:
    with Session() as session:
        publisher = session.node.create_publisher(Image, "image", qos_profile_sensor_data)
        print("ready", flush=True)
        for line in sys.stdin:
            publisher.publish(image(**json.loads(line)))
            print("out", flush=True)


if __name__ == "__main__":
    main()
