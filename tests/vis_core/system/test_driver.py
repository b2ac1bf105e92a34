"""What every clip system gets from its driver: windows, answers in order, identities, bounded memory."""

import numpy as np
import pytest
import torch

from vis_core import masks
from vis_core.errors import OptionError
from vis_core.structures import Frame, TrackState
from vis_core.system.driver import ClipInstances, ClipSegmenter
from vis_core.tracking.overlap import OverlapLinker

SIZE = (12, 16)


class ColourClips(ClipSegmenter):
    """Each grey value of a picture is an instance; of class 0 where it is under 128, else of class 1."""

    class_names = ("dark", "light")

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.encoded, self.windows = [], []

    def encode(self, frame):
        self.encoded.append(frame.index)
        return torch.from_numpy(frame.image[..., 0].copy())

    def feature_bytes(self, features):
        return features.numel()

    def segment_clip(self, clip, size):
        images = torch.stack(clip)
        self.windows.append(images)
        values = sorted(set(images.flatten().tolist()) - {0})
        found = torch.stack([images == v for v in values]) if values else images.new_zeros((0, *images.shape)) > 0
        scores = np.array([[0.5, 0.2] if v < 128 else [0.1, 0.9] for v in values], np.float32).reshape(-1, 2)
        return ClipInstances(
            class_scores=scores,
            scores=np.repeat(scores.max(1, initial=0)[:, None], len(clip), 1),
            masks=found,
            full_masks=lambda t: [masks.encode(m.numpy()) for m in found[:, t]],
        )


def frame(index, *boxes):
    image = np.zeros((*SIZE, 3), np.uint8)
    for value, left in boxes:
        image[2:8, left : left + 5] = value
    return Frame(image, stamp=10 * index, index=index)


def moving(count):
    """Two objects that move side by side; the second is there from frame 3."""
    return [frame(i, (50, i % 3), *([(200, 8 + i % 3)] if i >= 3 else [])) for i in range(count)]


def run(segmenter, frames):
    return [*(x for f in frames for x in segmenter.step(f)), *segmenter.flush()]


def seen(instances):
    return instances[instances.visible]


@pytest.mark.parametrize(("length", "stride"), [(5, 1), (5, 2), (4, 3), (3, 2), (2, 1)])
@pytest.mark.parametrize("count", [1, 2, 7, 11])
def test_every_frame_is_answered_once_in_order_under_its_own_stamp(length, stride, count):
    segmenter = ColourClips(length, stride)
    answers, frames = [], moving(count)
    for f in frames:
        answers += segmenter.step(f)
        assert len(answers) >= f.index + 1 - segmenter.delay
    answers += segmenter.flush()
    assert [(x.index, x.stamp) for x in answers] == [(f.index, f.stamp) for f in frames]
    assert segmenter.flush() == []


def test_a_window_holds_the_last_frames_as_far_as_there_are_any():
    segmenter = ColourClips(4, 2)
    run(segmenter, [frame(i, (i + 1, 0)) for i in range(7)])
    assert [window[:, 2, 0].tolist() for window in segmenter.windows] == [
        [1, 2],
        [1, 2, 3, 4],
        [3, 4, 5, 6],
        [4, 5, 6, 7],
    ]


def test_each_frame_is_encoded_once_whatever_the_windows():
    segmenter = ColourClips(6, 1)
    run(segmenter, moving(20))
    assert segmenter.encoded == list(range(20))


@pytest.mark.parametrize(("length", "stride"), [(5, 1), (5, 4), (2, 1), (None, 1)])
def test_ids_are_handed_over_from_window_to_window(length, stride):
    answers = run(ColourClips(length, stride), moving(20))
    assert all({*seen(x).track_ids} == ({1} if x.index < 3 else {1, 2}) for x in answers)
    assert [x.states.tolist() for x in answers[:4]] == [[1], [2], [2], [1, 2]]
    assert answers[-1].labels.tolist() == [1, 0]  # by descending score


def test_another_object_in_the_same_place_is_a_new_track():
    frames = [frame(i, (50 if i < 6 else 60, 0)) for i in range(12)]
    answers = run(ColourClips(3, 1), frames)
    assert [seen(x).track_ids.tolist() for x in answers] == [[1]] * 6 + [[2]] * 6


@pytest.mark.parametrize(("left", "same"), [(1, True), (3, False)])
def test_masks_that_overlap_too_little_are_not_linked(left, same):
    linker = OverlapLinker(0.5)
    masks_before, masks_now = torch.zeros(1, 2, 4, 20, dtype=torch.bool), torch.zeros(1, 2, 4, 20, dtype=torch.bool)
    masks_before[:, 1, :, :6], masks_now[:, 0, :, left : left + 6] = True, True
    linker.remember([7], masks_before, first=4)
    assert linker.associate(masks_now, first=5) == ([7] if same else [None])
    assert linker.associate(masks_before, first=6) == [None]  # no frame is shared


def test_an_object_that_was_away_for_less_than_a_window_keeps_its_id():
    frames = [frame(i, *([(50, 0)] if i not in (4, 5) else [])) for i in range(10)]
    answers = run(ColourClips(5, 1), frames)
    assert [seen(x).track_ids.tolist() for x in answers] == [[1]] * 4 + [[], []] + [[1]] * 4
    assert answers[4].states.tolist() == [TrackState.LOST]


def test_an_object_that_was_away_for_longer_gets_a_new_id_and_the_old_one_ends():
    frames = [frame(i, *([(50, 0)] if not 4 <= i < 9 else [])) for i in range(14)]
    answers = run(ColourClips(3, 1, max_lost_frames=3), frames)
    assert seen(answers[9]).track_ids.tolist() == [2]
    assert [x.index for x in answers if TrackState.ENDED in x.states] == [7]


@pytest.mark.parametrize("count", [1, 4, 6])
def test_a_window_as_long_as_the_stream_answers_as_the_whole_clip_does(count):
    frames = moving(count)
    whole = run(ColourClips(None), frames)
    windows = run(ColourClips(count + 1, count), frames)
    sliding = run(ColourClips(count + 1, 1), frames)
    for a, b in zip(whole, windows, strict=True):
        assert a.masks == b.masks and a.track_ids.tolist() == b.track_ids.tolist()
        np.testing.assert_array_equal(a.track_scores, b.track_scores)
    assert whole[-1].masks == sliding[-1].masks
    np.testing.assert_array_equal(whole[-1].scores, sliding[-1].scores)


def test_memory_does_not_grow_with_the_stream():
    segmenter = ColourClips(5, 2, max_lost_frames=4)
    sizes = []
    for i in range(400):
        value = 1 + i // 9 % 250  # an object is born and lost all the time
        segmenter.step(frame(i, (value, i // 9 % 3 * 4)))
        sizes.append(segmenter.state_bytes())
    assert max(sizes[200:]) <= max(sizes[:200]) < 40 * SIZE[0] * SIZE[1]


def test_frames_that_wait_for_their_answer_are_kept_without_their_images():
    segmenter = ColourClips(None)
    for f in moving(5):
        segmenter.step(f)
    assert all(f.image.base is None or max(f.image.strides) == 0 for f in segmenter._frames)
    assert segmenter.state_bytes() == 5 * SIZE[0] * SIZE[1]


def test_a_reset_answers_like_a_fresh_start_and_ids_go_on():
    segmenter = ColourClips(5, 2)
    first = run(segmenter, moving(8))
    segmenter.reset()
    assert segmenter.flush() == []
    second = run(segmenter, moving(8))
    for a, b in zip(first, second, strict=True):
        assert seen(a).masks == seen(b).masks
    assert {*seen(second[-1]).track_ids} == {3, 4}
    assert sorted(second[0].track_ids[second[0].states == TrackState.ENDED]) == [1, 2]


def test_a_change_of_image_size_pays_what_is_owed_and_starts_anew():
    segmenter = ColourClips(5, 3)
    for f in moving(4):
        segmenter.step(f)
    larger = Frame(np.full((20, 20, 3), 50, np.uint8), stamp=99, index=4)
    answers = segmenter.step(larger)
    assert [x.index for x in answers] == [3]
    (last,) = segmenter.flush()
    assert last.index == 4 and last.size == (20, 20)
    assert last.states[last.visible].tolist() == [TrackState.NEW]


def test_windows_that_would_leave_frames_out_are_refused():
    with pytest.raises(OptionError, match="stride: 6 is more than the 5 frames"):
        ColourClips(5, 6)
