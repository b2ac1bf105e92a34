"""The finest level as one convolution gives the numbers of its layers one after the other, up to the borders."""

import pytest
import torch

from tests.vis_core.models.recorded_video_knet import SmallBackbone
from vis_core.models.video_knet.finest_level import FinestLevel
from vis_core.models.video_knet.network import ClipNetwork, Sizes
from vis_core.nn.feature_pyramid import FeaturePyramid
from vis_core.nn.prepacked_convolution import pack_convolutions
from vis_core.nn.winograd import use_winograd

SMALL = Sizes(kernels=8, width=32, heads=8, hidden=64)


@pytest.mark.parametrize("size", [(16, 24), (12, 20), (2, 2), (1, 5)])
@torch.inference_mode()
def test_one_convolution_is_the_four_layers_in_a_row(size):
    torch.manual_seed(0)
    pyramid, strided = FeaturePyramid((24, 40), 32), torch.nn.Conv2d(32, 32, 3, 2, 1, bias=False)
    height, width = size
    fine, above = torch.randn(2, 24, 2 * height, 2 * width), torch.randn(2, 40, height, width)
    wanted = strided(pyramid([fine, above])[0])
    (coarse,) = pyramid.merged([above])
    found = FinestLevel(pyramid.lateral2, pyramid.output2, strided)(fine, coarse)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = ClipNetwork(SmallBackbone(), "fpn", 4, SMALL)
    network.initialise()
    return network.eval().requires_grad_(False)


def test_a_network_with_its_finest_level_joined_finds_the_same(network):
    images = torch.randn(1, 3, 256, 288).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        before = network.initial_head(network.maps(images), semantic=True)
        network.join_finest_level()
        maps = network.maps(images)
        after = network.initial_head(maps, semantic=True)
    assert maps[0].shape == maps[1].shape
    for name in ("features", "masks", "semantic"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=1e-4, atol=1e-4)


def test_small_maps_and_training_have_their_layers_one_by_one(network):
    network.join_finest_level()
    with torch.inference_mode():
        assert network.maps(torch.randn(1, 3, 64, 64))[0].shape[2:] == (16, 16)
    assert network.maps(torch.randn(1, 3, 256, 288))[0].shape[2:] == (64, 72)


def test_a_joined_level_keeps_to_weights_that_are_packed_and_transformed(network):
    images = torch.randn(1, 3, 256, 288).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        wanted = network.frames(network.maps(images)).features
        pack_convolutions(network)
        use_winograd(network)
        network.join_finest_level()
        found = network.frames(network.maps(images)).features
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_deformable_neck_has_no_such_level():
    network = ClipNetwork(SmallBackbone(), "deformable", 4, SMALL)
    network.join_finest_level()
    assert network._finest is None
