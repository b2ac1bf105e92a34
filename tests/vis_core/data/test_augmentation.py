"""Random views: windows stay in the picture, motion is smooth, colours are those of one camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vis_core.data.augmentation import (
    NO_AUGMENTATION,
    Augmentation,
    Colours,
    Motion,
    warp_image,
    warp_objects,
    warp_opacity,
    window,
)

SOURCE, TARGET = (200, 320), (96, 160)
CORNERS = np.array([[0, 0, 1], [160, 0, 1], [0, 96, 1], [160, 96, 1.0]]).T


def seen_corners(matrix):
    """Where in the source the corners of the target lie, x and y."""
    points = np.linalg.inv(matrix) @ CORNERS
    return points[:2] / points[2]


def test_a_window_of_at_most_the_whole_lies_inside_the_picture():
    for seed in range(200):
        augmentation = Augmentation(zoom=(0.3, 1.0))
        x, y = seen_corners(window(np.random.default_rng(seed), augmentation, SOURCE, TARGET, None))
        assert x.min() > -1e-6 and x.max() < 320 + 1e-6 and y.min() > -1e-6 and y.max() < 200 + 1e-6


def test_a_window_of_more_than_the_whole_shows_all_of_it():
    augmentation = replace(NO_AUGMENTATION, zoom=(1.3, 1.5))
    for seed in range(50):
        x, y = seen_corners(window(np.random.default_rng(seed), augmentation, SOURCE, TARGET, None))
        assert x.min() < 0 and x.max() > 320 and y.min() < 0 and y.max() > 200


def test_a_window_shows_the_point_that_it_is_placed_around():
    for seed in range(200):
        random = np.random.default_rng(seed)
        around = random.uniform(0, 320), random.uniform(0, 200)
        x, y = seen_corners(window(random, Augmentation(zoom=(0.2, 0.9)), SOURCE, TARGET, around))
        assert x.min() <= around[0] <= x.max() and y.min() <= around[1] <= y.max()


def test_flip_is_the_probability_of_a_mirrored_window():
    mirrored = [
        window(np.random.default_rng(seed), Augmentation(flip=0.3), SOURCE, TARGET, None)[0, 0] < 0
        for seed in range(1000)
    ]
    assert 0.25 < np.mean(mirrored) < 0.35


def test_without_variation_the_whole_picture_is_seen_and_nothing_moves():
    random = np.random.default_rng(0)
    matrix = window(random, NO_AUGMENTATION, SOURCE, TARGET, (10.0, 10.0))
    assert np.allclose(matrix, np.diag([160 / 320, 96 / 200, 1]))
    motion = Motion(random, NO_AUGMENTATION, TARGET, 1.0)
    assert all(np.allclose(motion.at(time, random), np.eye(3)) for time in (-0.5, 0.0, 0.5))


def test_no_motion_is_the_same_view_in_all_frames_and_more_motion_moves_further():
    def distance(amount):
        far = []
        for seed in range(40):
            random = np.random.default_rng(seed)
            motion = Motion(random, Augmentation(), TARGET, amount)
            first, last = (seen_corners(motion.at(time, random)) for time in (-0.5, 0.5))
            far.append(np.abs(last - first).mean())
        return np.mean(far)

    assert distance(0.0) == 0
    assert 1 < distance(0.3) < distance(1.0) < 60


def test_frames_between_lie_between_on_the_way():
    for seed in range(20):
        random = np.random.default_rng(seed)
        motion = Motion(random, replace(NO_AUGMENTATION, motion=0.2), TARGET, 1.0)
        x = [motion.at(time, random)[0, 2] for time in (-0.5, 0.0, 0.5)]
        assert abs(x[1] - (x[0] + x[2]) / 2) < 0.15 * 0.2 * 160 * 2  # up to the jitter


@pytest.mark.parametrize("factor", [0.2, 0.45, 1.0, 1.7, 3.0])
def test_image_objects_and_opacity_go_through_a_matrix_alike(factor):
    """A blot of grey, soft at its edge, keeps its centre in all three."""
    grid = np.indices((240, 300)).astype(float)
    blot = np.exp(-((grid[0] - 130) ** 2 + (grid[1] - 140) ** 2) / (2 * 30**2))
    matrix = np.array([[factor, 0.1, 5.0], [-0.1, factor, 20.0], [1e-4, 0, 1]])
    target = (round(240 * factor) + 60, round(300 * factor) + 60)
    grey = np.rint(255 * blot).astype(np.uint8)
    shown = warp_image(np.repeat(grey[..., None], 3, 2), matrix, target)[..., 0]
    opaque = warp_opacity(grey, matrix, target)
    objects = warp_objects((grey > 127).astype(np.uint16), matrix, target)
    assert objects.dtype == np.uint16

    def centre(mask):
        return np.array([rows.mean() for rows in np.nonzero(mask)])

    inside = objects > 0
    assert inside.sum() > 20
    near = np.abs(np.indices(target) - centre(inside)[:, None, None]).max(0) < 60 * factor  # the border is grey, too
    for other in ((shown > 127) & near, opaque > 127):
        assert np.abs(centre(other) - centre(inside)).max() < 0.25
        assert abs(other.sum() / inside.sum() - 1) < 0.12


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3)).astype(np.uint8)


def test_without_variation_colours_stay_as_they_are():
    random = np.random.default_rng(0)
    assert np.array_equal(Colours(random, NO_AUGMENTATION).apply(picture(), random), picture())


def test_a_grey_clip_has_no_colour_in_any_frame():
    random = np.random.default_rng(0)
    colours = Colours(random, replace(Augmentation(), grey=1.0, noise=0.0))
    for seed in range(3):
        spread = np.ptp(colours.apply(picture(seed), random).astype(int), axis=2)
        assert spread.max() <= 2


def test_hue_and_saturation_leave_grey_pixels_grey():
    grey = np.repeat(np.arange(0, 240, dtype=np.uint8).reshape(12, 20, 1), 3, 2)
    for seed in range(10):
        random = np.random.default_rng(seed)
        varied = replace(NO_AUGMENTATION, hue=60.0, saturation=0.8)
        assert np.abs(Colours(random, varied).apply(grey, random).astype(int) - grey).max() <= 1


def test_frames_of_a_clip_share_their_colours_and_clips_differ():
    flat = np.full((8, 8, 3), (90, 120, 160), np.uint8)
    varied = replace(Augmentation(), noise=0.0, blur=0.0)
    within, between = [], []
    for seed in range(30):
        random = np.random.default_rng(seed)
        colours = Colours(random, varied)
        frames = np.array([colours.apply(flat, random)[0, 0] for _ in range(4)], float)
        within.append(np.ptp(frames, axis=0).mean())
        between.append(frames.mean(0))
    assert np.mean(within) < 0.5 * np.std(between, axis=0).mean()
    assert np.std(between, axis=0).min() > 5


def test_blur_and_noise_keep_the_picture():
    smooth = np.repeat(np.linspace(20, 230, 64).astype(np.uint8)[None, :, None], 48, 0).repeat(3, 2)
    for seed in range(20):
        random = np.random.default_rng(seed)
        varied = replace(NO_AUGMENTATION, blur=1.0, noise=0.05)
        changed = Colours(random, varied).apply(smooth, random)
        assert changed.shape == smooth.shape and changed.dtype == np.uint8
        assert abs(changed.mean() - smooth.mean()) < 3
        assert np.abs(changed.astype(int) - smooth).mean() < 16
