"""VISOLO's decoding against the plain form of each of its steps."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vis_core import masks
from vis_core.models.visolo import detection
from vis_core.models.visolo.detection import Detections

THRESHOLD = 0.5


def blobs(count, size, generator):
    """Mask logits of smooth shapes: everywhere, nowhere, in corners, and in the middle."""
    height, width = size
    coarse = torch.randn(count, 1, max(height // 4, 2), max(width // 4, 2), generator=generator) - 0.5
    logits = F.interpolate(coarse, size, mode="bilinear", align_corners=False)[:, 0] * 4
    logits[0], logits[1] = -5, 5
    logits[2:4] = -5
    logits[2, 0, 0] = logits[3, -1, -1] = 5
    logits[4:6, : height // 3] = -5
    logits[4:6, :, width // 2 :] = -5
    return logits.numpy()


def detections(logits):
    count = len(logits)
    found = detection.mask_probabilities(logits) > THRESHOLD
    return Detections(np.arange(count), *[np.zeros(count)] * 2, np.zeros((count, 3), np.float32), found, logits)


@pytest.mark.parametrize("mask_resize", ["published", "logits"])
@pytest.mark.parametrize("size", [(32, 48), (64, 96), (36, 60), (1, 1), (7, 500), (333, 3), (53, 47), (240, 330)])
def test_encoded_masks_are_those_of_resizing_whole_maps(size, mask_resize):
    found = detections(blobs(8, (8, 12), torch.Generator().manual_seed(0)))
    maps = found.masks if mask_resize == "published" else detection.mask_probabilities(found.logits)
    whole = F.interpolate(torch.from_numpy(maps)[None].float(), size, mode="bilinear", align_corners=False)[0].numpy()
    expected = whole >= 0.5 if mask_resize == "published" else whole > THRESHOLD
    encoded = detection.encode_masks(found, size, mask_resize, THRESHOLD)
    assert [mask.size for mask in encoded] == [size] * len(encoded)
    for mask, dense, values in zip(encoded, expected, whole, strict=True):
        differs = mask.dense() != dense
        assert not (differs & (np.abs(values - 0.5) > 1e-5)).any()  # a tie may round either way, nothing else
        assert masks.encode(mask.dense()) == mask


@pytest.mark.parametrize("mask_resize", ["published", "logits"])
def test_parts_that_were_left_out_of_a_mask_do_not_come_back_when_it_is_resized(mask_resize):
    logits = np.full((1, 16, 24), -5, np.float32)
    logits[0, 2:10, 2:3] = logits[0, 2:3, 2:20] = logits[0, 7:9, 10:12] = 5
    found = detections(logits)
    found.masks[0, 24:40, 36:56] = False  # an island, within the box of the rest
    (encoded,) = detection.encode_masks(found, (128, 192), mask_resize, THRESHOLD)
    assert not encoded.dense()[52:76, 76:108].any()
    assert encoded.dense()[24, 24] and encoded.dense()[20, 150]


def test_no_detections_encode_to_no_masks():
    found = detections(blobs(6, (8, 12), torch.Generator().manual_seed(0))).chosen(np.zeros(0, np.intp))
    assert detection.encode_masks(found, (20, 30), "published", THRESHOLD) == []


@pytest.mark.parametrize("count", [1, 2, 17, 40])
@pytest.mark.parametrize("size", [(88, 156), (7, 13)])
@pytest.mark.parametrize("numpy_counts_bits", [True, False])
def test_intersections_are_exact_counts_with_every_numpy(count, size, numpy_counts_bits, monkeypatch):
    if not numpy_counts_bits:
        monkeypatch.setattr(detection, "_BIT_COUNT", None)  # before NumPy 2
    dense = np.random.default_rng(count).random((count, *size)) > 0.4
    expected = np.einsum("ihw,jhw->ij", *[dense.astype(np.float64)] * 2)
    found = detection.intersections(dense)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_masks_made_within_their_boxes_are_those_of_whole_maps(threshold):
    random = torch.Generator().manual_seed(3)
    logits = np.concatenate((blobs(8, (8, 12), random), np.full((1, 8, 12), -0.8, np.float32)))
    kept = np.arange(9), np.zeros(9, np.intp), np.ones(9, np.float32)
    found = detection.candidates(logits, np.ones((1, 9), np.float32), kept, threshold, published_quirks=True)
    whole = F.interpolate(torch.from_numpy(logits)[None], scale_factor=4, mode="bilinear")[0].double().sigmoid().numpy()
    masks = whole > threshold
    with np.errstate(invalid="ignore"):
        means = (whole * masks).sum((1, 2)) / masks.sum((1, 2))
    assert sorted(found.cells.tolist()) == list(range(9))
    np.testing.assert_array_equal(found.masks, masks[found.cells])
    np.testing.assert_allclose(found.scores, means[found.cells], rtol=1e-5)


def test_probabilities_at_network_size_are_the_logits_interpolated():
    logits = blobs(8, (8, 12), torch.Generator().manual_seed(3))
    whole = F.interpolate(torch.from_numpy(logits)[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(detection.mask_probabilities(logits), whole.sigmoid(), atol=1e-6)


def test_scores_are_multiplied_by_the_mean_probability_inside_the_mask():
    random = np.random.default_rng(0)
    logits = random.standard_normal((20, 9, 11), np.float32) * 3
    categories = random.random((5, 252), np.float32)
    kept = np.arange(20), categories[:, :20].argmax(0), categories[:, :20].max(0)
    found = detection.candidates(logits, categories, kept, 0.6, False)
    for row, cell in enumerate(found.cells.tolist()):
        (probabilities,) = detection.mask_probabilities(logits[cell : cell + 1])
        inside = probabilities > 0.6
        assert (found.masks[row] ^ inside).sum() <= 1
        wanted = kept[2][cell] * probabilities[inside].mean()
        np.testing.assert_allclose(found.scores[row], wanted, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(found.vectors[row], categories[:, cell])
    assert (np.diff(found.scores) <= 0).all()
    assert len(found) == 20


def test_equal_scores_are_ordered_by_cell():
    cells = np.array([3, 40, 41, 200])
    kept = cells, np.zeros(4, np.intp), np.full(4, 0.5, np.float32)
    found = detection.candidates(np.ones((4, 4, 4), np.float32), np.full((1, 252), 0.5, np.float32), kept, 0.5, False)
    assert found.cells.tolist() == cells.tolist()


def test_coarse_candidates_are_refined_to_the_masks_that_whole_ones_have():
    random = torch.Generator().manual_seed(5)
    logits = blobs(12, (16, 20), random)
    logits[3] = -1  # nowhere
    logits[4] = -5
    logits[4, 8, 8] = 0.01  # one pixel, of which nothing is left at network size
    kept = np.arange(12), np.zeros(12, np.intp), np.ones(12, np.float32)
    given = logits, np.ones((1, 12), np.float32), kept, 0.5, False
    whole, coarse = detection.candidates(*given), detection.candidates(*given, coarse=True)
    assert coarse.masks.shape == (len(coarse), 16, 20)
    assert 3 not in coarse.cells and 4 in coarse.cells
    by_cell = dict(zip(whole.cells.tolist(), range(len(whole))))
    found = detection.refined(coarse, 0.5)
    assert sorted(found.cells.tolist()) == sorted(by_cell)
    assert (np.diff(found.scores) <= 0).all()
    for row, cell in enumerate(found.cells.tolist()):
        np.testing.assert_array_equal(found.masks[row], whole.masks[by_cell[cell]])
        probabilities = 1 / (1 + np.exp(-logits[cell]))
        np.testing.assert_allclose(found.scores[row], probabilities[probabilities > 0.5].mean(), rtol=1e-5)
    empty = detection.refined(coarse.chosen(np.zeros(0, np.intp)), 0.5)
    assert empty.masks.shape == (0, 64, 80)


def overlap_free_by_loop(dense):
    """Rows that stay by the published rule: mask after mask, each removes those that lie by more than half in it."""
    dense = dense.copy()
    for i in range(len(dense)):
        for j in range(i + 1, len(dense)):
            if dense[i].any() and dense[j].any() and (dense[i] & dense[j]).sum() / dense[j].sum() > 0.5:
                dense[j] = False
    return [i for i in range(len(dense)) if dense[i].any()]


@pytest.mark.parametrize("seed", range(10))
def test_overlaps_are_removed_as_the_loop_over_masks_removes_them(seed):
    random = np.random.default_rng(seed)
    dense = np.zeros((30, 40, 40), np.bool_)
    for mask in dense:
        y, x, height, width = (int(random.integers(low, 25)) for low in (0, 0, 4, 4))
        mask[y : y + height, x : x + width] = True
    assert detection.without_overlaps(detection.intersections(dense)) == overlap_free_by_loop(dense)


@pytest.mark.parametrize("seed", range(5))
def test_matrix_nms_is_the_double_loop_of_its_formula(seed):
    random = np.random.default_rng(seed)
    dense = random.random((12, 6, 6)) > 0.4
    labels = random.integers(0, 3, 12)
    scores = np.sort(random.random(12, np.float32))[::-1]
    common = detection.intersections(dense)
    iou = np.zeros((12, 12))
    for i in range(12):
        for j in range(i + 1, 12):
            if labels[i] == labels[j]:
                iou[i, j] = (dense[i] & dense[j]).sum() / (dense[i] | dense[j]).sum()
    compensation = iou.max(0)
    decay = [min(np.exp(-2 * iou[i, j] ** 2) / np.exp(-2 * compensation[i] ** 2) for i in range(12)) for j in range(12)]
    np.testing.assert_allclose(detection.matrix_nms(scores, labels, common), scores * decay, rtol=1e-5)
