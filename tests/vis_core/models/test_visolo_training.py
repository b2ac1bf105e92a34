"""Training of VISOLO: targets, losses and gradients as the published code has them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vis_core.data.clips import TrainingClip
from vis_core.models.visolo import losses, published
from vis_core.models.visolo.network import VISOLONetwork
from vis_core.models.visolo.training import VISOLOTraining
from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD

CLASSES = 40
GRADIENTS = {
    "backbone.res3.0.conv1.weight": "backbone.res3.0.conv1.weight",
    "backbone.res4.5.conv3.weight": "backbone.res4.5.conv3.weight",
    "Category_branch_pre.cat_pre_conv1.weight": "category_pre.conv1.weight",
    "Category_branch_post.pred.bias": "category_post.pred.bias",
    "Kernel_branch.pred.weight": "kernel_post.pred.weight",
    "Mask_branch.RefR2.convSCF.weight": "mask.refine2.skip.weight",
    "Tracking_branch.track_Q_conv2.weight": "tracking.query.1.weight",
    "Tracking_branch.track_R_conv1.weight": "tracking.reference.0.weight",
    "Memory_module.conv1.weight": "memory.conv1.weight",
}


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


@pytest.fixture(scope="module")
def case(fill):
    folder = Path(__file__).parents[2] / "parity" / "cases" / "visolo" / "case_6_training"
    inputs, expected = (dict(np.load(folder / f"{name}.npz")) for name in ("inputs", "expected"))
    clips = []
    for b in range(2):
        masks = np.unpackbits(inputs[f"masks{b}"], axis=-1).astype(bool).swapaxes(0, 1)
        clips.append(clip_of(inputs[f"frames{b}"], masks, inputs[f"labels{b}"]))
    tensors = {key: torch.from_numpy(x) for key, x in fill(folder.parent / "manifest.json").items()}
    network = VISOLONetwork(50, CLASSES)
    network.load_state_dict(published.convert(tensors))
    training = VISOLOTraining(network, IMAGENET_MEAN, IMAGENET_STD, [network.backbone.stem, network.backbone.res2])
    return training, clips, expected, json.loads((folder / "case.json").read_text())["tolerances"]


def test_targets_are_those_of_the_published_code(case):
    _, clips, expected, _ = case
    for b, clip in enumerate(clips):
        cells = losses.grid_instances(clip.masks)
        category = np.zeros((3, CLASSES, losses.CELLS), np.uint8)
        masks = np.zeros((losses.CELLS, *clip.masks.shape[1:]), np.uint8)
        for t, cell in np.argwhere(cells >= 0):
            category[t, clip.labels[cells[t, cell]], cell] = 1
            masks[cell, t] = clip.masks[cells[t, cell], t]
        wanted = np.unpackbits(expected["target_category"][b], axis=-1)[..., :21]
        assert np.array_equal(category.swapaxes(0, 1).reshape(wanted.shape), wanted)
        assert np.array_equal(np.packbits(masks, axis=-1), expected["target_masks"][b])
        for pair, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
            same = (cells[i][:, None] == cells[j]) & (cells[i][:, None] >= 0)
            assert np.array_equal(np.packbits(same, axis=-1), expected["target_similarity"][b, pair])


def test_outputs_losses_and_gradients_are_those_of_the_published_code(case):
    training, clips, expected, tolerances = case
    training.zero_grad()
    with torch.no_grad():
        outputs = training.outputs(torch.from_numpy(np.stack([c.images for c in clips])), [False, False])
    categories, features, kernels, similarity = (x.numpy() for x in outputs)
    for name, got in (
        ("category_logits", categories.transpose(0, 2, 1, 3).reshape(2, CLASSES, 3, 12, 21)[:, ::4]),
        ("mask_features", features.swapaxes(1, 2)[:, ::32]),
        ("kernels", kernels.swapaxes(1, 2).reshape(2, 256, 3, 12, 21)[:, ::16]),
        ("similarity_logits", similarity[:, :, ::7, ::5]),
    ):
        np.testing.assert_allclose(got, expected[name], **tolerances["default"], err_msg=name)
    parts = training(clips, alone)
    for ours, theirs in (("category", "loss_cat"), ("mask", "loss_mask"), ("tracking", "loss_tracking")):
        np.testing.assert_allclose(parts[ours].item(), expected[f"loss/{theirs}"], **tolerances["loss"], err_msg=ours)
    sum(parts.values()).backward()
    parameters = dict(training.network.named_parameters())
    for theirs, ours in GRADIENTS.items():
        norm = parameters[ours].grad.norm().item()
        np.testing.assert_allclose(
            norm, expected[f"gradient_norm/{theirs}"], **tolerances["gradient_norm"], err_msg=ours
        )
    assert parameters["backbone.res2.0.conv1.weight"].grad is None
