"""Which way images are read, by the sizes that are annotated: as stored, or turned by EXIF."""

from __future__ import annotations

import cv2
import pytest

from tests.vis_core.video.image_files import picture, with_orientation
from vis_core.errors import OptionError
from vis_core.video.orientation import exif_cause, reading_of

WIDE, TALL, SQUARE = (48, 64), (64, 48), (64, 64)


@pytest.fixture
def image(tmp_path):
    def write(name, orientation, size=WIDE):
        data = cv2.imencode(".jpg", picture(0, size))[1].tobytes()
        (tmp_path / name).write_bytes(with_orientation(data, orientation))
        return [tmp_path / name]

    return write


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize(("size", "turned"), [(WIDE, False), (TALL, True)])
def test_a_quarter_turn_is_told_by_the_annotated_size(image, orientation, size, turned):
    reading = reading_of([(size, image("a.jpg", orientation))])
    assert (reading.turned, reading.sizes) == ((turned,), (size,))
    assert f"EXIF turns 1 of the images; by their sizes the labels follow 1 as {'turned' if turned else 'stored'}" in (
        reading.note
    )


@pytest.mark.parametrize("size", [WIDE, TALL])
def test_where_the_size_tells_nothing_the_others_of_the_set_decide(image, size):
    videos = [
        (WIDE, image("half.jpg", 3)),
        (size, image("quarter.jpg", 6)),
        (SQUARE, image("square.jpg", 8, SQUARE)),
        (WIDE, image("plain.jpg", 1)),
    ]
    reading = reading_of(videos)
    assert set(reading.turned) == {size == TALL}
    assert "EXIF turns 3 of the images" in reading.note
    assert "which no size tells, as the others of the set" in reading.note


def test_where_nothing_tells_images_are_turned_as_viewers_do_and_it_is_told(image):
    reading = reading_of([(WIDE, image("half.jpg", 3)), (SQUARE, image("square.jpg", 6, SQUARE))])
    assert reading.turned == (True, True)
    assert reading.note.endswith("2 as turned, which no size tells, as viewers show them")


def test_each_image_of_a_mixed_set_is_read_as_its_size_tells(image):
    reading = reading_of([(WIDE, image("a.jpg", 6)), (TALL, image("b.jpg", 6)), (TALL, image("c.jpg", 8))])
    assert reading.turned == (False, True, True)


def test_what_is_wanted_decides_and_sets_sizes_right_that_are_annotated_the_other_way_round(image):
    videos = [(WIDE, image("a.jpg", 6)), (TALL, image("b.jpg", 6)), (WIDE, image("c.jpg", 3)), ((9, 9), [])]
    turned = reading_of(videos, "turned")
    assert (turned.turned, turned.sizes) == ((True,) * 4, (TALL, TALL, WIDE, (9, 9)))
    stored = reading_of(videos, "stored")
    assert (stored.turned, stored.sizes) == ((False,) * 4, (WIDE, WIDE, WIDE, (9, 9)))
    with pytest.raises(OptionError, match="orientation 'upright' is none of auto, stored, turned"):
        reading_of(videos, "upright")


def test_a_set_that_exif_turns_nothing_of_has_no_note_and_what_cannot_be_read_is_passed_over(image, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"x")
    videos = [(WIDE, image("a.jpg", 1)), (WIDE, [tmp_path / "bad.jpg", tmp_path / "none.jpg", tmp_path])]
    assert reading_of(videos).note == ""
    assert reading_of(videos, "stored").note == ""


def test_any_frame_of_a_video_tells_for_all_of_them(image):
    files = image("0.jpg", 3) + image("1.jpg", 1) + image("2.jpg", 6)
    assert reading_of([(WIDE, files)]).turned == (False,)


def test_exif_is_named_as_the_cause_only_where_it_is(image):
    (quarter,), (half,) = image("a.jpg", 6), image("b.jpg", 3)
    assert exif_cause(quarter, WIDE).endswith("(orientation 6) turns it to 48x64: orientation stored reads it so")
    assert exif_cause(quarter, TALL).endswith("orientation turned reads it so")
    assert exif_cause(quarter, (9, 9)) == "; it is stored as 64x48, EXIF (orientation 6) turns it to 48x64"
    assert exif_cause(half, TALL) == ""
    assert exif_cause(half.with_name("none.jpg"), TALL) == ""
