"""VisTR on streams and on whole videos: the published results, identities over windows, and what is kept."""

from argparse import Namespace

import numpy as np
import pytest
import torch

import vis_core
from tests.vis_core.models.gmp_vis.recorded_clips import Case, recorded_weights
from tests.vis_core.models.gmp_vis.small_clip import small_network
from vis_core.errors import OptionError
from vis_core.models.gmp_vis.clip import Clip, VisTRModel, VisTRVideoModel, WholePixels
from vis_core.models.gmp_vis.clip_instances import VideoResults
from vis_core.models.gmp_vis.clip_network import ClipNetwork
from vis_core.models.gmp_vis.linking import ClipAssociator, VideoAssociator
from vis_core.models.gmp_vis.vistr import VISTR, build_vistr
from vis_core.nn.backbones.resnet import ResNet
from vis_core.nn.mask_resize import MaskResize
from vis_core.structures import Frame, TrackState
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.associator import Window
from vis_core.tracking.lifecycle import TrackLifecycle

NAMES = ("one", "two", "three")
CPU = torch.device("cpu")


def same_results(case, found):
    case.equal("slots", found.slots)
    case.equal("labels", found.channels)
    case.close("scores", found.scores)
    masks = np.stack([[mask.dense() for mask in of_slot] for of_slot in found.run_lengths], 1)
    case.same_masks("masks", masks & (found.shown > 0).T[..., None, None])


def test_slots_are_chosen_scored_and_named_as_published(shared):
    case = Case(shared, "case_9_decision")
    frames, length = case.record["num_frames"], case.record["length"]
    logits, masks = (case.tensor(name).unflatten(0, (frames, 10))[:length] for name in ("pred_logits", "pred_masks"))
    size = tuple(case.record["output_size"])
    found = VideoResults.of(
        logits.transpose(0, 1),
        np.ones((10, length), np.bool_),
        lambda slots: masks.transpose(0, 1)[slots],
        MaskResize(tuple(masks.shape[2:]), size, size, size, CPU),
    )
    case.equal("null", (found.shown == 0).T)
    same_results(case, found)
    assert not case.unchecked
    of_classes = found.of_classes()
    assert of_classes.channels.tolist() == [channel for channel in found.channels if channel]
    assert of_classes.class_scores.shape == (len(of_classes), 40)
    assert (of_classes.class_scores.argmax(1) + 1).tolist() == of_classes.channels.tolist()
    np.testing.assert_array_equal(of_classes.class_scores.max(1), of_classes.scores)


@pytest.fixture(scope="module")
def recorded_video(shared, fill, weights_folder):
    """The case of a short video, and the system on its weights, in one answer for the whole video.

    The weights come as a file of VisTR: without what GMP-VIS adds, which no inference needs.
    """
    tensors = recorded_weights(shared, fill, 8)
    tensors = {key: x for key, x in tensors.items() if not key.startswith(("gmm.", "fc.", "proposal2matching."))}
    path = weights_folder / "vistr.pth"
    torch.save({"model": tensors, "epoch": 17, "args": Namespace(num_frames=8)}, path)
    case = Case(shared, "case_3_short_video")
    options = {"short_side": min(case.record["size"]), "unbounded": True}
    return case, vis_core.load("vistr", path, device="cpu", precision="fp32", **options)


@torch.inference_mode()
def test_a_short_video_gives_the_published_results(recorded_video):
    case, segmenter = recorded_video
    frames = [segmenter.model.encode(Frame(image, t, t)) for t, image in enumerate(case.inputs["frames"])]
    size = tuple(case.record["output_size"])
    clip = segmenter.model._looked_at(frames, 0, size)
    probabilities = clip.logits.softmax(2)[..., :-1].transpose(0, 1)
    case.close("frame_scores", probabilities.amax(2))
    case.equal("frame_labels", probabilities.argmax(2))
    covered = np.ones(clip.logits.shape[:2], np.bool_)
    found = VideoResults.of(clip.logits, covered, clip.mask_logits, segmenter.model._resize(frames, size))
    same_results(case, found)
    assert not case.unchecked


def test_every_published_result_is_a_track_of_the_answers(recorded_video):
    case, segmenter = recorded_video
    images = case.inputs["frames"]
    with torch.inference_mode():
        clip = [segmenter.model.encode(Frame(image, t, t)) for t, image in enumerate(images)]
        found = segmenter.model.segment(clip, Window(0, len(images), images.shape[1:3]))
    answers = list(segmenter.run([Frame(image, 10 * t, t) for t, image in enumerate(images)]))
    assert [answer.index for answer in answers] == list(range(len(images)))
    for t, answer in enumerate(answers):
        seen = answer[answer.visible | (answer.states == TrackState.TRACKED) | (answer.states == TrackState.NEW)]
        assert len(seen) == np.count_nonzero(found.shown[:, t])
        np.testing.assert_allclose(np.sort(seen.track_scores), np.sort(found.scores), rtol=1e-5)
        assert set(seen.labels.tolist()) == set((found.channels - 1).tolist())


def test_frames_are_resized_to_whole_pixels():
    assert WholePixels(300).size(720, 1280) == (300, 533)
    assert WholePixels(300).size(1280, 720) == (533, 300)
    assert WholePixels(300).size(10, 1000) == (300, 30000)
    assert WholePixels(300, 600).size(10, 1000) == (6, 600)
    assert WholePixels(300, 640).size(720, 1280) == (300, 533)
    assert WholePixels(300)(np.zeros((90, 160, 3), np.uint8)).shape == (1, 3, 300, 533)


# What follows runs a tiny network with random weights, or none.

SIZE = (64, 96)


def noise(count, size=SIZE, seed=1):
    images = np.random.default_rng(seed).integers(0, 256, (count, *size, 3), np.uint8)
    return [Frame(image, 10 * t, t) for t, image in enumerate(images)]


@pytest.fixture(scope="module")
def network():
    return small_network().eval().requires_grad_(False)


def stream(network, stride=2, threshold=0.0):
    model = VisTRModel(network, NAMES, WholePixels(64), 0.1, False)
    model.score_threshold, model.presence_threshold = threshold, 0.0
    return StreamSegmenter(model, ClipAssociator(0.1, network.clip_length), TrackLifecycle(), 6, stride)


@torch.inference_mode()
def test_fewer_frames_than_a_window_are_repeated_in_turn(network):
    model = VisTRModel(network, NAMES, WholePixels(64), 0.1, False)
    frames = [model.encode(frame) for frame in noise(4)]
    few = model._looked_at(frames, 0, SIZE)
    many = model._looked_at([*frames, *frames[:2]], 0, SIZE)
    assert few.logits.shape == (4, 4, 5)
    torch.testing.assert_close(few.logits, many.logits[:, :4])
    torch.testing.assert_close(few.mask_logits([1, 3]), many.mask_logits([1, 3])[:, :4])


def test_memory_stays_flat_however_long_the_stream(network):
    segmenter, sizes = stream(network), []
    for frame in noise(24):
        segmenter.step(frame)
        sizes.append(segmenter.state_bytes())
    assert 0 < max(sizes[12:]) <= max(sizes[:12]) * 1.05


def test_every_frame_is_answered_once_and_in_order(network):
    for count in (1, 5, 6, 13):
        answers = list(stream(network).run(noise(count)))
        assert [answer.index for answer in answers] == list(range(count))


def test_slots_below_the_threshold_are_not_shown(network):
    everything = list(stream(network).run(noise(6)))
    assert any(len(answer) for answer in everything)
    assert not any(answer.visible.any() for answer in stream(network, threshold=0.999).run(noise(6)))


class Painted:
    """In place of the network: squares of three colours, each in a slot that changes from window to window."""

    def __init__(self):
        self.random = np.random.default_rng(3)

    def of(self, kind):
        class Model(kind):
            def encode(model, frame):
                tensor = torch.from_numpy(frame.image.copy())
                return kept(tensor)

            def _looked_at(model, frames, first, size):
                order = self.random.permutation(4)
                masks = torch.stack([x.tokens for x in frames])[:, ::4, ::4, :]  # [n, h, w, 3]
                logits = torch.full((4, len(frames), 5), -4.0)
                logits[:, :, 4] = 2.0
                slots = torch.full((4, len(frames), *masks.shape[1:3]), -1.0)
                centres = torch.zeros(4, len(frames), 2)
                for colour in range(3):
                    there = masks[..., colour] > 0
                    slots[order[colour]][there] = 1.0
                    logits[order[colour], there.any(2).any(1), 1 + colour] = 8.0
                    for t in range(len(frames)):
                        if there[t].any():
                            y, x = there[t].nonzero().float().mean(0) * 4
                            centres[order[colour], t] = torch.stack((x, y)) / float(np.hypot(*size))
                return Clip(first, logits, centres, None, lambda rows: slots[list(rows)])

        return Model(small_network().eval(), NAMES, WholePixels(64), 0.1, False)


def kept(tensor):
    class Tokens:
        tokens = tensor
        adapted = (torch.zeros(1, 1, tensor.shape[0] // 4, tensor.shape[1] // 4),)

        def nbytes(self):
            return tensor.nbytes

    return Tokens()


def painted_frames(count):
    """Three squares cross a frame, the third comes late and leaves early."""
    frames = []
    for t in range(count):
        image = np.zeros((*SIZE, 3), np.uint8)
        image[4:20, 2 + 2 * t : 18 + 2 * t, 0] = 255
        image[24:40, 70 - 2 * t : 86 - 2 * t, 1] = 255
        if 7 <= t < count - 4:
            image[44:60, 2 * t : 16 + 2 * t, 2] = 255
        frames.append(Frame(image, 10 * t, t))
    return frames


def places(answers):
    """Of each track: label, and the frames in which it has pixels."""
    found = {}
    for answer in answers:
        for row in [row for row, mask in enumerate(answer.masks) if mask.area]:
            label = int(answer.labels[row])
            assert (answer.masks[row].dense() == (painted_frames(24)[answer.index].image[..., label] > 0)).mean() > 0.98
            found.setdefault(int(answer.track_ids[row]), (label, []))[1].append(answer.index)
    return sorted(found.values())


def test_identities_hold_over_windows_whatever_the_slots():
    expected = [(0, list(range(24))), (1, list(range(24))), (2, list(range(7, 20)))]
    for stride in (1, 2):
        model = Painted().of(VisTRModel)
        model.score_threshold = 0.2
        segmenter = StreamSegmenter(model, ClipAssociator(0.1, 6), TrackLifecycle(), 6, stride)
        assert places(segmenter.run(painted_frames(24))) == expected
    whole = StreamSegmenter(Painted().of(VisTRVideoModel), VideoAssociator(), TrackLifecycle(None, None), None)
    assert places(whole.run(painted_frames(24))) == expected


def test_half_precision_finds_much_the_same(network):
    half = small_network().eval().requires_grad_(False)
    half.run_in(torch.bfloat16)
    for one, other in zip(stream(network).run(noise(3)), stream(half).run(noise(3)), strict=True):
        assert len(one) == len(other) > 0
        np.testing.assert_allclose(np.sort(one.scores), np.sort(other.scores), atol=0.02)


def test_live_options_hold_from_the_next_window_on(network):
    segmenter = stream(network)
    segmenter.options = VISTR.options
    frames = noise(4)
    assert any(answer.visible.any() for frame in frames[:2] for answer in segmenter.step(frame))
    segmenter.set_option("score_threshold", 1.0)
    assert not any(answer.visible.any() for frame in frames[2:] for answer in segmenter.step(frame))


def test_options_are_checked_against_the_weights():
    with torch.device("meta"):
        sizes = ClipNetwork(ResNet(50), 6, 3, matching=False, width=48, hidden=32, layers=1).state_dict()
    tensors = {key: torch.zeros(()).expand(x.shape) for key, x in sizes.items()}
    with pytest.raises(OptionError, match="stride: 3 leaves windows of 6 frames less than 4 shared"):
        build_vistr(tensors, {}, CPU, "fp32", stride=3)
    with pytest.raises(OptionError, match="link_embeddings"):
        build_vistr(tensors, {}, CPU, "fp32", link_embeddings=True)
