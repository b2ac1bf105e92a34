"""visolo-lite: built from its weights, trained from any start."""

import numpy as np
import pytest
import torch

import vis_core
from tests.vis_core.models.small_lite import small, write
from vis_core.checkpoints import write_tensors
from vis_core.errors import CheckpointError
from vis_core.models.visolo import LITE, trainable_lite
from vis_core.models.visolo.guided_filter import without_specks
from vis_core.models.visolo.instances import tight_boxes
from vis_core.models.visolo.network import PositionPrior, place_maps
from vis_core.structures import Frame


def test_half_precision_weights_of_any_class_count_and_width_run(tmp_path):
    weights = write(tmp_path / "w.safetensors", small(5), ["a", "b", "c", "d", "e"])
    segmenter = vis_core.load("visolo-lite", weights, device="cpu", input_size=(64, 96))
    assert segmenter.class_names == ("a", "b", "c", "d", "e")
    assert all(p.dtype == torch.float32 for p in segmenter.network.parameters())
    image = np.random.default_rng(0).integers(0, 256, (48, 70, 3), dtype=np.uint8)
    (instances,) = segmenter.step(Frame(image, stamp=5, index=0))
    assert instances.stamp == 5 and all(mask.size == (48, 70) for mask in instances.masks)


def test_what_is_reported_follows_the_image_and_identities_do_not(tmp_path):
    weights = write(tmp_path / "w.safetensors", small(), ["a", "b", "c"])
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(11, 0).repeat(11, 1)
    options = {"input_size": (64, 96), "score_threshold": 0.0, "birth_threshold": 0.0, "update_threshold": 0.0}
    answers = {}
    for mode in ("guided", "published"):
        segmenter = vis_core.load("visolo-lite", weights, device="cpu", mask_resize=mode, **options)
        answers[mode] = [segmenter.step(Frame(image, stamp=t * 10**8, index=t))[0] for t in range(3)]
    differ = 0
    for guided, published in zip(*answers.values()):
        assert len(guided.track_ids) and guided.track_ids.tolist() == published.track_ids.tolist()
        assert guided.scores.tolist() == published.scores.tolist()
        differ += sum(a != b for a, b in zip(guided.masks, published.masks))
    assert differ > 0


def test_branches_at_once_answer_as_one_after_the_other(tmp_path):
    weights = write(tmp_path / "w.safetensors", small(), ["a", "b", "c"])
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(11, 0).repeat(11, 1)
    options = {"input_size": (64, 96), "score_threshold": 0.0, "birth_threshold": 0.0, "update_threshold": 0.0}
    before, answers = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            system = vis_core.load("visolo-lite", weights, device="cpu", **options)
            answers.append([system.step(Frame(image, i * 10**8, i))[0] for i in range(3)])
    finally:
        torch.set_num_threads(before)
    assert sum(len(answer.track_ids) for answer in answers[0]) > 0
    for alone, together in zip(*answers):
        assert alone.track_ids.tolist() == together.track_ids.tolist()
        np.testing.assert_allclose(alone.scores, together.scores, rtol=1e-3)
        for first, second in zip(alone.masks, together.masks):
            assert (first.dense() ^ second.dense()).sum() <= 0.01 * first.area


@pytest.mark.parametrize("key", ["category_post.pred.weight", "kernel_post.pred.weight", "grid"])
def test_weights_that_do_not_state_the_sizes_are_refused_by_name(tmp_path, key):
    state = {**small().state_dict(), "grid": torch.tensor((12, 21))}
    del state[key]
    write_tensors(tmp_path / "w.safetensors", state, {"format": "vis_core 1", "system": "visolo-lite"})
    with pytest.raises(CheckpointError, match=key):
        vis_core.load("visolo-lite", tmp_path / "w.safetensors", device="cpu")


@pytest.mark.parametrize("grid", [(3, 20), (12, 65), (12,), (12, 21, 1)])
def test_a_grid_out_of_range_is_refused(tmp_path, grid):
    metadata = {"format": "vis_core 1", "system": "visolo-lite"}
    write_tensors(tmp_path / "w.safetensors", {**small().state_dict(), "grid": torch.tensor(grid)}, metadata)
    with pytest.raises(CheckpointError, match=r"grid, rows and columns of the network's grid \(4 to 64\), is \["):
        vis_core.load("visolo-lite", tmp_path / "w.safetensors", device="cpu")


def test_the_grid_of_a_training_is_that_of_its_weights_whatever_it_started_from(tmp_path):
    start = {**small().state_dict(), "grid": torch.tensor((12, 21))}
    training = trainable_lite(("a", "b", "c"), start, torch.Generator().manual_seed(0), width=64, grid=(6, 10))
    write_tensors(tmp_path / "w.safetensors", training.weights(), {"format": "vis_core 1", "system": "visolo-lite"})
    segmenter = vis_core.load("visolo-lite", tmp_path / "w.safetensors", device="cpu", input_size=(64, 96))
    assert segmenter.network.grid == (6, 10)
    image = np.zeros((64, 96, 3), np.uint8)
    with torch.no_grad():
        categories, _, kernels, similarity = training.outputs(torch.zeros(1, 2, 64, 96, 3), [False])
    assert categories.shape[-1] == kernels.shape[-1] == similarity.shape[-1] == 60
    assert len(segmenter.step(Frame(image, stamp=5, index=0))) == 1


def test_training_takes_over_what_fits_and_says_what_does_not(caplog):
    start = small(7).state_dict()
    training = trainable_lite(("a", "b"), start, torch.Generator().manual_seed(0), width=64)
    got = training.weights()
    assert torch.equal(got["backbone.body.stem.weight"], start["backbone.body.stem.weight"])
    assert got["category_post.pred.weight"].shape == (2, 64, 3, 3)
    assert "2 of" in caplog.text and "category_post.pred.weight" in caplog.text
    with pytest.raises(CheckpointError, match="none of the 1 tensors"):
        trainable_lite(("a", "b"), {"x": torch.zeros(1)}, torch.Generator())


def test_the_frozen_part_of_the_backbone_does_not_learn():
    training = trainable_lite(("a",), None, torch.Generator().manual_seed(0), width=64, frozen_stride=8)
    learning = {id(p) for group in training.parameter_groups().values() for p in group}
    body = training.network.backbone.body
    assert not any(id(p) in learning for module in body.below(8) for p in module.parameters())
    assert all(id(p) in learning for block in body.blocks[5:] for p in block.parameters())


def test_its_training_options_are_those_that_the_catalogue_lists():
    given = {name: option.default for name, option in LITE.training_options.items()} | {"width": 64}
    trainable_lite(("a",), None, torch.Generator().manual_seed(0), **given)


def test_a_place_multiplied_out_is_the_paraboloid_about_its_cell():
    random = torch.Generator().manual_seed(0)
    place = PositionPrior(8)
    torch.nn.init.normal_(place.pred.weight, generator=random)
    kernel = torch.randn(1, 8, 12, 21, generator=random)
    with torch.no_grad():
        a, b, c, d, e = (x.double() for x in place.pred(kernel)[0])
        logits = torch.einsum("dn,dhw->nhw", place(kernel)[0].flatten(1), place_maps(torch.zeros(1, 1, 24, 42))[0])
    row, column, y, x = 3, 17, 20, 5
    u, v = (x + 0.5) / 2 - (column + 0.5), (y + 0.5) / 2 - (row + 0.5)
    a, b, c, d, e = (float(value[row, column]) for value in (a, b, c, d, e))
    expected = -np.exp(min(a, 4)) * u**2 - np.exp(min(b, 4)) * v**2 + c * u + d * v + e
    assert float(logits[row * 21 + column, y, x]) == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_at_first_each_cell_prefers_what_is_near_it():
    training = trainable_lite(("a",), None, torch.Generator().manual_seed(0), width=64)
    place = training.network.kernel_post.place
    with torch.no_grad():
        coefficients = place(torch.randn(1, 64, 12, 21))[0].flatten(1)
        logits = torch.einsum("dn,dhw->nhw", coefficients, place_maps(torch.zeros(1, 1, 12, 21))[0]).flatten(1)
    assert torch.equal(logits.argmax(1), torch.arange(252))


@pytest.mark.parametrize(("least", "stays"), [(0.3, ("large", "half")), (0.7, ("large",)), (1.0, ("large",))])
def test_small_parts_of_a_mask_are_left_out_and_do_not_stretch_its_box(least, stays):
    parts = {"large": (slice(4, 14), slice(2, 12)), "half": (slice(16, 21), slice(2, 12)), "speck": (30, slice(30, 34))}
    masks = np.zeros((2, 40, 56), np.bool_)
    expected = np.zeros_like(masks)
    for name, place in parts.items():
        masks[0][place] = True
        expected[0][place] = name in stays
    given = masks.copy()
    found = without_specks(masks, least)
    np.testing.assert_array_equal(found, expected)  # the second mask, which is empty, stays so
    np.testing.assert_array_equal(masks, given)
    assert tight_boxes(found)[0].tolist() == [2, 4, 12, 21 if "half" in stays else 14]


def test_parts_that_touch_at_a_corner_are_one_part():
    masks = np.zeros((1, 10, 16), np.bool_)
    masks[0, 2:6, 2:6] = masks[0, 6, 6] = True
    np.testing.assert_array_equal(without_specks(masks, 0.3), masks)
