"""Masks are resized as published, whatever is cut away; of two that are alike one stays."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vis_core.nn.mask_resize import MaskResize, without_duplicates

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


def test_of_two_masks_that_are_nearly_the_same_the_better_one_stays():
    masks = torch.zeros(4, 2, 10, 10, dtype=torch.bool)
    masks[0, :, :5], masks[1, :, :5, :9], masks[2, :, 4:] = True, True, True  # IoU of the first two: 0.9
    assert without_duplicates(masks).tolist() == [0, 2, 3]
    assert without_duplicates(masks[:0]).tolist() == []
