from __future__ import annotations

import numpy as np
import pytest

from vis_core import masks
from vis_core.errors import InputError
from vis_core.structures import Instances, TrackState
from vis_core.video.overlay import contact_sheet, draw_overlay, track_color


def instances_of(size, shapes, ids, states=None, labels=None):
    """Instances with rectangles (y, x, height, width) as masks."""
    found = []
    for y, x, height, width in shapes:
        dense = np.zeros(size, np.uint8)
        dense[y : y + height, x : x + width] = 1
        found.append(masks.encode(dense))
    boxes = np.array([mask.box for mask in found], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    n = len(found)
    return Instances(
        stamp=0,
        index=0,
        size=size,
        track_ids=np.array(ids),
        labels=np.zeros(n) if labels is None else labels,
        scores=np.linspace(0.9, 0.5, n),
        track_scores=np.linspace(0.9, 0.5, n),
        boxes=boxes,
        masks=tuple(found),
        states=np.full(n, TrackState.TRACKED) if states is None else np.array(states),
        ages=np.zeros(n),
        first_seen=np.zeros(n),
        last_seen=np.zeros(n),
    )


def grey(size=(200, 300)):
    return np.full((*size, 3), 90, np.uint8)


def test_a_mask_is_tinted_in_its_track_s_colour_and_the_rest_is_left_alone():
    image = grey()
    out = draw_overlay(image, instances_of((200, 300), [(80, 60, 60, 100)], [7]), ["person"])
    assert (image == 90).all()
    assert out.dtype == np.uint8 and out.shape == image.shape
    expected = np.rint(90 * 0.58 + np.array(track_color(7)) * 0.42)
    np.testing.assert_array_equal(out[115, 110], expected)
    np.testing.assert_allclose(out[80, 110].astype(int), track_color(7), atol=16)  # the contour, antialiased
    changed = (out != image).any(axis=2)
    assert (
        not changed[145:].any() and not changed[:, :55].any() and not changed[:50].any() and not changed[:, 170:].any()
    )


def test_a_track_keeps_its_colour_whatever_is_beside_it():
    one = draw_overlay(grey(), instances_of((200, 300), [(100, 20, 40, 40)], [5]), ["a"])
    two = draw_overlay(grey(), instances_of((200, 300), [(100, 200, 40, 40), (100, 20, 40, 40)], [4, 5]), ["a"])
    np.testing.assert_array_equal(one[100:140, 20:60], two[100:140, 20:60])


def test_colours_of_tracks_that_may_be_seen_together_differ_clearly():
    colors = np.array([track_color(i) for i in range(1, 13)], np.float64)
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=2) + 1e9 * np.eye(12)
    assert distances.min() > 40


def test_tracks_that_are_lost_or_ended_or_without_a_pixel_are_not_drawn():
    seen = instances_of(
        (200, 300),
        [(80, 60, 0, 0), (20, 20, 40, 40), (20, 90, 40, 40)],
        [1, 2, 3],
        [2, TrackState.LOST, TrackState.ENDED],
    )
    np.testing.assert_array_equal(draw_overlay(grey(), seen, ["a"]), grey())


def test_the_better_scored_mask_is_drawn_over_the_other():
    out = draw_overlay(grey(), instances_of((200, 300), [(80, 60, 60, 60), (80, 60, 60, 90)], [1, 2]), ["a"])
    shares = np.array([np.abs(out[110, 90] - np.array(track_color(i), float)).sum() for i in (1, 2)])
    assert shares.argmin() == 0


@pytest.mark.parametrize("size", [(3, 5), (1, 1), (16, 400), (400, 16), (1080, 1920)])
def test_any_size_can_be_drawn_on(size):
    height, width = size
    whole = instances_of(size, [(0, 0, height, width), (height - 1, width - 1, 1, 1)], [1, 70000], labels=[0, 99])
    out = draw_overlay(np.zeros((*size, 3), np.uint8), whole, ["a very long name of a class that does not fit"])
    assert out.shape == (*size, 3) and out.any()


@pytest.mark.parametrize("ground", [0, 90, 255])
@pytest.mark.parametrize("track_id", range(1, 8))
def test_a_label_has_contrast_on_any_ground(ground, track_id):
    image = np.full((200, 300, 3), ground, np.uint8)
    out = draw_overlay(image, instances_of((200, 300), [(120, 60, 60, 100)], [track_id]), ["person"])
    plate = out[106:118, 62:150].reshape(-1, 3).astype(float)
    linear = np.where(plate <= 10.31, plate / 3294.6, ((plate / 255 + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert (luminance.max() + 0.05) / (luminance.min() + 0.05) > 3


def test_labels_of_neighbours_do_not_cover_each_other():
    from vis_core.video.overlay import _overlap, _place_label

    placed = []
    for x in (60, 70, 80, 90):
        placed.append(_place_label("person 7  0.93", (1, 2, 3), (x, 100, 30, 40), (200, 300), placed))
    pairs = [(a, b) for i, a in enumerate(placed) for b in placed[:i]]
    assert not any(_overlap(a.place, b.place) for a, b in pairs)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(InputError, match="overlay"):
        draw_overlay(grey((10, 10)), instances_of((200, 300), [], []), [])


def test_a_contact_sheet_shows_every_picture_whole():
    pictures = [np.full((40, 60, 3), value, np.uint8) for value in (50, 100, 150)] + [
        np.full((20, 30, 3), 200, np.uint8)
    ]
    sheet = contact_sheet(pictures, 3, ["one", "two", "three", "four"])
    assert sheet.dtype == np.uint8
    for value, area in ((50, 2400), (100, 2400), (150, 2400), (200, 600)):
        assert (sheet == value).all(axis=2).sum() >= area
    assert contact_sheet(pictures[:1], 5, gap=4).shape == (48, 68, 3)


@pytest.mark.parametrize(("count", "columns", "titles"), [(0, 2, None), (2, 0, None), (2, 2, ["one"])])
def test_a_contact_sheet_that_makes_no_sense_is_refused(count, columns, titles):
    with pytest.raises(InputError, match="contact sheet"):
        contact_sheet([grey()] * count, columns, titles)
