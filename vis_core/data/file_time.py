"""Stamps that count from the start of a file, in recordings, where they are times: to ROS, 0 is none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vis_core.structures import Frame

FILE_START = 1_700_000_000 * 10**9
"""When a file is taken to have begun, nanoseconds: always the same, so that recordings made twice are equal."""

_EARLIEST = 10**9 * 10**9  # in 2001; before, stamps count from a start of their own


def dated(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Frames with stamps that are times: those that count from the start of a file do so from `FILE_START`."""
    shift: int | None = None
    for frame in frames:
        if shift is None:
            shift = recorded_from([frame.stamp])
        yield replace(frame, stamp=frame.stamp + shift)


def recorded_from(stamps: npt.ArrayLike) -> int:
    """What a recording that is made of frames with these stamps adds to each: nothing where they are times."""
    return FILE_START if np.max(stamps, initial=0) < _EARLIEST else 0
