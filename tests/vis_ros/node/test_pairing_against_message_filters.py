"""Our pairing of depth with images against the approximate-time policy of message_filters, where that is there."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vis_ros.messages import stamp_of
from vis_ros.node.depth import DepthBuffer

message_filters = pytest.importorskip(
    "message_filters", reason="needs message_filters (ros-$ROS_DISTRO-message-filters)"
)
from std_msgs.msg import Header

from vis_ros.messages import to_stamp

MS = 1_000_000
PERIOD, SLOP, COUNT = 33 * MS, 16 * MS, 300
START = 1_700_000_000_000_000_000


def stream(random: np.random.Generator, jitter: int, lost: float) -> list[SimpleNamespace]:
    """Messages at 30 Hz, each up to `jitter` away from its time, some of them lost."""
    away = random.integers(-jitter, jitter + 1, COUNT)
    stamps = [START + n * PERIOD + int(off) for n, off in enumerate(away)]
    return [SimpleNamespace(header=Header(stamp=to_stamp(s)), data=b"12") for s in stamps if random.random() >= lost]


def theirs(images, depths, order) -> set[tuple[int, int]]:
    """Pairs of stamps by message_filters, messages coming in an order."""
    inputs = [message_filters.SimpleFilter(), message_filters.SimpleFilter()]
    pairs = set()
    together = message_filters.ApproximateTimeSynchronizer(inputs, COUNT, SLOP / 1e9)
    together.registerCallback(lambda image, depth: pairs.add((stamp_of(image), stamp_of(depth))))
    for which, message in order(images, depths):
        inputs[which].signalMessage(message)
    return pairs


def ours(images, depths, delay: int) -> set[tuple[int, int]]:
    """Pairs of stamps by ours: an image is answered, and its depth looked for, a delay after it came."""
    buffer, pairs, waiting = DepthBuffer(SLOP), set(), list(depths)
    buffer.add_info(object())
    for image in images:
        stamp = stamp_of(image)
        while waiting and stamp_of(waiting[0]) <= stamp + delay:
            buffer.add(waiting.pop(0))
        found = buffer.nearest(stamp)
        if found is not None:
            pairs.add((stamp, stamp_of(found[0])))
    return pairs


def by_stamps(images, depths):
    both = [(0, image) for image in images] + [(1, depth) for depth in depths]
    return sorted(both, key=lambda item: stamp_of(item[1]))


def images_late(images, depths):
    """Images come a tenth of a second after the depth of their time."""
    both = [(0, image) for image in images] + [(1, depth) for depth in depths]
    return sorted(both, key=lambda item: stamp_of(item[1]) + (100 * MS if item[0] == 0 else 0))


@pytest.mark.parametrize("order", [by_stamps, images_late])
@pytest.mark.parametrize(("jitter", "lost"), [(0, 0.0), (6 * MS, 0.0), (6 * MS, 0.2), (4 * MS, 0.5)])
def test_both_find_the_same_pairs(jitter, lost, order):
    random = np.random.default_rng(7)
    images, depths = stream(random, jitter, lost), stream(random, jitter, lost)
    expected = theirs(images, depths, order)
    assert len(expected) > COUNT / 8
    for delay in (20 * MS, 300 * MS, 1500 * MS):
        assert ours(images, depths, delay) == expected
