"""Deformable attention: both ways of summing samples are the same function, and it is the one of the paper."""

import numpy as np
import pytest
import torch

from vis_core.nn.deformable_attention import MultiScaleDeformableAttention, sampled_by_grid, sampled_by_rows

SIZES = ((2, 3), (4, 5), (7, 9))
PIXELS = sum(h * w for h, w in SIZES)


def drawn(seed=0, batch=2, tokens=11, heads=2, channels=4, points=3, reach=4.0):
    """Values, places (some of them far outside) and weights."""
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(batch, PIXELS, heads, channels, generator=random)
    places = torch.randn(batch, tokens, heads, len(SIZES), points, 2, generator=random) * reach + 2
    weights = torch.rand(batch, tokens, heads, len(SIZES), points, generator=random)
    return values, places, weights


@pytest.mark.parametrize("reach", [0.5, 4.0, 1e6])
def test_table_rows_give_what_grid_sampling_gives(reach):
    values, places, weights = drawn(reach=reach)
    expected = sampled_by_grid(values, SIZES, places, weights)
    torch.testing.assert_close(sampled_by_rows(values, SIZES, places, weights), expected, rtol=1e-5, atol=1e-5)


def test_so_do_their_gradients():
    gradients = []
    for sampled in (sampled_by_grid, sampled_by_rows):
        inputs = [x.double().requires_grad_() for x in drawn(1)]
        (sampled(inputs[0], SIZES, *inputs[1:]) ** 2).sum().backward()
        gradients.append([x.grad for x in inputs])
    for expected, found in zip(*gradients):
        torch.testing.assert_close(found, expected)


def test_a_sample_is_the_bilinear_mean_of_four_pixels_and_zero_outside():
    values = torch.arange(float(PIXELS))[None, :, None, None]
    places = torch.full((1, 3, 1, 3, 1, 2), -9.0)
    places[0, 0, 0, 1, 0] = torch.tensor((1.25, 2.0))  # level 1 begins at pixel 6 and is 5 wide
    places[0, 1, 0, 2, 0] = torch.tensor((8.0, 6.5))  # below the last row: half of it is outside
    places[0, 2, 0, 0, 0] = torch.tensor((-0.5, 0.0))
    weights = torch.ones(1, 3, 1, 3, 1)
    for sampled in (sampled_by_grid, sampled_by_rows):
        found = sampled(values, SIZES, places, weights)[0, :, 0]
        np.testing.assert_allclose(found, [6 + 2 * 5 + 1.25, (26 + 6 * 9 + 8) / 2, 0.0], atol=1e-5)


def test_weights_of_a_token_sum_to_one_and_offsets_are_in_pixels_of_the_level():
    attention = MultiScaleDeformableAttention(8, levels=3, heads=2, points=2)
    for layer in (attention.sampling_offsets, attention.attention_weights):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    for layer in (attention.value_proj, attention.output_proj):
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    level = torch.cat([torch.full((h * w,), float(i)) for i, (h, w) in enumerate(SIZES)])
    values = level[None, :, None].expand(1, -1, 8).contiguous()
    middle = torch.full((5, 2), 0.5)
    with torch.no_grad():
        found = attention(torch.zeros(1, 5, 8), values, middle, SIZES)
    torch.testing.assert_close(found, torch.full((1, 5, 8), 1.0))  # the mean of levels 0, 1 and 2
    with torch.no_grad():
        attention.sampling_offsets.bias.view(2, 3, 2, 2)[:, :, :, 0] = 3.0
        found = attention(torch.zeros(1, 5, 8), values, middle, SIZES)
    # Three pixels right of the middle lie outside of maps 3 and 5 wide, and inside of one 9 wide.
    torch.testing.assert_close(found, torch.full((1, 5, 8), 2 / 3))


def test_at_first_heads_look_into_directions_of_their_own():
    attention = MultiScaleDeformableAttention(32, levels=2, heads=8, points=4)
    attention.initialise()
    offsets = attention.sampling_offsets.bias.detach().view(8, 2, 4, 2)
    assert torch.equal(offsets[:, 0], offsets[:, 1])
    torch.testing.assert_close(offsets[0, 0], torch.tensor([[1.0, 0], [2, 0], [3, 0], [4, 0]]))
    torch.testing.assert_close(offsets[1, 0, 1], torch.tensor([2.0, 2.0]))
    assert len(np.unique(offsets[:, 0, 0].numpy().round(4), axis=0)) == 8
