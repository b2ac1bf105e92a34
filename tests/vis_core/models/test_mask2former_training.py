"""Training of Mask2Former-VIS and MinVIS: targets, matches, losses and gradients as the published code has them."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from vis_core.data.clips import TrainingClip
from vis_core.models.mask2former_vis import losses, published
from vis_core.models.mask2former_vis.network import Mask2FormerVISNetwork
from vis_core.models.mask2former_vis.training import Mask2FormerVISTraining
from vis_core.training.config import Group, Optimizer
from vis_core.training.optimization import make_optimizer

CLASSES = 40
pytestmark = pytest.mark.usefixtures("one_thread")


def alone(x):
    """Sums over one process."""
    return x


def clip_of(images, masks, labels, classes=CLASSES, **other):
    size = images.shape[:3]
    parts = {
        "exhaustive": np.ones(classes, bool),
        "ignore_masks": np.zeros((0, *size), bool),
        "ignore_labels": np.zeros(0, np.int64),
    }
    return TrainingClip(images=images, masks=masks, labels=np.asarray(labels, np.int64), **(parts | other))


class TrainingCase:
    """A recorded step: its clips, its random points in the order in which they are drawn, and what came out."""

    def __init__(self, folder, fill):
        self.config = json.loads((folder / "case.json").read_text())
        self.expected = np.load(folder / "expected.npz")
        self.manifest = folder.parent / self.config["manifest"]
        self.points = list(fill(folder / "points.json").values())
        inputs = np.load(folder / "inputs.npz")
        self.clips = []
        for b in range(self.config["config"]["videos"]):
            shape = inputs[f"gt_masks_shape_{b}"]
            masks = np.unpackbits(inputs[f"gt_masks_{b}"], axis=-1, count=shape[-1]).astype(bool)
            classes = inputs[f"gt_classes_{b}"]  # "no object" in the frames where an instance is missing
            self.clips.append(clip_of(inputs[f"images_{b}"], masks, classes.min(1)))

    def draw(self, rows, count):
        points = torch.from_numpy(self.points.pop(0))
        assert points.shape == (rows, count, 2)
        return points

    def check(self, name, found):
        entry = self.config["arrays"][name]
        found = np.asarray(found, np.float64).ravel()[:: entry.get("stride", 1)]
        expected = self.expected[name].astype(np.float64).ravel()
        np.testing.assert_allclose(found, expected, entry.get("rtol", 0), entry.get("atol", 0), err_msg=name)


@pytest.fixture(scope="module", params=["mask2former", "minvis"])
def step(request, shared, fill, one_thread):
    """A training step on a recorded case: the case, the training, and what it matched and lost."""
    case = TrainingCase(shared / "parity" / request.param / "case_train_r50", fill)
    tensors = published.convert({key: torch.from_numpy(x) for key, x in fill(case.manifest).items()})
    network = Mask2FormerVISNetwork("resnet50", CLASSES)
    network.load_state_dict(tensors)
    training = Mask2FormerVISTraining(network, request.param == "mask2former", case.config["config"]["num_points"])
    matched, match = [], losses.match
    losses.match = lambda *arguments: matched.append(match(*arguments)) or matched[-1]
    try:
        found = training.losses(case.clips, alone, case.draw)
    finally:
        losses.match = match
    assert not case.points
    return case, training, matched, found


HEADS = ["last", *range(9)]


def test_targets_are_those_of_the_published_code(step):
    case, training, _, _ = step
    size = 64, 96
    targets = [x for clip in case.clips for x in training.targets(clip, size)]
    for b, wanted in enumerate(targets):
        case.check(f"target_labels_{b}", wanted.labels)
    case.check("target_mask_sums", np.concatenate([t.masks.sum((1, 2, 3)) for t in targets]))


def test_every_head_is_matched_as_published(step):
    case, _, matched, _ = step
    for head, matches in zip(HEADS, matched, strict=True):
        for b, pair in enumerate(matches):
            np.testing.assert_array_equal(torch.stack(pair), case.expected[f"match_{head}_{b}"], err_msg=str(head))


def test_losses_of_every_head_are_those_of_the_published_code(step):
    case, _, _, (*earlier, last) = step
    for suffix, found in (("", last), *((f"_{i}", found) for i, found in enumerate(earlier))):
        for name, value in (("ce", found.classes), ("mask", found.mask), ("dice", found.dice)):
            case.check(f"loss_{name}{suffix}", value.item())
    case.check("loss_total", sum(x.classes + x.mask + x.dice for x in (*earlier, last)).item())


def test_gradients_and_the_step_of_the_optimizer_are_those_of_the_published_code(step):
    case, training, _, found = step
    training.zero_grad()
    sum(x.classes + x.mask + x.dice for x in found).backward()
    parameters = {key: x for key, x in published_names(training.network, case.manifest).items() if x.requires_grad}
    trained = [row["key"] for row in json.loads(case.manifest.read_text()) if row["key"] in parameters]
    case.check("grad_norms", [parameters[key].grad.norm().item() for key in trained])
    for name in case.expected:
        if name.startswith("grad:"):
            case.check(name, parameters[name.removeprefix("grad:")].grad)
    before = {key: x.detach().clone() for key, x in parameters.items()}
    config = Optimizer(
        learning_rate=1e-4,
        weight_decay=0.05,
        decay_norms=True,
        groups={
            "backbone": Group(learning_rate=0.1),
            "norms_and_embeddings": Group(weight_decay=0),
        },
    )
    optimizer = make_optimizer(training, config)
    sizes = {f"lr={g['lr']:g} weight_decay={g['weight_decay']:g}": len(g["params"]) for g in optimizer.param_groups}
    assert sizes == case.config["optimizer_groups"]
    norm = torch.nn.utils.clip_grad_norm_(parameters.values(), 0.01)
    case.check("grad_total_norm", norm.item())
    optimizer.step()
    for name in case.expected:
        if name.startswith("update:"):
            key = name.removeprefix("update:")
            case.check(name, (parameters[key] - before[key]).detach())


def published_names(network, manifest):
    """Parameters by the names that the published checkpoints give them."""
    theirs = published.convert({row["key"]: row["key"] for row in json.loads(manifest.read_text())})
    return {theirs[name]: x for name, x in network.named_parameters()}


class Shallow(nn.Module):
    """A backbone of one convolution a stage."""

    channels = (8, 8, 8, 8)

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(nn.Conv2d(3, 8, stride, stride) for stride in (4, 8, 16, 32))

    def forward(self, images):
        return [stage(images) for stage in self.stages]


def small_training(space_time, **options):
    network = Mask2FormerVISNetwork(
        Shallow(), 3, queries=6, width=32, encoder_layers=1, decoder_layers=3, hidden=(32, 32)
    )
    network.initialise()
    return Mask2FormerVISTraining(network, space_time, points=16, **options)


def small_clip(present=((1, 1), (1, 0), (0, 0)), **other):
    """Instances of classes 0, 1, 2 in the frames where they are present, of an odd size."""
    present = np.array(present, bool)
    masks = np.zeros((*present.shape, 40, 50), bool)
    for n, t in np.argwhere(present):
        masks[n, t, 10 * n : 10 * n + 9, 5:30] = True
    images = np.random.default_rng(0).integers(0, 256, (present.shape[1], 40, 50, 3), dtype=np.uint8)
    return clip_of(images, masks, np.arange(len(present)) % 3, classes=3, **other)


def test_an_instance_that_no_frame_shows_is_no_target_and_padding_is_background():
    (wanted,) = small_training(space_time=True).targets(small_clip(), (64, 64))
    assert wanted.masks.shape == (2, 2, 64, 64)
    assert wanted.masks.sum((2, 3)).tolist() == [[225, 225], [225, 0]]
    assert not wanted.masks[:, :, 40:].any() and not wanted.masks[..., 50:].any()


@pytest.mark.parametrize(("visible_frame", "labels"), [(False, [0, 3]), (True, [0, 1])])
def test_an_instance_that_the_last_frame_does_not_show_has_its_label_only_if_asked_for(visible_frame, labels):
    training = small_training(space_time=True, labels_from_visible_frame=visible_frame)
    assert training.targets(small_clip(), (64, 64))[0].labels.tolist() == labels


def test_every_frame_is_a_sample_of_its_own_where_queries_do_not_see_time():
    first, second = small_training(space_time=False).targets(small_clip(), (64, 64))
    assert first.masks.shape == second.masks.shape == (2, 1, 64, 64)
    assert second.masks[1].sum() == 0 and first.masks[1].sum() == 225


def test_what_is_not_labelled_everywhere_and_what_is_to_be_ignored_reaches_the_losses():
    region = np.zeros((1, 2, 40, 50), bool)
    region[0, 1, 20:] = True
    clip = small_clip(exhaustive=np.array([True, False, True]), ignore_masks=region, ignore_labels=np.array([2]))
    first, second = small_training(space_time=False).targets(clip, (64, 64))
    assert first.open_classes.tolist() == [False, True, False]
    assert first.ignore_labels.tolist() == [2]
    assert (first.ignore_masks.sum(), second.ignore_masks.sum()) == (0, 1000)


@pytest.mark.parametrize("space_time", [True, False])
@pytest.mark.parametrize("present", [((1, 1), (1, 0)), ((0, 0),)])
def test_losses_are_numbers_and_every_parameter_learns(space_time, present):
    training = small_training(space_time)
    parts = training([small_clip(present), small_clip()], alone)
    assert set(parts) == {f"{a}{b}" for a in ("", "auxiliary_") for b in ("class", "mask", "dice")}
    torch.stack(list(parts.values())).sum().backward()
    for name, parameter in training.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_a_batch_of_empty_clips_gives_every_parameter_a_gradient():
    training = small_training(space_time=True)
    sum(training([small_clip(((0, 0),))], alone).values()).backward()
    assert all(parameter.grad is not None for parameter in training.parameters())


def test_random_points_follow_the_generator_that_the_trainer_sets():
    training, found = small_training(space_time=True), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(sum(training([small_clip()], alone).values()).item())
    assert found[0] == found[1] != found[2]
