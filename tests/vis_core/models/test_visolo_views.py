"""Views of a frame that are averaged: what mirrors mirrors, sizes meet, and each view has a memory of its own."""

import numpy as np
import pytest
import torch

import vis_core
from tests.vis_core.models.small_lite import small, write
from vis_core.models.visolo import views as views_module
from vis_core.models.visolo.grid import GridReading
from vis_core.models.visolo.memory import FrameMemory
from vis_core.models.visolo.views import View, averaged
from vis_core.nn.input_transform import InputTransform
from vis_core.structures import Frame

SIZE = (64, 96)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    """Maker of a narrow system with so many views."""
    weights = write(tmp_path_factory.mktemp("views") / "w.safetensors", small(grid=(6, 10)), ["a", "b", "c"])
    return lambda views, **options: vis_core.load(
        "visolo-lite", weights, device="cpu", input_size=SIZE, views=views, **options
    )


def images(count):
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (8, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(count)]


def readings(system, stream):
    """What is read of each frame of a stream: category scores and mask logits of the cells, as maps of the grid."""
    grid = system.model.grid
    out, read = [], grid.read

    def kept(seen, *given):
        reading = read(seen, *given)
        rows, columns = system.network.grid
        logits = grid.mask_logits(seen, reading, np.arange(rows * columns))
        categories = torch.from_numpy(reading.categories).unflatten(1, (rows, columns))
        out.append((categories, torch.from_numpy(logits).unflatten(0, (rows, columns))))
        return reading

    grid.read = kept
    for index, image in enumerate(stream):
        system.step(Frame(image, index * 10**8, index))
    return out


def test_with_a_mirrored_view_a_mirrored_stream_is_read_as_the_mirror_of_the_stream(monkeypatch, segmenter):
    monkeypatch.setattr(views_module, "OTHER_VIEWS", ((1.0, True), (1.25, True), (1.25, False)))
    stream = images(3)
    straight = readings(segmenter(4), stream)
    mirrored = readings(segmenter(4), [np.ascontiguousarray(image[:, ::-1]) for image in stream])
    alone = readings(segmenter(1), stream)
    for (categories, logits), (other_categories, other_logits), (one, _) in zip(straight, mirrored, alone):
        torch.testing.assert_close(categories, other_categories.flip(2), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(logits, other_logits.flip(1, 3), rtol=1e-3, atol=2e-3)
        assert (categories - one).abs().max() > 1e-3


def test_the_average_is_that_of_scores_and_logits():
    generator = torch.Generator().manual_seed(0)
    sizes = (3, 6), (4, 6), (4, 5, 7)
    made = [[torch.rand(size, generator=generator) for size in sizes] for _ in range(3)]
    parts = [GridReading(scores.numpy(), kernels, None, "q", "r", "e", maps) for scores, kernels, maps in made]
    categories, kernels, *others, features = averaged(parts)
    np.testing.assert_allclose(categories, sum(reading.categories for reading in parts) / 3, rtol=1e-6)
    logits = [reading.kernels.T @ reading.mask_features.flatten(1) for reading in parts]
    torch.testing.assert_close(kernels.T @ features.flatten(1), sum(logits) / 3)
    assert others == [None, "q", "r", "e"]


@pytest.mark.parametrize(("scale", "size"), [(1.25, (80, 128)), (1.0, (64, 96)), (0.1, (16, 16))])
def test_sizes_of_views_are_multiples_of_16(scale, size):
    view = View(InputTransform(SIZE), scale, False, FrameMemory(5, 3))
    assert view.image(images(1)[0]).shape == (1, 3, *size)


def test_a_mirrored_view_shows_the_frame_mirrored():
    first = InputTransform(SIZE)
    image = images(1)[0]
    straight, mirrored = (View(first, 1.0, turned, FrameMemory(5, 3)).image(image) for turned in (False, True))
    assert torch.equal(mirrored, straight.flip(3)) and torch.equal(straight, first(image))


def test_each_view_remembers_and_forgets(segmenter):
    one, four = segmenter(1), segmenter(4)
    sizes = []
    for index, image in enumerate(images(8)):
        for system in (one, four):
            system.step(Frame(image, index * 10**8, index))
        sizes.append(sum(view.memory.nbytes() for view in four.model.grid.views))
    assert sizes[-1] == sizes[-2] == 3 * one.model.memory.nbytes() == 3 * four.model.memory.nbytes()
    first = [view.memory.readable[0].category for view in four.model.grid.views]
    assert not torch.equal(first[0], first[1])
    four.reset()
    assert all(view.memory.nbytes() == 0 for view in four.model.grid.views)


def test_after_a_reset_the_answers_are_those_of_a_new_stream(segmenter):
    stream, options = images(2), {"score_threshold": 0.0, "birth_threshold": 0.0, "update_threshold": 0.0}
    used, fresh = segmenter(4, **options), segmenter(4, **options)
    for index, image in enumerate(images(4)[::-1]):
        used.step(Frame(image, index * 10**8, index))
    used.reset()
    for index, image in enumerate(stream):
        (before,), (after,) = (system.step(Frame(image, index * 10**8, index)) for system in (used, fresh))
        seen = before.visible
        assert seen.sum() == after.visible.sum() > 0
        np.testing.assert_allclose(before.scores[seen], after.scores[after.visible], rtol=1e-4)


@pytest.mark.parametrize("views", [1, 3])
def test_prefetching_changes_no_answer(segmenter, views):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        frames = [Frame(image, index * 10**8, index) for index, image in enumerate(images(5))]
        options = {"score_threshold": 0.0, "birth_threshold": 0.0, "first_birth_threshold": 0.0, "max_instances": 5}
        plain, ahead = segmenter(views, **options), segmenter(views, **options)
        wanted = [plain.step(frame)[0] for frame in frames]
        found = list(ahead.run(frames))
    finally:
        torch.set_num_threads(before)
    assert any(len(instances) for instances in wanted)
    for one, other in zip(found, wanted, strict=True):
        assert (one.index, one.track_ids.tolist()) == (other.index, other.track_ids.tolist())
        np.testing.assert_array_equal(one.scores, other.scores)
        assert all((a.dense() == b.dense()).all() for a, b in zip(one.masks, other.masks, strict=True))
