"""Where a track that is not seen is expected in the image."""

from __future__ import annotations

from collections.abc import Sequence

Box = tuple[int, int, int, int]
"""x, y, width, height, pixels."""

SIGHTS = 5
"""Of so many of its last boxes a track's velocity is taken."""


def expected_box(sights: Sequence[tuple[int, Box]], step: int, size: tuple[int, int]) -> Box:
    """The last box of a track, moved on at the mean velocity of its last boxes and clipped to the image.

    Args:
        sights: number of the frame and box of each sight, the latest last; none: it is expected nowhere.
        step: number of the frame.
        size: height and width of the image.

    Returns:
        Whole pixels; all 0 where it has left the image.
    """
    if not sights:
        return 0, 0, 0, 0
    (first, begin), (last, end) = sights[0], sights[-1]
    ends = []
    for axis in (0, 1):
        moved = end[axis] + end[axis + 2] / 2 - begin[axis] - begin[axis + 2] / 2
        low = end[axis] + round(moved * (step - last) / max(last - first, 1))
        high = low + end[axis + 2]
        ends.append((max(low, 0), min(high, size[1 - axis])))
    (left, right), (top, bottom) = ends
    if right <= left or bottom <= top:
        return 0, 0, 0, 0
    return left, top, right - left, bottom - top
