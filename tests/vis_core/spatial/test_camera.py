import numpy as np
import pytest

from vis_core.errors import InputError
from vis_core.spatial.camera import Camera

K = [300.0, 0.0, 159.5, 0.0, 310.0, 119.5, 0.0, 0.0, 1.0]
SIZE = (240, 320)
PLUMB_BOB = [-0.28, 0.09, 0.001, -0.0005, 0.01]
FISHEYE = [0.05, -0.02, 0.004, -0.001]
RATIONAL = [0.3, -0.1, 0.0005, 0.0003, 0.02, 0.6, -0.05, 0.03]


@pytest.mark.parametrize(
    ("model", "distortion"),
    [("", []), ("plumb_bob", PLUMB_BOB), ("equidistant", FISHEYE), ("rational_polynomial", RATIONAL)],
)
def test_a_ray_through_a_projected_point_meets_it(model, distortion):
    camera = Camera.calibrated(SIZE, K, model, distortion)
    points = np.array([[0.3, -0.2, 2.0], [-0.8, 0.5, 3.0], [0.0, 0.0, 1.0]])
    rays = camera.rays_of(camera.project(points))
    assert np.allclose(rays, points[:, :2] / points[:, 2:], atol=1e-4)


def test_the_grid_of_rays_is_that_of_the_pixels():
    camera = Camera.calibrated(SIZE, K, "plumb_bob", PLUMB_BOB)
    assert camera.rays.shape == (240, 320, 2) and camera.rays.dtype == np.float32
    assert np.allclose(camera.rays[20, 300], camera.rays_of(np.array([[300.0, 20.0]]))[0], atol=1e-6)


def test_a_rectified_image_is_that_of_the_projection_matrix():
    camera = Camera.calibrated(
        SIZE, K, "plumb_bob", PLUMB_BOB, [250.0, 0, 160, 0, 0, 250, 120, 0, 0, 0, 1, 0], rectified=True
    )
    assert np.allclose(camera.rays[120, 285], (0.5, 0.0)) and not camera.distortion.size


def test_binning_and_a_region_move_and_shrink_the_image():
    part = Camera.calibrated(SIZE, K, binning=(2, 2), region=(40, 20, 200, 100))
    assert part.size == (50, 100)
    whole = Camera.calibrated(SIZE, K)
    point = np.array([[0.1, -0.05, 1.0]])
    assert np.allclose(part.project(point), (whole.project(point) - (40, 20)) / 2)


def test_an_image_of_another_size_of_the_same_view_has_the_same_rays():
    camera = Camera.calibrated(SIZE, K)
    half = camera.of_size((120, 160))
    # The middle of a pixel of half the size lies between two of the whole.
    assert np.allclose(half.rays[50, 60], (camera.rays[100, 120] + camera.rays[101, 121]) / 2, atol=1e-6)
    assert camera.of_size(SIZE) is camera


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"matrix": [0.0] * 9}, "focal lengths of 0 and 0 pixels; is the camera calibrated"),
        ({"matrix": [1.0] * 8}, "k .* are not 9 finite numbers"),
        ({"matrix": [float("nan"), *K[1:]]}, "k .* are not 9 finite numbers"),
        ({"model": "omni", "distortion": [0.1] * 4}, "'omni' with 4 coefficients is not known"),
        ({"model": "plumb_bob", "distortion": [0.1] * 3}, "'plumb_bob' with 3 coefficients is not known"),
        ({"model": "plumb_bob", "distortion": [float("inf")] * 5}, "not finite"),
        ({"region": (300, 0, 40, 100)}, "roi .* is not inside the image of 320x240"),
        ({"rectified": True}, "p .* are not 12 finite numbers"),
    ],
)
def test_a_camera_info_that_cannot_be_is_refused_by_its_entry(change, told):
    with pytest.raises(InputError, match=told):
        Camera.calibrated(**{"size": SIZE, "matrix": K, **change})


def test_an_image_of_another_aspect_is_refused():
    with pytest.raises(InputError, match="of images of 320x240, the image has 300x100"):
        Camera.calibrated(SIZE, K).of_size((100, 300))
