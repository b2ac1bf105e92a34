"""Published files of Video K-Net: recognised, named, measured by their shapes, and refused by the key that is wrong."""

import json

import pytest
import torch

from tests.vis_core.models.recorded_video_knet import SmallBackbone
from vis_core.errors import CheckpointError
from vis_core.models.video_knet import SYSTEMS, build_clip, build_online, published
from vis_core.models.video_knet.network import ClipNetwork, OnlineNetwork, Sizes
from vis_core.models.video_knet.online_training import OnlineTraining
from vis_core.models.video_knet.training import ClipTraining, start_from
from vis_core.models.video_knet.vocabulary import CITYSCAPES, KITTI_STEP, VIPSEG
from vis_core.system.option import check_options, options_of

CPU = torch.device("cpu")
SMALL = Sizes(kernels=8, width=32, heads=8, hidden=64)
CLIP, ONLINE = SYSTEMS

# Backbone, neck, millions of parameters (specification of the published configurations).
CLIPS = {
    "r50": ("resnet50", "fpn", 43.52),
    "r50_deformable": ("resnet50", "deformable", 46.21),
    "swinb": ("swin_base", "fpn", 106.27),
    "swinb_deformable": ("swin_base", "deformable", 108.96),
}
# Backbone, things, stuff, linking, fusion, layers of embeddings, millions of parameters.
ONLINES = {
    "kitti_r50": ("resnet50", 2, 17, "ffn", False, 2, 41.69),
    "vipseg_r50": ("resnet50", 58, 66, "ffn", False, 2, 41.80),
    "kitti_swinb": ("swin_base", 2, 17, "update", True, 2, 111.16),
    "vipseg_swinb": ("swin_base", 58, 66, "ffn", False, 2, 104.55),
    "kitti_swinl_fc": ("swin_large", 2, 17, "ffn", True, 1, 218.21),
}


def millions(module):
    """Parameters, with scale and shift of frozen norms."""
    counted = {key: x.numel() for key, x in module.state_dict().items() if "running_" not in key}
    counted.pop("thing_classes", None)
    return sum(counted.values()) / 1e6


@pytest.mark.parametrize("name", CLIPS)
def test_the_clip_networks_are_as_large_as_the_published_ones(name):
    backbone, neck, size = CLIPS[name]
    with torch.device("meta"):
        network = ClipNetwork(backbone, neck, 40)
    assert millions(network) == pytest.approx(size, abs=0.005)


@pytest.mark.parametrize("name", ONLINES)
def test_the_online_networks_are_as_large_as_the_published_ones_without_what_those_never_use(name):
    *arguments, size = ONLINES[name]
    with torch.device("meta"):
        network = OnlineNetwork(arguments[0], "fpn", *arguments[1:])
    links = sum(millions(link) for link in (network.linking, network.fusion) if link is not None)
    assert millions(network) + 2 * links == pytest.approx(size, abs=0.005)


def shapes(shared, name):
    """Tensors of a published file without their values."""
    manifest = json.loads((shared / "parity" / "video_knet" / f"weights_{name}" / "manifest.json").read_text())
    return {row["key"]: torch.zeros(row["shape"], device="meta") for row in manifest}


FILES = {
    "clip_r50": ("resnet50", "fpn", 40, None),
    "clip_r50_deformable": ("resnet50", "deformable", 40, None),
    "clip_swinb": ("swin_base", "fpn", 40, None),
    "online_kitti_r50": ("resnet50", "fpn", 19, (2, "ffn", False, 2)),
    "online_kitti_swinb": ("swin_base", "fpn", 19, (2, "update", True, 2)),
    "online_vipseg_r50": ("resnet50", "fpn", 124, (58, "ffn", False, 2)),
}


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_tells_its_network(name, shared):
    tensors, (*network, links) = shapes(shared, name), FILES[name]
    assert published.is_online(tensors) and published.is_clip(tensors) == name.startswith("clip")
    ours = published.convert(tensors)
    found = published.frame_sizes(ours)
    assert [found.backbone, found.neck, found.classes] == network and found.sizes == Sizes()
    if links:
        told = published.links(ours, found.classes)
        assert (told.things, told.linking, told.fusion, told.embedding_layers) == links


def test_files_of_other_systems_are_not_recognised():
    for key in ("roi_head.mask_head.0.fc_cls.weight", "rpn_head.init_proposal_features.weight", "tracker.x"):
        assert not published.is_clip({key}) and not published.is_online({key})


def small_tensors(network):
    torch.manual_seed(0)
    network.initialise()
    return dict(network.state_dict())


def clip_tensors():
    return small_tensors(ClipNetwork("resnet50", "fpn", 3, SMALL))


def online_tensors(**options):
    return small_tensors(OnlineNetwork("resnet50", "fpn", 3, 2, **options, sizes=SMALL))


def built(build, tensors, metadata=None, **options):
    return build(tensors, metadata or {}, CPU, "fp32", **check_options(options_of(build), options))


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("clip_stages.1.fc_mask.weight", lambda x: None),
        ("clip_stages.1.fc_mask.weight", lambda x: x[:5]),
        ("frame_stages.0.fc_cls.bias", lambda x: x * float("nan")),
        ("backbone.layer9.weight", lambda x: torch.zeros(3)),
        ("initial_head.init_kernels.weight", lambda x: None),
        ("initial_head.conv_seg.weight", lambda x: x[0]),
        ("neck.lateral2.weight", lambda x: None),
    ],
)
def test_what_does_not_fit_is_refused_by_its_key(key, change):
    tensors = clip_tensors()
    changed = change(tensors.pop(key, None))
    if changed is not None:
        tensors[key] = changed
    with pytest.raises(CheckpointError, match=key):
        built(build_clip, tensors)


def test_an_online_file_of_unknown_classes_is_refused_by_their_number(shared):
    tensors = shapes(shared, "online_kitti_r50")
    for part in ("weight", "bias"):
        tensors[f"roi_head.mask_head.2.fc_cls.{part}"] = torch.zeros((20, 256)[: 2 if part == "weight" else 1])
    with pytest.raises(CheckpointError, match=r"fc_cls\.weight has 20 classes"):
        published.convert(tensors)


def test_the_parts_of_an_online_network_are_those_of_its_weights():
    for options in ({"linking": "update", "fusion": True}, {"linking": None, "embedding_layers": 1}, {}):
        tensors = online_tensors(**options)
        network = built(build_online, tensors).network
        assert set(network.state_dict()) | {"thing_classes"} >= {
            k for k in tensors if "norm" not in k or "norm." not in k
        }
        assert (network.things, network.stuff) == (3, 2)
        assert (network.fusion is not None) == options.get("fusion", False)
        assert len(network.association.fcs) == options.get("embedding_layers", 2)


def test_kernels_of_any_knet_can_be_associated_but_only_if_asked():
    tensors = clip_tensors()
    segmenter = built(build_online, tensors, association="kernel")
    assert (segmenter.network.things, segmenter.network.stuff, segmenter.network.association) == (3, 0, None)
    with pytest.raises(CheckpointError, match=r"association\.output\.weight is missing"):
        built(build_online, tensors)


def test_a_training_starts_from_what_fits():
    network = ClipNetwork("resnet50", "fpn", 5, SMALL)
    network.initialise()
    tensors = {key: x + 1 for key, x in clip_tensors().items() if not key.startswith("clip_stages.")}
    own = network.initial_head.conv_seg.weight.clone()
    start_from(network, tensors, "video-knet")
    assert torch.equal(network.initial_head.conv_seg.weight, own)  # of another number of classes
    assert torch.equal(network.frame_stages[0].fc_mask.weight, tensors["frame_stages.0.fc_mask.weight"])
    with pytest.raises(CheckpointError, match="none of the 1 tensors"):
        start_from(network, {"x": torch.zeros(2)}, "video-knet")


def test_what_is_trained_starts_the_system_and_its_things_and_stuff_have_names():
    names = json.dumps(["cup", "fork", "plate"])
    segmenter = built(build_online, online_tensors(), {"class_names": names})
    assert segmenter.class_names == ("cup", "fork", "plate")
    assert segmenter.model.semantic_class_names == ("cup", "fork", "plate", "stuff 1", "stuff 2")
    assert built(build_clip, clip_tensors(), {"class_names": names}).class_names == ("cup", "fork", "plate")


@pytest.mark.parametrize("online", [False, True])
def test_the_weights_of_a_training_start_the_system(online):
    if online:
        training, build = OnlineTraining(OnlineNetwork("resnet50", "fpn", 3, sizes=SMALL)), build_online
    else:
        training, build = ClipTraining(ClipNetwork("resnet50", "deformable", 3, SMALL)), build_clip
    training.network.initialise()
    network = built(build, {key: x.half() for key, x in training.weights().items()}).network
    assert network.classes == 3 and getattr(network, "stuff", 0) == 0
    own = training.network.frame_stages[1].fc_mask.weight
    torch.testing.assert_close(network.frame_stages[1].fc_mask.weight, own.detach(), rtol=1e-3, atol=1e-4)


def test_published_classes_have_the_names_of_their_data_sets():
    assert (len(CITYSCAPES), len(VIPSEG.names), len(set(VIPSEG.names))) == (19, 124, 124)
    assert [CITYSCAPES[i] for i in KITTI_STEP.things] == ["person", "car"]
    assert sorted((*KITTI_STEP.things, *KITTI_STEP.stuff)) == list(range(19))
    network = OnlineNetwork(SmallBackbone(), "fpn", 2, 17, sizes=SMALL)
    assert network.classes == 19


def test_every_option_of_both_systems_has_a_default_that_it_allows():
    for system in SYSTEMS:
        for options in (system.options, system.training_options):
            assert options
            for name, option in options.items():
                assert option.check(name, option.default) == option.default
