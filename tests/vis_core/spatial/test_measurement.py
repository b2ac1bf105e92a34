import numpy as np
import pytest

from vis_core import masks
from vis_core.data.synthetic_depth import Solid, depth_video
from vis_core.errors import InputError
from vis_core.spatial.measurement import measure, metres

SOLIDS = {
    "ball": Solid("ball", (0.5, 0.5, 0.5), (-0.6, 0.3, 3.0)),
    "box": Solid("box", (0.5, 0.8, 0.5), (0.7, 0.4, 3.0), yaw=0.5),
    "box seen from below": Solid("box", (0.4, 0.4, 0.4), (0.1, -0.6, 3.0)),
    "ball at the side": Solid("ball", (0.3, 0.3, 0.3), (1.2, 0.6, 3.0)),
}


def scene(*solids, size=(240, 320)):
    return depth_video(solids, 1, size)


def noisy(depth, seed=0, noise=0.02, holes=0.2):
    random = np.random.default_rng(seed)
    out = depth + random.normal(0, noise, depth.shape).astype(np.float32) * (depth / 3) ** 2
    out[random.random(depth.shape) < holes] = 0
    return metres(out)


@pytest.mark.parametrize("name", SOLIDS)
@pytest.mark.parametrize("disturb", [metres, noisy], ids=["exact", "noise of 2 cm and a fifth without depth"])
def test_the_middle_of_a_whole_object_at_three_metres_is_known_to_three_centimetres(name, disturb):
    video = scene(SOLIDS[name])
    found = measure(video.mask(0, 0), disturb(video.depth[0]), video.camera)
    assert np.linalg.norm(found.position - video.positions[0, 0]) < 0.03
    assert found.whole
    assert np.linalg.eigvalsh(found.covariance).min() > 0


def test_a_background_that_the_mask_reaches_over_does_not_pull():
    video = scene(SOLIDS["ball"])
    rows, columns = np.nonzero(video.object_image[0])
    grown = np.zeros(video.object_image[0].shape, bool)
    grown[rows.min() - 3 : rows.max() + 4, columns.min() - 3 : columns.max() + 4] = True
    found = measure(masks.encode(grown), metres(video.depth[0]), video.camera)
    assert np.linalg.norm(found.position - video.positions[0, 0]) < 0.06


def test_what_is_half_hidden_is_told_and_less_sure():
    bar = Solid("box", (0.3, 2.0, 0.1), (-0.5, 0.0, 1.6))
    video = scene(SOLIDS["ball"], bar)
    hidden = measure(video.mask(0, 0), metres(video.depth[0]), video.camera)
    whole = measure(scene(SOLIDS["ball"]).mask(0, 0), metres(scene(SOLIDS["ball"]).depth[0]), video.camera)
    assert 0.2 < video.mask(0, 0).area / scene(SOLIDS["ball"]).mask(0, 0).area < 0.8
    assert whole.whole and not hidden.whole
    off = hidden.position - video.positions[0, 0]
    assert hidden.covariance[0, 0] > 4 * whole.covariance[0, 0]  # sideways, where a part is hidden
    assert off @ np.linalg.solve(hidden.covariance, off) < 16.3


def test_what_the_border_of_the_image_cuts_is_not_whole():
    video = scene(Solid("ball", (0.5, 0.5, 0.5), (1.7, 0.0, 3.0)))
    assert not measure(video.mask(0, 0), metres(video.depth[0]), video.camera).whole


def test_a_depth_image_of_another_size_than_the_mask_s_is_of_the_same_view():
    video, small = scene(SOLIDS["box"], size=(480, 640)), scene(SOLIDS["box"], size=(240, 320))
    found = measure(video.mask(0, 0), metres(small.depth[0]), small.camera)
    assert np.linalg.norm(found.position - video.positions[0, 0]) < 0.04


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -1.0])
def test_without_depth_there_is_no_measurement(value):
    video = scene(SOLIDS["ball"])
    depth = metres(np.full_like(video.depth[0], value))
    assert np.isnan(depth).all()
    assert measure(video.mask(0, 0), depth, video.camera) is None
    assert measure(masks.encode(np.zeros((240, 320), bool)), metres(video.depth[0]), video.camera) is None


def test_too_few_points_are_no_measurement():
    video = scene(SOLIDS["ball"])
    assert measure(video.mask(0, 0), metres(video.depth[0]), video.camera, least_points=100_000) is None


def test_the_encoding_decides_the_unit():
    depth = np.array([[1500, 0], [65535, 1]], np.uint16)
    assert np.allclose(metres(depth), [[1.5, np.nan], [65.535, 0.001]], equal_nan=True)
    assert np.allclose(metres(np.array([[1.5, np.nan]], np.float32)), [[1.5, np.nan]], equal_nan=True)


@pytest.mark.parametrize("depth", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 1), np.float32)])
def test_other_depth_images_are_refused(depth):
    with pytest.raises(InputError, match="uint16 millimetres or float metres"):
        metres(depth)
