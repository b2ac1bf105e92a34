"""Stamps that count from the start of a file become times in recordings, and are known there."""

import numpy as np
import pytest

from vis_core.data.file_time import FILE_START, dated, recorded_from
from vis_core.structures import Frame

NOW = 1_790_000_000 * 10**9


@pytest.mark.parametrize("first", [0, 40_000_000, 10**9])
def test_stamps_that_count_from_the_start_of_a_file_become_times(first):
    sent = [Frame(np.zeros((2, 2, 3), np.uint8), first + i, i) for i in range(3)]
    assert [(frame.stamp, frame.index) for frame in dated(sent)] == [(FILE_START + first + i, i) for i in range(3)]


@pytest.mark.parametrize("first", [NOW, FILE_START])
def test_stamps_that_are_times_stay(first):
    sent = [Frame(np.zeros((2, 2, 3), np.uint8), first + i, i) for i in range(3)]
    assert [frame.stamp for frame in dated(sent)] == [first + i for i in range(3)]
    assert recorded_from([first]) == 0


def test_no_stamps_count_from_a_file():
    assert recorded_from([]) == FILE_START and list(dated([])) == []
