"""What the trainer is given of VisTR, and that it learns."""

import numpy as np
import pytest
import torch

from tests.vis_core.models.by_heart import LENGTH, check_losses, check_tracks, clip_of, learn, leaving_scene
from tests.vis_core.models.gmp_vis.small_clip import TinyBackbone, small_network
from vis_core.data.clips import TrainingClip
from vis_core.data.synthetic import CLASS_NAMES
from vis_core.errors import CheckpointError, OptionError
from vis_core.models.gmp_vis.building import clip_network
from vis_core.models.gmp_vis.clip import VisTRModel, WholePixels
from vis_core.models.gmp_vis.clip_network import ClipNetwork
from vis_core.models.gmp_vis.clip_training import ClipTraining, start_from
from vis_core.models.gmp_vis.linking import ClipAssociator
from vis_core.models.gmp_vis.trainables import trainable_vistr as trainable
from vis_core.system.driver import StreamSegmenter
from vis_core.system.option import check_options, options_of
from vis_core.tracking.lifecycle import TrackLifecycle

SIZE = (64, 96)
DETECTION = {"class", "l1", "giou", "mask", "dice"}
AUXILIARY = {"auxiliary_class", "auxiliary_l1", "auxiliary_giou"}
MATCHING = {"permutation", "contrastive"}


def made_up_clip(instances=2, frames=6, seed=0, **options):
    random = np.random.default_rng(seed)
    masks = np.zeros((instances, frames, *SIZE), bool)
    for i in range(instances):
        for t in range(i % 3, frames):
            masks[i, t, 4 + 6 * i : 24 + 6 * i, 5 + 8 * i + t : 30 + 8 * i + t] = True
    parts = {
        "images": random.integers(0, 255, (frames, *SIZE, 3), np.uint8),
        "masks": masks,
        "labels": np.arange(instances) % 3,
        "exhaustive": np.ones(3, bool),
        "ignore_masks": np.zeros((0, frames, *SIZE), bool),
        "ignore_labels": np.zeros(0, np.int64),
    }
    return TrainingClip(**{**parts, **options})


def alone(counts):
    """All-reduce of one process."""
    return counts


def learnt(training, clips):
    """The losses, after gradients were made of them."""
    torch.manual_seed(0)
    parts = training(clips, alone)
    sum(parts.values()).backward()
    return {name: float(x.detach()) for name, x in parts.items()}


def without_gradient(training):
    network = training.network
    return {name for name, p in network.named_parameters() if p.requires_grad and p.grad is None}


@pytest.mark.parametrize("instances", [0, 1, 2, 6])  # of four slots
def test_gradients_reach_all_that_learns_whatever_the_number_of_instances(instances):
    training = ClipTraining(small_network())
    parts = learnt(training, [made_up_clip(instances)])
    assert parts.keys() == DETECTION | AUXILIARY | MATCHING
    assert all(np.isfinite(x) for x in parts.values())
    assert not without_gradient(training)
    for name, p in training.network.named_parameters():
        assert not p.requires_grad or p.grad.isfinite().all(), name
    if not instances:
        assert all(parts[name] == 0 for name in DETECTION | MATCHING if name != "class") and parts["class"] > 0
    else:
        assert all(parts[name] > 0 for name in DETECTION)


def test_who_is_who_is_taught_to_the_embeddings_and_to_what_they_are_made_of():
    training = ClipTraining(small_network())
    torch.manual_seed(0)
    parts = training([made_up_clip(4)], alone)
    (parts["permutation"] + parts["contrastive"]).backward()
    network = training.network
    for p in (
        network.proposal2matching.weight,
        network.query_embed.weight,
        network.encoder[0].feedforward.linear1.weight,
    ):
        assert p.grad.abs().sum() > 0
    assert network.class_embed.weight.grad is None
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {f"{part}.{kind}" for part in ("cross_graph", "fc") for kind in ("weight", "bias")}


def test_without_their_weights_the_embeddings_stay_as_they_are():
    training = ClipTraining(small_network(), permutation_weight=0, contrastive_weight=0)
    assert learnt(training, [made_up_clip()]).keys() == DETECTION | AUXILIARY
    assert training.network.proposal2matching.weight.grad is None and not without_gradient(training)


@pytest.mark.parametrize("instances", [0, 2, 6])
def test_the_published_quirks_train_the_last_layer_and_no_embeddings(instances):
    training = ClipTraining(small_network(), published_quirks=True)
    assert learnt(training, [made_up_clip(instances)]).keys() == DETECTION
    assert not without_gradient(training)
    assert not training.network.proposal2matching.weight.requires_grad


def test_what_is_not_annotated_is_no_error():
    training, clip = ClipTraining(small_network()), made_up_clip(1)
    torch.manual_seed(0)
    strict = training([clip], alone)["class"]
    lenient = training([made_up_clip(1, exhaustive=np.array([True, False, False]))], alone)["class"]
    region = np.ones((1, 6, *SIZE), bool)
    ignoring = training([made_up_clip(1, ignore_masks=region, ignore_labels=np.array([1]))], alone)["class"]
    assert lenient < strict and ignoring < strict


def test_two_processes_with_a_clip_each_learn_as_one_with_both():
    training = ClipTraining(small_network(), permutation_weight=0, contrastive_weight=0)
    clips = [made_up_clip(3), made_up_clip(1, seed=1)]
    with torch.no_grad():
        together = training(clips, alone)
        counts = []
        for clip in clips:
            asked = []
            training([clip], lambda x, asked=asked: asked.append(x) or x)
            counts.append(asked)
        totals = [sum(pair) for pair in zip(*counts)]
        apart = []
        for clip in clips:
            replies = iter(totals)
            apart.append(training([clip], lambda x, replies=replies: next(replies)))
    for name, loss in together.items():
        torch.testing.assert_close(sum(parts[name] for parts in apart) / 2, loss, rtol=1e-4, atol=1e-5)


def test_clips_of_another_length_than_the_networks_are_refused():
    with pytest.raises(OptionError, match="clips have 5 frames, but the network has queries for 6"):
        ClipTraining(small_network())([made_up_clip(frames=5)], alone)


def test_a_start_takes_the_first_frames_queries_and_leaves_classes_of_another_number():
    given = {key: x + 1 for key, x in small_network(clip_length=8, classes=5).state_dict().items()}
    network = small_network(clip_length=6, classes=3)
    before = {key: x.clone() for key, x in network.state_dict().items()}
    start_from(network, given)
    for key, x in network.state_dict().items():
        if key.startswith(("class_embed", "fc.")):
            assert torch.equal(x, before[key])
        else:
            assert torch.equal(x, given[key][: len(x)]), key
    with pytest.raises(CheckpointError, match="none of the 1 tensors"):
        start_from(network, {"other": torch.zeros(3)})


def test_a_resnet_of_torchvision_starts_the_backbone():
    options = check_options(options_of(trainable), {"clip_length": 5})
    given = {"layer1.0.conv1.weight": torch.rand(64, 64, 1, 1), "bn1.running_mean": torch.rand(64)}
    training = trainable(("cat", "dog"), given, torch.Generator().manual_seed(3), **options)
    network = training.network
    assert torch.equal(network.backbone.res2[0].conv1.weight, given["layer1.0.conv1.weight"])
    assert (network.clip_length, network.classes, len(network.query_embed.weight)) == (5, 2, 50)
    assert network.encoder[0].feedforward.dropout.p == 0.1
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert all(name.startswith(("backbone.stem.", "backbone.res2.", "cross_graph.", "fc.")) for name in frozen)
    again = clip_network(training.weights())  # what was trained is what a stream takes
    assert again.state_dict().keys() == network.state_dict().keys() and again.clip_length == 5
    with pytest.raises(OptionError, match="60 is none of 50, 101"):
        trainable(("cat",), None, torch.Generator(), **{**options, "depth": 60})


STEPS = 240


@pytest.mark.slow
def test_a_short_training_learns_one_scene_by_heart(tmp_path):
    scene = leaving_scene(SIZE)
    torch.manual_seed(0)
    network = ClipNetwork(TinyBackbone(), LENGTH, len(CLASS_NAMES), 5, width=96, heads=4, hidden=128, layers=2)
    network.initialise()
    network.mask_head.lay1.weight.data[:, network.width :] *= 60  # where slots look tells their masks apart, sooner
    training = ClipTraining(network)
    first, last = learn(training, [clip_of(scene)] * STEPS, 3e-3)
    permutation = last.pop("permutation")
    assert permutation == pytest.approx(-1, abs=0.01) or permutation == pytest.approx(-2 / 3, abs=0.01)  # one left
    check_losses(first, last)

    model = VisTRModel(network, CLASS_NAMES, WholePixels(SIZE[0]), 0.1, True)
    segmenter = StreamSegmenter(model, ClipAssociator(0.1, LENGTH), TrackLifecycle(30, 100), LENGTH, 1)
    check_tracks(segmenter, scene, tmp_path, least_ap=0.4)
