"""From a config to clips."""

from __future__ import annotations

import numpy as np
import pytest

from tests.vis_core.data.annotated import SIZE, write_image, youtube_vis
from vis_core.training.preparation import make_draws

PLAIN = {
    **dict.fromkeys(("flip", "motion", "scaling", "rotation", "shear", "perspective", "brightness", "contrast"), 0),
    **dict.fromkeys(("saturation", "hue", "grey", "blur", "noise", "copy_paste", "erase"), 0),
    "zoom": [1, 1],
    "stretch": 1,
}


@pytest.fixture
def numbers(tmp_path, config):
    """Makes the draws of a config: which frames the clips of 20 steps hold, told by their pictures."""
    path = youtube_vis(tmp_path, [[("red", (5, 5, 20, 20))] for _ in range(40)])
    for t in range(40):
        write_image(tmp_path / "frames" / "v1" / f"{t:05d}.png", np.full((*SIZE, 3), 6 * t, np.uint8))

    def drawn(**clip):
        clip = {"frames": 6, "size": list(SIZE), "augmentation": PLAIN, **clip}
        draws = make_draws(config(classes=["red"], data=[{"annotations": str(path)}], clip=clip))
        return np.array([draws.draw(step, 0).clip.images[:, 0, 0, 0] // 6 for step in range(20)], int)

    return drawn


def test_clips_hold_the_frames_that_the_config_asks_for(numbers):
    assert set(np.diff(numbers(order="successive")).ravel().tolist()) == {-1, 1}
    ordered = numbers(order="sorted", reach=None)
    assert (np.diff(ordered) > 0).all() and np.ptp(ordered, axis=1).max() > 30
    near = numbers(order="distinct", reach=5)
    assert np.abs(near - near[:, :1]).max() == 5 and (np.diff(np.sort(near)) > 0).all() and (np.diff(near) < 0).any()
    assert (numbers() == numbers(order="shuffled", reach=20)).all()
    assert np.ptp(numbers(reach=2), axis=1).max() <= 4
