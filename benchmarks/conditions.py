"""What a benchmark runs on: frames, and a machine that others may use too."""

from __future__ import annotations

import os
import platform
import time
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

import vis_core
from vis_core.structures import Frame


def first_frames(video: Path | None, count: int, size: tuple[int, int] | None = None) -> list[Frame]:
    """The first frames of a video; of noise without one.

    Args:
        video: file or folder of images.
        count: frames.
        size: height and width to which they are shrunk; None: as they come, noise 360 x 640.
    """
    if video is None:
        random = np.random.default_rng(0)
        noise = random.integers(0, 256, (count, *(size or (360, 640)), 3), np.uint8)
        return [Frame(image, i, i) for i, image in enumerate(noise)]
    with vis_core.open_video(video) as source:
        frames = list(islice(source, count))
    if size is None:
        return frames
    return [Frame(_shrunk(frame.image, size), frame.stamp, frame.index) for frame in frames]


def _shrunk(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def cpu_name() -> str:
    """Name of the CPU."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


class Neighbours:
    """How many cores the other processes of a Linux machine have kept busy since this was made."""

    def __init__(self) -> None:
        self._began, self._others = time.monotonic(), _seconds_of_others()

    def cores(self) -> float:
        """Their mean number."""
        return (_seconds_of_others() - self._others) / (time.monotonic() - self._began)


def _seconds_of_others() -> float:
    user, nice, system, _idle, _waiting, *interrupts = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK") - time.process_time()
