"""Tiny Video K-Nets learn a synthetic scene by heart, and then follow its objects."""

import pytest
import torch

from tests.vis_core.models.by_heart import SIZE, TinyBackbone, check_losses, check_tracks, clip_of, learn, leaving_scene
from vis_core.data.synthetic import CLASS_NAMES
from vis_core.models.video_knet.clip import VideoKNetModel
from vis_core.models.video_knet.network import ClipNetwork, OnlineNetwork, Sizes
from vis_core.models.video_knet.online import VideoKNetOnlineModel
from vis_core.models.video_knet.online_training import OnlineTraining
from vis_core.models.video_knet.training import ClipTraining
from vis_core.models.video_knet.vocabulary import numbered_stuff
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.overlap import OverlapAssociator
from vis_core.tracking.quasi_dense import QuasiDenseAssociator

STEPS = 150
SIZES = Sizes(kernels=8, width=64, heads=4, hidden=128)


def clip_system():
    network = ClipNetwork(TinyBackbone(), "fpn", len(CLASS_NAMES), SIZES)
    model = VideoKNetModel(network, CLASS_NAMES, SIZE, False, 0.3, 50)
    return ClipTraining(network), StreamSegmenter(model, OverlapAssociator(0.3), TrackLifecycle(), 3, 1)


def online_system():
    network = OnlineNetwork(TinyBackbone(), "fpn", len(CLASS_NAMES), sizes=SIZES)
    model = VideoKNetOnlineModel(network, CLASS_NAMES, numbered_stuff(CLASS_NAMES, 0))
    return OnlineTraining(network), StreamSegmenter(model, QuasiDenseAssociator(), TrackLifecycle(5, None))


@pytest.mark.slow
@pytest.mark.parametrize("system", [clip_system, online_system])
def test_a_short_training_learns_one_scene_by_heart(system, tmp_path):
    scene = leaving_scene()
    torch.manual_seed(0)
    training, segmenter = system()
    training.network.initialise()
    check_losses(*learn(training, [clip_of(scene)] * STEPS, 1e-3))
    check_tracks(segmenter, scene, tmp_path, least_ap=0.6)
