"""A tiny TeViT learns a synthetic scene by heart, and finds its objects again in windows that overlap."""

import numpy as np
import pytest
import torch

from tests.vis_core.models.by_heart import SIZE, check_losses, check_tracks, clip_of, learn, leaving_scene
from vis_core.data.synthetic import CLASS_NAMES
from vis_core.models.tevit.model import TeViTModel
from vis_core.models.tevit.msgshift import MsgShifT
from vis_core.models.tevit.network import TeViTNetwork
from vis_core.models.tevit.training import TeViTTraining
from vis_core.nn.region_queries import Dimensions
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.overlap import OverlapAssociator

STEPS, QUERIES = 150, 5
DIMENSIONS = Dimensions(width=32, heads=4, dynamic=8, feedforward=64, stages=2)


def tiny_network():
    torch.manual_seed(0)
    backbone = MsgShifT(tokens=4, widths=(64, 64, 64, 64), depths=(1, 1, 1, 1), drop_path=0.0)
    network = TeViTNetwork(backbone, len(CLASS_NAMES), QUERIES, DIMENSIONS)
    network.initialise()
    for stage in network.head.stages():
        stage.bboxes_delta.weight.data *= 0.1  # so narrow a layer would begin with boxes far from the picture
    return network


@pytest.mark.slow
def test_a_short_training_learns_one_scene_by_heart(tmp_path):
    scene = leaving_scene()
    network = tiny_network()
    training = TeViTTraining(network)
    random = np.random.default_rng(0)  # frames come in any order
    clips = [clip_of(scene, random.permutation(4)) for _ in range(STEPS)]
    check_losses(*learn(training, clips, 2e-3))

    model = TeViTModel(network, CLASS_NAMES, SIZE, False, "window", 0.3, 0.3, max_instances=10)
    associator = OverlapAssociator(0.5, same_label=True, consecutive=True)
    segmenter = StreamSegmenter(model, associator, TrackLifecycle(30, 100), clip_length=2, stride=1)
    check_tracks(segmenter, scene, tmp_path, least_ap=0.7)
