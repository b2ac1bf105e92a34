"""The deformable transformer: the recorded one of Deformable DETR, and what it promises beside it."""

import numpy as np
import pytest
import torch

from vis_core.models.gmp_vis.deformable_transformer import Decoder, Encoder, initialise, reference_points

WIDTH, HIDDEN, LAYERS, LEVELS, HEADS, POINTS = 64, 128, 2, 3, 8, 4
OF_LAYERS = {
    ".cross_attn.": ".cross_attention.",
    ".linear": ".feed_forward.linear",
    ".norm3.": ".feed_forward.norm.",
    ".norm2.": ".self_attention.norm.",
    ".norm1.": ".cross_norm.",
    ".self_attn.": ".self_attention.attention.",
}
OF_BOXES = {"bbox_embed.": "boxes.", ".layers.1.": ".2.", ".layers.2.": ".4.", ".layers.0.": ".0."}


class Recorded:
    """The case's arrays, and encoder and decoder with its weights."""

    def __init__(self, shared, fill):
        folder = shared / "parity" / "gmp_vis" / "case_5_deformable"
        self.inputs = {key: torch.from_numpy(x) for key, x in np.load(folder / "inputs.npz").items()}
        self.expected = dict(np.load(folder / "expected.npz"))
        self.sizes = tuple(map(tuple, self.inputs["shapes"].tolist()))
        self.encoder = Encoder(WIDTH, HIDDEN, LAYERS, LEVELS, HEADS, POINTS)
        self.decoder = Decoder(WIDTH, HIDDEN, LAYERS, LEVELS, HEADS, POINTS)
        tensors = {key: torch.from_numpy(x) for key, x in fill(folder / "manifest.json").items()}
        of_encoder, of_decoder = (_under(tensors, part) for part in ("encoder.", "decoder."))
        self.encoder.load_state_dict({key.replace(".self_attn.", ".attention."): x for key, x in of_encoder.items()})
        self.decoder.load_state_dict({_renamed(key): x for key, x in of_decoder.items()})

    def check(self, name, found, gradient=False):
        rtol, atol = (2e-3, 1e-3) if gradient else (1e-3, 1e-4)
        np.testing.assert_allclose(found.detach().numpy(), self.expected[name], rtol, atol, err_msg=name)

    def encoded(self):
        x = self.inputs
        return self.encoder(x["source"], x["position"], self.sizes, x["valid_ratios"], x["padding_mask"])

    def decoded(self, references):
        x = self.inputs
        queries, positions = (x[name].expand(2, -1, -1) for name in ("target", "query_position"))
        with torch.no_grad():
            return self.decoder(
                queries, positions, references, self.encoded(), self.sizes, x["valid_ratios"], x["padding_mask"]
            )


def _under(tensors, prefix):
    return {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}


def _renamed(key):
    for published, ours in (OF_BOXES if key.startswith("bbox_embed.") else OF_LAYERS).items():
        key = key.replace(published, ours)
    return key


@pytest.fixture(scope="module")
def recorded(shared, fill):
    return Recorded(shared, fill)


def test_attention_and_its_gradients_equal_the_published_ones_on_padded_levels(recorded):
    x = recorded.inputs
    attention = recorded.encoder.layers[0].attention
    attention.zero_grad()
    query = (x["source"] + x["position"]).requires_grad_()
    values = x["source"].clone().requires_grad_()
    points = reference_points(recorded.sizes, torch.device("cpu"), x["valid_ratios"]).requires_grad_()
    recorded.check("attention/reference_points", points)
    out = attention(query, values, points, recorded.sizes, x["padding_mask"])
    recorded.check("attention/out", out)
    (out * x["cotangent"]).sum().backward()
    recorded.check("attention/grad_query", query.grad, gradient=True)
    recorded.check("attention/grad_value_input", values.grad, gradient=True)
    recorded.check("attention/grad_reference", points.grad, gradient=True)
    for name in ("sampling_offsets", "attention_weights", "value_proj", "output_proj"):
        gradient = getattr(attention, name).weight.grad
        recorded.check(f"attention/grad_norm/{name}", gradient.norm(), gradient=True)


def test_attention_about_boxes_equals_the_published_one(recorded):
    x = recorded.inputs
    boxes = x["reference_boxes"][:, :, None] * x["valid_ratios"].repeat(1, 1, 2)[:, None]
    query = x["target"].expand(2, -1, -1)
    attention = recorded.decoder.layers[0].cross_attention
    recorded.check("attention/out_boxes", attention(query, x["source"], boxes, recorded.sizes, x["padding_mask"]))


def test_the_encoder_equals_the_published_one(recorded):
    x = recorded.inputs
    points = reference_points(recorded.sizes, torch.device("cpu"), x["valid_ratios"])
    first = recorded.encoder.layers[0](x["source"], x["position"], points, recorded.sizes, x["padding_mask"])
    recorded.check("encoder_layer/0", first)
    recorded.check("encoder", recorded.encoded())


@pytest.mark.parametrize(("start", "name"), [("reference_points", "decoder"), ("reference_boxes", "decoder4")])
def test_the_decoder_equals_the_published_one_from_points_and_from_boxes(recorded, start, name):
    out = recorded.decoded(recorded.inputs[start])
    recorded.check(f"{name}/hs", out.queries)
    recorded.check(f"{name}/references", out.boxes)


def test_without_padding_ratios_of_one_change_nothing():
    torch.manual_seed(0)
    encoder, decoder = Encoder(32, 64, 1, 2, 4, 2), Decoder(32, 64, 2, 2, 4, 2)
    initialise(encoder, decoder)
    sizes = ((5, 7), (3, 4))
    pixels, positions = torch.randn(2, 47, 32), torch.randn(47, 32)
    ones, nothing = torch.ones(2, 2, 2), torch.zeros(2, 47, dtype=torch.bool)
    plain, said = encoder(pixels, positions, sizes), encoder(pixels, positions, sizes, ones, nothing)
    torch.testing.assert_close(plain, said)
    queries, references = torch.randn(2, 3, 32), torch.rand(2, 3, 2)
    for first, second in zip(
        decoder(queries, queries, references, plain, sizes),
        decoder(queries, queries, references, plain, sizes, ones, nothing),
    ):
        torch.testing.assert_close(first, second)


def test_a_box_learns_through_its_own_layer_alone():
    torch.manual_seed(0)
    decoder = Decoder(32, 64, 3, 1, 4, 2)
    initialise(decoder)
    queries = torch.randn(1, 3, 32)
    out = decoder(queries, queries, torch.rand(1, 3, 2), torch.randn(1, 20, 32), ((4, 5),))
    out.boxes[2].sum().backward()
    assert decoder.boxes[2].last.weight.grad.abs().sum() > 0
    assert not decoder.boxes[0].last.weight.grad.any()
    assert not decoder.boxes[1].last.weight.grad.any()


def test_untrained_boxes_lie_about_their_points():
    decoder = Decoder(32, 64, 2, 1, 4, 2)
    initialise(decoder)
    points = torch.rand(1, 3, 2) * 0.8 + 0.1
    out = decoder(torch.randn(1, 3, 32), torch.randn(1, 3, 32), points, torch.randn(1, 20, 32), ((4, 5),))
    for boxes in out.boxes:
        torch.testing.assert_close(boxes[..., :2], points)
        assert ((boxes[..., 2:] > 0.1) & (boxes[..., 2:] < 0.13)).all()
