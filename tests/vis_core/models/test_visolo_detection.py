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
    return logits


def detections(logits):
    count = len(logits)
    found = detection.mask_probabilities(logits) > THRESHOLD
    return Detections(torch.arange(count), *[torch.zeros(count)] * 2, torch.zeros(count, 3), found, logits)


@pytest.mark.parametrize("mask_resize", ["published", "logits"])
@pytest.mark.parametrize("size", [(32, 48), (64, 96), (36, 60), (1, 1), (7, 500), (333, 3), (53, 47), (240, 330)])
def test_encoded_masks_are_those_of_resizing_whole_maps(size, mask_resize):
    found = detections(blobs(8, (8, 12), torch.Generator().manual_seed(0)))
    maps = found.masks.float() if mask_resize == "published" else detection.mask_probabilities(found.logits)
    whole = F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
    expected = (whole >= 0.5 if mask_resize == "published" else whole > THRESHOLD).numpy()
    encoded = detection.encode_masks(found, size, mask_resize, THRESHOLD)
    assert [mask.size for mask in encoded] == [size] * len(encoded)
    for mask, dense, values in zip(encoded, expected, whole.numpy(), strict=True):
        differs = mask.dense() != dense
        assert not (differs & (np.abs(values - 0.5) > 1e-5)).any()  # a tie may round either way, nothing else
        assert masks.encode(mask.dense()) == mask


@pytest.mark.parametrize("mask_resize", ["published", "logits"])
def test_parts_that_were_left_out_of_a_mask_do_not_come_back_when_it_is_resized(mask_resize):
    logits = torch.full((1, 16, 24), -5.0)
    logits[0, 2:10, 2:3] = logits[0, 2:3, 2:20] = logits[0, 7:9, 10:12] = 5
    found = detections(logits)
    found.masks[0, 24:40, 36:56] = False  # an island, within the box of the rest
    (encoded,) = detection.encode_masks(found, (128, 192), mask_resize, THRESHOLD)
    assert not encoded.dense()[52:76, 76:108].any()
    assert encoded.dense()[24, 24] and encoded.dense()[20, 150]


def test_no_detections_encode_to_no_masks():
    found = detections(blobs(6, (8, 12), torch.Generator().manual_seed(0))).chosen(torch.zeros(0, dtype=torch.int64))
    assert detection.encode_masks(found, (20, 30), "published", THRESHOLD) == []


@pytest.mark.parametrize("count", [1, 2, 17, 40])
@pytest.mark.parametrize("size", [(88, 156), (7, 13)])
@pytest.mark.parametrize("numpy_counts_bits", [True, False])
def test_intersections_are_exact_counts_with_every_numpy(count, size, numpy_counts_bits, monkeypatch):
    if not numpy_counts_bits:
        monkeypatch.setattr(detection, "_BIT_COUNT", None)  # before NumPy 2
    dense = torch.rand(count, *size, generator=torch.Generator().manual_seed(count)) > 0.4
    expected = torch.einsum("ihw,jhw->ij", dense.double(), dense.double())
    found = detection.intersections(dense)
    assert found.dtype == torch.float32
    assert torch.equal(found.double(), expected)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_masks_made_within_their_boxes_are_those_of_whole_maps(threshold):
    random = torch.Generator().manual_seed(3)
    logits = torch.cat((blobs(8, (8, 12), random), torch.full((1, 8, 12), float(torch.tensor(0.3).logit()))))
    kept = torch.arange(9), torch.zeros(9, dtype=torch.int64), torch.ones(9)
    found = detection.candidates(logits, torch.eye(9), torch.ones(1, 9), kept, threshold, published_quirks=True)
    whole = detection.mask_probabilities(logits)
    masks = whole > threshold
    means = (whole * masks).sum((1, 2)) / masks.sum((1, 2))
    assert sorted(found.cells.tolist()) == list(range(9))
    assert torch.equal(found.masks, masks[found.cells])
    torch.testing.assert_close(found.scores, means[found.cells], equal_nan=True)


def test_scores_are_multiplied_by_the_mean_probability_inside_the_mask():
    random = torch.Generator().manual_seed(0)
    cells = torch.arange(20)
    features, kernels = torch.randn(8, 9, 11, generator=random), torch.randn(8, 252, generator=random)
    categories = torch.rand(5, 252, generator=random)
    scores, labels = categories[:, :20].max(0)
    found = detection.candidates(features, kernels, categories, (cells, labels, scores), 0.6, False)
    for row, cell in enumerate(found.cells.tolist()):
        logits = (kernels[:, cell, None, None] * features).sum(0)
        probabilities = F.interpolate(logits[None, None], scale_factor=4, mode="bilinear")[0, 0].sigmoid()
        inside = probabilities > 0.6
        assert (found.masks[row] ^ inside).sum() <= 1
        torch.testing.assert_close(found.scores[row], scores[cell] * probabilities[inside].mean(), rtol=1e-3, atol=1e-4)
        assert torch.equal(found.vectors[row], categories[:, cell])
    assert (found.scores.diff() <= 0).all()
    assert len(found) == len(cells)


def test_equal_scores_are_ordered_by_cell():
    features, kernels = torch.ones(8, 4, 4), torch.ones(8, 252)
    cells = torch.tensor([3, 40, 41, 200])
    kept = cells, torch.zeros(4, dtype=torch.int64), torch.full((4,), 0.5)
    found = detection.candidates(features, kernels, torch.full((1, 252), 0.5), kept, 0.5, False)
    assert found.cells.tolist() == cells.tolist()


def test_coarse_candidates_are_refined_to_the_masks_that_whole_ones_have():
    random = torch.Generator().manual_seed(5)
    logits = blobs(12, (16, 20), random)
    logits[3] = -1  # nowhere
    logits[4] = -5
    logits[4, 8, 8] = 0.01  # one pixel, of which nothing is left at network size
    kept = torch.arange(12), torch.zeros(12, dtype=torch.int64), torch.ones(12)
    given = logits, torch.eye(12), torch.ones(1, 12), kept, 0.5, False
    whole, coarse = detection.candidates(*given), detection.candidates(*given, coarse=True)
    assert coarse.masks.shape == (len(coarse), 16, 20)
    assert 3 not in coarse.cells and 4 in coarse.cells
    by_cell = dict(zip(whole.cells.tolist(), range(len(whole))))
    found = detection.refined(coarse, 0.5)
    assert sorted(found.cells.tolist()) == sorted(by_cell)
    assert (found.scores.diff() <= 0).all()
    for row, cell in enumerate(found.cells.tolist()):
        assert torch.equal(found.masks[row], whole.masks[by_cell[cell]])
        probabilities = logits[cell].sigmoid()
        torch.testing.assert_close(found.scores[row], probabilities[probabilities > 0.5].mean())
    empty = detection.refined(coarse.chosen(torch.zeros(0, dtype=torch.int64)), 0.5)
    assert empty.masks.shape == (0, 64, 80)


def overlap_free_by_loop(dense):
    """Rows that stay by the published rule: mask after mask, each removes those that lie by more than half in it."""
    dense = dense.clone()
    for i in range(len(dense)):
        for j in range(i + 1, len(dense)):
            if dense[i].any() and dense[j].any() and (dense[i] & dense[j]).sum() / dense[j].sum() > 0.5:
                dense[j] = False
    return [i for i in range(len(dense)) if dense[i].any()]


@pytest.mark.parametrize("seed", range(10))
def test_overlaps_are_removed_as_the_loop_over_masks_removes_them(seed):
    random = torch.Generator().manual_seed(seed)
    dense = torch.zeros(30, 40, 40, dtype=torch.bool)
    for mask in dense:
        y, x, height, width = (int(torch.randint(low, 25, (), generator=random)) for low in (0, 0, 4, 4))
        mask[y : y + height, x : x + width] = True
    assert detection.without_overlaps(detection.intersections(dense)) == overlap_free_by_loop(dense)


@pytest.mark.parametrize("seed", range(5))
def test_matrix_nms_is_the_double_loop_of_its_formula(seed):
    random = torch.Generator().manual_seed(seed)
    dense = torch.rand(12, 6, 6, generator=random) > 0.4
    labels = torch.randint(0, 3, (12,), generator=random)
    scores = torch.rand(12, generator=random).sort(descending=True).values
    common = detection.intersections(dense)
    iou = np.zeros((12, 12))
    for i in range(12):
        for j in range(i + 1, 12):
            if labels[i] == labels[j]:
                iou[i, j] = (dense[i] & dense[j]).sum() / (dense[i] | dense[j]).sum()
    compensation = iou.max(0)
    decay = [min(np.exp(-2 * iou[i, j] ** 2) / np.exp(-2 * compensation[i] ** 2) for i in range(12)) for j in range(12)]
    np.testing.assert_allclose(detection.matrix_nms(scores, labels, common), scores.numpy() * decay, rtol=1e-5)
