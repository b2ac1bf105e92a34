"""Swin transformer: maps of the right sizes for any input, windows that do not see what was not beside them."""

import pytest
import torch

from vis_core.nn.backbones.swin import VARIANTS, SwinTransformer, SwinVariant, region_mask

SMALL = SwinVariant(16, (2, 2, 2, 2), (1, 2, 4, 8), 7)


def small(seed=0):
    torch.manual_seed(seed)
    network = SwinTransformer(SMALL)
    network.initialise()
    return network.eval()


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (96, 160)])
def test_maps_lie_at_strides_4_to_32(size):
    with torch.no_grad():
        maps = small()(torch.randn(2, 3, *size))
    assert [tuple(m.shape) for m in maps] == [
        (2, 16 * 2**i, size[0] // (4 * 2**i), size[1] // (4 * 2**i)) for i in range(4)
    ]


def test_the_images_of_a_batch_do_not_see_each_other():
    network, images = small(), torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together, alone = network(images), network(images[1:2])
    for whole, part in zip(together, alone):
        torch.testing.assert_close(whole[1:2], part, rtol=1e-4, atol=1e-5)


def test_shifted_windows_keep_tokens_apart_that_the_roll_brought_together():
    mask = region_mask(8, 8, 4, torch.device("cpu"))[:, 0]
    assert mask.shape == (4, 16, 16)
    assert not mask[0].any()  # the first window holds neighbours alone
    last = mask[3].view(4, 4, 4, 4)  # half of its rows and columns came from the other side
    assert last[0, 0, 1, 1] == 0 and last[0, 0, 2, 0] == -100 and last[0, 0, 0, 2] == -100 and last[2, 2, 3, 3] == 0
    assert torch.equal(mask, mask.transpose(1, 2))


def test_residuals_are_dropped_in_training_alone():
    network, image = small(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(image)[3], network(image)[3])
        network.train()
        torch.manual_seed(0)
        assert len({float(network(image)[3].sum()) for _ in range(8)}) > 1


@pytest.mark.parametrize(
    ("name", "parameters"), [("tiny", 27.5e6), ("small", 48.8e6), ("base", 86.9e6), ("large", 195.2e6)]
)
def test_the_variants_are_as_large_as_published(name, parameters):
    with torch.device("meta"):
        network = SwinTransformer(VARIANTS[name])
    count = sum(p.numel() for p in network.parameters())
    assert count == pytest.approx(parameters, rel=0.01)
