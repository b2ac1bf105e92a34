import numpy as np
import pytest
import torch

from vis_core.nn.image_resize import ArrayTransform, pillow_resized
from vis_core.nn.input_transform import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    InputTransform,
    ShortSideTransform,
    WithinTransform,
    resized_on_device,
)

RANDOM = np.random.default_rng(0)


def picture(*size):
    return RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8)


def pillow_by_hand(image, size):
    """Triangle filter in exact integers: along the rows, then along the columns, rounded after each."""
    for axis, target in ((1, size[1]), (0, size[0])):
        length = image.shape[axis]
        if length == target:
            continue
        scale = length / target
        support = max(scale, 1.0)
        rows = []
        for i in range(target):
            center = (i + 0.5) * scale
            first, last = max(int(center - support + 0.5), 0), min(int(center + support + 0.5), length)
            weights = [max(0.0, 1 - abs((k - center + 0.5) / support)) for k in range(first, last)]
            fixed = [int(w / sum(weights) * 2**22 + 0.5) for w in weights]
            taken = image.take(range(first, last), axis).astype(np.int64)
            shape = [-1 if a == axis else 1 for a in range(3)]
            rows.append(((taken * np.reshape(fixed, shape)).sum(axis) + 2**21) >> 22)
        image = np.stack(rows, axis).clip(0, 255)
    return image


@pytest.mark.parametrize("size", [(30, 50), (64, 96), (200, 110), (1, 1), (3, 300), (64, 50)])
def test_the_resize_is_the_fixed_point_triangle_filter(size):
    image = picture(*size)
    found = InputTransform((64, 96)).resize(image).numpy()
    np.testing.assert_array_equal(found, pillow_by_hand(image, (64, 96)))


def test_an_image_of_the_right_size_is_only_normalised():
    image = picture(32, 48)
    found = InputTransform((32, 48))(image)
    expected = (image.astype(np.float64) - IMAGENET_MEAN) / IMAGENET_STD
    assert found.shape == (1, 3, 32, 48) and found.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(found[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_read_only_and_mirrored_arrays_are_taken_and_never_written():
    image = picture(32, 48)
    kept = image.copy()
    mirrored = InputTransform((32, 48))(image[:, ::-1])
    image.flags.writeable = False
    straight = InputTransform((32, 48))(image)
    assert torch.equal(mirrored, straight.flip(3))
    np.testing.assert_array_equal(image, kept)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((720, 1280), (360, 640)), ((1280, 720), (640, 360)), ((90, 150), (360, 600)), ((100, 1000), (133, 1333))],
)
def test_the_short_side_sets_the_size_unless_the_longest_is_too_long(size, expected):
    assert ShortSideTransform(360).size(*size) == expected
    assert ShortSideTransform(None).size(*size) == size


def test_an_image_is_resized_by_its_short_side_normalised_and_padded_with_zeros():
    image = picture(90, 150)
    transform = ShortSideTransform(50)
    found = transform(image)
    resized = pillow_by_hand(image, (50, 83))
    np.testing.assert_array_equal(transform.resize(image).numpy(), resized)
    assert found.shape == (1, 3, 64, 96)
    inside = found[0, :, :50, :83].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(inside, (resized - np.array(IMAGENET_MEAN)) / IMAGENET_STD, atol=1e-6)
    assert not found[:, :, 50:].any() and not found[:, :, :, 83:].any()


@pytest.mark.parametrize("size", [(123, 96), (64, 50), (200, 150), (1, 1), (300, 400)])
def test_what_other_devices_resize_is_what_a_cpu_does(size):
    image = picture(*size)
    found = resized_on_device(torch.from_numpy(image), (64, 96))
    np.testing.assert_array_equal(found.numpy(), pillow_resized(image, (64, 96)))


@pytest.mark.parametrize("size", [(123, 77), (32, 48)])
def test_without_pytorch_the_input_is_the_same_to_the_last_bit(size):
    image = picture(*size)
    whole, parts = (InputTransform((32, 48)), ArrayTransform((32, 48), IMAGENET_MEAN, IMAGENET_STD))
    for seen in (image, image[:, ::-1]):
        np.testing.assert_array_equal(parts(seen), whole(seen).numpy())


def test_an_image_fits_into_a_rectangle_that_may_be_open_or_none():
    assert WithinTransform(360).size(100, 1000) == (360, 3600)
    assert WithinTransform(360, 640).size(100, 1000) == (64, 640)
    assert WithinTransform(None).size(100, 1000) == (100, 1000)
    image = picture(33, 40)
    found = WithinTransform(None, rounded=False)(image[:, ::-1])
    normalised = (image[:, ::-1] - np.array(IMAGENET_MEAN)) / IMAGENET_STD
    assert found.shape == (1, 3, 64, 64)
    np.testing.assert_allclose(found[0, :, :33, :40].permute(1, 2, 0).numpy(), normalised, atol=1e-6)


def test_values_between_two_levels_stay_where_nothing_is_rounded():
    image = picture(33, 40)
    kept = image.copy()
    image.flags.writeable = False
    rounded, exact = (WithinTransform(50, 96, rounded=r).resize(image) for r in (True, False))
    assert (rounded.dtype, exact.dtype) == (torch.uint8, torch.float32)
    assert 0 < (rounded.float() - exact).abs().max() <= 1.01
    np.testing.assert_array_equal(image, kept)
