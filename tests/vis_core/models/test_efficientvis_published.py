"""Files that a training of EfficientVIS starts from become our tensors, and are refused where a whole one is asked."""

import re

import pytest
import torch
from torch.nn import functional as F

import vis_core
from tests.vis_core.models.recorded_efficientvis import SMALL
from vis_core import catalog
from vis_core.errors import CheckpointError
from vis_core.models.efficientvis import published
from vis_core.models.efficientvis.network import EfficientVISNetwork
from vis_core.models.efficientvis.training import start_from
from vis_core.training.preparation import _initial_weights

CLASSES, QUERIES = 5, 6

# Our keys to QueryInst's: the specification's table turned round, first what is inside of others.
TO_QUERYINST = (
    (r"mask_head\.inst_interact\.dynamic_layer", "MASK.instance_interactive_conv.dynamic_layer"),
    (r"mask_head\.inst_interact\.norm1", "MASK.instance_interactive_conv.norm_in"),
    (r"mask_head\.inst_interact\.norm2", "MASK.instance_interactive_conv.norm_out"),
    (r"mask_head\.convs\.(\d)\.norm", r"MASK.convs.\1.bn"),
    (r"mask_head\.mask_logits", "MASK.conv_logits"),
    (r"mask_head\.", "MASK."),
    (r"self_attn\.", "attention.attn."),
    (r"^(head\.head_series\.\d\.)norm1", r"\1attention_norm"),
    (r"^(head\.head_series\.\d\.)norm2", r"\1instance_interactive_conv_norm"),
    (r"^(head\.head_series\.\d\.)norm3", r"\1ffn_norm"),
    (r"inst_interact\.dynamic_layer", "instance_interactive_conv.dynamic_layer"),
    (r"inst_interact\.norm1", "instance_interactive_conv.norm_in"),
    (r"inst_interact\.norm2", "instance_interactive_conv.norm_out"),
    (r"inst_interact\.out_layer", "instance_interactive_conv.fc_layer"),
    (r"inst_interact\.norm3", "instance_interactive_conv.fc_norm"),
    (r"linear1\.", "ffn.layers.0.0."),
    (r"linear2\.", "ffn.layers.1."),
    (r"cls_module\.", "cls_fcs."),
    (r"class_logits\.", "fc_cls."),
    (r"reg_module\.", "reg_fcs."),
    (r"bboxes_delta\.", "fc_reg."),
    (r"^head\.head_series\.(\d)\.MASK\.", r"roi_head.mask_head.\1."),
    (r"^head\.head_series\.(\d)\.", r"roi_head.bbox_head.\1."),
    (r"^init_proposal_boxes\.", "rpn_head.init_proposal_bboxes."),
    (r"^init_proposal_features\.", "rpn_head.init_proposal_features."),
    (r"^backbone\.stem\.conv1\.norm\.", "backbone.bn1."),
    (r"^backbone\.stem\.conv1\.", "backbone.conv1."),
    (r"^backbone\.res2\.", "backbone.layer1."),
    (r"^backbone\.res3\.", "backbone.layer2."),
    (r"^backbone\.res4\.", "backbone.layer3."),
    (r"^backbone\.res5\.", "backbone.layer4."),
    (r"^(backbone\.layer.*)conv(\d)\.norm\.", r"\1bn\2."),
    (r"^(backbone\.layer.*)shortcut\.norm\.", r"\1downsample.1."),
    (r"^(backbone\.layer.*)shortcut\.", r"\1downsample.0."),
    *((rf"^pyramid\.lateral{k + 2}\.", f"neck.lateral_convs.{k}.conv.") for k in range(4)),
    *((rf"^pyramid\.output{k + 2}\.", f"neck.fpn_convs.{k}.conv.") for k in range(4)),
)


@pytest.fixture(scope="module")
def ours():
    """Weights of a small network, each tensor another one, its norms too."""
    torch.manual_seed(3)
    network = EfficientVISNetwork(50, CLASSES, QUERIES, SMALL)
    network.initialise()
    state = network.state_dict()
    return {key: x + torch.rand_like(x) if x.is_floating_point() else x for key, x in state.items()}


@pytest.fixture(scope="module")
def queryinst(ours):
    """A QueryInst of the same numbers, with a mask for each class and biases before the norms of the mask heads."""
    theirs = {}
    for key, x in ours.items():
        if "temporal_attn" in key:
            continue
        for ours_part, theirs_part in TO_QUERYINST:
            key = re.sub(ours_part, theirs_part, key)
        if "conv_logits" in key:
            x = x + torch.linspace(-1, 1, CLASSES).view(-1, *[1] * (x.dim() - 1))
        theirs[key] = x
        if re.search(r"mask_head.*\.convs\.\d\.conv\.weight", key):
            theirs[key.replace("weight", "bias")] = torch.rand(len(x))
        if re.search(r"backbone.*(bn\d|downsample\.1)\.running_var", key):
            theirs[key.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    return theirs


@pytest.fixture(scope="module")
def sparse_rcnn(ours):
    """A Sparse R-CNN of the same numbers as detectron2 writes it."""
    kept = {key: x for key, x in ours.items() if "temporal_attn" not in key and "mask_head" not in key}
    return {
        key.replace("pyramid.", "backbone.fpn_") if key.startswith("pyramid") else re.sub(
            r"^backbone\.", "backbone.bottom_up.", key
        ): x
        for key, x in kept.items()
    }  # fmt: skip


def test_queryinst_becomes_our_tensors_all_but_attention_over_time(ours, queryinst):
    assert "roi_head.bbox_head.2.instance_interactive_conv.fc_layer.weight" in queryinst
    assert "backbone.layer3.5.bn2.running_mean" in queryinst and "backbone.layer1.0.downsample.0.weight" in queryinst
    assert published.recognise(queryinst.keys())
    found = published.convert(queryinst)
    assert found.keys() == {key for key in ours if "temporal_attn" not in key}
    for key, x in found.items():
        if "norm.running_mean" not in key or "mask_head" not in key:
            torch.testing.assert_close(x, ours[key], msg=key)
    assert published.sizes(found)[:3] == (50, CLASSES, QUERIES)


def test_a_bias_before_a_mask_head_s_norm_is_part_of_its_mean(queryinst):
    network = EfficientVISNetwork(50, CLASSES, QUERIES, SMALL).eval()
    network.load_state_dict(published.convert(queryinst), strict=False)
    x = torch.randn(2, SMALL.width, 14, 14)
    for stage in (0, 5):
        for k, conv in enumerate(network.head.stages()[stage].mask_head.convs):
            at = f"roi_head.mask_head.{stage}.convs.{k}."
            mean, variance, weight, bias = (
                queryinst[f"{at}bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
            )
            found = F.conv2d(x, queryinst[f"{at}conv.weight"], queryinst[f"{at}conv.bias"], padding=1)
            wanted = F.relu(F.batch_norm(found, mean, variance, weight, bias))
            torch.testing.assert_close(conv(x), wanted, rtol=1e-4, atol=1e-5)


def test_a_queryinst_whose_mask_heads_lack_a_norm_is_refused_by_its_part(queryinst):
    cut = {key: x for key, x in queryinst.items() if key != "roi_head.mask_head.4.convs.2.bn.running_mean"}
    with pytest.raises(CheckpointError, match=r"QueryInst's roi_head\.mask_head\.4\.convs\.2 has a bias"):
        published.convert(cut)


def test_sparse_rcnn_becomes_our_tensors(ours, sparse_rcnn):
    assert "backbone.bottom_up.res2.0.conv1.norm.weight" in sparse_rcnn and "backbone.fpn_output5.bias" in sparse_rcnn
    assert published.recognise(sparse_rcnn.keys())
    found = published.convert(sparse_rcnn)
    assert found.keys() == {key for key in ours if "temporal_attn" not in key and "mask_head" not in key}
    assert all(torch.equal(x, ours[key]) for key, x in found.items())


@pytest.mark.parametrize("kind", ["sparse_rcnn", "queryinst"])
def test_a_training_starts_from_an_image_model_s_file(kind, tmp_path, request, ours):
    torch.save({"state_dict": request.getfixturevalue(kind)}, tmp_path / "image_model.pth")
    tensors = _initial_weights(catalog.find("efficientvis"), tmp_path / "image_model.pth")
    network = EfficientVISNetwork(50, 3, 4, SMALL)
    network.initialise()
    start_from(network, tensors)
    state = network.state_dict()
    assert torch.equal(state["init_proposal_boxes.weight"], ours["init_proposal_boxes.weight"][:4])
    for key in ("backbone.res4.3.conv2.weight", "pyramid.output3.bias", "head.head_series.4.reg_module.3.weight"):
        assert torch.equal(state[key], ours[key])
    masks = "head.head_series.5.mask_head.upsample.weight"
    assert torch.equal(state[masks], ours[masks]) == (kind == "queryinst")
    assert not state["head.head_series.1.temporal_attn.out_proj.weight"].any()


@pytest.mark.parametrize(("kind", "title"), [("sparse_rcnn", "Sparse R-CNN"), ("queryinst", "QueryInst")])
def test_an_image_model_s_file_is_refused_as_what_it_is(kind, title, tmp_path, request):
    torch.save({"state_dict": request.getfixturevalue(kind)}, tmp_path / "image_model.pth")
    wanted = f"efficientvis: these are weights of {title}, an image model.*a start for training"
    with pytest.raises(CheckpointError, match=wanted):
        vis_core.load("efficientvis", tmp_path / "image_model.pth", device="cpu")
    with pytest.raises(CheckpointError, match=wanted):
        vis_core.catalog.convert("efficientvis", tmp_path / "image_model.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("key", ["init_proposal_features.weight", "head.head_series.0.class_logits.weight"])
def test_tensors_that_do_not_tell_the_sizes_are_refused_by_key(key, ours):
    for wrong, found in ((None, "missing"), (torch.zeros(3), r"of shape \[3\]"), (torch.zeros(0, 4), "of shape")):
        tensors = {name: x for name, x in ours.items() if name != key} | ({} if wrong is None else {key: wrong})
        with pytest.raises(CheckpointError, match=f"{key}, which tells .* is {found}"):
            published.sizes(tensors)


def test_a_deeper_backbone_is_recognised_by_its_blocks(ours):
    assert published.sizes({**ours, "backbone.res4.6.conv1.weight": torch.zeros(1)})[0] == 101


def test_keys_of_other_systems_are_not_recognised():
    assert not published.recognise(["backbone.bottom_up.stem.conv1.weight", "sem_seg_head.predictor.query_feat.weight"])
