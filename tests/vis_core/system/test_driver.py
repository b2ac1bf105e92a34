"""What every system gets from the driver: windows, answers in order, identities, prefetching, bounded memory."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from vis_core import masks
from vis_core.errors import OptionError
from vis_core.structures import Frame, TrackState
from vis_core.system.clip import ClipInstances, ClipModel
from vis_core.system.driver import StreamSegmenter
from vis_core.system.option import Option
from vis_core.tracking.associator import Associator
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.overlap import OverlapAssociator

SIZE = (12, 16)


@dataclass(frozen=True, eq=False)
class Grey:
    """A frame's red channel."""

    values: torch.Tensor

    def nbytes(self):
        return self.values.numel()


@dataclass(frozen=True, eq=False)
class Colours(ClipInstances):
    class_scores: np.ndarray
    coarse_masks: torch.Tensor
    asked: list

    def frame_scores(self, t, labels):
        self.asked.append(labels.tolist())
        scores = self.class_scores.max(-1, initial=0)
        return scores[:, t] if scores.ndim == 2 else scores

    def masks(self, t, rows):
        return [masks.encode(self.coarse_masks[row, t].numpy()) for row in rows]


class ColourModel(ClipModel):
    """Each grey value of a picture is an instance; of class 0 where it is under 128, else of class 1.

    Args:
        by_frame: class scores of each frame, of which the first names the other class.
        hidden: value of an instance that is never found.
    """

    class_names = ("dark", "light")

    def __init__(self, by_frame=False):
        self.network = nn.Linear(1, 1)
        self.by_frame = by_frame
        self.hidden = None
        self.encoded, self.windows, self.asked = [], [], []

    def encode(self, frame):
        self.encoded.append(frame.index)
        return Grey(torch.from_numpy(frame.image[..., 0].copy()))

    def segment(self, clip, window):
        images = torch.stack([x.values for x in clip])
        assert window.size == images.shape[1:] and window.length == len(clip)
        self.windows.append((window.first, images))
        values = sorted(set(images.flatten().tolist()) - {0, self.hidden})
        found = torch.stack([images == v for v in values]) if values else images.new_zeros((0, *images.shape)) > 0
        scores = np.array([[0.5, 0.2] if v < 128 else [0.1, 0.9] for v in values], np.float32).reshape(-1, 2)
        if self.by_frame:
            scores = np.repeat(scores[:, None], len(clip), 1)
            scores[:, 0] = scores[:, 0, ::-1]
        return Colours(scores, found, self.asked)


def clips(clip_length=5, stride=1, max_lost_frames=30, model=None, associator=None):
    lifecycle = TrackLifecycle(None if clip_length is None else max_lost_frames)
    associator = associator or (Nothing() if clip_length == 1 else OverlapAssociator(0.3))
    return StreamSegmenter(model or ColourModel(), associator, lifecycle, clip_length, stride)


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
    segmenter = clips(length, stride)
    answers, frames = [], moving(count)
    for f in frames:
        answers += segmenter.step(f)
        assert len(answers) >= f.index + 1 - segmenter.delay
    answers += segmenter.flush()
    assert [(x.index, x.stamp) for x in answers] == [(f.index, f.stamp) for f in frames]
    assert segmenter.flush() == []


def test_a_window_holds_the_last_frames_as_far_as_there_are_any():
    segmenter = clips(4, 2)
    run(segmenter, [frame(i, (i + 1, 0)) for i in range(7)])
    assert [images[:, 2, 0].tolist() for _, images in segmenter.model.windows] == [
        [1, 2],
        [1, 2, 3, 4],
        [3, 4, 5, 6],
        [4, 5, 6, 7],
    ]


def test_each_frame_is_encoded_once_whatever_the_windows():
    segmenter = clips(6, 1)
    run(segmenter, moving(20))
    assert segmenter.model.encoded == list(range(20))


@pytest.mark.parametrize(("length", "stride"), [(5, 1), (5, 4), (2, 1), (None, 1)])
def test_ids_are_handed_over_from_window_to_window(length, stride):
    answers = run(clips(length, stride), moving(20))
    assert all({*seen(x).track_ids} == ({1} if x.index < 3 else {1, 2}) for x in answers)
    assert [x.states.tolist() for x in answers[:4]] == [[1], [2], [2], [1, 2]]
    assert answers[-1].labels.tolist() == [1, 0]  # by descending score


def test_another_object_in_the_same_place_is_a_new_track():
    frames = [frame(i, (50 if i < 6 else 60, 0)) for i in range(12)]
    answers = run(clips(3, 1), frames)
    assert [seen(x).track_ids.tolist() for x in answers] == [[1]] * 6 + [[2]] * 6


def test_an_object_that_was_away_for_less_than_a_window_keeps_its_id():
    frames = [frame(i, *([(50, 0)] if i not in (4, 5) else [])) for i in range(10)]
    answers = run(clips(5, 1), frames)
    assert [seen(x).track_ids.tolist() for x in answers] == [[1]] * 4 + [[], []] + [[1]] * 4
    assert answers[4].states.tolist() == [TrackState.LOST]


def test_an_object_that_was_away_for_longer_gets_a_new_id_and_the_old_one_ends():
    frames = [frame(i, *([(50, 0)] if not 4 <= i < 9 else [])) for i in range(14)]
    answers = run(clips(3, 1, max_lost_frames=3), frames)
    assert seen(answers[9]).track_ids.tolist() == [2]
    assert [x.index for x in answers if TrackState.ENDED in x.states] == [7]


@pytest.mark.parametrize("count", [1, 4, 6])
def test_a_window_as_long_as_the_stream_answers_as_the_whole_clip_does(count):
    frames = moving(count)
    whole = run(clips(None), frames)
    windows = run(clips(count + 1, count), frames)
    sliding = run(clips(count + 1, 1), frames)
    for a, b in zip(whole, windows, strict=True):
        assert a.masks == b.masks and a.track_ids.tolist() == b.track_ids.tolist()
        np.testing.assert_array_equal(a.track_scores, b.track_scores)
    assert whole[-1].masks == sliding[-1].masks
    np.testing.assert_array_equal(whole[-1].scores, sliding[-1].scores)


def test_memory_does_not_grow_with_the_stream():
    segmenter = clips(5, 2, max_lost_frames=4)
    sizes = []
    for i in range(400):
        value = 1 + i // 9 % 250  # an object is born and lost all the time
        segmenter.step(frame(i, (value, i // 9 % 3 * 4)))
        sizes.append(segmenter.state_bytes())
    assert max(sizes[200:]) <= max(sizes[:200]) < 40 * SIZE[0] * SIZE[1]


def test_frames_that_wait_for_their_answer_are_kept_without_their_images():
    segmenter = clips(None)
    for f in moving(5):
        segmenter.step(f)
    assert all(f.image.base is None or max(f.image.strides) == 0 for f in segmenter._owed)
    assert segmenter.state_bytes() == 5 * SIZE[0] * SIZE[1]


def test_a_reset_answers_like_a_fresh_start_and_ids_go_on():
    segmenter = clips(5, 2)
    first = run(segmenter, moving(8))
    segmenter.reset()
    assert segmenter.flush() == []
    second = run(segmenter, moving(8))
    for a, b in zip(first, second, strict=True):
        assert seen(a).masks == seen(b).masks
    assert {*seen(second[-1]).track_ids} == {3, 4}
    assert sorted(second[0].track_ids[second[0].states == TrackState.ENDED]) == [1, 2]


def test_a_change_of_image_size_pays_what_is_owed_and_starts_anew():
    segmenter = clips(5, 3)
    for f in moving(4):
        segmenter.step(f)
    larger = Frame(np.full((20, 20, 3), 50, np.uint8), stamp=99, index=4)
    answers = segmenter.step(larger)
    assert [x.index for x in answers] == [3]
    (last,) = segmenter.flush()
    assert last.index == 4 and last.size == (20, 20)
    assert last.states[last.visible].tolist() == [TrackState.NEW]


class Nothing(Associator):
    """Continues nothing; `ends` are tracks that it ends itself, `drops` rows that do not stay."""

    def __init__(self, ends=(), drops=()):
        super().__init__()
        self.ends, self.drops, self.told = list(ends), drops, []

    def associate(self, found, window, lifecycle):
        ended = [i for i in self.ends if i in lifecycle.alive]
        lifecycle.end(ended)
        rows = [row for row in range(len(found)) if row not in self.drops]
        return rows, [None] * len(rows)

    def remember(self, track_ids, found, window):
        self.told.append(track_ids)

    def forget(self, track_ids):
        self.told.append(tuple(track_ids))


def test_a_track_that_the_associator_ends_is_told_in_the_first_frame_that_is_owed():
    segmenter = clips(2, 2, associator=Nothing(ends=[1]))
    answers = run(segmenter, [frame(i, (50, 0)) for i in range(6)])
    ended = [(x.index, x.track_ids[x.states == TrackState.ENDED].tolist()) for x in answers]
    assert [entry for entry in ended if entry[1]] == [(2, [1])]


def test_rows_that_do_not_stay_are_not_answered_and_not_remembered():
    associator = Nothing(drops=[0])
    (answer,) = run(clips(1, 1, associator=associator), [frame(0, (50, 0), (200, 8))])
    assert answer.labels.tolist() == [1]
    assert associator.told == [(), [None, 1]]


def test_what_is_never_shown_is_remembered_without_a_track():
    model = ColourModel()
    associator = Nothing()
    segmenter = clips(3, 1, model=model, associator=associator)
    run(segmenter, [frame(0, (50, 0)), frame(1)])  # in the second window the object is in a frame that was answered
    assert associator.told == [(), [1], (), [None]]


def test_class_scores_may_be_of_each_frame():
    answers = run(clips(2, 2, model=ColourModel(by_frame=True), associator=Nothing()), moving(2))
    assert [x.labels.tolist() for x in answers] == [[1], [0]]  # of the running mean: [.2, .5], then with [.5, .2]
    assert answers[0].track_scores.tolist() == pytest.approx([0.5])
    assert answers[1].track_scores.tolist() == pytest.approx([0.35])


def test_a_model_is_asked_for_the_score_of_the_label_that_the_track_has_so_far():
    model = ColourModel(by_frame=True)
    run(clips(2, 1, model=model), [frame(i, (50, 0)) for i in range(4)])
    # Of a new one its own best class; then that of the track's mean, in which the other one soon prevails.
    assert model.asked == [[1], [1], [0], [0]]


def test_a_window_that_fails_is_not_asked_for_again_and_the_stream_goes_on():
    model = ColourModel()
    segmenter, segment = clips(1, 1, model=model), model.segment
    segmenter.step(frame(0, (50, 0)))
    model.segment = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        segmenter.step(frame(1, (50, 1)))
    model.segment = segment
    (answer,) = segmenter.step(frame(2, (50, 1)))
    assert answer.index == 2 and segmenter.flush() == []


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("length", "stride"), [(1, 1), (5, 1), (4, 3), (None, 1)])
def test_run_answers_every_frame_as_stepping_does(length, stride, two_threads):
    stepped, running = clips(length, stride), clips(length, stride)
    wanted, found = run(stepped, moving(11)), list(running.run(iter(moving(11))))
    assert running.prefetches and sorted(running.model.encoded) == list(range(11))
    for a, b in zip(wanted, found, strict=True):
        assert (a.index, a.track_ids.tolist(), a.masks) == (b.index, b.track_ids.tolist(), b.masks)
    stepped.reset()
    assert running.state_bytes() == stepped.state_bytes() < SIZE[0] * SIZE[1] * 4


def test_run_begins_with_each_frame_while_the_one_before_is_at_work(two_threads):
    segmenter = clips(1, 1)
    begun, begin = [], segmenter.prefetch
    segmenter.prefetch = lambda f: begun.append(f.index) or begin(f)
    assert [x.index for x in segmenter.run(moving(4))] == [0, 1, 2, 3]
    assert begun == [1, 2, 3]


def test_run_begins_with_no_frame_of_a_camera_before_its_time(two_threads):
    class Camera(list):
        live = True

    segmenter = clips(1, 1)
    segmenter.prefetch = None  # would fail
    assert len(list(segmenter.run(Camera(moving(3))))) == 3
    assert len(list(segmenter.run(moving(3), prefetch=False))) == 3


def test_what_was_read_before_an_error_is_answered_before_it(two_threads):
    def torn():
        yield from moving(5)
        raise OSError("torn")

    segmenter, seen = clips(5, 3), []
    with pytest.raises(OSError, match="torn"):
        seen.extend(x.index for x in segmenter.run(torn()))
    assert seen == [0, 1, 2, 3, 4]


def test_a_run_that_is_left_early_is_over():
    segmenter = clips(2, 1)
    for answer in segmenter.run(moving(9)):
        if answer.index == 3:
            break
    assert [x.index for x in segmenter.run(moving(2))] == [0, 1]
    assert segmenter.flush() == []


def test_what_is_prefetched_counts_as_state(two_threads):
    segmenter = clips(1, 1)
    frames = moving(2)
    segmenter.step(frames[0])
    before = segmenter.state_bytes()
    segmenter.prefetch(frames[1])
    segmenter._prefetcher.wait()
    assert segmenter.state_bytes() == before + SIZE[0] * SIZE[1]
    segmenter.reset()
    assert segmenter.state_bytes() < SIZE[0] * SIZE[1]


def test_a_frame_by_frame_system_keeps_nothing_of_a_frame_that_is_over():
    segmenter = clips(1, 1, associator=Nothing())
    segmenter.step(frame(0))
    assert segmenter.state_bytes() == 0


def test_a_live_option_holds_from_the_next_frame_on_and_others_are_refused():
    segmenter = clips(1, 1)
    with pytest.raises(OptionError, match="hidden: cannot be changed while the system runs; these can: none"):
        segmenter.set_option("hidden", 50)
    segmenter.options = {
        "hidden": Option("a value", 0, 255, live=True, default=0),
        "fixed": Option("a value", default=0),
        "absent": Option("a value", live=True, default=0),
    }
    (before,) = segmenter.step(frame(0, (50, 0)))
    segmenter.set_option("hidden", 50)
    (after,) = segmenter.step(frame(1, (50, 0)))
    assert before.visible.any() and not after.visible.any()
    with pytest.raises(OptionError, match=r"hidden: 256 is not in \[0, 255\]"):
        segmenter.set_option("hidden", 256)
    with pytest.raises(OptionError, match="fixed: cannot be changed while the system runs; these can: hidden, absent"):
        segmenter.set_option("fixed", 1)
    with pytest.raises(OptionError, match="absent: ColourModel has no such attribute"):
        segmenter.set_option("absent", 1)


def test_windows_that_would_leave_frames_out_are_refused():
    with pytest.raises(OptionError, match="stride: 6 is more than the 5 frames"):
        clips(5, 6, associator=Nothing())


def test_windows_that_share_no_frame_are_refused_where_tracks_are_handed_over_by_them():
    with pytest.raises(OptionError, match="stride: 5 leaves windows of 5 frames without a shared one"):
        clips(5, 5)
