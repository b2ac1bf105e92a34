"""The published network gives every recorded number."""

import pytest
import torch

from tests.vis_core.models.gmp_vis.recorded_clips import Case, recorded_weights
from tests.vis_core.models.gmp_vis.small_clip import small_network
from vis_core.models.gmp_vis import published
from vis_core.models.gmp_vis.clip_network import video_code


@pytest.fixture(scope="module")
def network_of(shared, fill):
    """The network for clips of so many frames: the same weights but for the queries."""
    kept = {}

    def network_of(frames):
        if not kept:
            kept["rest"] = recorded_weights(shared, fill, frames)
        queries = recorded_weights(shared, fill, frames, "vistr.query_embed.")["weight"]
        tensors = published.convert({**kept["rest"], "vistr.query_embed.weight": queries})
        network = published.network_of(tensors)
        network.load_state_dict(tensors)
        return network.eval().requires_grad_(False)

    yield network_of
    kept.clear()


@pytest.mark.parametrize("name", ["case_1_network", "case_2_padded", "case_8_padded_tokens"])
@torch.inference_mode()
def test_every_part_gives_the_recorded_numbers(name, network_of, shared):
    case = Case(shared, name)
    images, padding = case.images()
    network = network_of(len(images))
    found, hooks = {}, []

    def record(module, name, change=lambda x: x):
        hooks.append(module.register_forward_hook(lambda _, __, out: found.setdefault(name, []).append(change(out))))

    record(network.input_proj, "input_proj")
    for i in (0, 5):
        record(network.encoder[i], f"encoder/{i}", lambda x: x[0])
        record(network.decoder[i], f"decoder/{i}", lambda x: x[0])
    record(network.bbox_attention, "box_attention")
    record(network.mask_head.conv_offset, "offsets")
    record(network.mask_head.gn5, "mask_features", torch.relu)
    maps = network.maps(images)
    out = network(images, padding)
    for hook in hooks:
        hook.remove()
    for i, x in enumerate(maps):
        case.close(f"backbone/{i}", x)
    for name in ("input_proj", "encoder/0", "encoder/5", "decoder/0", "decoder/5", "box_attention"):
        case.close(name, found[name][0])
    for name in ("offsets", "mask_features"):  # slot by slot, of all frames
        case.close(name, torch.stack(found[name], 1))
    states = network.states(network.tokens(maps[3]), padding)
    code = video_code(states.memory, states.padding)[0].unflatten(0, found["input_proj"][0][:, 0].shape)
    case.close("position", code.permute(0, 3, 1, 2))
    case.close("hs", states.queries.flatten(1, 2))
    case.close("pred_ins", out.embeddings.flatten(0, 1))
    case.close("pred_boxes", out.boxes.flatten(0, 1))
    case.close("pred_logits", out.logits.flatten(0, 1))
    tolerance = "pred_logits2, masks of case 6, pred_masks"
    masks = out.masks.transpose(0, 1).flatten(0, 1)
    case.close("pred_masks", masks, tolerance)
    case.same_masks("pred_masks_sign", masks > 0)
    case.close("pred_logits2", out.mask_logits.flatten(0, 1), tolerance)
    assert not case.unchecked


@torch.inference_mode()
def test_second_classifier_gives_the_recorded_numbers(network_of, shared):
    case = Case(shared, "case_6_mask_head")
    found = network_of(6).second_logits(torch.from_numpy(case.expected["masks"]))
    case.close("logits2", found.transpose(0, 1).flatten(0, 1)[None], "pred_logits2, masks of case 6, pred_masks")


def test_second_classifier_is_left_out_where_the_published_code_fails(network_of):
    network = network_of(6)
    fails = [side for side in range(8, 300) if network.second_logits(torch.zeros(10, 6, side, 40)) is None]
    assert fails == [*range(8, 24), *range(25, 28), 29, 30, 33, 34, 35, 41, 49]


def test_dropout_acts_in_training_alone():
    images = torch.rand(6, 3, 32, 64)
    with torch.inference_mode():
        plain, dropping = small_network().eval(), small_network(dropout=0.5).eval()
        torch.testing.assert_close(dropping(images).logits, plain(images).logits, rtol=0, atol=0)
        first, second = (dropping.train()(images).logits for _ in range(2))
        assert not torch.equal(first, second)
        torch.testing.assert_close(plain.train()(images).logits, plain.eval()(images).logits, rtol=0, atol=0)
