"""EfficientVIS on a stream: the recorded hand-over and videos, the life of slots, and what a user may rely on."""

import numpy as np
import pytest
import torch

import vis_core
from tests.vis_core.models.recorded_efficientvis import Case, small_network
from vis_core import masks
from vis_core.errors import OptionError
from vis_core.models.efficientvis.model import EfficientVISModel, FrameMaps
from vis_core.models.efficientvis.slots import Slots
from vis_core.nn.pasting import paste, paste_dense
from vis_core.structures import Frame, TrackState
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.associator import Window
from vis_core.tracking.lifecycle import TrackLifecycle

CLASSES = ("a", "b", "c", "d", "e")
SIZE = (64, 96)


class GivenMaps(EfficientVISModel):
    """Its maps are recorded; a frame says by its index which ones are its."""

    def __init__(self, network, slots, levels, threshold, presence=0.0):
        network.backbone = None
        super().__init__(network, CLASSES, slots, (64, 96), threshold, presence)
        self.levels = levels

    def encode(self, frame):
        return FrameMaps(tuple(level[frame.index : frame.index + 1] for level in self.levels), SIZE)


def frame(index):
    return Frame(np.zeros((*SIZE, 3), np.uint8), 10 * index, index)


@pytest.mark.parametrize("option", ["all_learned", "all_last", "confident", "confident_last"])
@torch.inference_mode()
def test_slots_hand_queries_boxes_and_identities_over_as_recorded(option, shared, fill):
    case = Case(shared, "case_5_clips")
    given = case.record["options"][option]
    slots = Slots(given["carry"], given["proposals"], given.get("max_lost", 1))
    network = small_network(shared, fill)
    lifecycle, number = TrackLifecycle(None, None), 0
    for k, length in enumerate(case.record["clip_lengths"]):
        model = GivenMaps(network, slots, case.levels(f"clip{k}/"), given.get("threshold", 0.0))
        window = Window(number, length, SIZE)
        found = model.segment([model.encode(frame(t)) for t in range(length)], window)
        at = f"{option}/clip{k}/"
        case.check(at + "frame_scores", found.class_scores.swapaxes(0, 1))
        case.check(at + "boxes", found.boxes.transpose(0, 1))
        case.check(at + "tracklet_score", found.class_scores.mean(1).max(1))
        case.check(at + "mask_logits", found.mask_logits(range(6), 0).transpose(0, 1)[..., ::9, ::9])
        alive = set(lifecycle.alive)
        rows, continued = slots.associate(found, window, lifecycle)
        assert {i - 1 for i in alive - set(lifecycle.alive)} == set(case.expected[at + "ended"].tolist())
        ids = [None] * 6
        for t in range(length):  # every row that stays is shown in every frame
            tracks = [continued[i] if t == 0 else ids[row] for i, row in enumerate(rows)]
            count = len(tracks)
            instances = lifecycle.update(
                frame(number), tracks, np.ones(count), np.ones((count, 5)), [masks.RunLengths(SIZE)] * count
            )
            for row, track_id in zip(rows, instances.track_ids[:count].tolist()):
                ids[row] = track_id
            number += 1
        slots.remember(ids, found, window)
        case.check(at + "ids", [-1 if i is None else i - 1 for i in ids])
        case.check(at + "carried", [slot in slots.queries for slot in range(6)])
        case.check(at + "queries", slots.start(*network.learned(SIZE))[0])


@pytest.mark.parametrize("option", ["T4_s2", "T4_s4", "T1_s1", "T6_s1", "T36_s36"])
@torch.inference_mode()
def test_a_stream_gives_the_recorded_windows_and_identities(option, shared, fill):
    case = Case(shared, "case_9_stream")
    given = case.record["options"][option]
    slots = Slots("confident", "learned", max_lost_clips=2)
    model = GivenMaps(small_network(shared, fill), slots, case.levels(), given["threshold"])
    segmenter = StreamSegmenter(model, slots, TrackLifecycle(None), given["length"], given["stride"])
    windows, segment = [], model.segment
    model.segment = lambda clip, window: windows.append((window, segment(clip, window))) or windows[-1][1]
    answers = list(segmenter.run(frame(i) for i in range(11)))
    assert [x.index for x in answers] == list(range(11))
    expected = case.expected[f"{option}/windows"]
    assert [[w.first, w.first + w.length - 1] for w, _ in windows] == expected[:, :2].tolist()
    for k, (window, found) in enumerate(windows):
        np.testing.assert_allclose(
            found.class_scores.mean(1).max(1), case.expected[f"{option}/tracklet_scores"][k], rtol=1e-3, atol=3e-4
        )
        for number in range(expected[k, 2], expected[k, 1] + 1):
            ids = case.expected[f"{option}/ids"][number]
            seen = answers[number][answers[number].visible]
            assert sorted(seen.track_ids.tolist()) == sorted((ids[ids >= 0] + 1).tolist())
            t = number - window.first
            case_scores = case.expected[f"{option}/frame_scores"][number]
            np.testing.assert_allclose(found.class_scores[:, t], case_scores, rtol=1e-3, atol=3e-4)


@pytest.fixture(scope="module")
def checkpoint(shared, fill, weights_folder):
    arrays = fill(shared / "parity" / "efficientvis" / "manifest.json")
    path = weights_folder / "efficientvis.pth"
    torch.save({"model": {key: torch.from_numpy(x) for key, x in arrays.items()}}, path)
    return path


def check_video(case, answers, count):
    """Class scores and masks of every identity, over the frames that show it."""
    size = answers[0].size
    found = np.zeros((count, len(answers), *size), bool)
    scores, labels = {}, {}
    for t, instances in enumerate(answers):
        for row in np.flatnonzero(instances.visible):
            number = int(instances.track_ids[row]) - 1
            found[number, t] = instances.masks[row].dense()
            scores[number], labels[number] = float(instances.track_scores[row]), int(instances.labels[row])
    assert sorted(scores) == list(range(count))
    case.check("final/scores", np.array([scores[i] for i in range(count)]))
    assert [labels[i] for i in range(count)] == case.expected["final/labels"].tolist()
    expected = np.unpackbits(case.expected["final/masks"], axis=-1, count=size[1]).astype(bool)
    union = (found | expected).sum((2, 3))
    iou = np.where(union == 0, 1, (found & expected).sum((2, 3)) / np.maximum(union, 1))
    assert iou.min() >= 0.98


def test_a_video_gives_the_recorded_results(shared, checkpoint):
    case = Case(shared, "case_7_video")
    segmenter = vis_core.load(
        "efficientvis",
        checkpoint,
        device="cpu",
        precision="fp32",
        clip_length=3,
        stride=3,
        carry="all",
        input_size=(96, 160),
        score_threshold=0,
        presence_threshold=0,
    )
    given = case.inputs["frames"]
    original = np.zeros((*case.record["original_size"], 3), np.uint8)
    encode = segmenter.model.encode  # the frames were recorded at the network's size, the answers at the original one
    segmenter.model.encode = segmenter.model.encode_ahead = lambda f: encode(Frame(given[f.index], 0, f.index))
    segmenter._prefetcher.function = segmenter.model.encode
    check_video(case, list(segmenter.run(Frame(original, t, t) for t in range(6))), 10)


@pytest.mark.slow
def test_images_that_are_resized_and_padded_give_the_recorded_results(shared, checkpoint):
    case = Case(shared, "case_11_padded_video")
    record = case.record
    segmenter = vis_core.load(
        "efficientvis",
        checkpoint,
        device="cpu",
        precision="fp32",
        clip_length=record["clip_length"],
        stride=record["stride"],
        carry=record["carry"],
        proposals_carry=record["proposals_carry"],
        score_threshold=record["threshold"],
        max_lost_clips=record["max_lost"],
        input_size=tuple(record["input_size"]),
        presence_threshold=0,
    )
    frames = case.inputs["frames"]
    np.testing.assert_array_equal(segmenter.model.transform.resize(frames[0]).numpy(), case.expected["resized"][0])
    windows, segment = [], segmenter.model.segment
    segmenter.model.segment = lambda *asked: windows.append(segment(*asked)) or windows[-1]
    answers = list(segmenter.run(Frame(image, t, t) for t, image in enumerate(frames)))
    for k, found in enumerate(windows):
        case.check(f"window{k}/tracklet_scores", found.class_scores.mean(1).max(1))
        case.check(f"window{k}/boxes", found.boxes.transpose(0, 1))
        case.check(f"window{k}/frame_scores", found.class_scores.swapaxes(0, 1))
    for t, instances in enumerate(answers):
        ids = case.expected["ids"][t]
        assert sorted(instances.track_ids[instances.visible].tolist()) == sorted((ids[ids >= 0] + 1).tolist())
    check_video(case, answers, 12)


def test_masks_are_pasted_as_published(shared):
    case = Case(shared, "case_4_paste", "sparse_rcnn")
    size = tuple(case.record["image_size"])
    small, boxes = case.tensor("masks"), case.tensor("boxes")
    expected = np.unpackbits(case.expected["masks"], axis=-1, count=size[1]).astype(bool)
    found = paste(small, boxes, size)
    for mask, wanted in zip(found, expected, strict=True):
        assert masks.from_box(mask.size, mask.box, mask.runs) == mask
        assert (mask.dense() == wanted).all()
    assert (paste_dense(small, boxes, size).numpy() == expected).all()


@pytest.mark.parametrize(
    "box", [[5, 5, 5, 9], [-1e9, -1e9, 1e9, 1e9], [200, 200, 300, 300], [float("nan")] * 4, [-float("inf"), 0, 5, 5]]
)
def test_boxes_without_area_far_outside_or_without_end_paste_to_sound_masks(box):
    (mask,) = paste(torch.ones(1, 28, 28), torch.tensor([box]), (40, 60))
    assert masks.from_box(mask.size, mask.box, mask.runs) == mask
    assert mask.area == (2400 if box[0] == -1e9 else 0)


@pytest.fixture
def small(shared, fill):
    """Maker of a segmenter on recorded maps, repeated as often as asked."""
    case = Case(shared, "case_9_stream")

    def make(length=4, stride=4, threshold=0.182, max_lost_clips=2, presence=0.0, **slots):
        known = Slots(slots.get("carry", "confident"), "learned", max_lost_clips)
        model = GivenMaps(small_network(shared, fill), known, case.levels(), threshold, presence)
        encode = model.encode
        model.encode = model.encode_ahead = lambda f: encode(frame(f.index % 11))
        return StreamSegmenter(model, known, TrackLifecycle(None), length, stride)

    return make


@pytest.mark.slow
def test_memory_is_flat_over_a_long_video(small):
    segmenter, sizes = small(5, 2, threshold=0.2), []
    for i in range(400):
        segmenter.step(frame(i))
        sizes.append(segmenter.state_bytes())
    assert max(sizes[200:]) <= max(sizes[:200])
    segmenter.reset()
    assert segmenter.state_bytes() < 10_000


def test_a_weak_window_shows_its_track_lost_and_too_many_end_it(small):
    segmenter = small(1, 1, max_lost_clips=1)
    first = segmenter.step(frame(0))[0]
    assert first.visible.any()
    segmenter.apply_option("score_threshold", 1.0)
    states = [segmenter.step(frame(i))[0] for i in (1, 2, 3)]
    assert set(states[0].states) == {TrackState.LOST} and set(states[1].states) == {TrackState.ENDED}
    assert len(states[2]) == 0 and not segmenter.associator.queries
    segmenter.apply_option("score_threshold", 0.182)
    again = segmenter.step(frame(0))[0]
    assert not set(again.track_ids) & set(first.track_ids)


def test_what_is_not_present_is_carried_without_a_number_until_it_is_shown(small):
    segmenter = small(1, 1, presence=1.0)
    (hidden,) = segmenter.step(frame(0))
    assert len(hidden) == 0 and segmenter.associator.queries and not segmenter.associator.tracks
    segmenter.model.presence_threshold = 0.0
    (shown,) = segmenter.step(frame(1))
    assert shown.track_ids.tolist() and set(shown.states) == {TrackState.NEW}


def test_a_reset_answers_like_a_fresh_start_and_ids_go_on(small):
    segmenter = small()
    runs = [list(segmenter.run(frame(i) for i in range(8))) for _ in range(2)]
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a.scores[a.visible], b.scores[b.visible])
    assert not set(runs[0][-1].track_ids) & set(runs[1][-1].track_ids[runs[1][-1].visible])


@pytest.mark.parametrize("length", [1, 4, 9])
def test_a_stream_agrees_with_the_offline_run_on_the_same_clips(small, length):
    """Clip by clip, without the driver: what was carried from the clip before starts the next one."""
    segmenter, other = small(length, length), small(length, length)
    answers = list(segmenter.run(frame(i) for i in range(18)))
    model, slots = other.model, other.associator
    with torch.inference_mode():
        for first in range(0, 18, length):
            numbers = range(first, min(first + length, 18))
            window = Window(max(numbers.stop - length, 0), min(length, numbers.stop), SIZE)
            clip = [model.encode(frame(i)) for i in range(window.first, numbers.stop)]
            found = model.segment(clip, window)
            rows, _ = slots.associate(found, window, TrackLifecycle(None))
            slots.remember([None] * 6, found, window)
            for number in numbers:
                seen, t = answers[number][answers[number].visible], number - window.first
                shown = [mask for mask in found.masks(t, rows) if mask.area]
                assert sorted(mask.box for mask in seen.masks) == sorted(mask.box for mask in shown)
                known = np.round(found.class_scores[rows, t], 5).ravel()
                assert set(np.round(seen.scores, 5)) <= set(known)


@pytest.mark.filterwarnings("ignore:.*random")
def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(OptionError, match="stride: 9 is more than the 4 frames"):
        vis_core.load("efficientvis", clip_length=4, stride=9, device="cpu")
    with pytest.raises(OptionError, match="without a shared one"):
        vis_core.load("efficientvis", clip_length=4, stride=4, linking="handcrafted", device="cpu")


@pytest.mark.filterwarnings("ignore:.*random")
@pytest.mark.parametrize(("asked", "kind"), [("auto", torch.float32), ("bf16", torch.bfloat16)])
def test_on_a_cpu_the_backbone_is_rounded_only_if_that_is_asked(asked, kind, monkeypatch):
    monkeypatch.setattr("vis_core.nn.precision._has_fast_bfloat16", lambda: True)
    network = vis_core.load("efficientvis", device="cpu", precision=asked).network
    assert {x.dtype for x in network.backbone.parameters()} == {kind}
    assert {x.dtype for x in network.head.parameters()} == {torch.float32}
