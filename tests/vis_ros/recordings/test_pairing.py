"""Which frame each image of a recording is, by its stamp or by its place."""

from __future__ import annotations

import numpy as np
import pytest

from vis_core.data.file_time import FILE_START
from vis_core.errors import InputError
from vis_core.evaluation import Video
from vis_ros.recordings.pairing import Pairing, frame_stamps, pair, timed


def video_of(stamps: list[int] | None, length: int = 0) -> Video:
    return Video(
        1, "v", (24, 32), length or len(stamps or ()), (), None if stamps is None else np.array(stamps, np.int64)
    )


def positions(images: list[int], frames: list[int]) -> list[int]:
    return pair(np.array(images), video_of(frames)).positions.tolist()


def test_equal_stamps_pair():
    assert positions([0, 100, 200], [0, 100, 200]) == [0, 1, 2]


def test_images_pair_with_frames_within_half_an_interval():
    assert positions([30, 149, 251, 360], [0, 100, 200, 300]) == [0, 1, 3, -1]


def test_of_several_images_the_nearest_is_the_frame():
    assert positions([0, 33, 66, 100, 133, 166, 200], [0, 100, 200]) == [0, -1, -1, 1, -1, -1, 2]
    assert positions([90, 101], [0, 100, 200]) == [-1, 1]


def test_an_image_is_one_frame_only():
    assert positions([100, 500], [80, 101, 500, 900]) == [1, 2]


def test_images_out_of_order_pair_all_the_same():
    assert positions([200, 0, 100], [0, 100, 200]) == [2, 0, 1]


def test_a_video_of_one_frame_pairs_with_its_nearest_image():
    assert positions([10, 110, 210], [100]) == [-1, 0, -1]
    assert positions([100], [100]) == [0]


def test_without_stamps_images_pair_by_order():
    found = pair(np.array([5, 6, 7]), video_of(None, 2))
    assert (found.by, found.positions.tolist(), found.paired) == ("order", [0, 1, -1], 2)
    assert pair(np.array([5]), video_of(None, 3)).positions.tolist() == [0]


def test_order_can_be_asked_for():
    assert pair(np.array([5, 6]), video_of([0, 100]), "order").positions.tolist() == [0, 1]


def test_stamps_that_have_nothing_in_common_are_an_error_that_shows_both():
    with pytest.raises(InputError, match=r"0\.000 to 0\.100 s .* 1000\.000 to 1000\.100 s .*--pair order"):
        pair(np.array([10**12, 10**12 + 10**8]), video_of([0, 10**8]))
    with pytest.raises(InputError, match="has no 'stamps'"):
        pair(np.array([0]), video_of(None, 1), "stamps")


def test_of_images_with_one_stamp_one_is_the_frame():
    assert positions([10, 50, 110, 110], [0, 100]) == [0, -1, 1, -1]


@pytest.mark.parametrize("by", ["auto", "stamps"])
def test_images_that_all_have_one_stamp_are_not_paired_by_it(by):
    with pytest.raises(InputError, match=r"video 1: .*all 3 images have the stamp 0\.000 s.*--pair order"):
        pair(np.zeros(3, np.int64), video_of([0, 100, 200]), by)
    assert pair(np.zeros(3, np.int64), video_of([0, 100, 200]), "order").positions.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("stamps", "told"),
    [
        ([0, 0, 0, 0], r"cam\.bag: .*image 1 \(from 0\) has 0\.000 s after 0\.000 s"),
        ([5, 5, 6, 6], "image 1 "),
        ([5, 6, 3, 4], "image 2 "),
        ([-1, 0, 1, 2], "image 0 "),
    ],
)
def test_where_stamps_do_not_grow_the_times_of_recording_stand_for_them(stamps, told):
    found = pair(np.array(stamps), video_of(None, 4))
    with pytest.warns(UserWarning, match=told):
        found = timed(found, lambda: np.array([100, 100, 300, 400]), "cam.bag")
    assert found.positions.tolist() == [0, 1, 2, 3]
    assert found.stamps.tolist() == [100, 101, 300, 400]
    assert frame_stamps(video_of(None, 4), found).tolist() == [100, 101, 300, 400]


@pytest.mark.filterwarnings("error")
def test_stamps_that_serve_stay_and_times_of_recording_are_not_asked_for():
    for images, frames in (([7, 9], None), ([9, 7], [7, 9])):
        assert timed(pair(np.array(images), video_of(frames, 2)), pytest.fail, "cam.bag").stamps.tolist() == images


def test_where_a_stamp_does_not_tell_which_image_is_the_frame_it_is_said():
    with pytest.warns(UserWarning, match=r"cam\.bag: 2 of 4 images have the stamp of another"):
        timed(pair(np.array([0, 0, 100, 100]), video_of([0, 100])), pytest.fail, "cam.bag")


def test_the_pairing_is_told_in_one_line():
    found = pair(np.array([0, 100, 130]), video_of([0, 100, 200, 300]))
    assert str(found) == ("2 of 4 frames paired with 3 images by stamps, 2 frames without an image, 1 images unscored")


def test_frames_without_an_image_get_stamps_between_and_beyond():
    video = Video(1, "v", (2, 2), 6)
    pairing = Pairing("order", np.array([1, -1, 3]), np.array([100, 150, 300]), 6)
    assert frame_stamps(video, pairing).tolist() == [0, 100, 200, 300, 400, 500]


def test_a_recording_that_was_made_of_a_file_pairs_with_the_file_s_own_stamps():
    assert positions([FILE_START, FILE_START + 100], [0, 100, 200]) == [0, 1]
    assert positions([FILE_START, FILE_START + 100], [FILE_START, FILE_START + 100]) == [0, 1]
    with pytest.raises(InputError, match="have nothing in common"):
        positions([FILE_START + 10**12], [0, 100, 200])
