"""The mask branch gives the recorded numbers; its quicker forms are the plain ones."""

import pytest
import torch
from torch.nn import functional as F

from tests.vis_core.models.gmp_vis.recorded_clips import Case, recorded_weights
from vis_core.models.gmp_vis.mask_head import BoxAttention, DeformableConvolution, MaskHead, VideoMaskHead
from vis_core.nn.winograd import use_winograd

MASKS = "pred_logits2, masks of case 6, pred_masks"


@pytest.fixture(scope="module")
def heads(shared, fill):
    masks, video = MaskHead(384, 8, (1024, 512, 256)), VideoMaskHead(24)
    masks.load_state_dict(recorded_weights(shared, fill, 6, "mask_head."))
    video.load_state_dict(recorded_weights(shared, fill, 6, "insmask_head."))
    return masks.requires_grad_(False), video.requires_grad_(False)


@pytest.mark.parametrize("winograd", [False, True])
@torch.inference_mode()
def test_features_and_masks_are_the_recorded_ones(heads, shared, winograd):
    case = Case(shared, "case_6_mask_head")
    masks, video = heads
    if winograd:
        use_winograd(masks)
    maps = [case.tensor(f"fpn{i}") for i in range(3)]
    features = masks(case.tensor("memory"), case.tensor("box_attention"), maps)
    case.close("mask_features", features[0], every=(3, 4))
    frames = torch.stack([features[0].roll(t, -1) * (1 - 0.1 * t) for t in range(6)], 2)
    case.close("masks", video(frames), MASKS)
    assert case.unchecked == {"logits2"}


def test_queries_do_not_depend_on_which_others_are_asked_for(heads):
    torch.manual_seed(0)
    masks, _ = heads
    memory, attention = torch.randn(2, 384, 3, 5), torch.rand(2, 4, 8, 3, 5)
    maps = [torch.randn(2, c, h, w) for c, h, w in ((1024, 6, 9), (512, 11, 17), (256, 21, 33))]
    everything = masks(memory, attention, maps)
    assert everything.shape == (2, 4, 24, 21, 33)
    torch.testing.assert_close(masks(memory, attention[:, [2, 0]], maps), everything[:, [2, 0]], rtol=0, atol=1e-5)


def test_widths_follow_that_of_the_memory():
    masks = MaskHead(256, 8, (64, 32, 16))
    found = [(layer.in_channels, layer.out_channels) for layer in (masks.lay1, masks.lay2, masks.lay3, masks.lay4)]
    assert found == [(264, 264), (264, 128), (128, 64), (64, 32)]
    features = masks(
        torch.randn(1, 256, 2, 3),
        torch.rand(1, 3, 8, 2, 3),
        [torch.randn(1, 64 >> i, 4 << i, 6 << i) for i in range(3)],
    )
    assert features.shape == (1, 3, 16, 16, 24)


def test_every_weight_learns():
    torch.manual_seed(0)
    attention, masks, video = BoxAttention(32, 4), MaskHead(32, 4, (8, 8, 8)), VideoMaskHead(2)
    memory, queries = torch.randn(1, 32, 2, 3), torch.randn(1, 2, 32)
    maps = [torch.randn(1, 8, 4 << i, 6 << i) for i in range(3)]
    torch.nn.init.normal_(masks.conv_offset.weight)
    features = masks(memory, attention(queries, memory), maps)
    video(features.transpose(0, 1).transpose(1, 2)).square().sum().backward()
    for module in (attention, masks):
        assert [name for name, x in module.named_parameters() if x.grad is None or not x.grad.any()] == []


@pytest.mark.parametrize("size", [(5, 7), (1, 9)])
def test_moved_taps_are_samples_of_the_map_weighed_by_the_kernel(size):
    torch.manual_seed(0)
    height, width = size
    layer = DeformableConvolution(3, 4).double()
    x, offsets = torch.randn(2, 3, *size), torch.randn(2, 18, *size) * 3
    leaves = [part.double().requires_grad_() for part in (x, offsets)]
    y, x0 = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    columns = []
    for k in range(9):
        rows, across = y - 1 + k // 3 + leaves[1][:, 2 * k], x0 - 1 + k % 3 + leaves[1][:, 2 * k + 1]
        grid = torch.stack(((2 * across + 1) / width - 1, (2 * rows + 1) / height - 1), -1)
        columns.append(F.grid_sample(leaves[0], grid, padding_mode="zeros", align_corners=False))
    expected = torch.einsum("bchwk,dck->bdhw", torch.stack(columns, -1), layer.weight.flatten(2))
    found = layer(x.requires_grad_(), offsets.requires_grad_())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    cotangent = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, (*leaves, layer.weight), cotangent)
    given = torch.autograd.grad(found, (x, offsets, layer.weight), cotangent.float())
    for one, other in zip(given, wanted):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-3)


@torch.inference_mode()
def test_one_head_looks_over_all_heads_and_cells_together_but_never_on_padding():
    torch.manual_seed(0)
    attention = BoxAttention(16, 4)
    queries, memory = torch.randn(2, 3, 16), torch.randn(2, 16, 2, 5)
    padding = torch.zeros(2, 2, 5, dtype=torch.bool)
    padding[1, :, 3:] = True
    found = attention(queries, memory, padding)
    assert found.shape == (2, 3, 4, 2, 5)
    torch.testing.assert_close(found.sum((2, 3, 4)), torch.ones(2, 3))
    assert not found[1, ..., 3:].any()
    torch.testing.assert_close(found[0], attention(queries, memory)[0])


@pytest.mark.parametrize("frames", [1, 2, 3, 6])
@torch.inference_mode()
def test_video_head_is_the_three_dimensional_one(heads, frames):
    torch.manual_seed(0)
    _, video = heads
    features = torch.randn(2, 24, frames, 6, 7)
    plain = features
    for layer in video:
        plain = layer._conv_forward(plain, layer.weight, layer.bias) if hasattr(layer, "padding") else layer(plain)
    torch.testing.assert_close(video(features), plain[:, 0], rtol=1e-4, atol=1e-4)
