"""Slots of clips that overlap are joined by what they look like in the frames of both."""

import numpy as np
import pytest
import torch

from vis_core.models.gmp_vis.clip import Clip, joined
from vis_core.models.gmp_vis.linking import ClipAssociator, Looks, VideoAssociator, clip_starts, link, shared_frames
from vis_core.nn.mask_resize import MaskResize
from vis_core.tracking.associator import Window
from vis_core.tracking.lifecycle import TrackLifecycle

SIZE = (24, 32)
DIAGONAL = 40.0


def looks(places, first=0, frames=4, embeddings=None):
    """Of squares of 6 pixels whose corners go on by one pixel a frame; None: a slot without a pixel."""
    masks = torch.zeros(len(places), frames, *SIZE, dtype=torch.bool)
    centres = torch.zeros(len(places), frames, 2)
    for row, place in enumerate(places):
        for t in range(frames):
            if place is not None:
                x, y = place[0] + first + t, place[1]
                masks[row, t, y : y + 6, x : x + 6] = True
                centres[row, t] = torch.tensor([x + 3.0, y + 3.0]) / DIAGONAL
    return Looks(first, masks, centres, None if embeddings is None else embeddings[:, None].expand(-1, frames, -1))


def tracks(of):
    return [of.row(row) for row in range(len(of.masks))]


@pytest.mark.parametrize("length", [2, 4, 5, 8, 36])
def test_clips_of_a_video_cover_it_and_share_frames(length):
    for frames in range(1, 200):
        starts = clip_starts(frames, length)
        assert starts[0] == 0 and max(starts[-1] + length, frames) == max(frames, length)
        steps = np.diff(starts)
        assert (steps > 0).all() and (steps <= length - shared_frames(length)).all()


def test_a_longer_video_has_no_more_clips_than_it_needs():
    assert clip_starts(36, 36) == [0]
    assert clip_starts(37, 36) == [0, 1]
    assert clip_starts(68, 36) == [0, 32]
    assert clip_starts(69, 36) == [0, 17, 33]


def test_slots_are_found_again_in_whatever_order_they_come():
    places = [(0, 0), (10, 2), (3, 12), (16, 14)]
    order = [2, 0, 3, 1]
    before, now = looks(places, 0), looks([places[i] for i in order], 2)
    assert sorted(link(tracks(before), now, 0.1)) == [(i, order.index(i)) for i in range(4)]


def test_what_shares_no_pixel_is_not_linked():
    before, now = looks([(0, 0), None, (20, 15)], 0), looks([(0, 15), None], 2)
    assert link(tracks(before), now, 0.1) == []
    assert link(tracks(looks([(0, 0)])), looks([(0, 15)]), 0.1) == []
    assert link([], now, 0.1) == []


def test_each_track_is_compared_in_the_frames_that_it_shares():
    older, newer = looks([(0, 0)], 0, 4), looks([(10, 10)], 2, 4)
    now = looks([(10, 10), (0, 0)], 3, 4)
    assert sorted(link([older, newer], now, 0.1)) == [(0, 1), (1, 0)]


def test_neighbours_decide_what_masks_leave_open():
    # Two wide slots, each half over both tracks; a third, sure one stands close to the first in both clips.
    before, now = looks([(2, 0), (14, 0), (4, 8)]), looks([(8, 0), (8, 0), (4, 8)])
    now.centres[0] += torch.tensor([-6.0, 0]) / DIAGONAL
    now.centres[1] += torch.tensor([6.0, 0]) / DIAGONAL
    now.masks[:2] |= before.masks[:2].any(0)
    assert sorted(link(tracks(before), now, 0.1)) == [(0, 0), (1, 1), (2, 2)]
    now.centres[:2] = now.centres[:2].flip(0)
    assert sorted(link(tracks(before), now, 0.1)) == [(0, 1), (1, 0), (2, 2)]


def test_embeddings_count_where_there_are_any():
    known = torch.eye(3)
    before = looks([(4, 4), (5, 5)], embeddings=known[:2])
    swapped = looks([(4, 4), (5, 5)], embeddings=known[[1, 0]] * 3)
    assert sorted(link(tracks(before), swapped, 0.1)) == [(0, 1), (1, 0)]
    absent = looks([None, None], embeddings=known[[1, 0]])
    assert sorted(link(tracks(before), absent, 0.1)) == [(0, 1), (1, 0)]
    assert link(tracks(before), looks([None], embeddings=known[2:]), 0.1) == []


class Found:
    def __init__(self, of):
        self.looks = of


def test_the_associator_forgets_what_no_window_can_show_again():
    associator, lifecycle = ClipAssociator(0.1, 8), TrackLifecycle()
    assert associator.shared_frames == 4
    first = Found(looks([(0, 0), (10, 10)], 0, 8))
    assert associator.associate(first, Window(0, 8, SIZE), lifecycle) == (range(2), [None, None])
    associator.remember([7, None], first, Window(0, 8, SIZE))
    size = associator.nbytes()
    assert size == first.looks.nbytes // 2
    second = Found(looks([None, (0, 0)], 4, 8))
    assert associator.associate(second, Window(4, 8, SIZE), lifecycle) == (range(2), [None, 7])
    associator.remember([8, 7], second, Window(4, 8, SIZE))
    assert associator.nbytes() == 2 * size
    third = Found(looks([(0, 0)], 12, 8))
    assert associator.associate(third, Window(12, 8, SIZE), lifecycle) == (range(1), [None])
    assert associator.nbytes() == 0


def test_results_of_a_video_are_tracks_of_their_own():
    assert VideoAssociator().associate([1, 2], Window(0, 8, SIZE), TrackLifecycle()) == (range(2), [None, None])


def clip_of(places, first, frames, values):
    """All slots have a value as the logit of class 1, and their squares as masks of that logit."""
    seen = looks(places, first, frames)
    logits = torch.full((len(places), frames, 4), -9.0)
    logits[..., 1] = torch.tensor(values)[:, None]
    masks = torch.where(seen.masks, seen.masks * torch.tensor(values)[:, None, None, None], -1.0)
    return Clip(first, logits, seen.centres, None, lambda slots: masks[list(slots)])


def test_clips_are_joined_to_tracks():
    resize = MaskResize(SIZE, SIZE, SIZE, SIZE, torch.device("cpu"))
    # The first square is slot 0, then slot 1; the second one is gone in the later clip, and another one comes.
    clips = [clip_of([(0, 0), (12, 12)], 0, 8, [1.0, 3.0]), clip_of([(4, 15), (0, 0)], 4, 8, [5.0, 2.0])]
    found = joined(clips, 12, 0.1, resize)
    assert found.channels.tolist() == [1, 1, 1]
    scores = [torch.tensor([-9.0, value, -9.0, -9.0]).softmax(0)[1] for value in (1.0, 3.0, 5.0, 2.0, 1.5)]
    first = [scores[0]] * 4 + [scores[4]] * 4 + [scores[3]] * 4
    np.testing.assert_allclose(found.shown[0], first, rtol=1e-5)
    np.testing.assert_allclose(found.shown[1], [scores[1]] * 8 + [0] * 4, rtol=1e-5)
    np.testing.assert_allclose(found.shown[2], [0] * 4 + [scores[2]] * 8, rtol=1e-5)
    np.testing.assert_allclose(found.scores, [np.mean(first), scores[1], scores[2]], rtol=1e-5)
    boxes = [found.masks(t, [0])[0].box for t in range(12)]
    assert boxes == [(t, 0, 6, 6) for t in range(12)]


def test_in_an_overlap_masks_are_the_later_clips_from_the_middle_on():
    resize = MaskResize(SIZE, SIZE, SIZE, SIZE, torch.device("cpu"))
    clips = [clip_of([(0, 0)], 0, 8, [1.0]), clip_of([(0, 1)], 4, 8, [1.0]), clip_of([(0, 2)], 6, 8, [1.0])]
    rows = [mask.box[1] for mask in joined(clips, 14, 0.1, resize).run_lengths[0]]
    assert rows == [0] * 6 + [1] * 3 + [2] * 5
