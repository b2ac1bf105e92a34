import pytest
import torch
from torch import nn

from vis_core.nn import winograd
from vis_core.nn.winograd import WinogradConv2d, Workspace


@pytest.fixture(autouse=True)
def every_size(monkeypatch):
    monkeypatch.setattr(winograd, "_MIN_PIXELS", 0)


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (4, 4), (13, 18), (44, 78)])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_values_are_those_of_the_direct_form(size, bias):
    torch.manual_seed(0)
    conv = WinogradConv2d(48, 32, 3, padding=1, bias=bias)
    x = torch.randn(1, 48, *size).to(memory_format=torch.channels_last)
    direct = conv(x)
    conv.use_winograd(Workspace())
    assert conv(x).shape == direct.shape
    torch.testing.assert_close(conv(x), direct, rtol=1e-4, atol=2e-5)


@torch.no_grad()
def test_convolutions_of_different_shapes_share_a_workspace():
    torch.manual_seed(0)
    workspace = Workspace()
    layers = [WinogradConv2d(8, 24, 3, padding=1), WinogradConv2d(24, 8, 3, padding=1)]
    x = torch.randn(1, 8, 20, 24)
    direct = layers[1](layers[0](x))
    for layer in layers:
        layer.use_winograd(workspace)
    small = layers[0](x[..., :9, :10])
    kept = small.clone()
    torch.testing.assert_close(layers[1](layers[0](x)), direct, rtol=1e-4, atol=2e-5)
    assert torch.equal(small, kept), "a result must not lie in the workspace"


def test_training_and_batches_take_the_direct_form():
    conv = WinogradConv2d(4, 4, 3, padding=1)
    conv.use_winograd(Workspace())
    x = torch.randn(1, 4, 8, 8)
    conv(x).sum().backward()
    assert conv.weight.grad is not None
    with torch.no_grad():
        batch = torch.randn(2, 4, 8, 8)
        assert torch.equal(conv(batch), nn.functional.conv2d(batch, conv.weight, conv.bias, padding=1))


def test_other_kernels_stay_as_they_are():
    conv = WinogradConv2d(4, 4, 1)
    conv.use_winograd(Workspace())
    with torch.no_grad():
        x = torch.randn(1, 4, 8, 8)
        assert torch.equal(conv(x), nn.functional.conv2d(x, conv.weight, conv.bias))


def test_the_transformed_weights_are_no_part_of_a_checkpoint():
    conv = WinogradConv2d(4, 4, 3, padding=1)
    conv.use_winograd(Workspace())
    assert set(conv.state_dict()) == {"weight", "bias"}
