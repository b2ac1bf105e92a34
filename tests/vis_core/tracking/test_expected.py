"""Where lost tracks are expected."""

import numpy as np
import pytest

from vis_core.masks import RunLengths, encode
from vis_core.structures import Frame, TrackState
from vis_core.tracking.expected import expected_box
from vis_core.tracking.lifecycle import TrackLifecycle

SIZE = (60, 100)


def rectangle(x: int, y: int, width: int = 10, height: int = 20) -> RunLengths:
    pixels = np.zeros(SIZE, bool)
    pixels[y : y + height, x : x + width] = True
    return encode(pixels)


def advance(lifecycle: TrackLifecycle, index: int, mask: RunLengths | None):
    """A frame in which the first track, or a new one, has a mask; None: nothing is seen."""
    lifecycle.expire()
    frame = Frame(np.zeros((*SIZE, 3), np.uint8), index=index)
    continues = [] if mask is None else [lifecycle.alive[0] if lifecycle.alive else None]
    count = len(continues)
    return lifecycle.update(frame, continues, np.ones(count), np.ones((count, 2)), [mask] * count)


def test_a_lost_track_goes_on_as_it_went_until_it_leaves_the_image_and_ends_nowhere():
    lifecycle = TrackLifecycle(max_lost_frames=10)
    for t in range(8):
        seen = advance(lifecycle, t, rectangle(10 + 6 * t, 5 + t))
        assert seen.boxes.tolist() == [[10 + 6 * t, 5 + t, 20 + 6 * t, 25 + t]]
    lost = [advance(lifecycle, t, None) for t in range(8, 18)]
    assert {answer.states.tolist()[0] for answer in lost} == {TrackState.LOST}
    assert lost[0].boxes.tolist() == [[58, 13, 68, 33]]
    assert lost[5].boxes.tolist() == [[88, 18, 98, 38]]
    assert lost[6].boxes.tolist() == [[94, 19, 100, 39]]
    assert lost[7].boxes.tolist() == [[0, 0, 0, 0]]
    assert not any(answer.masks[0].area for answer in lost)
    ended = advance(lifecycle, 18, None)
    assert ended.states.tolist() == [TrackState.ENDED] and not ended.boxes.any()


def test_a_track_that_was_seen_once_stays_where_it_was():
    lifecycle = TrackLifecycle()
    advance(lifecycle, 0, rectangle(30, 10))
    assert advance(lifecycle, 7, None).boxes.tolist() == [[30, 10, 40, 30]]


def test_one_that_comes_back_tells_anew_where_it_goes():
    lifecycle = TrackLifecycle()
    for t in range(4):
        advance(lifecycle, t, rectangle(10 + 2 * t, 10))
    advance(lifecycle, 4, None)
    for t in range(5, 10):
        advance(lifecycle, t, rectangle(40, 10))
    assert advance(lifecycle, 10, None).boxes.tolist() == [[40, 10, 50, 30]]


def test_a_mask_without_pixels_is_no_sight():
    lifecycle = TrackLifecycle()
    advance(lifecycle, 0, rectangle(30, 10))
    assert not advance(lifecycle, 1, RunLengths(SIZE)).boxes.any()
    assert advance(lifecycle, 2, None).boxes.tolist() == [[30, 10, 40, 30]]


@pytest.mark.parametrize(
    ("sights", "step", "expected"),
    [
        ([], 3, (0, 0, 0, 0)),
        ([(0, (0, 0, 10, 10)), (1, (4, 0, 10, 10))], 3, (12, 0, 10, 10)),
        ([(0, (4, 0, 10, 10)), (1, (0, 0, 10, 10))], 2, (0, 0, 6, 10)),
        ([(0, (0, 0, 10, 10)), (4, (4, 8, 12, 14))], 5, (5, 10, 12, 14)),
        ([(0, (0, 40, 10, 10)), (1, (0, 50, 10, 10))], 2, (0, 0, 0, 0)),
    ],
)
def test_the_middle_moves_and_the_size_stays(sights, step, expected):
    assert expected_box(sights, step, SIZE) == expected
