"""Region pooling gives what the published operator gives, and what its definition says, however odd the box."""

import json

import numpy as np
import pytest
import torch

from vis_core.nn import roi_align as module
from vis_core.nn.roi_align import box_levels, pyramid_roi_align, roi_align

STRIDES = (4, 8, 16, 32)
CHANNELS_LAST = {"memory_format": torch.channels_last}


@pytest.fixture(scope="module")
def published(shared):
    """Arrays of the published operator: what went in and came out, and the tolerances."""
    folder = shared / "parity/sparse_rcnn/case_3_roi_align"
    arrays = {**np.load(folder / "inputs.npz"), **np.load(folder / "expected.npz")}
    return arrays, json.loads((folder / "case.json").read_text())


def recorded_boxes(arrays):
    """All boxes and the image that each is in."""
    boxes = np.concatenate((arrays["boxes0"], arrays["boxes1"]))
    index = np.repeat((0, 1), (len(arrays["boxes0"]), len(arrays["boxes1"])))
    return torch.tensor(boxes), torch.tensor(index)


def close(found, expected, case, name):
    """Compare as the case says; of the tolerances the one with the longest name counts."""
    fitting = [key for key in case["tolerances"] if name.startswith(key)]
    np.testing.assert_allclose(
        found, expected, err_msg=name, **case["tolerances"][max(fitting, key=len, default="default")]
    )


def channels_first(pooled, size):
    """``[R, bins, C]`` as ``[R, C, height, width]``."""
    return pooled.transpose(1, 2).unflatten(2, size)


def test_levels_are_the_published_ones(published):
    arrays, _ = published
    np.testing.assert_array_equal(box_levels(recorded_boxes(arrays)[0]), arrays["levels"])


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("size", [7, 14])
def test_pyramid_pooling_is_the_published_one_and_so_is_its_gradient(published, size, layout):
    arrays, case = published
    boxes, index = recorded_boxes(arrays)
    maps = [torch.tensor(arrays[f"level{i}"]).contiguous(memory_format=layout).requires_grad_() for i in range(4)]
    boxes.requires_grad_()
    pooled = channels_first(pyramid_roi_align(maps, boxes, index, size), (size, size))
    expected = arrays[f"pool{size}"]
    close(pooled[:, :: 1 if size == 7 else 2].detach(), expected, case, f"pool{size}")
    drawn = np.random.RandomState(case["seed"] + size).standard_normal(tuple(pooled.shape)).astype(np.float32)
    total = (pooled * torch.tensor(drawn)).sum()
    close(total.detach(), arrays[f"pool{size}_sum"], case, f"pool{size}_sum")
    total.backward()
    for i, level in enumerate(maps):
        close(level.grad, arrays[f"pool{size}_grad_level{i}"], case, f"pool{size}_grad_level{i}")
    assert boxes.grad is None


def test_as_many_samples_as_pixels_is_the_published_form(published):
    arrays, case = published
    boxes, index = recorded_boxes(arrays)
    chosen = [0, 1, 2, 3, 5, 7, 9, 12, 13, 17, *range(18, 58)]
    maps = torch.tensor(arrays["level1"])
    pooled = roi_align(maps, boxes[chosen], index[chosen], (5, 3), 1 / 8, sampling_ratio=0)
    close(channels_first(pooled, (5, 3)), arrays["aligned_adaptive"], case, "aligned_adaptive")


def test_the_form_before_the_aligned_one_is_the_published_one(published):
    arrays, case = published
    pooled = roi_align(torch.tensor(arrays["level1"]), *recorded_boxes(arrays), (5, 3), 1 / 8, 2, aligned=False)
    close(channels_first(pooled, (5, 3)), arrays["legacy_ratio2"], case, "legacy_ratio2")


def test_pooling_in_a_clip_is_as_recorded(shared):
    """Boxes on all four levels, one outside of the image; the map is padded, the levels are of the unclipped boxes."""
    folder = shared / "parity/efficientvis/case_10_levels"
    arrays = {
        **np.load(folder / "expected.npz"),
        **{f"given_{k}": x for k, x in np.load(folder / "inputs.npz").items()},
    }
    maps = [torch.tensor(arrays[f"given_level{i}"]).float() / 16 for i in range(4)]
    boxes = torch.tensor(arrays["given_boxes"])
    frames, queries = boxes.shape[:2]
    index = torch.arange(frames).repeat_interleave(queries)
    np.testing.assert_array_equal(box_levels(boxes.flatten(0, 1)).view(frames, queries), arrays["levels"])
    new = torch.tensor(arrays["boxes"]).flatten(0, 1)
    np.testing.assert_array_equal(box_levels(new).view(frames, queries), arrays["mask_levels"])
    pooled = channels_first(pyramid_roi_align(maps, boxes.flatten(0, 1), index, 7), (7, 7))
    np.testing.assert_allclose(pooled.unflatten(0, (frames, queries))[:, :, ::8], arrays["roi"], rtol=1e-3, atol=3e-4)


# The definition, sample by sample along each axis, in float64.


def means_of_axis(first, last, bins, ratio, extent):
    """``[bins, extent]``: what each pixel weighs in each bin."""
    start, length = first - 0.5, last - first
    count = ratio or int(np.ceil(length / bins))
    positions = start + (np.arange(bins)[:, None] + (np.arange(count) + 0.5) / max(count, 1)) * length / bins
    number = np.broadcast_to(np.arange(bins)[:, None], positions.shape)
    live = (positions >= -1) & (positions <= extent)
    positions, number = np.clip(positions[live], 0, extent - 1), number[live]
    low = np.minimum(np.floor(positions).astype(int), extent - 1)
    matrix = np.zeros((bins, extent))
    np.add.at(matrix, (number, low), 1 - (positions - low))
    np.add.at(matrix, (number, np.minimum(low + 1, extent - 1)), positions - low)
    return matrix / max(count, 1)


def defined(maps, boxes, index, size, scale, ratio):
    """``[R, bins, C]``."""
    pooled = []
    for (x1, y1, x2, y2), i in zip(boxes.double().numpy() * scale, index.tolist()):
        rows = means_of_axis(y1, y2, size, ratio, maps.shape[2])
        columns = means_of_axis(x1, x2, size, ratio, maps.shape[3])
        pooled.append(np.einsum("yh,chw,xw->yxc", rows, maps[i].double().numpy(), columns).reshape(size * size, -1))
    return np.stack(pooled)


def drawn_boxes(count, seed=0, width=150.0, largest=300.0):
    random = torch.Generator().manual_seed(seed)
    centres = torch.rand(count, 2, generator=random) * width
    sides = torch.rand(count, 2, generator=random) ** 3 * largest
    return torch.cat((centres - sides / 2, centres + sides / 2), 1)


@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [1, 6])
def test_a_bin_is_the_mean_of_its_samples(ratio, size):
    maps = torch.randn(3, 5, 13, 17, generator=torch.Generator().manual_seed(1))
    boxes, index = drawn_boxes(60), torch.arange(60) % 3
    expected = defined(maps, boxes, index, size, 1 / 8, ratio)
    np.testing.assert_allclose(roi_align(maps, boxes, index, size, 1 / 8, ratio), expected, atol=2e-5)


def test_the_gradient_is_that_of_a_bin_of_each_pixel():
    maps = torch.randn(2, 3, 7, 9, dtype=torch.float64).requires_grad_()
    boxes, index = drawn_boxes(9, 2).double(), torch.arange(9) % 2
    for ratio in (0, 2):
        assert torch.autograd.gradcheck(lambda x, r=ratio: roi_align(x, boxes, index, 3, 1 / 16, r), maps)


def test_a_region_outside_of_the_map_is_zero_from_one_pixel_outside_on():
    maps = torch.full((1, 1, 8, 8), 2.0)
    # Bins of one sample, at x = -1, just beyond, at 8 and just beyond; y within the map.
    x = torch.tensor([-0.5, -0.5001, 8.5, 8.5001])
    boxes = torch.stack((x - 1, torch.full((4,), 2.0), x + 1, torch.full((4,), 4.0)), 1)
    for ratio in (1, 0):
        pooled = roi_align(
            maps, boxes if ratio else boxes + torch.tensor([0.5, 0, -0.5, 0]), torch.zeros(4).long(), 1, 1.0, ratio
        )
        np.testing.assert_allclose(pooled[:, 0, 0], [2, 0, 2, 0], atol=1e-5)


def test_an_empty_region_is_the_value_at_its_place_and_zero_where_samples_are_counted_by_pixels():
    maps = torch.arange(64.0).view(1, 1, 8, 8)
    boxes, index = torch.tensor([[3.5, 2.5, 3.5, 2.5]]), torch.zeros(1, dtype=torch.long)
    assert torch.equal(roi_align(maps, boxes, index, 2, 1.0), torch.full((1, 4, 1), 19.0))
    assert torch.equal(roi_align(maps, boxes, index, 2, 1.0, sampling_ratio=0), torch.zeros(1, 4, 1))


def test_targets_of_masks_are_right_for_boxes_of_a_hundred_thousand_pixels():
    random = np.random.RandomState(0)
    masks = torch.tensor(random.rand(6, 1, 96, 160) > 0.5)
    boxes = torch.tensor(
        [
            [-5e4, -5e4, 5e4, 5e4],
            [-3.0, -8e4, 170.0, 4e4],
            [-2e5, 10.0, 3e3, 12.5],
            [20.0, 30.0, 90.0, 61.0],
            [1e5, 1e5, 2e5, 2e5],
            [40.0, 40.0, 41.0, 40.5],
        ]
    )
    index = torch.tensor([0, 1, 2, 3, 4, 5])
    pooled = roi_align(masks, boxes, index, 28, 1.0, sampling_ratio=0)
    assert pooled.shape == (6, 784, 1) and pooled.dtype == torch.float32
    expected = defined(masks, boxes, index, 28, 1.0, 0)
    np.testing.assert_allclose(pooled[3:], expected[3:], atol=1e-5)
    # Positions are float32, as the operator's: 0.004 pixels at 5e4, 0.016 at 2e5.
    np.testing.assert_allclose(pooled[:3], expected[:3], atol=1e-3)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("far", [1e5, 1e9, 1e18, 1e38, float("inf")])
def test_pooling_is_finite_however_large_or_far_a_box_is(far, ratio):
    maps = torch.ones(1, 2, 8, 10)
    boxes = torch.tensor(
        [[-far, -far, far, far], [far, 0, far, 5], [0, -far, 5, -far], [2, 2, far, 6], [-far, 1, 4, far]]
    )
    index = torch.zeros(5, dtype=torch.long)
    pooled = roi_align(maps, boxes, index, 4, 1.0, ratio)
    assert torch.isfinite(pooled).all() and pooled.min() >= 0 and pooled.max() <= 1 + 1e-5
    levels = [torch.ones(1, 2, 64 // s, 96 // s) for s in STRIDES]
    assert torch.isfinite(pyramid_roi_align(levels, boxes, index, 7)).all()


def test_a_box_that_is_no_number_stays_within_the_maps():
    boxes = torch.tensor([[float("nan")] * 4, [0, 0, 8, 8]])
    levels = [torch.ones(1, 2, 64 // s, 96 // s) for s in STRIDES]
    pooled = pyramid_roi_align(levels, boxes, torch.zeros(2, dtype=torch.long), 7)
    torch.testing.assert_close(pooled[1], torch.ones(49, 2))


def test_a_box_inside_out_is_refused():
    for box in ([5.0, 0, 4, 8], [0, 5.0, 8, 4]):
        with pytest.raises(ValueError, match="left"):
            roi_align(torch.zeros(1, 1, 4, 4), torch.tensor([box]), torch.zeros(1, dtype=torch.long), 2, 1.0)


def pyramid(images, channels=6, seed=0, **layout):
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(images, channels, 128 // s, 192 // s, generator=random).contiguous(**layout) for s in STRIDES]


def spread_boxes(count, seed=0):
    """Boxes of all levels."""
    return drawn_boxes(count, seed, width=190.0, largest=900.0)


def test_a_box_is_pooled_on_its_level_only():
    maps = [level.requires_grad_() for level in pyramid(2)]
    boxes, index = spread_boxes(50), torch.arange(50) % 2
    levels = box_levels(boxes)
    assert sorted(set(levels.tolist())) == [0, 1, 2, 3]
    pooled = pyramid_roi_align(maps, boxes, index, 7)
    for i, stride in enumerate(STRIDES):
        of_level = levels == i
        alone = roi_align(maps[i], boxes[of_level], index[of_level], 7, 1 / stride)
        torch.testing.assert_close(pooled[of_level], alone)
    chosen = (levels == 2).nonzero()[0]
    pyramid_roi_align(maps, boxes[chosen], index[chosen], 7).sum().backward()
    assert [level.grad is not None and bool(level.grad.any()) for level in maps] == [False, False, True, False]


def test_frames_that_lie_apart_are_pooled_as_if_they_were_joined():
    maps = pyramid(4, **CHANNELS_LAST)
    boxes, index = spread_boxes(60, 1), torch.arange(60) % 4
    expected = pyramid_roi_align(maps, boxes, index, 7)
    for parts in (1, 2):
        apart = [[part.clone(memory_format=torch.preserve_format) for part in level.split(parts)] for level in maps]
        torch.testing.assert_close(pyramid_roi_align(apart, boxes, index, 7), expected, rtol=0, atol=0)


def test_tables_joined_as_on_an_accelerator_give_the_same_rows():
    tables = [torch.arange(float(n)) + 100 * i for i, n in enumerate((5, 3, 9))]
    which = torch.tensor([2, 0, 1, 2, 1])
    row = torch.tensor([8, 4, 0, 1, 2])
    (joined,), first = module._joined(tables, which, row)
    assert joined[first].tolist() == [208, 4, 100, 201, 102]


def test_no_boxes_give_no_regions():
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    maps = pyramid(1)
    assert pyramid_roi_align(maps, *none, 7).shape == (0, 49, 6)
    for ratio in (0, 2):
        assert roi_align(maps[0], *none, 7, 0.25, ratio).shape == (0, 49, 6)


def test_it_runs_in_inference_mode_and_gives_the_same():
    boxes, index = spread_boxes(20), torch.zeros(20, dtype=torch.long)
    expected = pyramid_roi_align(pyramid(1), boxes, index, 7)
    with torch.inference_mode():
        assert torch.equal(pyramid_roi_align(pyramid(1), boxes.clone(), index, 7), expected)


def test_mask_targets_do_not_change_under_automatic_mixed_precision():
    masks = torch.rand(3, 1, 40, 50) > 0.5
    arguments = drawn_boxes(3, width=50), torch.arange(3), 28, 1.0, 0
    expected = roi_align(masks, *arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(roi_align(masks, *arguments), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_maps_of_half_the_precision_are_pooled_in_it_with_places_in_full_precision(dtype):
    boxes, index = spread_boxes(30), torch.zeros(30, dtype=torch.long)
    expected = pyramid_roi_align(pyramid(1), boxes, index, 7)
    found = pyramid_roi_align([level.to(dtype) for level in pyramid(1)], boxes, index, 7)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.03)


def test_maps_in_channels_last_layout_are_not_copied():
    level = pyramid(3, **CHANNELS_LAST)[0]
    assert module._table(level).data_ptr() == level.data_ptr()
    assert module._table(level[1:2]).data_ptr() == level[1:2].data_ptr()


def test_many_masks_are_pooled_some_at_a_time(monkeypatch):
    masks, boxes = torch.rand(7, 1, 40, 50), drawn_boxes(7, width=50)
    expected = roi_align(masks, boxes, torch.arange(7), 5, 1.0, 0)
    monkeypatch.setattr(module, "_LARGEST_GATHER", 2 * 40 * 50 + 1)
    torch.testing.assert_close(roi_align(masks, boxes, torch.arange(7), 5, 1.0, 0), expected)
