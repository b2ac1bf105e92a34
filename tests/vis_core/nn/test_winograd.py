import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vis_core.nn import winograd
from vis_core.nn.winograd import WinogradConv2d, transformed_weight, use_winograd, winograd_sum


@pytest.fixture(autouse=True)
def every_size(monkeypatch):
    monkeypatch.setattr(winograd, "_MIN_TILES", 0)


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (4, 4), (13, 18), (44, 78)])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_values_are_those_of_the_direct_form(size, bias):
    torch.manual_seed(0)
    conv = WinogradConv2d(48, 32, 3, padding=1, bias=bias)
    x = torch.randn(1, 48, *size).to(memory_format=torch.channels_last)
    direct = conv(x)
    conv.use_winograd()
    assert conv(x).shape == direct.shape
    torch.testing.assert_close(conv(x), direct, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("batch", [2, 9, 50])
@torch.no_grad()
def test_images_of_a_batch_stay_apart(batch):
    torch.manual_seed(0)
    conv = WinogradConv2d(8, 24, 3, padding=1)
    x = torch.randn(batch, 8, 14, 15)
    direct = conv(x)
    conv.use_winograd()
    torch.testing.assert_close(conv(x), direct, rtol=1e-4, atol=2e-5)


@torch.no_grad()
def test_relu_and_a_residual_may_follow():
    torch.manual_seed(0)
    layers = nn.Sequential(WinogradConv2d(8, 8, 3, padding=1))
    x = torch.randn(2, 8, 20, 24)
    plain, summed = layers[0].with_relu(x), layers[0].with_relu(x, 2 * x)
    use_winograd(layers)
    torch.testing.assert_close(layers[0].with_relu(x), plain, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(layers[0].with_relu(x, 2 * x), summed, rtol=1e-4, atol=2e-5)
    assert float(plain.min()) == 0


def test_training_and_other_types_take_the_direct_form():
    conv = WinogradConv2d(4, 4, 3, padding=1)
    conv.use_winograd()
    x = torch.randn(1, 4, 8, 8)
    conv(x).sum().backward()
    assert conv.weight.grad is not None
    with torch.no_grad():
        x, conv = x.double(), conv.double()
        assert torch.equal(conv(x), nn.functional.conv2d(x, conv.weight, conv.bias, padding=1))


@torch.no_grad()
def test_a_few_tiles_take_the_direct_form(monkeypatch):
    conv = WinogradConv2d(4, 4, 3, padding=1)
    conv.use_winograd()
    monkeypatch.setattr(winograd, "_MIN_TILES", 5)
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(conv(x), nn.functional.conv2d(x, conv.weight, conv.bias, padding=1))


def test_other_kernels_stay_as_they_are():
    conv = WinogradConv2d(4, 4, 1)
    conv.use_winograd()
    with torch.no_grad():
        x = torch.randn(1, 4, 8, 8)
        assert torch.equal(conv(x), nn.functional.conv2d(x, conv.weight, conv.bias))


def test_the_transformed_weights_are_no_part_of_a_checkpoint():
    conv = WinogradConv2d(4, 4, 3, padding=1)
    conv.use_winograd()
    assert set(conv.state_dict()) == {"weight", "bias"}


def test_a_sum_of_several_inputs_is_the_convolution_of_all_their_channels():
    torch.manual_seed(0)
    inputs = [torch.randn(2, channels, 9, 14) for channels in (3, 5, 3)]
    weight, bias = torch.randn(7, 11, 3, 3), torch.randn(7)
    parts = [transformed_weight(part) for part in weight.split((3, 5, 3), 1)]
    found = winograd_sum(inputs, parts, bias)
    torch.testing.assert_close(found, F.conv2d(torch.cat(inputs, 1), weight, bias, padding=1), rtol=1e-4, atol=1e-4)
