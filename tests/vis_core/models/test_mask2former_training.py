"""Training of Mask2Former-VIS and MinVIS: targets, matches, losses and gradients as the published code has them."""

import json

import numpy as np
import pytest
import torch

from vis_core.data.clips import TrainingClip
from vis_core.models.mask2former_vis import losses, published
from vis_core.models.mask2former_vis.network import Mask2FormerVISNetwork
from vis_core.models.mask2former_vis.training import Mask2FormerVISTraining
from vis_core.training.config import Group, Optimizer
from vis_core.training.optimization import make_optimizer

CLASSES = 40


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
def step(request, shared, fill):
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
