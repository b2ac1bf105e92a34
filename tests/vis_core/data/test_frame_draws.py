"""Which frames of a video a clip holds: what each order promises, and that recorded trainings can be repeated."""

from __future__ import annotations

import numpy as np
import pytest

from tests.vis_core.data.annotated import SIZE, coco, write_image, youtube_vis
from vis_core.data.annotation_files import read_annotations
from vis_core.data.augmentation import NO_AUGMENTATION
from vis_core.data.frame_draws import FrameDraw
from vis_core.data.sources import open_sources


def draws(draw, count, frames, seeds=200):
    return [draw.draw(count, frames, np.random.default_rng(seed)) for seed in range(seeds)]


def formerly_drawn(count, frames, random):
    """What was drawn before there was a choice."""
    middle = int(random.integers(count))
    low, high = max(0, middle - 20), min(count, middle + 20)
    chosen = [middle, *(int(t) for t in random.integers(low, high, frames - 1))] if count > 1 else [0]
    chosen = [chosen[i % len(chosen)] for i in range(frames)]
    random.shuffle(chosen)
    return chosen


@pytest.mark.parametrize("count", [1, 2, 3, 15, 20, 21, 40, 41, 300])
def test_by_default_frames_are_drawn_as_for_the_recorded_trainings(count):
    for frames in (1, 2, 3, 5, 8):
        for seed in range(50):
            random, former = np.random.default_rng(seed), np.random.default_rng(seed)
            assert FrameDraw().draw(count, frames, random) == formerly_drawn(count, frames, former)
            assert random.bit_generator.state == former.bit_generator.state  # what is drawn after it is the same too


def test_shuffled_frames_come_from_the_whole_video_where_there_is_no_reach():
    found = draws(FrameDraw("shuffled", None), 300, 5)
    assert max(map(np.ptp, found)) > 200 and all(0 <= t < 300 for clip in found for t in clip)


@pytest.mark.parametrize("reach", [4, 20, None])
def test_distinct_frames_are_never_further_than_the_reach_from_the_first(reach):
    found = draws(FrameDraw("distinct", reach), 100, 5, 2000)
    assert all(len(set(clip)) == 5 for clip in found)
    offsets = {t - clip[0] for clip in found for t in clip[1:]}
    assert (min(offsets), max(offsets)) == (-reach, reach) if reach else max(offsets) > 80 and min(offsets) < -80
    assert {clip[0] for clip in found} == set(range(100))


def test_distinct_frames_come_in_every_order():
    found = draws(FrameDraw("distinct", None), 3, 3, 300)
    orders, times = np.unique(found, axis=0, return_counts=True)
    assert len(orders) == 6 and times.min() > 25


def test_sorted_frames_are_the_distinct_ones_in_the_order_of_time():
    for count, reach in ((100, 20), (100, None), (5, 4)):
        distinct = draws(FrameDraw("distinct", reach), count, 5)
        assert draws(FrameDraw("sorted", reach), count, 5) == [sorted(clip) for clip in distinct]


@pytest.mark.parametrize("count", [6, 7, 30])
def test_successive_frames_are_a_run_from_anywhere_and_as_often_backwards(count):
    found = np.array(draws(FrameDraw("successive"), count, 6, 1000))
    steps = np.diff(found, axis=1)
    assert (steps == steps[:, :1]).all() and set(steps.ravel().tolist()) == {-1, 1}
    assert 430 < (steps[:, 0] == 1).sum() < 570
    assert set(found.min(1).tolist()) == set(range(count - 5))  # every start, and none beyond the ends


def test_a_video_with_too_few_frames_is_walked_to_and_fro():
    runs = {tuple(clip) for clip in draws(FrameDraw("successive"), 3, 8)}
    assert runs == {(0, 1, 2, 1, 0, 1, 2, 1), (1, 2, 1, 0, 1, 2, 1, 0)}
    assert {tuple(clip) for clip in draws(FrameDraw("successive"), 2, 4)} == {(0, 1, 0, 1), (1, 0, 1, 0)}
    for first, second, third, *again in draws(FrameDraw("distinct"), 3, 6):
        assert {first, second, third} == {0, 1, 2} and again == [second, first, second]
    assert {tuple(np.unique(clip)) for clip in draws(FrameDraw("sorted"), 3, 6)} == {(0, 1, 2)}
    assert all(clip == sorted(clip) for clip in draws(FrameDraw("sorted"), 3, 6))


@pytest.mark.parametrize("order", ["shuffled", "distinct", "sorted", "successive"])
def test_an_image_is_every_frame_of_its_clip(order, tmp_path):
    assert draws(FrameDraw(order), 1, 4, 3) == [[0] * 4] * 3
    annotated = read_annotations(coco(tmp_path, {"boxes": [("red", (10, 10, 20, 20))]}))
    (source,) = open_sources([annotated], 4, SIZE, NO_AUGMENTATION, frame_draw=FrameDraw(order))
    clip = source.clip(0, np.random.default_rng(0))
    assert (clip.images == annotated.items[0].image(0)).all()


def test_a_clip_shows_the_frames_in_the_order_that_they_were_drawn_in_without_an_object_too(tmp_path):
    """A picture tells its number; its object is there in every fourth frame."""
    path = youtube_vis(tmp_path, [[("red", (5, 5, 20, 20) if t % 4 == 0 else (0, 0, 0, 0))] for t in range(12)])
    for t in range(12):
        write_image(tmp_path / "frames" / "v1" / f"{t:05d}.png", np.full((*SIZE, 3), 20 * t, np.uint8))
    (source,) = open_sources([read_annotations(path)], 6, SIZE, NO_AUGMENTATION, frame_draw=FrameDraw("successive"))
    directions = set()
    for seed in range(20):
        clip = source.clip(0, np.random.default_rng(seed))
        numbers = clip.images[:, 0, 0, 0].astype(int) // 20
        directions.update(np.diff(numbers).tolist())
        assert (clip.masks[0].any((1, 2)) == (numbers % 4 == 0)).all()
    assert directions == {-1, 1}
