"""TeViT on streams: the published results of whole clips, linked windows, what a window reuses, and what is kept."""

import gc

import numpy as np
import pytest
import torch

import vis_core
from tests.vis_core.models.recorded_tevit import Case, check_close, recorded_weights
from vis_core.checkpoints import FORMAT, write_tensors
from vis_core.errors import CheckpointError, OptionError
from vis_core.models.tevit import SYSTEM, published
from vis_core.models.tevit.model import TeViTModel
from vis_core.models.tevit.msgshift import MsgShifT
from vis_core.models.tevit.network import TeViTNetwork
from vis_core.nn.input_transform import WithinTransform
from vis_core.nn.region_queries import Dimensions
from vis_core.structures import Frame, TrackState
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.associator import Window
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.overlap import OverlapAssociator

NAMES = tuple(f"class{i}" for i in range(40))


@pytest.fixture(scope="module")
def network(shared, fill):
    """The published MsgShifT network with the recorded weights."""
    tensors = published.convert(recorded_weights(shared, fill))
    network = TeViTNetwork(published.backbone_of(tensors), *published.sizes(tensors))
    network.load_state_dict(tensors)
    yield network.eval().requires_grad_(False)
    gc.collect()


def model_of(network, scale, published=False, score_threshold=0.3, presence_threshold=0.0, backbone="window"):
    long_side, short_side = scale
    return TeViTModel(
        network, NAMES, (short_side, long_side), published, backbone, score_threshold, presence_threshold, 10
    )


@pytest.mark.parametrize("name", ["case_1_msgshift", "case_2_resized", "case_4_resnet50", "case_5_swin"])
def test_images_come_into_the_network_as_recorded(name, shared):
    case = Case(shared, name)
    long_side, short_side = case.record["scale"]
    transform = WithinTransform(short_side, long_side)
    images = case.inputs["images"]
    assert transform.size(*images.shape[1:3]) == tuple(case.record["network_size"])
    case.check("resized", np.stack([transform.resize(image).numpy() for image in images]))
    case.check("network_input", torch.cat([transform(image) for image in images]))


def test_the_published_scales_fit_images_into_a_rectangle_that_lies_as_they_do():
    transform = WithinTransform(360, 640)
    assert transform.size(720, 1280) == (360, 640)
    assert transform.size(1280, 720) == (640, 360)
    assert transform.size(90, 160) == (360, 640)
    assert transform(np.zeros((720, 1280, 3), np.uint8)).shape == (1, 3, 384, 640)


@pytest.mark.parametrize("name", ["case_1_msgshift", "case_2_resized"])
@torch.inference_mode()
def test_a_whole_clip_gives_the_ten_published_results(name, network, shared):
    case = Case(shared, name)
    images = case.inputs["images"]
    model = model_of(network, case.record["scale"], published=True)
    found = model.segment(
        [model.encode(Frame(x, 0, t)) for t, x in enumerate(images)], Window(0, len(images), images.shape[1:3])
    )
    case.check("scores", found.class_scores.max(1))
    case.check("labels", found.class_scores.argmax(1))
    case.check("boxes", found.boxes.transpose(0, 1))
    masks = np.stack([np.stack([m.dense() for m in found.masks(t, range(10))]) for t in range(len(images))])
    case.check("masks", masks)
    case.check("mask_logits", found.mask_logits(range(10), 0).transpose(0, 1))
    assert np.array_equal(found.frame_scores(1, np.zeros(10, np.int64)), found.class_scores.max(1))


@torch.inference_mode()
def test_windows_are_linked_as_recorded(network, shared):
    case = Case(shared, "case_7_windows")
    record, images = case.record, case.inputs["images"]
    model = model_of(network, record["scale"], score_threshold=record["score_threshold"])
    associator = OverlapAssociator(record["link_threshold"], same_label=True, consecutive=True)
    features = [model.encode(Frame(x, 0, t)) for t, x in enumerate(images)]
    lifecycle, before = TrackLifecycle(None), None
    for k, (start, end) in enumerate(record["windows"]):
        window = Window(start, end - start, images.shape[1:3])
        found = model.segment(features[start:end], window)
        of_ten = case.expected[f"window{k}/identities"]
        kept = np.flatnonzero(of_ten >= 0)
        assert len(found) == len(kept)
        rule = record["arrays"][f"window{k}/scores"]
        check_close(f"window{k}/scores", found.class_scores.max(1), case.expected[f"window{k}/scores"][kept], rule)
        assert np.array_equal(found.class_scores.argmax(1), case.expected[f"window{k}/labels"][kept])
        if before is not None:
            shared_frames = before[1].start + before[0].shape[1] - start
            last, now = before[0][:, -shared_frames:].flatten(1), found.coarse_masks[:, :shared_frames].flatten(1)
            common = (last[:, None] & now).sum(2)
            overlap = common / (last[:, None] | now).sum(2).clamp(min=1)
            same = before[2][:, None] == found.class_scores.argmax(1)
            case.check(f"window{k}/iou", np.where(same, overlap, 0))
        _, continues = associator.associate(found, window, lifecycle)
        masks = found.masks(window.length - 1, range(len(found)))
        ids = lifecycle.update(
            Frame(images[end - 1], 0, end - 1), continues, found.class_scores.max(1), found.class_scores, masks
        )
        ids = ids.track_ids[: len(found)].tolist()
        associator.remember(ids, found, window)
        assert [i - 1 for i in ids] == of_ten[kept].tolist()
        before = found.coarse_masks, slice(start, end), found.class_scores.argmax(1)


# What follows runs a tiny network with random weights.

SIZE = (64, 96)


def tiny(seed=3, **options):
    torch.manual_seed(seed)
    backbone = MsgShifT(tokens=8, widths=(64, 64, 64, 64), depths=(2, 1, 1, 1), **options)
    network = TeViTNetwork(backbone, 5, 12, Dimensions(32, 8, 8, 64, 2))
    network.initialise()
    for stage in network.head.stages():
        torch.nn.init.normal_(stage.class_logits.bias, 0, 1)
        torch.nn.init.normal_(stage.bboxes_delta.weight, 0, 0.05)
    torch.nn.init.uniform_(network.init_proposal_boxes.weight, 0.2, 0.8)
    return network.eval().requires_grad_(False)


def video(count, seed=0):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (8, 12, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    return [Frame(np.roll(image, 3 * t, 1).copy(), 1000 * t, t) for t in range(count)]


def stream(network, length=5, stride=2, **options):
    model = model_of(network, SIZE[::-1], score_threshold=0.3, **options)
    associator = OverlapAssociator(0.3, same_label=True, consecutive=True)
    return StreamSegmenter(model, associator, TrackLifecycle(30), length, stride)


def seen(instances):
    """Rows that were seen in the frame."""
    return [i for i, state in enumerate(instances.states) if state in (TrackState.NEW, TrackState.TRACKED)]


def test_every_frame_is_answered_under_its_own_stamp_a_stride_late():
    segmenter = stream(tiny())
    frames = video(8)
    answered = [[x.stamp for x in segmenter.step(frame)] for frame in frames]
    assert answered == [[], [0, 1000], [], [2000, 3000], [], [4000, 5000], [], [6000, 7000]]
    assert segmenter.delay == 1


@torch.inference_mode()
def test_a_stream_s_windows_are_those_of_whole_clips():
    network = tiny()
    frames = video(7)
    answers = list(stream(network).run(frames))
    assert sum(len(seen(x)) for x in answers) > 10
    model = model_of(network, SIZE[::-1], score_threshold=0.3)
    # Frames 4 and 5 were answered by the window of frames 1 to 5.
    found = model.segment([model.encode(frame) for frame in frames[1:6]], Window(1, 5, SIZE))
    for index, t in ((4, 3), (5, 4)):
        masks = [m for m in found.masks(t, range(len(found))) if m.area]
        there = [answers[index].masks[i] for i in seen(answers[index])]
        assert sorted(m.area for m in there) == sorted(m.area for m in masks)


def test_a_moving_thing_keeps_its_number_over_windows():
    answers = list(stream(tiny()).run(video(9)))
    first, last = ({int(x.track_ids[i]) for i in seen(x)} for x in (answers[1], answers[8]))
    assert first & last


def test_memory_does_not_grow_with_the_stream():
    segmenter = stream(tiny())
    frames = video(30)
    sizes = []
    for frame in frames:
        segmenter.step(frame)
        sizes.append(segmenter.state_bytes())
    assert max(sizes[20:]) <= max(sizes[8:20])


@torch.inference_mode()
def test_the_streamed_backbone_is_the_window_s_for_a_single_frame_and_looks_at_each_frame_once():
    network, frame = tiny(), video(1)[0]
    exact, streamed = (model_of(network, SIZE[::-1], backbone=kind) for kind in ("window", "stream"))
    clips = [[model.encode(frame)] for model in (exact, streamed)]
    for one, other in zip(exact._levels(clips[0]), streamed._levels(clips[1])):
        torch.testing.assert_close(one[0], other[0], rtol=1e-4, atol=1e-5)
    features = [streamed.encode(frame) for frame in video(3)]
    before = [level[0].clone() for level in streamed._levels(features[:2])]
    after = streamed._levels(features)
    assert all(torch.equal(x, y[0]) for x, y in zip(before, after)) and features[0].first is None
    assert streamed.nbytes() > 0
    streamed.reset()
    assert streamed.nbytes() == 0


def test_the_streamed_backbone_answers_every_frame():
    answers = list(stream(tiny(), backbone="stream").run(video(9)))
    assert [x.stamp for x in answers] == [1000 * t for t in range(9)] and sum(len(seen(x)) for x in answers) > 10


# And through `vis_core.load`.


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    tensors = {key: x.contiguous() for key, x in tiny().state_dict().items()}
    write_tensors(path, tensors, {"format": FORMAT, "system": "tevit", "class_names": '["a", "b", "c", "d", "e"]'})
    return path


def load(weights, **options):
    return vis_core.load("tevit", weights, device="cpu", short_side=64, longest_side=96, **options)


def test_it_is_loaded_with_sizes_from_its_tensors_and_runs(weights):
    segmenter = load(weights, clip_length=5, stride=2)
    assert segmenter.class_names == ("a", "b", "c", "d", "e")
    answers = list(segmenter.run(video(6)))
    assert len(answers) == 6 and sum(len(seen(x)) for x in answers)


def test_an_unbounded_clip_is_answered_at_its_end_with_the_ten_best(weights):
    segmenter = load(weights, unbounded=True)
    frames = video(4)
    assert not any(segmenter.step(frame) for frame in frames)
    answers = segmenter.flush()
    assert len(answers) == 4 and max(len(seen(x)) for x in answers) <= 10
    assert len({int(i) for x in answers for i in x.track_ids}) <= 10


def test_windows_without_a_shared_frame_are_refused(weights):
    with pytest.raises(OptionError, match="stride: 5 leaves windows of 5 frames without a shared one"):
        load(weights, clip_length=5, stride=5)


def test_live_options_hold_from_the_next_window_on(weights):
    segmenter = load(weights, clip_length=3, stride=1)
    frames = video(6)
    assert seen(segmenter.step(frames[0])[0])
    segmenter.set_option("score_threshold", 1.0)
    assert not seen(segmenter.step(frames[1])[0])


def test_random_weights_are_said_to_be_random():
    with pytest.warns(UserWarning, match="tevit: no weights given"):
        segmenter = vis_core.load("tevit", device="cpu")
    assert isinstance(segmenter.network.backbone, MsgShifT) and len(segmenter.class_names) == 40


def test_a_queryinst_with_the_same_backbone_is_no_system_for_videos():
    tensors = dict(tiny().state_dict())
    del tensors["backbone.msg_tokens"]
    of_no_training = {}
    defaults = {name: option.default for name, option in SYSTEM.options.items()}
    with pytest.raises(CheckpointError, match="weights of QueryInst, an image model"):
        SYSTEM.build(tensors, of_no_training, torch.device("cpu"), "fp32", **defaults)
