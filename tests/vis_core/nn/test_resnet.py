import pytest
import torch

from vis_core.nn.backbones import ResNet
from vis_core.nn.prepacked_convolution import pack_convolutions


@pytest.mark.parametrize(("depth", "parameters"), [(50, 23_454_912), (101, 42_394_816)])
def test_sizes_and_strides_are_those_of_the_paper(depth, parameters):
    network = ResNet(depth)
    assert sum(p.numel() for p in network.parameters()) == parameters
    with torch.no_grad():
        maps = network.eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(256, 16, 24), (512, 8, 12), (1024, 4, 6), (2048, 2, 3)]


@torch.no_grad()
def test_folding_the_norms_changes_nothing_but_rounding():
    torch.manual_seed(0)
    network = ResNet(50, stages=3).eval()
    for name, buffer in network.named_buffers():
        buffer.uniform_(0.5, 1.5) if "weight" in name or "var" in name else buffer.normal_(0, 0.1)
    x = torch.randn(1, 3, 64, 64)
    before = network(x)
    network.fold_norms()
    network.fold_norms()
    for a, b in zip(before, network(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(a.abs().max()))
    assert not any("norm" in key for key in network.state_dict())


@torch.no_grad()
def test_packed_convolutions_give_the_features_of_plain_ones():
    torch.manual_seed(0)
    network = ResNet(50, stages=3).eval().requires_grad_(False)
    pack_convolutions(network)  # norms that follow are not part of any kernel
    assert network.stem.conv1._packed is None
    network.fold_norms()
    network.to(memory_format=torch.channels_last)
    images = torch.rand(1, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    plain = network(images)
    pack_convolutions(network)
    for wanted, found in zip(plain, network(images)):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_norms_that_learn_have_the_keys_and_the_answers_of_frozen_ones():
    torch.manual_seed(0)
    frozen, learning = ResNet(50, stages=2), ResNet(50, stages=2, learns_norms=True)
    assert frozen.state_dict().keys() == learning.state_dict().keys()
    learning.load_state_dict(frozen.state_dict())
    images = torch.rand(2, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(frozen(images), learning(images)))
    learned = {name for name, _ in learning.named_parameters()} - {name for name, _ in frozen.named_parameters()}
    assert learned == {key for key in frozen.state_dict() if key.endswith(("norm.weight", "norm.bias"))}
    sum(x.sum() for x in learning(images)).backward()
    assert all(x.grad is not None for x in learning.parameters())
    before = {name: x.clone() for name, x in learning.named_buffers()}
    learning.train()(images)
    assert all(torch.equal(x, before[name]) for name, x in learning.named_buffers())
    learning.eval().fold_norms()
    assert not any("norm" in key for key in learning.state_dict())
