"""The feature pyramid gives the published maps, from which region pooling takes the published regions."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vis_core.nn import winograd
from vis_core.nn.backbones import ResNet
from vis_core.nn.boxes import corners_from_centres
from vis_core.nn.feature_pyramid import FeaturePyramid
from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD
from vis_core.nn.prepacked_convolution import pack_convolutions
from vis_core.nn.roi_align import pyramid_roi_align
from vis_core.nn.winograd import use_winograd

CHANNELS_LAST = {"memory_format": torch.channels_last}


def noise(size=(16, 24), batch=1, channels=(3, 4, 5, 6)):
    """Maps as a backbone gives them, channels-last."""
    random = torch.Generator().manual_seed(0)
    shapes = [(batch, c, size[0] * 8 // 2**i, size[1] * 8 // 2**i) for i, c in enumerate(channels)]
    return [torch.randn(shape, generator=random).contiguous(**CHANNELS_LAST) for shape in shapes]


@torch.no_grad()
def test_maps_and_regions_are_those_of_the_published_network(shared, fill, tmp_path):
    folder = shared / "parity/sparse_rcnn"
    rows = json.loads((folder / "manifest.json").read_text())
    needed = [row for row in rows if row["key"].startswith(("backbone.", "init_proposal_boxes"))]
    (tmp_path / "manifest.json").write_text(json.dumps(needed))
    weights = {key: torch.tensor(x) for key, x in fill(tmp_path / "manifest.json").items()}
    expected = np.load(folder / "case_1_two_images/expected.npz")

    backbone, pyramid = ResNet(50).eval(), FeaturePyramid()
    for network, prefix in ((backbone, "backbone.bottom_up."), (pyramid, "backbone.fpn_")):
        network.load_state_dict({k.removeprefix(prefix): x for k, x in weights.items() if k.startswith(prefix)})
        network.to(**CHANNELS_LAST)
    sizes = [expected[f"resized{i}"].shape[:2] for i in range(2)]
    padded = [-(-max(side) // 32) * 32 for side in zip(*sizes)]
    images = torch.zeros(2, 3, *padded)
    for i, (height, width) in enumerate(sizes):
        image = (expected[f"resized{i}"] - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
        images[i, :, :height, :width] = torch.tensor(image).permute(2, 0, 1)
    maps = pyramid(backbone(images.contiguous(**CHANNELS_LAST)))
    for i, x in enumerate(maps):
        assert x.is_contiguous(**CHANNELS_LAST)
        step = max(4 >> i, 1)
        np.testing.assert_allclose(x[:, ::16, ::step, ::step], expected[f"p{i + 2}"], rtol=1e-3, atol=1e-3)

    learned = corners_from_centres(weights["init_proposal_boxes.weight"])
    first = torch.stack([learned * torch.tensor([width, height] * 2) for height, width in sizes])
    last = torch.tensor(expected["pred_boxes"][4])  # of the stage before
    for stage, boxes in ((0, first), (5, last)):
        index = torch.arange(2).repeat_interleave(boxes.shape[1])
        regions = pyramid_roi_align(maps, boxes.flatten(0, 1), index, 7).transpose(1, 2).unflatten(2, (7, 7))
        np.testing.assert_allclose(regions[::20, ::32], expected[f"roi_stage{stage}"], rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_coarse_maps_are_doubled_by_repetition_and_added_before_the_output():
    pyramid = FeaturePyramid((3, 4, 5, 6), width=7)
    maps = noise(batch=2)
    found = pyramid(maps)
    merged = None
    for i in (5, 4, 3, 2):
        lateral = pyramid.get_submodule(f"lateral{i}")(maps[i - 2])
        merged = lateral if merged is None else lateral + F.interpolate(merged, scale_factor=2.0, mode="nearest")
        torch.testing.assert_close(found[i - 2], pyramid.get_submodule(f"output{i}")(merged))
    assert pyramid.strides == (4, 8, 16, 32)


def test_gradients_reach_every_weight_and_every_map():
    pyramid = FeaturePyramid((3, 4, 5, 6), width=7).double()
    maps = [x.double().requires_grad_() for x in noise(size=(1, 1))]
    assert torch.autograd.gradcheck(lambda *x: tuple(pyramid(x)), maps, fast_mode=True)
    sum(x.square().sum() for x in pyramid(maps)).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in pyramid.parameters())


def test_it_begins_as_the_published_training_does():
    pyramid = FeaturePyramid((3, 4, 5, 6), width=7)
    pyramid.initialise()
    for name, parameter in pyramid.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            bound = (3 / parameter[0].numel()) ** 0.5
            assert 0.7 * bound < parameter.abs().max() <= bound


def test_its_keys_are_the_published_ones_without_their_prefix():
    published = {
        f"{kind}{i}.{part}" for kind in ("lateral", "output") for i in (2, 3, 4, 5) for part in ("weight", "bias")
    }
    assert set(FeaturePyramid().state_dict()) == published
    assert "lateral3.weight" in FeaturePyramid((8, 9), 7, first=3).state_dict()


@pytest.mark.parametrize("quick", ["packed", "winograd"])
@torch.inference_mode()
def test_quick_convolutions_give_the_same_maps(quick, monkeypatch):
    pyramid = FeaturePyramid((3, 4, 5, 6), width=16).to(**CHANNELS_LAST)
    maps = noise(size=(12, 16))
    expected = pyramid(maps)
    if quick == "packed":
        pack_convolutions(pyramid)
    else:
        monkeypatch.setattr(winograd, "_MIN_TILES", 0)
        use_winograd(pyramid)
    for found, x in zip(pyramid(maps), expected):
        torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-4)
