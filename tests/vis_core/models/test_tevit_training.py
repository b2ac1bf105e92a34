"""What the trainer is given of TeViT: its backbones, what they start from, and what learns how."""

import pytest
import torch

from vis_core.checkpoints import FORMAT
from vis_core.errors import CheckpointError, OptionError
from vis_core.models.tevit import SYSTEM, published
from vis_core.models.tevit.msgshift import MsgShifT
from vis_core.models.tevit.network import TeViTNetwork
from vis_core.models.tevit.trainables import trainable
from vis_core.models.tevit.training import TeViTTraining, start_from
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.backbones.swin import VARIANTS, SwinTransformer, SwinVariant
from vis_core.nn.region_queries import Dimensions
from vis_core.system.option import check_options, options_of

SMALL = Dimensions(width=32, heads=4, dynamic=8, feedforward=64, stages=2)
SMALL_SWIN = SwinVariant(32, (2, 2, 2, 2), (1, 2, 4, 8), 7)


def small_network(backbone=None, classes=3, queries=5):
    torch.manual_seed(0)
    network = TeViTNetwork(backbone or MsgShifT(4, (64,) * 4, (1,) * 4), classes, queries, SMALL)
    network.initialise()
    return network


def started(network, tensors):
    """The network's tensors that a start changes."""
    before = {key: x.clone() for key, x in network.state_dict().items()}
    start_from(network, tensors)
    return {key: x for key, x in network.state_dict().items() if not torch.equal(x, before[key])}


def test_a_start_takes_the_first_proposals_and_leaves_classes_of_another_number_and_tokens_that_there_are_not():
    given = small_network(classes=7, queries=8).state_dict()
    given = {key: x + 1 for key, x in given.items() if key != "backbone.msg_tokens"}
    found = started(small_network(classes=3, queries=5), given)
    fresh = {key for key in given if "class_logits" in key or "mask_logits" in key}
    assert len(fresh) == 8 and found.keys() == given.keys() - fresh
    for key, x in found.items():
        assert torch.equal(x, given[key][:5] if key.startswith("init_proposal_") else given[key]), key
    more = small_network(queries=9)
    own = more.init_proposal_features.weight[8].clone()
    start_from(more, given)
    assert torch.equal(more.init_proposal_features.weight[:8], given["init_proposal_features.weight"])
    assert torch.equal(more.init_proposal_features.weight[8], own)
    assert more.init_proposal_boxes.weight[8].tolist() == [0.5, 0.5, 1, 1]


def test_tokens_of_another_number_stay_fresh():
    network, given = small_network(), small_network(MsgShifT(8, (64,) * 4, (1,) * 4)).state_dict()
    tokens = network.backbone.msg_tokens.clone()
    start_from(network, {key: x + 1 for key, x in given.items()})
    assert torch.equal(network.backbone.msg_tokens, tokens)


def test_a_pvt_of_imagenet_starts_the_backbone():
    query, both = torch.rand(64, 64), torch.rand(128, 64)
    given = {
        "patch_embed1.proj.weight": torch.rand(64, 3, 7, 7),
        "block1.0.attn.q.weight": query,
        "block1.0.attn.kv.weight": both,
        "block1.0.mlp.dwconv.dwconv.weight": torch.rand(512, 1, 3, 3),
        "head.weight": torch.rand(1000, 64),
    }
    found = started(small_network(), given)
    expected = {
        "backbone.layers.0.0.projection.weight": given["patch_embed1.proj.weight"],
        "backbone.layers.0.1.0.attn.attn.in_proj_weight": torch.cat((query, both)),
        "backbone.layers.0.1.0.ffn.layers.1.weight": given["block1.0.mlp.dwconv.dwconv.weight"],
    }
    assert found.keys() == expected.keys() and all(torch.equal(found[key], x) for key, x in expected.items())


def test_a_resnet_of_torchvision_starts_the_backbone_and_its_norms():
    given = {
        "bn1.running_mean": torch.rand(64),
        "layer1.0.conv1.weight": torch.rand(64, 64, 1, 1),
        "layer2.0.bn2.weight": torch.rand(128),
        "fc.bias": torch.rand(1000),
    }
    found = started(small_network(ResNet(50, learns_norms=True)), given)
    expected = {
        "backbone.stem.conv1.norm.running_mean": given["bn1.running_mean"],
        "backbone.res2.0.conv1.weight": given["layer1.0.conv1.weight"],
        "backbone.res3.0.conv2.norm.weight": given["layer2.0.bn2.weight"],
    }
    assert found.keys() == expected.keys() and all(torch.equal(found[key], x) for key, x in expected.items())


@pytest.mark.parametrize("queryinst", [False, True])
def test_a_swin_with_its_authors_keys_starts_the_backbone_by_itself_and_in_a_queryinst(queryinst):
    given = {
        "patch_embed.proj.weight": torch.rand(32, 3, 4, 4),
        "layers.0.blocks.1.attn.qkv.weight": torch.rand(96, 32),
        "layers.0.blocks.1.attn.relative_position_index": torch.zeros(49, 49, dtype=torch.int64),
        "layers.0.downsample.reduction.weight": torch.rand(64, 128),
        "norm.weight": torch.rand(256),
    }
    expected = {f"backbone.{key}": x for key, x in given.items() if "index" not in key and key != "norm.weight"}
    if queryinst:
        queries = torch.rand(5, 32)
        given = {f"backbone.{key}": x for key, x in given.items()} | {"rpn_head.init_proposal_features.weight": queries}
        expected["init_proposal_features.weight"] = queries
        assert not published.recognise(given)  # it is converted by the start itself
    found = started(small_network(SwinTransformer(SMALL_SWIN)), given)
    assert found.keys() == expected.keys() and all(torch.equal(found[key], x) for key, x in expected.items())


def test_a_start_with_nothing_that_fits_is_refused():
    with pytest.raises(CheckpointError, match="none of the 1 tensors"):
        start_from(small_network(), {"other": torch.zeros(3)})


def test_groups_tell_apart_what_published_configurations_do():
    training = TeViTTraining(small_network(SwinTransformer(SMALL_SWIN)))
    names = {id(p): name for name, p in training.network.named_parameters()}
    groups = {group: {names[id(p)] for p in parts} for group, parts in training.parameter_groups().items()}
    assert set().union(*groups.values()) == set(names.values())
    assert sum(map(len, groups.values())) == len(names)
    assert len(groups["bias_tables"]) == 8
    assert all(name.endswith("relative_position_bias_table") for name in groups["bias_tables"])
    assert all(name.startswith("backbone.") for name in groups["backbone"])
    assert {"backbone.norm0.weight", "backbone.layers.0.blocks.0.norm1.bias"} < groups["backbone"]
    norms = {name.removeprefix("head.head_series.0.") for name in groups["head_norms"] if "series.1" not in name}
    layers = [*(f"norm{i}" for i in (1, 2, 3)), *(f"inst_interact.norm{i}" for i in (1, 2, 3))]
    layers += [f"mask_head.inst_interact.norm{i}" for i in (1, 2)]
    assert norms == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


@pytest.mark.parametrize(
    ("backbone", "drop_path", "last"),
    [("msgshift", None, 0.1), ("msgshift", 0.3, 0.3), ("swin_large", None, 0.2), ("resnet50", None, 0.0)],
)
def test_the_trainer_gets_the_network_that_its_options_name(backbone, drop_path, last, monkeypatch):
    assert VARIANTS["large"].width == 192
    monkeypatch.setitem(VARIANTS, "large", SwinVariant(32, (2, 2, 2, 2), (1, 2, 4, 8), 12))  # smaller, for speed
    options = {"backbone": backbone, "queries": 4, "query_interaction": "joint", "drop_path": drop_path}
    training = trainable(
        ("cat", "dog"), None, torch.Generator().manual_seed(3), **check_options(options_of(trainable), options)
    )
    network = training.network
    assert (network.classes, network.queries, len(network.head.stages())) == (2, 4, 6)
    assert network.head.stages()[0].query_interaction == "joint"
    tensors = training.weights()
    assert tensors.keys() == network.state_dict().keys()
    assert all(x.dtype == torch.float32 for x in tensors.values())
    frozen = {name for name, x in network.named_parameters() if not x.requires_grad}
    if backbone == "resnet50":
        assert frozen == {
            name for name, _ in network.named_parameters() if name.startswith(("backbone.stem.", "backbone.res2."))
        }
        assert network.backbone.res3[0].conv1.norm.weight.requires_grad
    else:
        assert not frozen
    if backbone == "msgshift":
        assert network.backbone.msg_tokens.shape == (1, 32, 3) and network.backbone.messengers == "shift"
        assert network.backbone.layers[3][1][1].drop_path == pytest.approx(last)
    if backbone == "swin_large":
        assert network.backbone.layers[3].blocks[1].drop_path == pytest.approx(last)
        assert len(network.backbone.layers[0].blocks[0].attn.relative_position_bias_table) == 13**2


def test_options_of_messengers_are_those_of_the_ablations():
    options = options_of(trainable)
    assert {name: option.default for name, option in options.items()} == {
        "backbone": "msgshift",
        "queries": 100,
        "query_interaction": "spatiotemporal",
        "messengers": "shift",
        "messenger_tokens": 32,
        "shift": "cyclic",
        "drop_path": None,
    }
    with pytest.raises(OptionError, match="6 is not a multiple of 4"):
        check_options(options, {"messenger_tokens": 6})


@pytest.mark.parametrize("messengers", ["none", "attention"])
def test_what_was_trained_without_shifted_messengers_runs_as_it_is(messengers):
    network = small_network(MsgShifT(4, (64,) * 4, (1,) * 4, messengers=messengers))
    tensors, metadata = TeViTTraining(network).weights(), {"format": FORMAT, "class_names": '["a", "b", "c"]'}
    segmenter = SYSTEM.build(tensors, metadata, torch.device("cpu"), "fp32")
    assert segmenter.network.backbone.messengers == messengers
    if messengers == "none":  # nothing tells it from an image model, if it does not come from here
        with pytest.raises(CheckpointError, match="QueryInst"):
            SYSTEM.build(tensors, {}, torch.device("cpu"), "fp32")
