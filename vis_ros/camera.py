"""Publishing a camera, a stream or a video file as ``sensor_msgs/Image``, where no driver of ROS is at hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import cv2
import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vis_core.structures import Frame
from vis_core.video.sources import VideoSource
from vis_ros import messages
from vis_ros.recordings.player import RELIABLE, Ending, paced
from vis_ros.recordings.session import Session


class CameraPublisher:
    """Publishes the frames of a video on ``image``, each stamped with the time at which it goes out.

    Args:
        session: where to publish.
        frame_id: of every header.
        encoding: ``rgb8`` or ``bgr8``.

    Attributes:
        publisher: of the images.
    """

    def __init__(self, session: Session, frame_id: str = "camera", encoding: str = "rgb8") -> None:
        self._clock = session.node.get_clock()
        self._frame_id, self._encoding = frame_id, encoding
        self.publisher = session.node.create_publisher(Image, "image", RELIABLE)

    def run(
        self,
        video: VideoSource,
        rate: float | None = None,
        ended: Ending | None = None,
        on_sent: Callable[[], None] = lambda: None,
    ) -> int:
        """Publish a video to its end; returns how many images went out.

        Args:
            video: a camera at the rate at which its images come, anything else at that of its stamps.
            rate: images a second instead: of a camera no more than these, of anything else all images at that rate.
            ended: once it is set, no further image goes out.
            on_sent: called after each image.
        """
        ended = ended or threading.Event()
        count = 0
        with closing(video):
            for frame in _thinned(video, rate) if video.live else paced(_timed(video, rate), 1.0, ended):
                if ended.is_set():
                    break
                pixels = frame.image if self._encoding == "rgb8" else cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
                header = Header(frame_id=self._frame_id, stamp=self._clock.now().to_msg())
                self.publisher.publish(messages.rgb_message(np.asarray(pixels, np.uint8), header, self._encoding))
                count += 1
                on_sent()
        return count


def _timed(frames: Iterable[Frame], rate: float | None) -> Iterator[tuple[int, Frame]]:
    """Frames and when each is due, nanoseconds."""
    for frame in frames:
        yield frame.stamp if rate is None else round(frame.index * 1e9 / rate), frame


def _thinned(frames: Iterable[Frame], rate: float | None) -> Iterator[Frame]:
    """Of frames that come when they come, no more than so many a second; a quarter of a period is no haste."""
    period = 0 if rate is None else round(1e9 / rate)
    due: int | None = None
    for frame in frames:
        if due is not None and frame.stamp < due - period // 4:
            continue
        due = frame.stamp + period if due is None or frame.stamp >= due + period else due + period
        yield frame
