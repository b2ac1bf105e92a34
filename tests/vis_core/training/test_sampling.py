from __future__ import annotations

import multiprocessing
from collections import Counter

import numpy as np
import pytest

from vis_core.data.clips import TrainingClip
from vis_core.errors import InputError
from vis_core.training.sampling import ClipDraws, FaultCount, micro_batches


class Numbers:
    """A source whose clips hold only where they come from; the items in `bad` cannot be read."""

    def __init__(self, start, count, bad=()):
        self.start, self.count, self.bad = start, count, bad

    def __len__(self):
        return self.count

    def clip(self, index, random):
        if index in self.bad:
            raise InputError(f"image {index}: damaged")
        value = random.integers(1000)
        images = np.array([[[[self.start + index, value // 256, value % 256]]]], np.uint8)
        none = np.zeros((0, 1, 1, 1), np.bool_)
        labels = np.zeros(0, np.int64)
        return TrainingClip(images, none, labels, np.ones(1, np.bool_), none, labels)


def code(drawn):
    return tuple(drawn.clip.images.ravel().tolist())


def batches(draws, steps=range(4), rank=0, processes=1, accumulate=1, workers=0):
    return [[code(d) for d in b] for b in micro_batches(draws, steps, 8, accumulate, rank, processes, workers)]


def test_a_clip_is_a_function_of_seed_step_and_place():
    draws = ClipDraws([Numbers(0, 9), Numbers(100, 9)], [1, 1], seed=3)
    again = ClipDraws([Numbers(0, 9), Numbers(100, 9)], [1, 1], seed=3)
    places = [(step, slot) for step in range(5) for slot in range(6)]
    first = [code(draws.draw(*place)) for place in places]
    assert [code(again.draw(*place)) for place in reversed(places)] == first[::-1]
    assert len(set(first)) > 25
    assert [code(ClipDraws([Numbers(0, 9), Numbers(100, 9)], [1, 1], seed=4).draw(*p)) for p in places] != first


def test_items_are_drawn_by_their_weights():
    draws = ClipDraws([Numbers(0, 4), Numbers(100, 2)], [1, 1], 0, [np.array([0.0, 1, 3, 0]), None])
    found = Counter(code(draws.draw(step, 0))[0] for step in range(800))
    assert set(found) == {1, 2, 100, 101}
    assert found[1] == pytest.approx(100, abs=30) and found[2] == pytest.approx(300, abs=50)
    assert found[100] == pytest.approx(200, abs=40)


def test_workers_make_the_clips_that_the_process_itself_would():
    draws = ClipDraws([Numbers(0, 9)], [1], seed=0)
    assert batches(draws, workers=2) == batches(draws)


def test_a_loader_that_begins_later_goes_on_with_the_same_clips():
    draws = ClipDraws([Numbers(0, 9)], [1], seed=0)
    assert batches(draws, range(2, 4)) == batches(draws)[2:]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_processes_and_parts_divide_the_batch_that_one_process_would_take(accumulate):
    draws = ClipDraws([Numbers(0, 9)], [1], seed=0)
    whole = batches(draws)
    ranks = [batches(draws, rank=rank, processes=2, accumulate=accumulate) for rank in range(2)]
    joined = [ranks[0][i] + ranks[1][i] for i in range(len(ranks[0]))]
    parts = [joined[i : i + accumulate] for i in range(0, len(joined), accumulate)]
    assert [[clip for part in step for clip in part] for step in parts] == whole


def test_sources_are_drawn_by_their_weights():
    draws = ClipDraws([Numbers(0, 3), Numbers(100, 50), Numbers(200, 5)], [1, 3, 0], seed=1)
    counts = Counter(code(draws.draw(step, 0))[0] // 100 for step in range(2000))
    assert counts[2] == 0 and counts[1] / counts[0] == pytest.approx(3, rel=0.2)


def test_what_cannot_be_read_is_replaced_told_once_and_counted():
    draws = ClipDraws([Numbers(0, 20, bad=(7,))], [1], seed=0)
    told = []
    count = FaultCount(told.append)
    clips = [count.take(draws.draw(step, 0)) for step in range(400)]
    assert told == ["image 7: damaged"]
    assert {int(clip.images[0, 0, 0, 0]) for clip in clips} == set(range(20)) - {7}
    assert count.draws - count.bad == 400 and 5 < count.bad < 40


def test_mostly_unreadable_data_end_the_training():
    draws = ClipDraws([Numbers(0, 10, bad=range(5))], [1], seed=0)
    count = FaultCount(lambda text: None)
    fault = r"\d+ of \d+ clips that were drawn cannot be read, more than 10%.*damaged"
    with pytest.raises(InputError, match=fault):
        [count.take(draws.draw(step, 0)) for step in range(200)]
    assert count.draws < 120


@pytest.mark.parametrize("workers", [0, 1])
def test_data_of_which_nothing_can_be_read_are_an_error_at_once(workers):
    draws = ClipDraws([Numbers(0, 10, bad=range(10))], [1], seed=0)
    with pytest.raises(
        InputError, match=r"^none of 50 clips that were drawn can be read; the first: image \d: damaged$"
    ):
        batches(draws, workers=workers)
    assert not multiprocessing.active_children()
