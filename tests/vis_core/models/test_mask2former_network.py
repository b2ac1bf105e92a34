"""The network of Mask2Former-VIS and MinVIS answers what the published code answers, intermediate by intermediate."""

import json

import numpy as np
import pytest
import torch

from tests.costs import by_cost
from vis_core.errors import CheckpointError
from vis_core.models.mask2former_vis import published
from vis_core.models.mask2former_vis.network import Mask2FormerVISNetwork, PixelFeatures
from vis_core.models.mask2former_vis.transformer_decoder import attended, mask_logits
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.input_transform import ShortSideTransform
from vis_core.nn.position_codes import image_code

CASES = (
    "mask2former/case_r50_odd",
    "mask2former/case_r50_clip5",
    "mask2former/case_swint_odd",
    "mask2former/case_swinb_t2",
    "minvis/case_r50_clip6",
    "minvis/case_swint",
    "minvis/case_ovis_window",
)


class Recorded:
    """What the published code had at each step of a case."""

    def __init__(self, folder):
        self.record = json.loads((folder / "case.json").read_text())
        self.images = np.load(folder / "inputs.npz")["images"]
        self.manifest = folder.parent / self.record["manifest"]
        self._arrays = np.load(folder / "expected.npz")

    def has(self, name):
        return name in self._arrays

    def expected(self, name):
        return self._arrays[name]

    def close(self, name, found):
        if not self.has(name):
            return 0
        entry, found = self.record["arrays"][name], found.numpy().astype(np.float64)
        assert list(found.shape) == entry["shape"], name
        stored = self._arrays[name].ravel()
        np.testing.assert_allclose(
            found.ravel()[:: entry.get("stride", 1)], stored, entry["rtol"], entry["atol"], err_msg=name
        )
        return 1

    def blocked(self, name, found):
        """An attention mask, bit for bit."""
        expected = np.unpackbits(self._arrays[name], axis=-1, count=found.shape[-1]).astype(bool)
        assert expected.reshape(found.shape).tolist() == found.tolist(), name


@pytest.fixture(scope="module")
def network(fill):
    """Makes the network of a manifest, through the converter; the last one is kept."""
    kept = {}

    def make(manifest):
        if manifest not in kept:
            kept.clear()
            tensors = {key: torch.from_numpy(x) for key, x in fill(manifest).items()}
            assert published.recognise(tensors)
            ours = published.convert(tensors)
            kept[manifest] = Mask2FormerVISNetwork(*published.sizes(ours)).eval()
            kept[manifest].load_state_dict(ours)
        return kept[manifest]

    return make


@pytest.mark.parametrize("name", by_cost(CASES, "mask2former/case_swinb_t2"))
@torch.inference_mode()
def test_every_intermediate_is_the_published_one(shared, network, name):
    case = Recorded(shared / "parity" / name)
    net, space_time = network(case.manifest), name.startswith("mask2former")
    transform = ShortSideTransform(case.record["config"]["min_size_test"], 1333)
    images = torch.cat([transform(image) for image in case.images])
    compared = case.close("padded_input", images)
    images = images[: case.record["config"].get("window_size")]  # of several windows the first
    maps = net.backbone(images)
    for i, found in enumerate(maps):
        compared += case.close(f"backbone_res{i + 2}", found)
    features = net.pixel_decoder(maps)
    for i, level in enumerate(features.levels):
        compared += case.close(f"multi_scale_{i}", level)
        height, width = level.shape[2:]
        code = image_code(height, width, 256).T.unflatten(1, (height, width))[None]
        compared += case.close(f"pd_pos_{height}x{width}", code)
    compared += case.close("mask_features", features.mask)
    out = net.decode(features, space_time, auxiliary=True)
    for i, head in enumerate((*out.auxiliary, out)):
        if space_time:
            compared += case.close(f"head_{i}_logits", head.logits[None])
            masks = mask_logits(head.mask_embeddings, features.mask)
            compared += case.close(f"head_{i}_masks", masks[None])
            if i < 9 and case.has(f"head_{i}_attn_mask"):
                size = features.levels[i % 3].shape[2:]
                reduced = torch.nn.functional.interpolate(features.mask, size, mode="bilinear", align_corners=False)
                case.blocked(f"head_{i}_attn_mask", mask_logits(head.mask_embeddings, reduced).flatten(1) < 0)
        else:
            compared += case.close(f"head_{i}_logits", head.logits)
            masks = torch.einsum("tqc,tchw->tqhw", head.mask_embeddings, features.mask)
            compared += case.close(f"head_{i}_masks", masks)
    assert compared >= 10


def tiny(classes=3, queries=5):
    torch.manual_seed(0)
    network = Mask2FormerVISNetwork("resnet50", classes, queries, 32, 2, 3, (64, 64))
    network.initialise()
    return network.eval()


@torch.inference_mode()
def test_features_of_a_frame_do_not_depend_on_its_clip():
    network, images = tiny(), torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    # In double precision: in single, CPUs sum a batch of three in another order than a frame alone.
    network, images = network.double(), images.double()
    whole = network.pixel_features(images)
    parts = PixelFeatures.concatenate([network.pixel_features(images[t : t + 1]) for t in range(3)])
    assert whole.mask.dtype == torch.float64
    torch.testing.assert_close(parts.mask, whole.mask)
    assert len(whole) == 3 and len(whole[1:]) == 2
    for one, other in zip(parts.levels, whole.levels):
        torch.testing.assert_close(one, other)
    assert parts.nbytes() == whole.nbytes() == sum(x.nbytes for x in (whole.mask, *whole.levels))


@torch.inference_mode()
def test_frames_asked_by_themselves_do_not_see_each_other_and_a_clip_does():
    network, images = tiny(), torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    features = network.pixel_features(images)
    by_frame, alone = network.decode(features, space_time=False), network.decode(features[:1], space_time=False)
    torch.testing.assert_close(by_frame.logits[:1], alone.logits)
    assert by_frame.logits.shape == (2, 5, 4) and by_frame.mask_embeddings.shape == (2, 5, 32)
    clip, first = network.decode(features, space_time=True), network.decode(features[:1], space_time=True)
    assert clip.logits.shape == (5, 4) and clip.queries.shape == (5, 32)
    assert not torch.allclose(clip.logits, first.logits)


def test_training_and_inference_are_one_function():
    """Batched with gradients, or frame by frame without: the same numbers, and gradients for every parameter."""
    network, images = tiny(), torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network.decode(network.pixel_features(images), space_time=True)
    features = network.pixel_features(images)
    found = network.decode(features, space_time=True, auxiliary=True)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
    assert len(found.auxiliary) == 3
    masks = sum(mask_logits(x.mask_embeddings, features.mask).square().mean() for x in (*found.auxiliary, found))
    (masks + sum(x.logits.square().mean() for x in (*found.auxiliary, found))).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_a_query_without_any_pixel_looks_everywhere():
    logits = torch.tensor([[[-1.0, 2.0, -3.0], [-1.0, -2.0, -3.0], [0.0, -1.0, -1.0]]])
    assert attended(logits).tolist() == [[[False, True, False], [True, True, True], [True, False, False]]]


# Checkpoints


@pytest.mark.parametrize(
    ("name", "backbone", "queries"),
    [("r101", "resnet101", 100), ("swin_small", "swin_small", 100), ("swin_large", "swin_large", 200)],
)
def test_the_other_published_variants_fit_key_by_key(shared, name, backbone, queries):
    rows = json.loads((shared / "parity" / "mask2former" / "keys" / f"{name}.json").read_text())
    with torch.device("meta"):
        ours = published.convert({key: torch.empty(shape) for key, shape, _ in rows})
        assert published.sizes(ours) == (backbone, 40, queries)
        expected = Mask2FormerVISNetwork(backbone, 40, queries).state_dict()
    assert {key: x.shape for key, x in ours.items()} == {key: x.shape for key, x in expected.items()}


def small_tensors():
    """A published checkpoint's keys, made from ours."""
    with torch.device("meta"):
        state = Mask2FormerVISNetwork("swin_tiny", 40).state_dict()
    theirs = {}
    for key, x in state.items():
        for published_prefix, prefix in published._TABLE:
            if key.startswith(prefix) and prefix not in ("pixel_decoder.", "decoder.", "decoder.query_feat."):
                key = published_prefix + key.removeprefix(prefix)
                break
        else:
            if not key.startswith("backbone."):
                key = key.replace("pixel_decoder.", "sem_seg_head.pixel_decoder.", 1)
                key = f"sem_seg_head.predictor.{key.removeprefix('decoder.')}" if key.startswith("decoder.") else key
        theirs[key] = x
    return state, theirs


def test_old_names_and_left_overs_of_training_are_understood():
    state, theirs = small_tensors()
    assert published.recognise(theirs)
    assert published.convert(theirs).keys() == state.keys()
    old = {"criterion.empty_weight": torch.ones(41), "backbone.layers.0.blocks.0.attn.relative_position_index": None}
    for key, x in theirs.items():
        key = key.replace("predictor.query_feat.", "predictor.static_query.")
        old[f"module.{key.replace('sem_seg_head.pixel_decoder.', 'sem_seg_head.')}"] = x
    assert published.recognise(old)
    assert published.convert(old).keys() == state.keys()


def test_tensors_that_do_not_tell_their_sizes_are_refused_by_name():
    state, _ = small_tensors()
    for key, words in (
        ("decoder.class_embed.weight", r"class_embed\.weight, which gives a size of the network, is missing"),
        ("backbone.layers.2.blocks.5.norm1.weight", "neither ResNet-50"),
    ):
        with pytest.raises(CheckpointError, match=words):
            published.sizes({name: x for name, x in state.items() if name != key})


def test_any_backbone_with_four_maps_will_do():
    network = Mask2FormerVISNetwork(ResNet(50), 2, 4, 32, 1, 1, (32, 32)).eval()
    with torch.inference_mode():
        out = network.decode(network.pixel_features(torch.zeros(1, 3, 64, 64)), space_time=False)
    assert out.logits.shape == (1, 4, 3)
