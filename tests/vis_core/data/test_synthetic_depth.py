import numpy as np
import pytest

from vis_core.data.synthetic_depth import Solid, depth_video
from vis_core.errors import OptionError


def test_depth_and_masks_are_those_of_the_solids():
    ball, box = Solid("ball", (0.6,) * 3, (0, 0, 3.0)), Solid("box", (0.4, 0.5, 0.6), (0.9, 0, 4.0))
    video = depth_video([ball, box], 2, (120, 160))
    row, column = 60, 80
    assert video.object_image[0, row, column] == 1
    assert video.depth[0, row, column] == pytest.approx(2.7, abs=1e-3)
    u, v = video.camera.project(np.array([[0.9, 0.0, 3.7]]))[0]
    assert video.object_image[0, round(v), round(u)] == 2
    assert video.depth[0, round(v), round(u)] == pytest.approx(3.7, abs=1e-6)
    focal = video.camera.matrix[0, 0]
    assert video.mask(0, 0).area == pytest.approx(np.pi * (focal * 0.3) ** 2 / (9 - 0.09), rel=0.02)


def test_paths_are_straight_and_the_nearer_solid_hides_the_other():
    video = depth_video(
        [Solid("box", (0.5,) * 3, (-1.0, 0, 3.0), (1.0, 0, 0)), Solid("box", (0.5,) * 3, (0, 0, 5.0))], 61, (60, 80)
    )
    assert np.allclose(video.positions[30, 0], [0, 0, 3]) and np.allclose(video.velocities[0], [1, 0, 0])
    assert video.mask(0, 1).area and not video.mask(30, 1).area
    assert video.stamps[30] - video.stamps[0] == 1_000_000_000
    assert video.frame(3).index == 3 and video.frame(3).image.shape == (60, 80, 3)


@pytest.mark.parametrize("arguments", [([Solid("cone", (1, 1, 1), (0, 0, 3))], 1), ([], 0), ([], 1, (4, 4))])
def test_what_cannot_be_drawn_is_refused(arguments):
    with pytest.raises(OptionError):
        depth_video(*arguments)
