"""Masks that follow the image's edges: better where there is one, the probabilities where there is none."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vis_core.models.visolo.detection import Detections
from vis_core.models.visolo.guided_filter import guided

HEIGHT, WIDTH = 64, 96


def detections(probabilities):
    """Detections with these probabilities ``[N, h/4, w/4]``, and masks as without a guide."""
    logits = torch.logit(torch.as_tensor(probabilities).clamp(1e-3, 1 - 1e-3))
    count = len(logits)
    masks = torch.zeros((count, HEIGHT, WIDTH), dtype=torch.bool)
    if count:
        masks = F.interpolate(logits[None], scale_factor=4, mode="bilinear", align_corners=False)[0] > 0
    rows = np.arange(count)
    scores, vectors = np.ones(count, np.float32), np.ones((count, 3), np.float32)
    return Detections(rows, rows, scores, vectors, masks.numpy(), logits.numpy())


def scene(seed, contrast=0.5):
    """A disc on a ground of another colour, image ``[3, H, W]`` in -1..1, and its mask."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    radius, (cy, cx) = random.uniform(10, 20), random.uniform((24, 30), (40, 66))
    disc = torch.from_numpy((y - cy) ** 2 + (x - cx) ** 2 < radius**2)
    ground = torch.from_numpy(random.uniform(-0.4, 0.4, 3)).float()[:, None, None]
    colour = torch.from_numpy(random.choice((-1, 1), 3) * contrast).float()[:, None, None]
    image = ground + colour * disc + 0.03 * torch.from_numpy(random.standard_normal((3, HEIGHT, WIDTH))).float()
    return image.numpy(), disc.numpy()


def coarse(disc):
    """What a network may tell at a quarter of the size: blurred, and off by one pixel of the image."""
    probabilities = F.avg_pool2d(F.pad(torch.from_numpy(disc)[None, None].float(), (1, 0, 1, 0))[..., :-1, :-1], 4)
    return F.avg_pool2d(probabilities, 3, 1, 1)[0]


def iou(first, second):
    return float((first & second).sum() / (first | second).sum())


def test_edges_move_to_those_of_the_image():
    before, after = [], []
    for seed in range(12):
        image, disc = scene(seed)
        found = detections(coarse(disc))
        before.append(iou(found.masks[0], disc))
        after.append(iou(guided(found, image, 0.5).masks[0], disc))
    assert min(after) > 0.95 and np.mean(after) > np.mean(before) + 0.02


def test_where_the_image_has_no_edge_the_probabilities_are_smoothed():
    _, disc = scene(3)
    found = detections(coarse(disc))
    out = guided(found, np.full((3, HEIGHT, WIDTH), 0.2, np.float32), 0.4)
    smooth = F.avg_pool2d(
        F.avg_pool2d(torch.from_numpy(found.logits).sigmoid(), 3, 1, 1), 3, 1, 1
    )  # the disc is far from the edge
    wanted = F.interpolate(smooth[None], scale_factor=4, mode="bilinear", align_corners=False)[0, 0].numpy() > 0.4
    assert iou(out.masks[0], wanted) > 0.99


def test_each_mask_is_its_own_whatever_stands_beside_it():
    images, discs = zip(*(scene(seed) for seed in (1, 2, 5)))
    found = detections(torch.cat([coarse(disc) for disc in discs]))
    together = guided(found, images[0], 0.4)
    assert len(together) == 3 and np.array_equal(together.logits, found.logits)
    for row in range(3):
        alone = guided(found.chosen(np.array([row])), images[0], 0.4)
        np.testing.assert_array_equal(alone.masks[0], together.masks[row])


def test_a_mask_of_which_nothing_would_be_left_stays():
    probabilities = torch.zeros((2, HEIGHT // 4, WIDTH // 4))
    probabilities[0, 8, 12] = 0.9  # one logit alone: its mean with those around it is under the threshold
    probabilities[1, 4:12, 4:12] = 0.9
    found = detections(probabilities)
    out = guided(found, np.zeros((3, HEIGHT, WIDTH), np.float32), 0.5)
    assert found.masks[0].any() and np.array_equal(out.masks[0], found.masks[0])
    assert out.masks[1].any()


@pytest.mark.parametrize("corner", [(slice(0, 5), slice(0, 6)), (slice(11, 16), slice(18, 24))])
def test_at_the_edge_of_the_picture(corner):
    probabilities = torch.zeros((1, HEIGHT // 4, WIDTH // 4))
    probabilities[0][corner] = 0.95
    image = np.zeros((3, HEIGHT, WIDTH), np.float32)
    fine = tuple(slice(4 * along.start, 4 * along.stop) for along in corner)
    image[:, fine[0], fine[1]] = 0.5
    wanted = image[0] > 0
    assert iou(guided(detections(probabilities), image, 0.5).masks[0], wanted) > 0.97


def test_without_detections():
    found = detections(torch.zeros((0, HEIGHT // 4, WIDTH // 4)))
    assert len(guided(found, np.zeros((3, HEIGHT, WIDTH), np.float32), 0.5)) == 0
