"""Images of 16 bits as 8: by a range that is given or found, the same for a whole video, or an error that says so."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vis_core.errors import InputError, OptionError
from vis_core.video.images import read_image
from vis_core.video.levels import FIRST_IMAGES, Levelling, Levels, range_of
from vis_core.video.sources import ImageSequence

SIZE = (48, 64)


def ramp(low: int, high: int) -> np.ndarray:
    """A grey picture of values from low to high."""
    return np.linspace(low, high, SIZE[0] * SIZE[1]).round().astype(np.uint16).reshape(SIZE)


def write(folder, pictures):
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return ImageSequence.of_folder(folder)


def test_a_range_maps_its_ends_to_black_and_white_and_cuts_what_is_beyond():
    values = np.array([[0, 999, 1000, 1500, 2000, 2001, 65535]], np.uint16)
    np.testing.assert_array_equal(Levels(1000, 2000)(values), [[0, 0, 0, 127, 255, 255, 255]])
    every = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(Levels(0, 65535)(every), every >> 8)
    np.testing.assert_array_equal(Levels(0, 4095)(every), np.minimum(every >> 4, 255))


@pytest.mark.parametrize("text", ["1,2,3", "5", "9,3", "3,3", "-1,4", "0,65536", "nan,4", "a,b", "0,inf", "AUTO"])
def test_a_range_that_is_none_is_refused_with_what_to_write(text):
    with pytest.raises(OptionError, match="give auto, or MIN,MAX"):
        Levelling(text)


def test_what_stands_for_no_range_or_one_to_be_found():
    assert (range_of(None), range_of(""), range_of("auto")) == (None, None, None)
    assert range_of("10, 20.5") == Levels(10, 20.5)


def test_values_that_use_a_tenth_of_what_they_can_become_their_upper_bits(tmp_path):
    cv2.imwrite(str(tmp_path / "wide.png"), ramp(0, 6600))
    np.testing.assert_array_equal(read_image(tmp_path / "wide.png")[..., 0], ramp(0, 6600) >> 8)
    cv2.imwrite(str(tmp_path / "narrow.png"), ramp(7000, 9000))
    with pytest.raises(InputError, match=r"narrow\.png: 16-bit values from 7000 to 9000 .* auto or 7000,9000"):
        read_image(tmp_path / "narrow.png")
    cv2.imwrite(str(tmp_path / "flat.png"), np.zeros(SIZE, np.uint16))
    with pytest.raises(InputError, match="auto or 0,1"):
        read_image(tmp_path / "flat.png")
    assert read_image(tmp_path / "flat.png", levelling=Levelling("auto")).shape == (*SIZE, 3)


def test_colours_of_sixteen_bits_keep_their_order(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((*SIZE, 3), (1000, 2000, 4000), np.uint16))
    pixels = read_image(tmp_path / "a.png", levelling=Levelling("0,4095"))
    np.testing.assert_array_equal(pixels[0, 0], [250, 125, 62])


def test_a_range_is_found_by_the_first_images_and_kept_for_the_video(tmp_path):
    pictures = [ramp(8000, 8000 + 100 * n) for n in range(1, FIRST_IMAGES + 1)] + [ramp(0, 60000)] * 2
    video = write(tmp_path / "a", pictures)
    video = ImageSequence(video.name, video.files, SIZE, value_range="auto")
    first = [frame.image for frame in video]
    assert np.array_equal([frame.image for frame in video], first)
    # All by one range: values of the first images that are equal look equal in each.
    assert first[0].max() < first[FIRST_IMAGES - 1].max() == 255
    assert np.unique(first[-1][(ramp(0, 60000) < 7990)]).tolist() == [0]
    assert video.notes[0].startswith("a: 16-bit values 8002 to ")
    assert "found by the first images" in video.notes[0]


def test_outliers_do_not_stretch_a_range_that_is_found(tmp_path):
    image = ramp(8000, 9000)
    image[0, 0], image[-1, -1] = 0, 65535
    levelling = Levelling("auto")
    levelling.look(image)
    levels = levelling.levels()
    assert 8000 <= levels.low < 8010
    assert 8990 < levels.high <= 9000


def test_a_video_whose_first_images_need_a_range_says_so_at_once_and_one_that_grows_wide_does_not(tmp_path):
    narrow = write(tmp_path / "narrow", [ramp(7000, 7100), ramp(7000, 9000)])
    with pytest.raises(InputError, match=r"narrow/0\.png: 16-bit values from 7000 to 9000"):
        narrow.find_range()
    with pytest.raises(InputError, match="7000 to 9000"):
        list(narrow)
    dark_at_first = write(tmp_path / "dark", [ramp(0, 10), ramp(0, 60000)])
    assert dark_at_first.find_range()
    np.testing.assert_array_equal([f.image[..., 0] for f in dark_at_first], [ramp(0, 10) >> 8, ramp(0, 60000) >> 8])


def test_images_of_eight_bits_stay_as_they_are_whatever_the_range(tmp_path):
    grey = (ramp(0, 255)).astype(np.uint8)
    video = write(tmp_path / "a", [grey])
    video = ImageSequence(video.name, video.files, SIZE, value_range="0,100")
    assert not video.find_range()
    np.testing.assert_array_equal(next(iter(video)).image[..., 0], grey)
    assert video.notes == []
