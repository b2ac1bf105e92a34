"""Files of VisTR and of the code of GMP-VIS become our tensors, and what does not fit is refused."""

import json
import logging
from argparse import Namespace

import pytest
import torch

from vis_core.checkpoints import read_tensors
from vis_core.errors import CheckpointError
from vis_core.models.gmp_vis import published

ADDED = ("gmm.", "fc.", "proposal2matching.")


@pytest.fixture(scope="module")
def rows(shared):
    """Keys and shapes of a file."""
    return json.loads((shared / "parity" / "gmp_vis" / "manifest_t6.json").read_text())


@pytest.fixture
def tensors(rows):
    """A file's tensors, without memory of their own."""
    return {row["key"]: torch.zeros(()).expand(row["shape"]) for row in rows}


@pytest.fixture
def vistr(tensors):
    return {key: x for key, x in tensors.items() if not key.startswith(ADDED)}


def shapes(tensors):
    return {key: tuple(x.shape) for key, x in tensors.items()}


def test_every_key_has_its_place_in_the_network(tensors):
    network = published.network_of(published.convert(tensors))
    assert shapes(published.convert(tensors)) == shapes(network.state_dict())
    assert (network.clip_length, network.classes, network.slots) == (6, 40, 10)


def test_files_of_vistr_lack_the_parts_of_gmp_vis_and_it_is_said(tensors, vistr, caplog):
    assert published.is_vistr(tensors.keys()) and published.is_vistr(vistr.keys())
    assert published.is_gmp_vis(tensors.keys()) and not published.is_gmp_vis(vistr.keys())
    with caplog.at_level(logging.WARNING):
        converted = published.convert(vistr)
    assert "cross_graph, proposal2matching, fc" in caplog.text
    network = published.network_of(converted)
    assert shapes(converted) == shapes(network.state_dict())
    assert not network.matching


def test_deeper_backbones_are_known_by_their_keys(vistr):
    for key in [key for key in vistr if ".layer3.1." in key]:
        vistr |= {key.replace(".1.", f".{block}.", 1): vistr[key] for block in range(6, 23)}
    converted = published.convert(vistr)
    assert shapes(converted) == shapes(published.network_of(converted).state_dict())
    assert published.network_of(published.convert(vistr)).backbone.depth == 101


def test_counters_of_norms_are_left_out(vistr):
    expected = published.convert(vistr).keys()
    vistr["vistr.backbone.0.body.bn1.num_batches_tracked"] = torch.tensor(3)
    assert published.convert(vistr).keys() == expected


def test_files_with_the_arguments_of_their_training_are_read(vistr, tmp_path):
    few = {key: torch.ones(1) for key in list(vistr)[:3]}
    arguments = Namespace(lr=1e-4, device="cuda", masks=True, frozen_weights=None)
    torch.save({"model": few, "optimizer": {"state": {}}, "epoch": 17, "args": arguments}, tmp_path / "vistr.pth")
    assert list(read_tensors(tmp_path / "vistr.pth")[0]) == list(few)


@pytest.mark.parametrize(
    ("key", "shape", "text"),
    [
        ("vistr.query_embed.weight", (57, 384), "not a multiple of the 10 slots"),
        ("vistr.query_embed.weight", (0, 384), "of shape"),
        ("vistr.class_embed.weight", (2, 384), "a row for no class"),
        ("vistr.class_embed.weight", (42,), "of shape"),
        ("vistr.transformer.encoder.layers.0.linear1.weight", None, "missing"),
    ],
)
def test_impossible_sizes_are_refused(vistr, key, shape, text):
    if shape is None:
        del vistr[key]
    else:
        vistr[key] = torch.zeros(shape)
    with pytest.raises(CheckpointError, match=text):
        published.network_of(published.convert(vistr))
