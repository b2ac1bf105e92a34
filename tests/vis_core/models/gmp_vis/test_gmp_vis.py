"""The system `gmp-vis`: which network runs, on which weights."""

import json
import logging

import numpy as np
import pytest
import torch

import vis_core
from tests.vis_core.models.gmp_vis.small_online import SIZES
from vis_core.catalog import SYSTEMS, convert
from vis_core.checkpoints import FORMAT, write_tensors
from vis_core.errors import CheckpointError, OptionError
from vis_core.models.gmp_vis.clip_network import ClipNetwork
from vis_core.models.gmp_vis.online_network import OnlineNetwork
from vis_core.nn.backbones.resnet import ResNet
from vis_core.structures import Frame

NAMES = ("disc", "box", "star")


def written(path, network, system="gmp-vis"):
    metadata = {"format": FORMAT, "system": system, "class_names": json.dumps(NAMES)}
    write_tensors(path, network.state_dict(), metadata)
    return path


@pytest.fixture(scope="module")
def online(weights_folder):
    torch.manual_seed(0)
    network = OnlineNetwork(50, 3, temporal=True, sizes=SIZES)
    network.initialise()
    return written(weights_folder / "online.safetensors", network), network


@pytest.fixture(scope="module")
def clips(weights_folder):
    torch.manual_seed(0)
    network = ClipNetwork(ResNet(50), 6, 3, width=48, hidden=64, layers=1)
    return written(weights_folder / "clips.safetensors", network)


def frame(t, size=(64, 96)):
    return Frame(np.random.default_rng(t).integers(0, 256, (*size, 3), np.uint8), t, t)


def test_weights_of_the_online_network_are_run_frame_by_frame(online):
    path, network = online
    segmenter = vis_core.load("gmp-vis", path, device="cpu", score_threshold=0.0, short_side=64)
    assert segmenter.delay == 0 and segmenter.class_names == NAMES
    assert segmenter.associator.memory_features == 8
    for t in range(3):
        (answer,) = segmenter.step(frame(t))
        assert answer.index == t
    with torch.inference_mode():
        maps = network.eval().maps(segmenter.model.transform(frame(5).image))
        expected = network.frames(maps)
        found = segmenter.model.encode(frame(5))
    # Norms are folded, convolutions packed: the same numbers all the same.
    torch.testing.assert_close(found.queries, expected.queries[-1, 0], rtol=1e-3, atol=1e-4)
    with pytest.raises(CheckpointError, match="weights of mode 'online', not of 'published'"):
        vis_core.load("gmp-vis", path, mode="published")


def test_weights_of_the_published_network_are_run_clip_by_clip(clips):
    segmenter = vis_core.load("gmp-vis", clips, device="cpu", stride=2)
    assert segmenter.clip_length == 6 and segmenter.delay == 1
    with pytest.raises(CheckpointError, match="weights of mode 'published', not of 'online'"):
        vis_core.load("gmp-vis", clips, mode="online")
    with pytest.raises(OptionError, match="option stride: 5"):
        vis_core.load("gmp-vis", clips, stride=5)


def test_options_of_the_stream_change_while_it_runs(online):
    segmenter = vis_core.load("gmp-vis", online[0], device="cpu")
    segmenter.set_option("score_threshold", 0.7)
    segmenter.set_option("max_instances", 3)
    assert (segmenter.model.score_threshold, segmenter.model.max_instances) == (0.7, 3)


def test_a_broken_file_is_refused_in_words(online, weights_folder):
    tensors = online[1].state_dict()
    tensors.pop("mask_head.lay1.weight")
    path = weights_folder / "broken.safetensors"
    write_tensors(path, tensors, {"format": FORMAT, "system": "gmp-vis"})
    with pytest.raises(CheckpointError, match=r"gmp-vis: mask_head.lay1.weight.*is missing"):
        vis_core.load("gmp-vis", path)


def test_both_names_know_files_of_the_code_and_only_vistr_those_of_vistr(caplog):
    keys = {"vistr.query_embed.weight", "insmask_head.0.weight"}
    assert SYSTEMS["vistr"].published.recognise(keys) and not SYSTEMS["gmp-vis"].published.recognise(keys)
    keys.add("proposal2matching.weight")
    assert SYSTEMS["vistr"].published.recognise(keys) and SYSTEMS["gmp-vis"].published.recognise(keys)


def test_weights_are_stored_in_half_the_space(online, weights_folder, caplog):
    caplog.set_level(logging.WARNING)
    count = convert("gmp-vis", online[0], weights_folder / "half.safetensors", half=True)
    assert count == len(online[1].state_dict())
    half, whole = (
        vis_core.load("gmp-vis", path, device="cpu", short_side=64)
        for path in (weights_folder / "half.safetensors", online[0])
    )
    with torch.inference_mode():
        found, expected = (segmenter.model.encode(frame(0)) for segmenter in (half, whole))
    torch.testing.assert_close(found.scores, expected.scores, rtol=0.02, atol=0.02)


def test_a_training_starts_from_other_classes_and_gives_weights_that_run(online, weights_folder, caplog):
    tensors = {key: x.clone() for key, x in online[1].state_dict().items()}
    training = SYSTEMS["gmp-vis"].trainable(("cup",), tensors, torch.Generator(), queries=6)
    # So small a network fits the published sizes in its backbone alone.
    torch.testing.assert_close(
        training.weights()["backbone.res3.0.conv1.weight"], tensors["backbone.res3.0.conv1.weight"]
    )
    assert not any(p.requires_grad for name, p in training.network.named_parameters() if "backbone.res2" in name)
    segmenter = SYSTEMS["gmp-vis"].build(
        training.weights(),
        {"class_names": '["cup"]'},
        torch.device("cpu"),
        "fp32",
        **{name: option.default for name, option in SYSTEMS["gmp-vis"].options.items()},
    )
    assert segmenter.class_names == ("cup",) and len(segmenter.step(frame(0))) == 1
