"""The catalogue's entries of Mask2Former-VIS and MinVIS: what is built from which weights, on a stream and to train."""

import logging

import numpy as np
import pytest
import torch

import vis_core
from vis_core import catalog
from vis_core.checkpoints import write_tensors
from vis_core.data.vocabularies import OVIS, YOUTUBE_VIS_2019, YOUTUBE_VIS_2021
from vis_core.errors import CheckpointError, OptionError
from vis_core.models.mask2former_vis import MASK2FORMER_VIS, MINVIS
from vis_core.models.mask2former_vis.choices import BACKBONES
from vis_core.nn import precision
from vis_core.structures import Frame

SYSTEMS = {"mask2former-vis": MASK2FORMER_VIS, "minvis": MINVIS}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(shared, fill, weights_folder):
    """A published checkpoint, of MinVIS on OVIS with ResNet-50."""
    arrays = fill(shared / "parity" / "minvis" / "weights_ovis_r50" / "manifest.json")
    path = weights_folder / "minvis_ovis_R50.pth"
    torch.save({"model": {key: torch.from_numpy(x) for key, x in arrays.items()}, "iteration": 1}, path)
    return path


def picture(index=0):
    return Frame(np.random.default_rng(index).integers(0, 256, (64, 96, 3), dtype=np.uint8), index, index)


def load(name, weights, **options):
    return vis_core.load(name, weights, **({"device": "cpu", "precision": "fp32", "short_side": 64} | options))


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_published_checkpoint_runs_and_its_licence_is_told(name, checkpoint, caplog):
    with caplog.at_level(logging.WARNING):
        segmenter = load(name, checkpoint, score_threshold=0)
    assert SYSTEMS[name].checkpoints_licence in caplog.text and "non-commercial" in caplog.text
    assert segmenter.class_names == OVIS
    (instances,) = segmenter.step(picture())
    assert len(instances) and (instances.labels < 25).all()
    assert all(mask.size == (64, 96) for mask in instances.masks)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_converted_checkpoint_answers_the_same(name, checkpoint, tmp_path):
    catalog.convert(name, checkpoint, tmp_path / "ours.safetensors")
    for a, b in zip(
        *(load(name, w, score_threshold=0).step(picture()) for w in (checkpoint, tmp_path / "ours.safetensors"))
    ):
        np.testing.assert_array_equal(a.scores, b.scores)
        assert a.masks == b.masks


@pytest.mark.parametrize("name", SYSTEMS)
def test_half_precision_is_that_of_the_backbone_and_scores_stay_close(name, checkpoint):
    full, half = (load(name, checkpoint, score_threshold=0, precision=p) for p in ("fp32", "bf16"))
    assert next(half.network.backbone.parameters()).dtype == torch.bfloat16
    assert next(half.network.decoder.parameters()).dtype == torch.float32
    a, b = full.step(picture())[0], half.step(picture())[0]
    assert abs(a.scores.max() - b.scores.max()) < 0.1


@pytest.mark.parametrize("name", SYSTEMS)
def test_auto_rounds_nothing_whatever_the_cpu_can(name, checkpoint, monkeypatch):
    monkeypatch.setattr(precision, "_has_fast_bfloat16", lambda: True)
    segmenter = load(name, checkpoint, precision="auto")
    assert {p.dtype for p in segmenter.network.parameters()} == {torch.float32}


@pytest.mark.filterwarnings("ignore:.*random")
def test_the_user_says_which_forty_classes_a_checkpoint_has(checkpoint):
    assert load("minvis", None).class_names == YOUTUBE_VIS_2019
    assert load("minvis", None, vocabulary="youtube-vis-2021").class_names == YOUTUBE_VIS_2021
    with pytest.raises(OptionError, match="youtube-vis-2021 has 40 classes, the weights have 25"):
        load("minvis", checkpoint, vocabulary="youtube-vis-2021")


@pytest.mark.filterwarnings("ignore:.*random")
def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second = (load(name, None).network.state_dict() for name in SYSTEMS)
    assert torch.rand(1) == expected
    assert all(torch.equal(x, second[key]) for key, x in first.items())


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        ({"decoder.query_feat.weight": torch.zeros(5, 256)}, "class_embed"),
        ({"decoder.class_embed.weight": torch.zeros(5, 256), "decoder.query_feat.weight": torch.zeros(9, 256)}, "Swin"),
    ],
)
def test_weights_that_do_not_tell_their_network_are_refused(tensors, fault, tmp_path):
    write_tensors(tmp_path / "w.safetensors", tensors, {"format": "vis_core 1", "system": "minvis"})
    with pytest.raises(CheckpointError, match=fault):
        load("minvis", tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_published_backbone_has_its_figures(name):
    entry = SYSTEMS[name]
    text = " ".join(entry.figures)
    expected = ("ResNet-50", "ResNet-101", "Swin-T", "Swin-S", "Swin-B", "Swin-L")
    assert [b for b in expected if b in text] == list(expected if name == "mask2former-vis" else expected[::5])
    assert len(BACKBONES) == len(expected)


def trainable(name, classes=("cup", "box"), tensors=None, **options):
    return SYSTEMS[name].trainable(classes, tensors, torch.Generator().manual_seed(5), **options)


def test_training_starts_from_a_checkpoint_of_other_classes(checkpoint, caplog):
    tensors = MINVIS.published.convert(torch.load(checkpoint)["model"])
    network = trainable("minvis", tensors=tensors).network
    state = network.state_dict()
    differs = {key for key, x in tensors.items() if state[key].shape != x.shape or not torch.equal(state[key], x)}
    assert differs == {"decoder.class_embed.weight", "decoder.class_embed.bias"}
    assert "decoder.class_embed.weight" in caplog.text


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_was_trained_runs(name, tmp_path):
    training = trainable(name, queries=20)
    metadata = {"format": "vis_core 1", "system": name, "class_names": '["cup", "box"]'}
    write_tensors(tmp_path / "w.safetensors", training.weights(), metadata)
    segmenter = load(name, tmp_path / "w.safetensors", score_threshold=0)
    assert segmenter.class_names == ("cup", "box") and segmenter.network.queries == 20
    assert len(segmenter.step(picture())) == 1


@pytest.mark.parametrize("backbone", ["resnet50", "swin_tiny"])
def test_every_parameter_that_learns_is_in_one_group(backbone):
    training = trainable("minvis", backbone=backbone)
    groups = training.parameter_groups()
    grouped = [id(p) for parameters in groups.values() for p in parameters]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in training.parameters() if p.requires_grad}
    undecayed = {n for n, p in training.network.named_parameters() if id(p) in map(id, groups["norms_and_embeddings"])}
    assert {"decoder.query_feat.weight", "decoder.level_embed.weight", "decoder.decoder_norm.bias"} <= undecayed
    assert "pixel_decoder.level_embed" not in undecayed
    assert bool(groups["backbone_norms"]) == (backbone == "swin_tiny")
