import numpy as np
import pytest

from vis_core.masks import encode
from vis_core.structures import Frame, TrackState
from vis_core.tracking.lifecycle import TrackLifecycle

IMAGE = np.zeros((4, 6, 3), np.uint8)
MASK = encode(np.ones((4, 6), bool))


def advance(lifecycle, index, continues, classes=None):
    """One frame in which the named tracks (None: new ones) are seen."""
    lifecycle.expire()
    count = len(continues)
    classes = np.full((count, 2), 0.5) if classes is None else np.array(classes, float)
    frame = Frame(IMAGE, stamp=100 * index, index=index)
    return lifecycle.update(frame, continues, np.full(count, 0.7), classes, [MASK] * count)


def states(instances):
    return {int(i): TrackState(s) for i, s in zip(instances.track_ids, instances.states, strict=True)}


def test_a_track_is_new_then_tracked_then_lost_then_ended_once():
    lifecycle = TrackLifecycle(max_lost_frames=2)
    assert states(advance(lifecycle, 0, [None])) == {1: TrackState.NEW}
    assert states(advance(lifecycle, 1, [1])) == {1: TrackState.TRACKED}
    assert states(advance(lifecycle, 2, [])) == {1: TrackState.LOST}
    assert states(advance(lifecycle, 3, [])) == {1: TrackState.LOST}
    assert states(advance(lifecycle, 4, [])) == {1: TrackState.ENDED}
    assert states(advance(lifecycle, 5, [])) == {}
    assert lifecycle.alive == ()


def test_a_lost_track_comes_back_under_its_id():
    lifecycle = TrackLifecycle()
    advance(lifecycle, 0, [None, None])
    advance(lifecycle, 1, [2])
    back = advance(lifecycle, 2, [1, 2])
    assert states(back) == {1: TrackState.TRACKED, 2: TrackState.TRACKED}


def test_ages_and_stamps_tell_when_a_track_was_seen():
    lifecycle = TrackLifecycle()
    advance(lifecycle, 0, [])
    advance(lifecycle, 1, [None])
    advance(lifecycle, 2, [1])
    lost = advance(lifecycle, 3, [])
    assert (lost.ages[0], lost.first_seen[0], lost.last_seen[0]) == (2, 100, 200)
    assert lost.scores[0] == 0 and lost.masks[0].area == 0 and not lost.visible[0]


def test_label_and_track_score_are_of_the_running_mean():
    lifecycle = TrackLifecycle()
    advance(lifecycle, 0, [None], [[0.9, 0.1]])
    seen = advance(lifecycle, 1, [1], [[0.1, 0.4]])
    assert seen.labels[0] == 0 and seen.track_scores[0] == pytest.approx(0.5)
    seen = advance(lifecycle, 2, [1], [[0.0, 0.8]])
    assert seen.labels[0] == 1 and seen.track_scores[0] == pytest.approx(1.3 / 3)
    assert seen.scores[0] == pytest.approx(0.7)
    lost = advance(lifecycle, 3, [])
    assert lost.labels[0] == 1 and lost.track_scores[0] == pytest.approx(1.3 / 3)


def test_ids_grow_and_survive_a_reset():
    lifecycle = TrackLifecycle()
    advance(lifecycle, 0, [None, None])
    advance(lifecycle, 1, [1, 2])
    lifecycle.reset()
    after = advance(lifecycle, 0, [None])
    assert states(after) == {3: TrackState.NEW, 1: TrackState.ENDED, 2: TrackState.ENDED}
    assert after.ages.tolist() == [0, 2, 2]
    assert states(advance(lifecycle, 1, [3])) == {3: TrackState.TRACKED}


def test_too_many_lost_tracks_end_oldest_frame_first_and_whole():
    lifecycle = TrackLifecycle(max_lost_frames=None, max_lost_tracks=3)
    advance(lifecycle, 0, [None, None])
    advance(lifecycle, 1, [None])
    advance(lifecycle, 2, [None])
    advance(lifecycle, 3, [])
    assert lifecycle.expire() == (1, 2)
    assert lifecycle.alive == (3, 4)


def test_tracks_of_the_previous_frame_do_not_count_as_lost():
    lifecycle = TrackLifecycle(max_lost_frames=None, max_lost_tracks=0)
    advance(lifecycle, 0, [None] * 5)
    assert lifecycle.expire() == ()


def test_without_limits_nothing_ends():
    lifecycle = TrackLifecycle(max_lost_frames=None, max_lost_tracks=None)
    advance(lifecycle, 0, [None] * 150)
    for index in range(1, 50):
        last = advance(lifecycle, index, [])
    assert (last.states == TrackState.LOST).all() and len(last) == 150


@pytest.mark.parametrize("continues", [[1, 1], [2]])
def test_a_track_cannot_be_continued_twice_or_when_it_is_not_alive(continues):
    lifecycle = TrackLifecycle()
    advance(lifecycle, 0, [None])
    with pytest.raises(ValueError, match="frame 1"):
        advance(lifecycle, 1, continues)


def test_memory_is_flat_over_many_births():
    lifecycle = TrackLifecycle(max_lost_frames=5, max_lost_tracks=20)
    sizes = []
    for index in range(400):
        advance(lifecycle, index, [None] * 7)
        sizes.append(lifecycle.state_bytes())
    assert max(sizes[50:]) == max(sizes[:50])


def test_a_track_that_a_system_ends_is_told_once_with_the_next_frame():
    lifecycle = TrackLifecycle()
    advance(lifecycle, 0, [None, None])
    lifecycle.end([1])
    assert lifecycle.alive == (2,)
    assert states(advance(lifecycle, 1, [2])) == {2: TrackState.TRACKED, 1: TrackState.ENDED}
    assert states(advance(lifecycle, 2, [2])) == {2: TrackState.TRACKED}
    with pytest.raises(ValueError, match=r"track 1 cannot end: it is none of the live tracks \(2,\)"):
        lifecycle.end([1])


def test_a_track_may_end_by_seconds_whatever_the_number_of_frames():
    lifecycle = TrackLifecycle(max_lost_frames=None, max_lost_seconds=50e-9)
    advance(lifecycle, 1, [None])  # at 100 nanoseconds
    assert lifecycle.expire(150) == ()
    assert lifecycle.expire() == ()  # no stamp: by frames alone
    assert lifecycle.expire(151) == (1,)
    assert lifecycle.alive == ()
