"""Video K-Net's clip system on a stream: the recorded results of whole videos, windows, and what a user may rely on."""

import numpy as np
import pytest
import torch

from tests.costs import by_cost
from tests.vis_core.models.recorded_video_knet import Case, FilledWeights, SmallBackbone
from vis_core.models.video_knet import build_clip, published
from vis_core.models.video_knet.clip import VideoKNetModel
from vis_core.models.video_knet.kernels import best_pairs
from vis_core.models.video_knet.network import ClipNetwork, Sizes
from vis_core.models.video_knet.semantic_pyramid import ExactGroupNorm, doubled
from vis_core.structures import Frame
from vis_core.system.driver import StreamSegmenter
from vis_core.system.option import check_options, options_of
from vis_core.tracking.associator import Window
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.overlap import OverlapAssociator

CPU = torch.device("cpu")
RESULTS = {
    "clip_r50": "clip_r50",
    "clip_r50_odd": "clip_r50",
    "clip_deformable": "clip_r50_deformable",
    "clip_swinb": "clip_swinb",
}


@pytest.fixture(scope="module")
def weights(shared, fill):
    return FilledWeights(shared, fill)


def built(tensors, **options):
    return build_clip(published.convert(tensors), {}, CPU, "fp32", **check_options(options_of(build_clip), options))


def frames_of(case):
    return [Frame(image, 10 * t, t) for t, image in enumerate(case.inputs["images"])]


def check_results(case, network, model):
    """The ten results of the case's video as one clip; returns their masks."""
    frames = frames_of(case)
    with torch.inference_mode():
        encoded = [model.encode(frame) for frame in frames]
        found = model.segment(encoded, Window(0, len(frames), frames[0].size))
        out = network.clip([frame.kernels for frame in encoded])[-1]
        case.check("queries", best_pairs(out.logits[0].sigmoid(), 10)[2])
        vertical, horizontal = found.resize._matrices
        case.check("mask_probabilities", vertical @ doubled(found.mask_logits).sigmoid() @ horizontal.T)
    case.check("scores", found.class_scores.max(1))
    case.check("labels", found.class_scores.argmax(1))
    masks = np.stack([[m.dense() for m in found.masks(t, range(10))] for t in range(len(frames))], 1)
    case.check("masks", masks)
    return masks


@pytest.mark.parametrize("name", by_cost(RESULTS, "clip_swinb"))
def test_a_whole_video_gives_the_recorded_results(name, shared, weights):
    case = Case(shared, name)
    long, short = case.config["test_scale"]
    segmenter = built(weights.tensors(RESULTS[name]), unbounded=True, input_size=(short, long))
    masks = check_results(case, segmenter.network, segmenter.model)
    frames = frames_of(case)
    answers = list(segmenter.run(frames))
    assert [x.index for x in answers] == list(range(len(frames)))
    shown = {int(i) for x in answers for i in x.track_ids[x.visible]}
    assert len(shown) == masks.any((1, 2, 3)).sum()


OTHERWISE = "on one thread of PyTorch 2.4 the masks are not within the recorded IoU; on two they are"


@pytest.mark.parametrize(
    "threads",
    [
        pytest.param(1, marks=pytest.mark.skipif(torch.__version__.startswith("2.4."), reason=OTHERWISE)),
        pytest.param(2, marks=pytest.mark.slow),
    ],
)
def test_a_video_of_the_published_size_gives_the_recorded_results(threads, shared, weights, one_thread):
    # Of so many pixels, some of the hard pooling masks turn by rounding: that of PyTorch's group norm was too much.
    case = Case(shared, "clip_published_size")
    segmenter = built(weights.tensors("clip_r50"), unbounded=True, input_size=(360, 640))
    torch.set_num_threads(threads)
    check_results(case, segmenter.network, segmenter.model)


def test_the_group_norm_is_that_of_pytorch_whatever_the_layout_and_with_its_gradients():
    random = torch.Generator().manual_seed(0)
    norm, x = ExactGroupNorm(4, 8), torch.randn(2, 8, 5, 7, generator=random) * 3 + torch.arange(8.0)[:, None, None]
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2, generator=random)
        norm.bias.normal_(generator=random)
        wanted = torch.nn.functional.group_norm(x.double(), 4, norm.weight.double(), norm.bias.double())
        for given in (x, x.to(memory_format=torch.channels_last)):
            torch.testing.assert_close(norm(given).double(), wanted, rtol=1e-6, atol=1e-6)
        assert norm(torch.full((1, 8, 3, 3), 1e4)).isfinite().all()
    learnt = norm(x)
    torch.testing.assert_close(learnt.double(), wanted, rtol=1e-5, atol=1e-5)
    learnt.sum().backward()
    assert norm.weight.grad.abs().sum() > 0


def frames_like(count, seed=0, size=(48, 64)):
    """Blobs that move over noise."""
    random = np.random.default_rng(seed)
    ground = random.integers(0, 255, (*size, 3))
    frames = []
    for t in range(count):
        image = ground.copy()
        image[10:30, 5 + t : 25 + t] = (200, 30, 60)
        frames.append(Frame(image.astype(np.uint8), 10 * t, t))
    return frames


@pytest.fixture(scope="module")
def small():
    """Tensors of a small network that finds several instances."""
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(3)
    network = ClipNetwork(SmallBackbone(), "fpn", 4, Sizes(kernels=8, width=32, heads=8, hidden=64))
    network.initialise()
    for key, x in network.state_dict().items():
        if "neck" in key and x.dim() == 4:
            x.normal_(0, x[0].numel() ** -0.5, generator=random)
        if key.endswith(("fc_cls.weight", "fc_mask.weight", "fc_mask.bias")):
            x.normal_(0, 0.3, generator=random)
    return network.eval()


def stream(network, clip_length=3, stride=1, threshold=0.0):
    model = VideoKNetModel(network, ("a", "b", "c", "d"), (64, 96), False, threshold, 50)
    return StreamSegmenter(model, OverlapAssociator(0.3), TrackLifecycle(), clip_length, stride)


def same(a, b):
    return (
        (a.index, a.track_ids.tolist(), a.labels.tolist()) == (b.index, b.track_ids.tolist(), b.labels.tolist())
        and np.allclose(a.scores, b.scores, atol=1e-5)
        and all(x == y for x, y in zip(a.masks, b.masks))
    )


def test_a_stream_answers_every_frame_once_and_keeps_identities(small):
    segmenter = stream(small)
    answers = list(segmenter.run(frames_like(8)))
    assert [x.index for x in answers] == list(range(8))
    kept = set.intersection(*({int(i) for i in x.track_ids[x.visible]} for x in answers))
    assert kept


def test_every_frame_is_encoded_once_however_windows_overlap(small):
    segmenter = stream(small, clip_length=4, stride=2)
    seen, encode = [], segmenter.model.encode
    segmenter.model.encode = segmenter._prefetcher.function = lambda f: seen.append(f.index) or encode(f)
    list(segmenter.run(frames_like(9)))
    assert sorted(seen) == list(range(9))


def test_the_state_of_a_stream_does_not_grow(small):
    segmenter, sizes = stream(small), []
    for frame in frames_like(12):
        segmenter.step(frame)
        sizes.append(segmenter.state_bytes())
    assert max(sizes[6:]) <= max(sizes[3:6]) * 1.1
    segmenter.reset()
    assert segmenter.state_bytes() < sizes[-1] / 4


def test_after_a_reset_a_stream_answers_as_a_new_one_but_for_its_numbers(small):
    segmenter = stream(small)
    first = list(segmenter.run(frames_like(5)))
    again = list(segmenter.run(frames_like(5)))
    shift = int(again[0].track_ids[again[0].visible].min()) - int(first[0].track_ids[first[0].visible].min())
    for a, b in zip(first, again):
        seen = b[b.visible]
        assert (a[a.visible].track_ids + shift).tolist() == seen.track_ids.tolist()
        assert all(x == y for x, y in zip(a[a.visible].masks, seen.masks))


def test_a_window_as_long_as_the_stream_is_the_whole_video_at_once(small):
    frames = frames_like(4)
    at_once = list(stream(small, clip_length=None).run(frames))
    segmenter = stream(small, clip_length=5, stride=4)
    for a, b in zip(at_once, segmenter.run(frames), strict=True):
        assert same(a, b)


def test_what_is_not_sure_enough_is_not_shown(small):
    assert all(len(x) == 0 for x in stream(small, threshold=1.0).run(frames_like(3)))


def test_of_equal_scores_the_lower_kernel_and_class_come_first():
    scores, labels, kernels = best_pairs(torch.tensor([[0.5, 1.0], [1.0, 0.2], [1.0, 1.0]]), 4)
    assert (kernels.tolist(), labels.tolist()) == ([0, 1, 2, 2], [1, 0, 0, 1])
    assert scores.tolist() == [1, 1, 1, 1]
