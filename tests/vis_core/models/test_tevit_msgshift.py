"""MsgShifT gives the recorded numbers, part by part and whole, and its tokens go where they should."""

import copy

import pytest
import torch

from tests.vis_core.models.recorded_tevit import Case, recorded_weights
from vis_core.errors import CheckpointError
from vis_core.models.tevit.choices import MESSENGERS, SHIFTS
from vis_core.models.tevit.msgshift import FirstBlock, MsgShifT, direction, shifted
from vis_core.models.tevit.pvt import Block, from_pvt, is_pvt


@pytest.fixture(scope="module")
def published(shared, fill):
    network = MsgShifT()
    network.load_state_dict(recorded_weights(shared, fill, "backbone."))
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def prepared(published):
    network = copy.deepcopy(published)
    network.prepare()
    return network


@pytest.fixture(params=["published", "prepared"])
def either(request):
    return request.getfixturevalue(request.param)


def small(seed=0, **options):
    """Two blocks in the stages that matter, and one where that is enough."""
    torch.manual_seed(seed)
    network = MsgShifT(tokens=8, widths=(64, 128, 64, 64), depths=(2, 2, 1, 1), **options)
    for x in network.parameters():  # nothing stands out, nothing is near zero
        torch.nn.init.normal_(x, std=1 if x.dim() == 1 else max(x[0].numel(), 1) ** -0.5)
    return network.eval()


def pictures(count, seed=1):
    return torch.randn(count, 3, 32, 64, generator=torch.Generator().manual_seed(seed))


def every_array(network, images):
    """What the recorded cases hold of a clip, by name; unlike the network, it keeps the tokens to the end."""
    frames, found = len(images), {}
    tokens = network.msg_tokens.expand(frames, -1, -1)
    for i, (embedding, blocks, norm) in enumerate(network.stages()):
        patches, tokens, size = embedding(images, tokens)
        found |= {f"stage{i}/embed": patches, f"stage{i}/embed_msg": tokens}
        for j, block in enumerate(blocks):
            patches, tokens = block.attend(patches, tokens, size)
            found |= {f"stage{i}/block{j}/attn": patches, f"stage{i}/block{j}/attn_msg": tokens}
            patches, tokens = block.feed(patches, tokens, size)
            found |= {f"stage{i}/block{j}/ffn_msg_before_shift": tokens, f"stage{i}/block{j}/out": patches}
            tokens = network.exchanged(tokens, frames, i, j)
            found[f"stage{i}/block{j}/out_msg"] = tokens
        patches, tokens = norm(patches), norm(tokens)
        found |= {f"stage{i}/norm": patches, f"stage{i}/norm_msg": tokens}
        images = patches.unflatten(1, size).permute(0, 3, 1, 2)
    return found


@pytest.mark.parametrize("length", [1, 2, 3, 12])
@torch.inference_mode()
def test_clips_of_any_length_give_the_recorded_maps(length, either, shared):
    case = Case(shared, "case_3_lengths")
    maps = either(case.network_input(slice(length)), length)
    case.check_all({f"length{length}/backbone{i}": x for i, x in enumerate(maps)})


@torch.inference_mode()
def test_a_frame_reaches_the_recorded_frames_and_no_other(either, shared):
    case = Case(shared, "case_3_lengths")
    images = case.network_input()
    mirrored, changed = images.clone(), case.record["changed_frame"]
    mirrored[changed] = images[changed].flip(2)
    for i, (x, y) in enumerate(zip(either(images, 12), either(mirrored, 12))):
        case.check(f"changed/backbone{i}", (x != y).flatten(1).any(1))


@torch.inference_mode()
def test_clips_of_a_batch_do_not_hear_each_other(either, shared):
    case = Case(shared, "case_3_lengths")
    clips = torch.stack([case.network_input(clip) for clip in case.record["batch"]])
    case.check_all({f"batch/backbone{i}": x for i, x in enumerate(either(clips.flatten(0, 1), clips.shape[1]))})


@pytest.mark.parametrize("name", ["case_1_msgshift", "case_2_resized"])
@torch.inference_mode()
def test_every_layer_gives_the_recorded_numbers(name, either, shared):
    case = Case(shared, name)
    images = case.network_input()
    case.check("network_input", images)
    case.check_all(every_array(either, images))
    case.check_all({f"backbone/{i}": x for i, x in enumerate(either(images, len(images)))})
    assert not [key for key in case.unchecked if key.startswith(("stage", "backbone"))]


@torch.inference_mode()
def test_what_depends_on_a_frame_alone_may_be_made_alone(prepared, shared):
    images = Case(shared, "case_1_msgshift").network_input()
    whole = prepared(images, len(images))
    firsts = [prepared.first_block(image[None]) for image in images]
    assert firsts[0].size == (16, 24) and firsts[0].nbytes() == 4 * 64 * (16 * 24 + 32)
    kept = [first.patches.clone() for first in firsts]
    for x, y in zip(whole, prepared.rest(FirstBlock.of(firsts), len(images))):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
        assert x.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(first.patches, patches) for first, patches in zip(firsts, kept))
    for x, y in zip(whole, prepared.rest(prepared.first_block(images), len(images))):
        assert torch.equal(x, y)


def test_frames_that_are_no_whole_clips_are_refused():
    with pytest.raises(ValueError, match="3 frames are not clips of 2"):
        small()(pictures(3), 2)


@pytest.mark.parametrize(
    ("shift", "way", "found"),
    [
        ("cyclic", 1, [[4, 0, 1, 2, 3], [1, 2, 3, 4, 0], [3, 4, 0, 1, 2], [2, 3, 4, 0, 1]]),
        ("cyclic", -1, [[1, 2, 3, 4, 0], [4, 0, 1, 2, 3], [2, 3, 4, 0, 1], [3, 4, 0, 1, 2]]),
        ("clamp", 1, [[0, 0, 1, 2, 3], [1, 2, 3, 4, 4], [0, 1, 0, 1, 2], [2, 3, 4, 3, 4]]),
        ("clamp", -1, [[1, 2, 3, 4, 4], [0, 0, 1, 2, 3], [2, 3, 4, 3, 4], [0, 1, 0, 1, 2]]),
        ("clamp", 0, [[0, 1, 2, 3, 4]] * 4),
    ],
)
def test_each_group_of_tokens_moves_its_own_way(shift, way, found):
    tokens = torch.arange(10.0)[:, None, None].expand(-1, 8, 3)  # two clips of five frames
    moved = shifted(tokens, 5, way, shift)
    for group, frames in enumerate(found):
        for token in (2 * group, 2 * group + 1):
            for start in (0, 5):
                assert moved[start : start + 5, token, 2].tolist() == [start + t for t in frames]


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize(("frames", "still"), [(1, (0, 1, 2, 3)), (2, (2, 3))])
def test_in_short_clips_there_is_nowhere_to_move(shift, frames, still):
    tokens = torch.arange(float(frames))[:, None, None].expand(-1, 4, 1)
    moved = shifted(tokens, frames, 1, shift)
    assert [g for g in range(4) if torch.equal(moved[:, g], tokens[:, g])] == list(still)


@pytest.mark.parametrize("blocks", range(1, 6))
def test_tokens_come_home_at_the_end_of_each_stage(blocks):
    tokens = torch.randn(7, 4, 2)
    moved = tokens
    for block in range(blocks):
        moved = shifted(moved, 7, direction(block, blocks), "cyclic")
    assert torch.equal(moved, tokens)
    assert [direction(block, 2) for block in range(2)] == [1, -1]


@torch.inference_mode()
def test_clamped_tokens_change_the_ends_of_a_clip_alone(published, shared):
    images = Case(shared, "case_3_lengths").network_input()
    clamped = copy.copy(published)
    clamped.shift = "clamp"
    differs = (published(images, 12)[0] != clamped(images, 12)[0]).flatten(1).any(1)
    assert differs.nonzero().flatten().tolist() == [0, 1, 10, 11]


@torch.inference_mode()
def test_a_streamed_frame_that_is_the_first_is_a_clip_of_one(either, shared):
    image = Case(shared, "case_1_msgshift").network_input(slice(1))
    maps, memory = either.rest_streamed(either.first_block(image), None)
    for x, y in zip(maps, either(image, 1)):
        assert torch.equal(x, y)
    assert memory.nbytes() == 4 * 16 * (64 + 128 + 320)


@torch.inference_mode()
def test_on_the_finest_map_a_streamed_frame_is_the_last_of_a_clamped_clip(published, shared):
    images = Case(shared, "case_1_msgshift").network_input()
    clamped, memory = copy.copy(published), None
    clamped.shift = "clamp"
    for end in range(1, len(images) + 1):
        maps, memory = published.rest_streamed(published.first_block(images[end - 1 : end]), memory)
        torch.testing.assert_close(maps[0][0], clamped(images[:end], end)[0][-1], rtol=1e-4, atol=1e-5)
        alone = published(images[end - 1 : end], 1)
        assert end == 1 or not torch.allclose(maps[0], alone[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shift", SHIFTS)
@torch.inference_mode()
def test_where_nothing_moves_all_ways_to_run_agree(shift):
    network, image, memory = small(shift=shift), pictures(1), None
    alone, window = network(image, 1), network(image.expand(5, -1, -1, -1), 5)
    for _ in range(4):
        streamed, memory = network.rest_streamed(network.first_block(image), memory)
        for x, y, z in zip(alone, streamed, window):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(x.expand_as(z), z, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_the_memory_of_a_stream_does_not_grow_and_holds_what_is_needed_alone(published, shared):
    images, memory, sizes = Case(shared, "case_1_msgshift").network_input(), None, []
    for image in images:
        _, memory = published.rest_streamed(published.first_block(image[None]), memory)
        sizes.append(memory.nbytes())
        held = [x for group in (memory.one, *memory.two) for x in group]
        assert sum(x.untyped_storage().nbytes() for x in held) == memory.nbytes()
    assert sizes == [32768] + [4 * 24 * (64 + 128 + 320)] * 4


@torch.inference_mode()
def test_a_streamed_frame_hears_of_the_two_before_it():
    network, images = small(), pictures(5)
    runs = []
    for first in (images[:1], -images[:1]):
        memory, run = None, []
        for image in torch.cat((first, images[1:])):
            maps, memory = network.rest_streamed(network.first_block(image[None]), memory)
            run.append(maps)
        runs.append(run)
    assert [not torch.equal(x[0], y[0]) for x, y in zip(*runs)] == [True, True, True, False, False]
    # A frame passes on what it heard: on the next map those further away hear of the first too.
    assert [not torch.equal(x[1], y[1]) for x, y in zip(*runs)] == [True] * 5


def test_a_stream_takes_one_frame_and_tokens_that_do_not_need_the_clip():
    for network, count in ((small(), 2), (small(messengers="attention"), 1)):
        with pytest.raises(ValueError, match="one by one"):
            network.rest_streamed(network.first_block(pictures(count)), None)


@torch.inference_mode()
def test_without_tokens_it_is_a_plain_pvt(published, shared):
    assert MsgShifT(messengers="none").state_dict().keys() == published.state_dict().keys() - {"msg_tokens"}
    network, images = small(messengers="none"), Case(shared, "case_1_msgshift").network_input()
    first = network.first_block(images)
    assert first.messengers.shape == (5, 0, 64)
    for x, y in zip(network(images, 5), network(images.flip(0), 5)):
        torch.testing.assert_close(x, y.flip(0), rtol=1e-4, atol=1e-5)
    maps, memory = network.rest_streamed(network.first_block(images[:1]), None)
    assert memory.nbytes() == 0 and all(torch.equal(x, y) for x, y in zip(maps, network(images[:1], 1)))
    assert MsgShifT(tokens=0).messengers == "none"


@pytest.mark.parametrize("messengers", MESSENGERS)
def test_all_that_can_be_learnt_is(messengers):
    network = small(messengers=messengers, drop_path=0).train()
    maps = network(pictures(6), 3)
    sum((x * torch.linspace(-1, 1, x.numel()).view_as(x)).sum() for x in maps).backward()
    lost = [key for key, x in network.named_parameters() if x.grad is None or not x.grad.abs().sum() > 0]
    assert not lost
    assert (network.msg_tokens is None) == (messengers == "none")


@pytest.mark.parametrize("messengers", MESSENGERS)
def test_a_gradient_passes_from_frame_to_frame_through_tokens_alone(messengers):
    network, images = small(messengers=messengers), pictures(6).requires_grad_()
    network(images, 3)[1][0].sum().backward()
    reached = images.grad.abs().flatten(1).sum(1) > 0
    assert reached.tolist() == [True, messengers != "none", messengers != "none", False, False, False]


def test_a_residual_is_left_out_frame_by_frame_for_patches_and_tokens_together():
    torch.manual_seed(0)
    block = Block(64, 8, 8, drop_path=0.25)
    patches, tokens = torch.randn(400, 64, 64), torch.randn(400, 4, 64)
    layers = (block.attend, block.feed)
    with torch.no_grad():
        block.eval()
        full = [layer(patches, tokens, (8, 8)) for layer in layers]
        block.train()
        found = [layer(patches, tokens, (8, 8)) for layer in layers]
    kept = []
    for (x, m), (trained_x, trained_m) in zip(full, found):
        there = (trained_x != patches).flatten(1).any(1)
        assert torch.equal(there, (trained_m != tokens).flatten(1).any(1))
        factor = there.float()[:, None, None] / 0.75
        torch.testing.assert_close(trained_x, patches + (x - patches) * factor, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(trained_m, tokens + (m - tokens) * factor, rtol=1e-4, atol=1e-5)
        assert 260 < there.sum() < 340  # 300, at most 4.6 standard deviations away
        kept.append(there)
    assert (kept[0] != kept[1]).sum() > 0


def test_later_blocks_leave_out_more():
    rates = [block.drop_path for stage in MsgShifT().stages() for block in stage.blocks()]
    assert rates == pytest.approx([0.1 * k / 7 for k in range(8)])


def test_it_is_as_large_as_published_and_starts_as_pvt_does():
    network = MsgShifT()
    network.initialise()
    assert sum(x.numel() for x in network.parameters()) == pytest.approx(13.50e6, rel=1e-3)
    assert network.msg_tokens.shape == (1, 32, 3)
    assert 0.01 < network.msg_tokens.std() < 0.03 and network.msg_tokens.abs().max() > 0
    tensors = network.state_dict()
    for key in ("1.0.attn.attn.in_proj_weight", "1.0.attn.attn.out_proj.weight", "1.0.ffn.layers.0.weight"):
        assert tensors[f"layers.3.{key}"].std() == pytest.approx(0.02, rel=0.05)
    depthwise, embedding = tensors["layers.3.1.0.ffn.layers.1.weight"], tensors["layers.3.0.projection.weight"]
    assert depthwise.std() == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    assert embedding.std() == pytest.approx((2 / 9 / 512) ** 0.5, rel=0.05)
    assert not any(x.any() for key, x in tensors.items() if key.endswith("bias"))


@pytest.mark.parametrize(
    "options",
    [{"tokens": 6}, {"widths": (64, 128, 320, 500)}, {"depths": (2, 2)}, {"shift": "back"}, {"messengers": "letters"}],
)
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValueError):
        MsgShifT(**options)


def pvt_tensors():
    """A made-up file of PVTv2-B1, key for key as its authors publish it."""
    shapes = {"head.weight": (1000, 512), "head.bias": (1000,)}
    inputs = 3
    for i, (width, hidden, reduction) in enumerate(((64, 512, 8), (128, 1024, 4), (320, 1280, 2), (512, 2048, 1)), 1):
        size = 7 if i == 1 else 3
        layers = {f"patch_embed{i}.proj": (width, inputs, size, size), f"patch_embed{i}.norm": (width,)}
        layers[f"norm{i}"] = (width,)
        for j in range(2):
            block = {"norm1": (width,), "attn.q": (width, width), "attn.kv": (2 * width, width)}
            block |= {"attn.proj": (width, width), "norm2": (width,), "mlp.fc1": (hidden, width)}
            block |= {"mlp.dwconv.dwconv": (hidden, 1, 3, 3), "mlp.fc2": (width, hidden)}
            if reduction > 1:
                block |= {"attn.sr": (width, width, reduction, reduction), "attn.norm": (width,)}
            layers |= {f"block{i}.{j}.{key}": shape for key, shape in block.items()}
        for key, shape in layers.items():
            shapes |= {f"{key}.weight": shape, f"{key}.bias": shape[:1]}
        inputs = width
    random = torch.Generator().manual_seed(0)
    return {key: torch.randn(shape, generator=random) for key, shape in shapes.items()}


def test_a_published_pvt_fills_all_but_the_tokens():
    theirs = pvt_tensors()
    ours, network = from_pvt(theirs), MsgShifT()
    assert is_pvt(theirs) and not is_pvt(ours)
    missing = network.load_state_dict(ours, strict=False)  # shapes are held all the same
    assert missing.missing_keys == ["msg_tokens"] and not missing.unexpected_keys
    where = {
        "layers.2.0.projection.weight": "patch_embed3.proj.weight",
        "layers.0.0.norm.bias": "patch_embed1.norm.bias",
        "layers.1.1.1.norm1.weight": "block2.1.norm1.weight",
        "layers.1.1.0.attn.sr.weight": "block2.0.attn.sr.weight",
        "layers.2.1.0.attn.norm.bias": "block3.0.attn.norm.bias",
        "layers.3.1.1.attn.attn.out_proj.weight": "block4.1.attn.proj.weight",
        "layers.0.1.0.ffn.layers.1.weight": "block1.0.mlp.dwconv.dwconv.weight",
        "layers.0.1.0.ffn.layers.0.bias": "block1.0.mlp.fc1.bias",
        "layers.0.1.1.norm2.weight": "block1.1.norm2.weight",
        "layers.3.2.weight": "norm4.weight",
    }
    for key, published in where.items():
        assert torch.equal(ours[key], theirs[published])
    fc2 = ours["layers.0.1.1.ffn.layers.4.weight"]
    assert fc2.shape == (64, 512, 1, 1) and torch.equal(fc2[:, :, 0, 0], theirs["block1.1.mlp.fc2.weight"])
    for kind in ("weight", "bias"):
        rows = ours[f"layers.1.1.0.attn.attn.in_proj_{kind}"]
        assert torch.equal(rows[:128], theirs[f"block2.0.attn.q.{kind}"])
        assert torch.equal(rows[128:], theirs[f"block2.0.attn.kv.{kind}"])


def test_what_is_no_pvt_is_refused_by_its_key():
    theirs = pvt_tensors()
    with pytest.raises(CheckpointError, match=r"stem\.weight"):
        from_pvt({**theirs, "stem.weight": torch.zeros(1)})
    del theirs["block1.0.attn.kv.bias"]
    with pytest.raises(CheckpointError, match=r"block1\.0\.attn\.q\.bias"):
        from_pvt(theirs)
