"""From queries to instances: the published choice, and when an instance is there."""

import numpy as np
import pytest
import torch

from vis_core.models.mask2former_vis import decoding
from vis_core.nn.mask_resize import MaskResize

CPU = torch.device("cpu")


def test_the_best_pairs_may_name_one_query_twice():
    scores = torch.tensor([[0.1, 0.5, 0.4], [0.3, 0.2, 0.05]])
    queries, labels, values = decoding.best_pairs(scores, 3)
    assert (queries.tolist(), labels.tolist()) == ([0, 0, 1], [1, 2, 0])
    assert values.tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert len(decoding.best_pairs(scores, 10)[0]) == 6


def test_the_last_class_is_no_object_and_no_result():
    scores = decoding.class_scores(torch.tensor([[0.0, 0.0, 20.0]]))
    assert scores.shape == (1, 2) and scores.max() < 1e-6


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
