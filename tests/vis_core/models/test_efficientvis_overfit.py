"""A tiny EfficientVIS learns a synthetic scene by heart, and its queries find their objects again, clip after clip."""

import pytest
import torch

from tests.vis_core.models.by_heart import SIZE, TinyBackbone, check_losses, check_tracks, clip_of, learn, leaving_scene
from vis_core.data.synthetic import CLASS_NAMES
from vis_core.models.efficientvis.model import EfficientVISModel
from vis_core.models.efficientvis.network import EfficientVISNetwork
from vis_core.models.efficientvis.slots import Slots
from vis_core.models.efficientvis.training import EfficientVISTraining
from vis_core.nn.feature_pyramid import FeaturePyramid
from vis_core.nn.region_queries import Dimensions
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.lifecycle import TrackLifecycle

STEPS, QUERIES = 150, 5
DIMENSIONS = Dimensions(width=32, heads=4, dynamic=8, feedforward=64, stages=2)


def tiny_network():
    torch.manual_seed(0)
    network = EfficientVISNetwork(None, len(CLASS_NAMES), QUERIES, DIMENSIONS)
    network.backbone, network.pyramid = TinyBackbone(), FeaturePyramid(TinyBackbone.channels, DIMENSIONS.width)
    network.initialise()
    for stage in network.head.stages():
        stage.bboxes_delta.weight.data *= 0.1  # so narrow a layer would begin with boxes far from the picture
    return network


@pytest.mark.slow
def test_a_short_training_learns_one_scene_by_heart(tmp_path):
    scene = leaving_scene()
    network = tiny_network()
    training = EfficientVISTraining(network)
    check_losses(*learn(training, [clip_of(scene)] * STEPS, 2e-3))

    slots = Slots("confident", "learned", max_lost_clips=1)
    model = EfficientVISModel(network, CLASS_NAMES, slots, SIZE, score_threshold=0.3, presence_threshold=0.3)
    segmenter = StreamSegmenter(model, slots, TrackLifecycle(None), clip_length=2, stride=2)
    check_tracks(segmenter, scene, tmp_path, least_ap=0.6)
