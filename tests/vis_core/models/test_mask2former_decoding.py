"""From queries to instances: the published choice, and masks that are resized as published, whatever is cut away."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vis_core.models.mask2former_vis import decoding
from vis_core.models.mask2former_vis.decoding import MaskResize

CPU = torch.device("cpu")


def published_masks(logits, padded, resized, image):
    enlarged = F.interpolate(logits[None], padded, mode="bilinear", align_corners=False)
    cut = enlarged[..., : resized[0], : resized[1]]
    return F.interpolate(cut, image, mode="bilinear", align_corners=False)[0].numpy() > 0


@pytest.mark.parametrize(
    ("mask", "resized", "image"),
    [
        ((16, 24), (50, 83), (90, 150)),
        ((16, 24), (64, 96), (64, 96)),
        ((24, 40), (90, 160), (180, 320)),
        ((24, 40), (90, 160), (25, 44)),
        ((8, 40), (7, 160), (1, 23)),
    ],
)
def test_masks_are_resized_as_published_to_the_pixel(mask, resized, image):
    random = torch.Generator().manual_seed(0)
    logits = F.interpolate(torch.randn((1, 9, 5, 6), generator=random), mask, mode="bilinear")[0] - 0.5
    logits[0] = -1  # nothing
    logits[1, : mask[0] // 2] = -1
    logits[2], logits[2, :, 3] = -1, 2
    logits[3], logits[3, -1] = -1, 2  # in the padding, or at the edge
    logits[4], logits[4, :, -1] = -1, 2
    logits[5] = 1  # everything
    padded = 4 * mask[0], 4 * mask[1]
    found = MaskResize(mask, padded, resized, image, CPU)(logits)
    expected = published_masks(logits, padded, resized, image)
    for run_lengths, dense in zip(found, expected, strict=True):
        np.testing.assert_array_equal(run_lengths.dense(), dense)


def test_the_best_pairs_may_name_one_query_twice():
    scores = torch.tensor([[0.1, 0.5, 0.4], [0.3, 0.2, 0.05]])
    queries, labels, values = decoding.best_pairs(scores, 3)
    assert (queries.tolist(), labels.tolist()) == ([0, 0, 1], [1, 2, 0])
    assert values.tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert len(decoding.best_pairs(scores, 10)[0]) == 6


def test_the_last_class_is_no_object_and_no_result():
    scores = decoding.class_scores(torch.tensor([[0.0, 0.0, 20.0]]))
    assert scores.shape == (1, 2) and scores.max() < 1e-6


def test_of_two_masks_that_are_nearly_the_same_the_better_one_stays():
    masks = torch.zeros(4, 2, 10, 10, dtype=torch.bool)
    masks[0, :, :5], masks[1, :, :5, :9], masks[2, :, 4:] = True, True, True  # IoU of the first two: 0.9
    assert decoding.without_duplicates(masks).tolist() == [0, 2, 3]
    assert decoding.without_duplicates(masks[:0]).tolist() == []


def test_an_instance_is_there_in_the_frames_where_its_mask_is_not_empty():
    logits = torch.full((2, 3, 4, 4), -1.0)
    logits[0, :2], logits[1, 2] = 1, 1
    resize = MaskResize((4, 4), (16, 16), (16, 16), (8, 8), CPU)
    found = decoding.QueryInstances(torch.tensor([[0.2, 0.7], [0.9, 0.0]]), logits, resize)
    labels = np.array([1, 0])
    scores = np.stack([found.frame_scores(t, labels) for t in range(3)], 1)
    np.testing.assert_allclose(scores, [[0.7, 0.7, 0], [0, 0, 0.9]], rtol=1e-6)
    assert [mask.area for mask in found.masks(2, [0, 1])] == [0, 64]
    assert [mask.area for mask in found.masks(2, [1])] == [64]
