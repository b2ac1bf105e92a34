from __future__ import annotations

import pytest

from vis_ros.node.order import StampOrder


def follow(order: StampOrder, stamps: list[int]) -> str:
    """What becomes of each image: it goes on (.), is late (l), or begins a new stream (N)."""
    told = ""
    for stamp in stamps:
        if order.is_late(stamp):
            told += "l"
            continue
        told += "N" if order.jump(stamp) else "."
        if told[-1] == "N":
            order.end()
        order.add(stamp)
    return told


@pytest.mark.parametrize(
    ("stamps", "told"),
    [
        ([0, 0, 5, 5, 9], "....."),
        ([100, 90, 101, 91, 102], ".l.l."),
        ([100, 90, 90, 90, 90, 90, 90, 101], ".llllll."),  # within the tolerance, however many
        ([100, 89, 90, 91], ".N.."),  # beyond it: time jumped back
        ([100, 110, 120, 0, 10, 20, 30, 140, 0, 10, 20], "...N....N.."),  # a recording that is played again
        ([100, 50, 101, 51, 102, 52, 103], ".N.l.l."),  # old stamps in between: once is a jump, then they are late
        ([100, 0, 101, 1, 102, 2, 103], ".N.l.l."),
        ([100, 50, 101, 51, 52, 53, 54, 55], ".N.lllN."),  # but time may have jumped after all
        ([100, 50, 10, 101], ".NN."),
    ],
)
def test_a_late_image_is_told_from_time_that_jumped_back(stamps, told):
    assert follow(StampOrder(10), stamps) == told


def test_without_a_tolerance_every_earlier_stamp_begins_a_new_stream():
    assert follow(StampOrder(0), [5, 4, 3]) == ".NN"


def test_a_stream_that_was_ended_begins_with_any_stamp():
    order = StampOrder(10)
    order.add(100)
    order.end()
    assert not order.is_late(95)
    assert order.jump(95) == 0
