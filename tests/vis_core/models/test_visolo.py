"""VISOLO live: bounded memory, any input, and what its options change."""

import functools
import gc
import json

import numpy as np
import psutil
import pytest
import torch

import vis_core
from vis_core import masks
from vis_core.checkpoints import write_tensors
from vis_core.errors import CheckpointError, OptionError
from vis_core.models.visolo import SYSTEM, detection, published
from vis_core.models.visolo.memory import Entry, FrameMemory
from vis_core.models.visolo.network import CoordinateConv, VISOLONetwork
from vis_core.nn import precision
from vis_core.structures import Frame, TrackState

SIZE = (64, 96)
RANDOM = np.random.default_rng(0)


@pytest.fixture
def load(narrow_visolo):
    def load(**options):
        options = {"weights": narrow_visolo, "device": "cpu", "precision": "fp32", "input_size": SIZE} | options
        return vis_core.load("visolo", **options)

    return load


def picture(index, size=SIZE):
    return Frame(RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8), stamp=index * 10, index=index)


def entry(frame):
    return Entry(frame, *(torch.zeros(1),) * 3)


@pytest.mark.parametrize("interval", [1, 2, 5, 7])
def test_the_memory_keeps_every_interval_and_the_last_two(interval):
    memory = FrameMemory(interval, None)
    for t in range(40):
        memory.append(entry(t))
        if t >= 2:
            newest = interval * ((t - 2) // interval)
            assert [e.frame for e in memory.readable] == [*range(0, newest + 1, interval), t - 1, t]
        if t >= 1:
            assert memory.newest_kept.frame == interval * ((t + 1 - 2) // interval)


@pytest.mark.parametrize("limit", [2, 3, 6])
def test_a_bounded_memory_reads_the_last_two_and_the_newest_kept(limit):
    bounded, whole = FrameMemory(5, limit), FrameMemory(5, None)
    for t in range(60):
        for memory in (bounded, whole):
            memory.append(entry(t))
        kept = [e.frame for e in whole.readable[:-2]]
        expected = kept[len(kept) - min(limit - 2, len(kept)) :] + [e.frame for e in whole.readable[-2:]]
        assert [e.frame for e in bounded.readable] == expected
        if t >= 1:
            assert bounded.newest_kept.frame == whole.newest_kept.frame


def test_every_frame_is_answered_at_once_under_its_own_stamp(load):
    segmenter = load()
    for i in range(4):
        (instances,) = segmenter.step(picture(i, (48, 70)))
        assert (instances.stamp, instances.index, instances.size) == (10 * i, i, (48, 70))
        assert all(mask.size == (48, 70) for mask in instances.masks)
    assert segmenter.flush() == [] and segmenter.delay == 0


def test_without_an_age_limit_no_track_ends_however_many_are_lost(load):
    segmenter = load(max_lost_frames=None, max_lost_tracks=1, tracking_threshold=1.0)
    for i in range(12):
        (instances,) = segmenter.step(picture(i))
    assert (instances.states == TrackState.LOST).sum() > 3
    assert not (instances.states == TrackState.ENDED).any()


@pytest.mark.parametrize("count", [1, 2])
def test_videos_shorter_than_the_memory_rule_work(count, load):
    segmenter = load(memory_frames=None)
    for i in range(count):
        assert len(segmenter.step(picture(i))) == 1


@pytest.mark.parametrize("size", [(1, 1), (7, 500), (333, 3)])
def test_images_of_any_size_are_taken(size, load):
    (instances,) = load().step(picture(0, size))
    assert instances.dense_masks().shape == (len(instances), *size)


def test_a_reset_gives_the_answers_of_a_fresh_start_but_for_ids(load):
    segmenter, frames = load(), [picture(i) for i in range(4)]
    first = [segmenter.step(frame)[0] for frame in frames]
    segmenter.reset()
    assert segmenter.state_bytes() == len(first[-1]) * 5 * 8  # class scores of the tracks whose end is yet to be told
    second = [segmenter.step(frame)[0] for frame in frames]
    for a, b in zip(first, second, strict=True):
        seen_a, seen_b = a[a.visible], b[b.visible]
        np.testing.assert_array_equal(seen_a.scores, seen_b.scores)
        assert seen_a.masks == seen_b.masks
        assert seen_a.states.tolist() == seen_b.states.tolist()
    assert not set(second[0][second[0].visible].track_ids) & set(first[-1].track_ids)
    ended = second[0][second[0].states == TrackState.ENDED]
    assert set(ended.track_ids) == set(first[-1].track_ids)


def test_a_change_of_image_size_starts_anew(load):
    segmenter = load()
    segmenter.step(picture(0, (64, 96)))
    (instances,) = segmenter.step(picture(1, (96, 64)))
    assert not (instances.states == TrackState.TRACKED).any()


def test_a_frame_without_a_kept_cell_skips_the_mask_branch_and_changes_nothing_else(load):
    frames = [picture(i) for i in range(3)]
    skipping, running = load(), load()
    ran = []
    skipping.network.mask.register_forward_hook(lambda *_: ran.append(1))
    for i, frame in enumerate(frames):
        skipping.model.score_threshold = 1.0 if i == 1 else 0.1
        running.model.score_threshold = skipping.model.score_threshold
        (a,), (b,) = skipping.step(frame), running.step(frame)
        assert len(ran) == (i + 1 if i < 1 else i)
        np.testing.assert_array_equal(a.scores, b.scores)
        if i == 1:
            assert not a.visible.any()


def test_at_most_max_instances_are_answered_the_best_ones():
    dense = np.zeros((6, 8, 12), np.bool_)
    for i in range(6):
        dense[i, :, 2 * i : 2 * i + 2] = True
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.04], np.float32)
    found = detection.Detections(np.arange(6), np.arange(6), scores, np.zeros((6, 7)), dense, np.zeros((6, 2, 3)))
    assert detection.suppress(found, 0.05, max_instances=3).cells.tolist() == [0, 1, 2]
    assert detection.suppress(found, 0.05, max_instances=100).cells.tolist() == [0, 1, 2, 3, 4]


def test_smooth_masks_are_close_to_the_published_ones(load):
    frame = Frame(RANDOM.integers(0, 256, (64, 96, 3), dtype=np.uint8).repeat(3, 0).repeat(3, 1))
    (published_way,), (smooth,) = load().step(frame), load(mask_resize="logits").step(frame)
    np.testing.assert_array_equal(published_way.scores, smooth.scores)
    a, b = published_way.dense_masks(), smooth.dense_masks()
    assert 0.9 < (a & b).sum() / (a | b).sum() < 1


def test_winograd_answers_like_the_direct_form(monkeypatch, load):
    monkeypatch.setattr("vis_core.nn.winograd._MIN_TILES", 0)
    direct, fast = load(), load(convolution="winograd")
    for i in range(3):
        frame = picture(i)
        (a,), (b,) = direct.step(frame), fast.step(frame)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
        assert a.track_ids.tolist() == b.track_ids.tolist()


def test_half_precision_runs_and_scores_stay_close(load):
    frame = picture(0)
    (full,), (half,) = load().step(frame), load(precision="bf16").step(frame)
    assert half.scores.dtype == np.float32 and len(half)
    assert abs(float(full.scores[0]) - float(half.scores[0])) < 0.1


@torch.inference_mode()
def test_auto_rounds_only_what_does_not_show(load, monkeypatch):
    monkeypatch.setattr(precision, "_has_fast_bfloat16", lambda: True)
    full, auto = load(score_threshold=0.0), load(score_threshold=0.0, precision="auto")
    types = {name: p.dtype for name, p in auto.network.named_parameters()}
    rounded = {name.rsplit(".", 1)[0] for name, dtype in types.items() if dtype == torch.bfloat16}
    assert rounded and all(name.startswith(("mask.refine2.", "mask.conv1")) for name in rounded)
    for segmenter in (full, auto):
        segmenter.model.detect = lambda *seen, detect=segmenter.model.detect: read.append(seen) or detect(*seen)
    for i in range(3):
        read, frame = [], picture(i)
        for segmenter in (full, auto):
            segmenter.step(frame)
        (seen, wanted), (_, found) = read
        for a, b in zip(wanted[:2], found[:2]):  # category scores and kernels
            np.testing.assert_array_equal(a, b)
        features, rounded = (segmenter.model.grid.mask_features(seen) for segmenter in (full, auto))
        assert rounded.dtype == torch.float32
        assert 0 < float((features - rounded).norm() / features.norm()) < 0.01


def run_long(load, frames):
    """Largest state of the second half relative to the first, and the growth of the process's memory, bytes."""
    # No detection continues a track, so that tracks are born and lost all the time.
    segmenter, process = load(input_size=(32, 48), max_lost_frames=5, tracking_threshold=1.0), psutil.Process()
    best = []
    hook = segmenter.network.category_post.register_forward_hook(lambda _m, _i, out: best.append(out.sigmoid().amax(1)))
    pictures = [picture(i, (48, 64)) for i in range(16)]
    segmenter.step(pictures[0])
    hook.remove()
    segmenter.model.score_threshold = float(best[0].flatten().sort(descending=True).values[20])
    state, memory, seen = [], [], 0
    for i in range(frames):
        (instances,) = segmenter.step(Frame(pictures[i % 16 if i % 48 < 40 else 0].image, i, i))
        seen = max(seen, int(instances.track_ids.max(initial=0)))
        state.append(segmenter.state_bytes())
        if i % 20 == 0:
            gc.collect()
            memory.append(process.memory_info().rss)
    assert seen > frames // 4, "too few tracks were born to show anything"
    half = len(state) // 2
    return max(state[half:]) / max(state[:half]), max(memory[len(memory) // 2 :]) - max(memory[: len(memory) // 2])


def test_memory_is_flat_over_hundreds_of_frames(load):
    state, growth = run_long(load, 120)
    assert state <= 1.1
    assert growth < 8 << 20


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_memory_is_flat_over_ten_thousand_frames(load):
    state, growth = run_long(load, 10_000)
    assert state <= 1.1
    assert growth < 8 << 20


def test_a_remembered_frame_costs_its_three_features_of_the_grid(load):
    segmenter = load(memory_frames=6)
    for i in range(25):
        segmenter.step(picture(i))
    per_frame = 4 * 252 * (32 + 64 + 64)  # r, converted c and k at a quarter of the published width
    assert segmenter.model.memory.nbytes() == 6 * per_frame


def published_tensors(depth=50, classes=7):
    """A published-form checkpoint with random weights, by turning the rename table round; the caller may change it."""
    return {key: value.clone() for key, value in _published_tensors(depth, classes).items()}


@functools.cache
def _published_tensors(depth, classes):
    network = VISOLONetwork(depth, classes)
    network.initialise(torch.Generator().manual_seed(1))
    tensors = {}
    for key, value in network.state_dict().items():
        theirs, ours = next(row for row in published._TABLE if key.startswith(row[1]))
        tensors[theirs + key[len(ours) :]] = value
    for key in [key for key in tensors if key.startswith("model.Tracking_branch.")]:
        tensors[key.replace("model.Tracking_branch.", "tracking_module.")] = tensors[key].clone()
    return tensors


def test_class_count_and_depth_follow_the_checkpoint(tmp_path, load):
    torch.save({"model": published_tensors(101, 7)}, tmp_path / "w.pth")
    segmenter = load(weights=tmp_path / "w.pth")
    assert segmenter.network.backbone.depth == 101
    assert segmenter.class_names == tuple(f"class {i}" for i in range(1, 8))
    (instances,) = segmenter.step(picture(0))
    assert (instances.labels < 7).all()


def test_class_names_of_a_weight_file_are_used(tmp_path, load):
    tensors = published.convert(published_tensors(classes=2))
    metadata = {"format": "vis_core 1", "system": "visolo", "class_names": json.dumps(["cup", "box"])}
    write_tensors(tmp_path / "w.safetensors", tensors, metadata)
    assert load(weights=tmp_path / "w.safetensors").class_names == ("cup", "box")


@pytest.mark.parametrize(
    "names",
    ['["one"]', '["a", "a", "b"]', "not json", '{"a": 1}', '["a", 2]'],
)
def test_class_names_that_do_not_fit_are_refused(tmp_path, names, load):
    tensors = published.convert(published_tensors(classes=2))
    metadata = {"format": "vis_core 1", "system": "visolo", "class_names": names}
    write_tensors(tmp_path / "w.safetensors", tensors, metadata)
    with pytest.raises(CheckpointError, match="class_names"):
        load(weights=tmp_path / "w.safetensors")


def test_copies_of_the_tracking_branch_that_differ_are_refused(tmp_path, load):
    tensors = published_tensors()
    tensors["tracking_module.track_Q_conv1.bias"] += 1
    torch.save({"model": tensors}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"tracking_module\.track_Q_conv1\.bias differs"):
        load(weights=tmp_path / "w.pth")


def test_missing_and_left_over_keys_are_listed(tmp_path, load):
    tensors = published_tensors()
    del tensors["model.Mask_branch.convR1.weight"]
    tensors["model.Mask_branch.convR9.weight"] = torch.zeros(1)
    torch.save({"model": tensors}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"missing: mask\.conv1\.weight[\s\S]*left over: .*convR9"):
        load(weights=tmp_path / "w.pth")


@torch.inference_mode()
def test_a_segmenter_made_in_inference_mode_answers_the_same(load):
    frame = picture(0)
    (inside,) = load().step(frame)
    with torch.inference_mode(False):
        (outside,) = load().step(frame)
    np.testing.assert_array_equal(inside.scores, outside.scores)


def test_changed_weights_are_not_answered_from_a_cache():
    conv = CoordinateConv(8, 32, (3, 4)).eval()
    x = torch.randn(1, 8, 6, 8)
    with torch.no_grad():
        before = conv(x)
        conv.weight.mul_(-1)
        after = conv(x)
    with torch.enable_grad():
        torch.testing.assert_close(after, conv(x).detach(), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before, after)


@pytest.mark.filterwarnings("ignore:.*random")
def test_random_weights_are_the_same_every_time(load):
    a, b = load(weights=None), load(weights=None)
    assert all(torch.equal(x, y) for x, y in zip(a.network.state_dict().values(), b.network.state_dict().values()))
    assert len(a.class_names) == 40


@pytest.mark.parametrize("shape", [(40, 256), (0, 64, 3, 3), (5, 0, 3, 3), (5, 100, 3, 3), (1, 640_000, 1, 1)])
def test_a_width_that_no_network_has_is_refused_before_anything_is_allocated(tmp_path, load, shape):
    metadata = {"format": "vis_core 1", "system": "visolo"}
    write_tensors(tmp_path / "w.safetensors", {"category_post.pred.weight": torch.zeros(shape)}, metadata)
    with pytest.raises(CheckpointError, match=r"category_post\.pred\.weight.* is of shape"):
        load(weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize("size", [(60, 96), (0, 16), (64, 97)])
def test_input_sizes_that_the_network_cannot_take_are_refused(size, load):
    with pytest.raises(OptionError, match="input_size"):
        load(input_size=size)


def test_the_options_are_the_published_ones():
    assert {name: option.default for name, option in SYSTEM.options.items() if name != "convolution"} == {
        "input_size": (352, 624),
        "memory_frames": 6,
        "memory_interval": 5,
        "max_lost_frames": 30,
        "max_lost_tracks": 100,
        "score_threshold": 0.1,
        "mask_threshold": 0.5,
        "update_threshold": 0.05,
        "tracking_threshold": 0.1,
        "max_instances": 100,
        "mask_resize": "published",
        "reweighting": True,
        "published_quirks": False,
        "vocabulary": "auto",
        "association": "grid",
        "edge_weight": 1.0,
    }


def test_a_mask_that_lies_in_a_better_one_goes_and_then_covers_nothing():
    dense = np.zeros((4, 8, 8), np.bool_)
    dense[0, :, :4] = True  # best
    dense[1, :, 2:5] = True  # two thirds of it under the best: goes
    dense[2, :, 4:6] = True  # half of it under the one that went, none under the best: stays
    dense[3, :2, 5:8] = True
    assert detection.without_overlaps(detection.intersections(dense)) == [0, 2, 3]


def test_masks_are_packed_at_the_size_of_the_image(load):
    (instances,) = load().step(picture(0, (31, 57)))
    assert all(masks.from_box(m.size, m.box, m.runs) == m for m in instances.masks)
