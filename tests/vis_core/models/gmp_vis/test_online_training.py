"""The online GMP-VIS in training."""

import numpy as np
import pytest
import torch

from tests.vis_core.models.by_heart import check_losses, check_tracks, clip_of, learn, leaving_scene
from tests.vis_core.models.gmp_vis.small_online import SIZES, small_network
from vis_core.catalog import SYSTEMS
from vis_core.data.clips import TrainingClip
from vis_core.data.synthetic import CLASS_NAMES
from vis_core.errors import OptionError
from vis_core.models.gmp_vis.online import GMPVISModel
from vis_core.models.gmp_vis.online_network import arguments_of
from vis_core.models.gmp_vis.online_training import OnlineTraining
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.graph_association import GraphAssociator
from vis_core.tracking.lifecycle import TrackLifecycle

STEPS = 250


@pytest.fixture(scope="module")
def scene():
    return leaving_scene((64, 96))


def total(parts):
    return torch.stack(list(parts.values())).sum()


def test_all_that_learns_is_taught(scene):
    training = OnlineTraining(small_network(len(CLASS_NAMES)))
    for parameter in training.network.matching.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # as it begins, its memory has no weight
    total(training([clip_of(scene, [0, 1, 2])], lambda x: x)).backward()
    # What is said of boxes by a layer is taught through it; in a clip of these shapes nothing else may be left out.
    untaught = [name for name, p in training.named_parameters() if p.grad is None]
    assert not untaught


@pytest.mark.parametrize("temporal", [False, True])
def test_a_clip_without_instances_and_one_of_a_single_frame_teach_too(scene, temporal):
    training = OnlineTraining(small_network(len(CLASS_NAMES), temporal))
    empty = clip_of(scene, [0, 1])
    empty = TrainingClip(
        empty.images,
        empty.masks[:0],
        empty.labels[:0],
        empty.exhaustive,
        empty.ignore_masks,
        empty.ignore_labels,
    )
    for clip in (empty, clip_of(scene, [2])):
        parts = training([clip], lambda x: x)
        assert all(torch.isfinite(x) for x in parts.values())
        assert parts["permutation"] == 0 and parts["contrastive"] == 0
        total(parts).backward()
        assert all(p.grad is not None for p in training.parameters() if p.requires_grad)
    assert parts["mask"] > 0


def test_losses_of_two_clips_are_those_of_one_batch(scene):
    training = OnlineTraining(small_network(len(CLASS_NAMES), temporal=False))
    clips = [clip_of(scene, [0, 1]), clip_of(scene, [2, 3])]
    both = training(clips, lambda x: x)
    # Two processes with a clip each: counts are summed over both, and what each gives is averaged.
    counts = [], []
    for clip, asked in zip(clips, counts):
        training([clip], lambda x, asked=asked: asked.append(x.clone()) or x)
    means = []
    for clip in clips:
        sums = iter([first + second for first, second in zip(*counts)])
        means.append(training([clip], lambda x, sums=sums: next(sums)))
    for name in ("class", "auxiliary_class", "l1", "giou", "mask", "dice"):
        torch.testing.assert_close((means[0][name] + means[1][name]) / 2, both[name], rtol=1e-4, atol=1e-5)


def test_the_matching_teaches_queries_of_the_frames_before(scene):
    training = OnlineTraining(small_network(len(CLASS_NAMES), temporal=False))
    parts = training([clip_of(scene, [0, 1, 2])], lambda x: x)
    (gradient,) = torch.autograd.grad(parts["contrastive"], training.network.matching.projection.weight)
    assert gradient.abs().sum() > 0


def test_weights_tell_the_network_that_they_are_of():
    for temporal in (False, True):
        network = small_network(5, temporal)
        tensors = OnlineTraining(network).weights()
        assert arguments_of(tensors) == (50, 5, temporal, SIZES)


def test_an_impossible_depth_is_refused():
    with pytest.raises(OptionError, match="gmp-vis: depth 51 is none of 50, 101"):
        SYSTEMS["gmp-vis"].trainable(CLASS_NAMES, None, torch.Generator(), depth=51)


@pytest.mark.slow
def test_a_short_training_learns_one_scene_by_heart(tmp_path):
    scene = leaving_scene()
    network = small_network(len(CLASS_NAMES), temporal=False)
    training = OnlineTraining(network)
    random = np.random.default_rng(0)  # frames come in any order
    clips = [clip_of(scene, random.permutation(4)) for _ in range(STEPS)]
    check_losses(*learn(training, clips, 3e-3))

    associator = GraphAssociator()
    model = GMPVISModel(network, CLASS_NAMES, associator, None)
    segmenter = StreamSegmenter(model, associator, TrackLifecycle(30, None))
    check_tracks(segmenter, scene, tmp_path, least_ap=0.6)
