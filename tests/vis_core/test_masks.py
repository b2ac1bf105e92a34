import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from vis_core import masks
from vis_core.errors import InputError

dense = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24), elements=st.booleans())


@given(dense)
def test_a_mask_survives_packing(mask):
    packed = masks.encode(mask)
    assert np.array_equal(packed.dense(), mask)
    assert packed.area == mask.sum()


@given(dense)
def test_runs_sum_to_the_tight_box_and_begin_with_background(mask):
    packed = masks.encode(mask)
    x, y, width, height = packed.box
    assert packed.runs.sum() == width * height
    assert np.array_equal(packed.crop(), mask[y : y + height, x : x + width])
    if mask.any():
        rows, columns = np.nonzero(mask)
        assert packed.box == (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
        assert (packed.runs[0] == 0) == mask[y, x]
        assert (packed.runs[1:] > 0).all()
    else:
        assert packed.box == (0, 0, 0, 0) and packed.runs.size == 0


@pytest.mark.parametrize("width", range(1, 17))
def test_no_row_or_column_is_lost_at_any_width(width):
    for height in range(1, 9):
        for top in range(height):
            for left in range(width):
                mask = np.zeros((height, width), np.uint8)
                mask[top:, left : left + 6] = 255
                mask[height - 1, left] = 0 if height - top > 1 and width - left > 1 else 255
                packed = masks.encode(mask)
                assert packed.box == (left, top, min(6, width - left), height - top)
                assert np.array_equal(packed.dense(), mask != 0)


@given(dense)
def test_coco_run_lengths_are_those_of_pycocotools(mask):
    packed = masks.encode(mask)
    expected = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert masks.to_coco(packed) == {"size": list(mask.shape), "counts": expected["counts"].decode()}
    assert masks.from_coco(masks.to_coco(packed)) == packed


def test_uncompressed_coco_run_lengths_are_read():
    packed = masks.from_coco({"size": [3, 2], "counts": [1, 2, 3]})
    assert np.array_equal(packed.dense(), [[0, 0], [1, 0], [1, 0]])
    runs = [1 + i % 3 for i in range(600)]  # more than a byte counts
    mask = coco_mask.decode(coco_mask.frPyObjects({"size": [30, 40], "counts": runs}, 30, 40)).astype(bool)
    assert np.array_equal(masks.from_coco({"size": [30, 40], "counts": runs}).dense(), mask)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_every_nonzero_value_is_foreground(dtype):
    mask = np.array([[0, 3], [200, 0]], dtype)
    assert np.array_equal(masks.encode(mask).dense(), mask != 0)


def test_a_view_with_strides_is_packed_as_its_pixels_are():
    mask = np.random.default_rng(0).random((40, 60)) < 0.5
    assert np.array_equal(masks.encode(mask[::2, ::3]).dense(), mask[::2, ::3])


@pytest.mark.parametrize(
    ("box", "runs", "words"),
    [
        ((0, 0, 5, 2), [10], "leaves the image"),
        ((3, 0, 2, 2), [4], "leaves the image"),
        ((-1, 0, 2, 2), [4], "leaves the image"),
        ((3, 0, 2, 2), [], "leaves the image"),
        ((0, 0, 2, 2), [0], "runs sum to 0"),
        ((0, 0, 2, 2), [1, 2], "runs sum to 3"),
        ((0, 0, 2, 2), [5, -1], "negative run"),
        ((0, 0, 2, 2), [2**32, 4], "runs sum to"),
    ],
)
def test_hostile_parts_are_refused(box, runs, words):
    with pytest.raises(InputError, match=words):
        masks.from_box((4, 4), box, runs)


def test_sound_parts_are_taken():
    packed = masks.encode(np.eye(4, dtype=bool))
    assert masks.from_box(packed.size, packed.box, packed.runs.tolist()) == packed
    assert masks.from_box((4, 4), (0, 0, 0, 0), []).area == 0


def test_a_box_without_runs_is_an_empty_mask():
    assert masks.from_box((4, 4), (1, 1, 2, 2), []) == masks.RunLengths((4, 4))


def test_a_mask_must_have_two_axes():
    with pytest.raises(InputError, match="shape"):
        masks.encode(np.zeros((1, 2, 2), bool))
