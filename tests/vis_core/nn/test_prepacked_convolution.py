import pytest
import torch
from torch.nn import functional as F

from vis_core.nn import prepacked_convolution as packed
from vis_core.nn.prepacked_convolution import PackableConv2d, pack_convolutions

RANDOM = torch.Generator().manual_seed(0)


def convolution(*arguments, **options):
    conv = PackableConv2d(*arguments, **options)
    with torch.no_grad():
        for x in conv.parameters():
            x.copy_(torch.randn(x.shape, generator=RANDOM))
    return conv.eval()


def picture(*shape):
    return torch.randn(shape, generator=RANDOM).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("relu6", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((8, 12, 3), {"padding": 1}),
        ((8, 12, 1), {}),
        ((8, 8, 5), {"stride": 2, "padding": 2, "groups": 8}),
        ((12, 8, 3), {"padding": 2, "dilation": 2, "groups": 4}),
    ],
)
def test_packed_convolutions_give_what_plain_ones_give(shape, options, bias, relu6):
    conv = convolution(*shape, bias=bias, relu6=relu6, **options)
    x = picture(2, shape[0], 13, 17)
    plain = conv(x)
    conv.pack()
    assert conv._packed is not None
    with torch.inference_mode():
        found = conv(x)
    torch.testing.assert_close(found, plain.detach(), rtol=1e-5, atol=1e-5)
    assert not relu6 or (found.min() == 0 and found.max() == 6)


def test_each_size_of_input_has_its_layout_and_no_more_are_kept_than_some():
    conv = convolution(8, 12, 3, padding=1)
    sizes = [(3 + i, 40 - i) for i in range(packed.SIZES + 3)]
    conv.pack()
    for size in sizes * 2:
        x = picture(1, 8, *size)
        with torch.inference_mode():
            found = conv(x)
        torch.testing.assert_close(found, F.conv2d(x, conv.weight, conv.bias, padding=1), rtol=1e-5, atol=1e-5)
        assert (1, 8, *size) in conv._packed and len(conv._packed) <= packed.SIZES
    before = conv._packed[(1, 8, *sizes[-1])]
    with torch.inference_mode():
        conv(picture(1, 8, *sizes[-1]))
    assert conv._packed[(1, 8, *sizes[-1])] is before


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_a_residual_and_relu_are_the_kernel_s_last_steps(layout):
    conv = convolution(8, 6, 3, stride=2, padding=1)
    x = picture(1, 8, 12, 10).contiguous(memory_format=layout)
    residual = picture(1, 6, 6, 5).contiguous(memory_format=layout)
    for given in (None, residual):
        wanted = F.relu(F.conv2d(x, conv.weight, conv.bias, 2, 1) + (0 if given is None else given))
        plain = conv.with_relu(x, given)
        torch.testing.assert_close(plain, wanted)
    kept = residual.clone()
    conv.pack()
    for given in (None, residual):
        wanted = F.relu(F.conv2d(x, conv.weight, conv.bias, 2, 1) + (0 if given is None else given))
        torch.testing.assert_close(conv.with_relu(x, given), wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(residual, kept)


@pytest.mark.parametrize("groups", [1, 8])
@torch.no_grad()
def test_gelu_is_the_kernel_s_last_step(groups):
    conv, x = convolution(8, 8, 3, padding=1, groups=groups), picture(2, 8, 9, 11)
    wanted = F.gelu(F.conv2d(x, conv.weight, conv.bias, padding=1, groups=groups))
    torch.testing.assert_close(conv.with_gelu(x), wanted)
    conv.pack()
    assert conv._packed is not None
    torch.testing.assert_close(conv.with_gelu(x), wanted, rtol=1e-5, atol=1e-5)


def test_packing_does_not_change_what_is_saved_or_learnt():
    conv = convolution(4, 6, 3, padding=1, relu6=True)
    before = {key: x.clone() for key, x in conv.state_dict().items()}
    conv.pack()
    assert conv.state_dict().keys() == before.keys() and len(list(conv.parameters())) == 2
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.fill_(2)
    x = picture(1, 4, 8, 8).requires_grad_()
    conv(x).sum().backward()  # by the weights of now, not by those that were packed
    assert torch.equal(conv(x), torch.full((1, 6, 8, 8), 2.0)) and conv.weight.grad.abs().sum() > 0


def test_other_types_take_the_plain_form():
    conv = convolution(4, 6, 3, padding=1)
    conv.pack()
    conv.double()
    with torch.no_grad():
        assert conv(picture(1, 4, 8, 8).double()).dtype == torch.float64


def test_a_network_is_packed_as_a_whole():
    network = torch.nn.Sequential(
        convolution(3, 4, 1), torch.nn.Sequential(convolution(4, 2, 1)), torch.nn.Conv2d(2, 2, 1)
    )
    pack_convolutions(network)
    assert network[0]._packed is not None and network[1][0]._packed is not None
    assert not hasattr(network[2], "_packed")


@pytest.mark.parametrize("fault", [AttributeError, RuntimeError, None])
def test_where_the_operator_is_missing_or_gives_something_else_nothing_is_packed(monkeypatch, fault):
    def faulty(like, input, *rest):
        if fault is not None:
            raise fault("no such operator")
        return F.conv2d(input, like.weight, None, like.stride, like.padding) + 1

    monkeypatch.setattr(packed, "run_packed", faulty)
    conv = convolution(4, 6, 3, padding=1)
    conv.pack()
    assert conv._packed is None


def test_half_precision_and_circular_padding_are_not_packed():
    for conv in (convolution(4, 6, 3, padding=1).bfloat16(), convolution(4, 6, 3, padding=1, padding_mode="circular")):
        conv.pack()
        assert conv._packed is None
