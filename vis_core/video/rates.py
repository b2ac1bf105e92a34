"""The rate of a video by its frames' times, against the one that its container states."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

_LOOKED_AT = 300  # packets: ten seconds of most videos
_TOLERANCE = 0.1
_TICK = 1.0  # ms; Matroska's times are rounded to it


def checked_rate(path: Path, stated: float) -> float:
    """Frames per second: the stated rate, if frames do follow each other at it, else what their times say.

    Browsers state the clock's 1000 ticks a second, other programs the mean over pauses.
    """
    return rate_of(_times(path), stated)


def rate_of(times: npt.ArrayLike, stated: float) -> float:
    """As `checked_rate`, of frames at ``times``, milliseconds in any order; pauses between them do not count."""
    gaps = np.diff(np.unique(np.asarray(times, np.float64)))
    if len(gaps) < 2:
        return stated
    as_stated = np.abs(gaps - 1000 / stated) <= _TOLERANCE * 1000 / stated + min(_TICK, 100 / stated)
    if as_stated.mean() >= _TOLERANCE:
        return stated
    return float(1000 / gaps[gaps <= 1.5 * np.median(gaps)].mean())


def _times(path: Path) -> list[float]:
    """When the first frames are shown, ms; empty where OpenCV does not tell."""
    times = _grabbed(path, as_packets=True)
    # OpenCV 4.5 to 4.7 give packets no times: there the frames are decoded.
    return times if len(set(times)) > 1 else _grabbed(path, as_packets=False)


def _grabbed(path: Path, as_packets: bool) -> list[float]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    times: list[float] = []
    try:
        ready = not as_packets or capture.set(cv2.CAP_PROP_FORMAT, -1)
        while ready and len(times) < _LOOKED_AT and capture.grab():
            times.append(capture.get(cv2.CAP_PROP_POS_MSEC))
    finally:
        capture.release()
    return times
