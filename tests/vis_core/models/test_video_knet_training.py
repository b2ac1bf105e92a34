"""Training of both systems of Video K-Net: matches, costs, losses, gradients and steps as recorded, and our choices."""

import numpy as np
import pytest
import torch

from tests.vis_core.models.recorded_video_knet import Case, FilledWeights
from vis_core.data.clips import TrainingClip
from vis_core.models.video_knet import association_losses, losses, published
from vis_core.models.video_knet.losses import soft_masks
from vis_core.models.video_knet.online_training import OnlineTraining
from vis_core.models.video_knet.training import ClipTraining
from vis_core.training.config import Group, Optimizer
from vis_core.training.optimization import make_optimizer

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = (64, 96)


@pytest.fixture(scope="module")
def weights(shared, fill):
    return FilledWeights(shared, fill)


def alone(x):
    """Sums over one process."""
    return x


def clip_of(images, masks, labels, classes, **other):
    size = images.shape[:3]
    parts = {
        "exhaustive": np.ones(classes, bool),
        "ignore_masks": np.zeros((0, *size), bool),
        "ignore_labels": np.zeros(0, np.int64),
    }
    return TrainingClip(images=images, masks=masks, labels=np.asarray(labels, np.int64), **(parts | other))


def published_names(network, tensors):
    """Parameters by the names that the published checkpoints give them."""
    theirs = {x.data_ptr(): key for key, x in tensors.items()}
    ours = published.convert(tensors)
    return {theirs[ours[name].data_ptr()]: x for name, x in network.named_parameters() if x.requires_grad}


def check_match(case, at, cost, match):
    case.check(f"cost_{at}", cost)
    case.check(f"match_{at}", torch.stack(tuple(match)))


def cost_of(stage, b, targets, clamped):
    logits = None if stage.logits is None else stage.logits[b]
    return losses.matching_cost(logits, stage.masks[b], targets, clamped)


def accuracy(stage, targets, matches, things):
    """Share of the positives whose largest logit is their label, percent."""
    right = []
    for logits, wanted, match in zip(stage.logits, targets, matches):
        right += (logits[match.kernels].argmax(1) == wanted.labels[match.instances]).tolist()
        if wanted.stuff_present is not None:
            own = torch.arange(len(wanted.stuff_present)) + logits.shape[1] - len(wanted.stuff_present)
            right += (logits[things:].argmax(1) == own)[wanted.stuff_present].tolist()
    return [100 * np.mean(right)]


def check_gradients(case, parameters, total):
    """Of a loss in float64: in float32 a ReLU at its kink may turn with the order of a sum."""
    total.backward()
    assert set(parameters) == set(case.record["trained_parameters"])
    case.check("grad_norms", [parameters[key].grad.norm().item() for key in case.record["trained_parameters"]])
    for name in case.arrays:
        if name.startswith("grad:"):
            case.check(name, parameters[name.removeprefix("grad:")].grad)


def clips_of(case):
    """The recorded clips; what has fewer than four pixels in a frame is not there."""
    clips = []
    for b in range(case.config["batch"]):
        numbers = case.inputs[f"instance_map_{b}"]
        labels = {int(i[1]): int(k[1]) for i, k in zip(case.inputs[f"instance_ids_{b}"], case.inputs[f"labels_{b}"])}
        masks = np.stack([numbers == i for i in sorted(labels)])
        masks &= (masks.sum((2, 3)) >= 4)[:, :, None, None]
        clips.append(clip_of(case.inputs[f"images_{b}"], masks, [labels[i] for i in sorted(labels)], 40))
    return clips


def test_a_step_of_the_clip_system_is_as_recorded(shared, weights):
    case, tensors = Case(shared, "clip_train"), weights.tensors("clip_r50")
    training = ClipTraining(weights.clip_network("clip_r50"))
    clips, length = clips_of(case), case.config["frames"]
    frames = [training.targets(clip, slice(t, t + 1)) for clip in clips for t in range(length)]
    whole = [training.targets(clip, slice(0, length)) for clip in clips]
    found = training.predictions(training.images(clips), length)
    matches = training.matches(found, frames, whole)
    for b, t in np.ndindex(len(clips), length):
        i = b * length + t
        if len(frames[i].labels):
            check_match(case, f"initial_{b}_{t}", cost_of(found.initial, i, frames[i], False), matches.initial[i])
            for number, entering in enumerate((found.initial, *found.frames[:-1])):
                cost = cost_of(entering, i, frames[i], False)
                check_match(case, f"frame_stage_{number}_{b}_{t}", cost, matches.frames[number][i])
    for b, (number, stage) in ((b, x) for b in range(len(clips)) for x in enumerate(found.clips[:-1])):
        check_match(case, f"clip_stage_{number}_{b}", cost_of(stage, b, whole[b], False), matches.clips[number][b])
    parts = training.losses(found, frames, whole, matches, alone)
    for theirs, ours in (("mask", "mask"), ("dice", "dice"), ("seg", "semantic")):
        case.check(f"loss_rpn_{theirs}", parts[f"initial_{ours}"])
    for kind, prefix, stages, targets in (
        ("frame", "", found.frames, frames),
        ("clip", "tracker_", found.clips, whole),
    ):
        for number, stage in enumerate(stages):
            for theirs, ours in (("cls", "class"), ("mask", "mask"), ("dice", "dice")):
                if f"{kind}_{ours}_{number}" in parts:
                    case.check(f"{prefix}s{number}_loss_{theirs}", parts[f"{kind}_{ours}_{number}"])
            if stage.logits is not None:
                share = accuracy(stage, targets, getattr(matches, f"{kind}s")[number], 100)
                case.check(f"{prefix}s{number}_pos_acc", share)
    total = sum(parts.values())
    case.check("loss_total", total)
    torch.testing.assert_close(sum(training(clips, alone).values()), total)
    parameters = published_names(training.network, tensors)
    training.double()
    found = training.predictions(training.images(clips).double(), length)
    check_gradients(case, parameters, sum(training.losses(found, frames, whole, matches, alone).values()))
    before = {key: x.detach().clone() for key, x in parameters.items()}
    config = Optimizer(
        learning_rate=1e-4, weight_decay=0.05, decay_norms=True, groups={"backbone": Group(learning_rate=0.25)}
    )
    optimizer = make_optimizer(training, config)
    case.check("grad_total_norm", torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0))
    optimizer.step()
    for name in case.arrays:
        if name.startswith("update:"):
            key = name.removeprefix("update:")
            case.check(name, parameters[key].detach() - before[key])
    case.check_all_compared()


def stuff_targets(training, semantic, things_in_semantic):
    """Masks of the stuff classes and whether each is there, of a semantic map uint8 ``[H, W]``."""
    labels = [i for i in range(19) if i not in things_in_semantic]
    masks = torch.from_numpy(np.stack([semantic == i for i in labels]))
    return soft_masks(masks, SIZE, training.target_stride), masks.flatten(1).any(1)


def test_a_step_of_the_online_system_is_as_recorded(shared, weights):
    case, tensors = Case(shared, "online_train"), weights.tensors("online_kitti_r50")
    training = OnlineTraining(weights.online_network("online_kitti_r50"))
    order, targets, numbers, clips = ("ref", "key"), [], [], []
    for side in order:
        masks, labels = case.inputs[f"{side}_masks"].astype(bool), case.inputs[f"{side}_labels"]
        clips.append(clip_of(case.inputs[f"{side}_image"][None], masks[:, None], labels, 2))
        stuff, present = stuff_targets(training, case.inputs[f"{side}_semantic"], (11, 13))
        plain = training.targets(clips[-1], slice(0, 1))
        assert len(plain.labels) == len(labels)
        targets.append([losses.Targets(**(vars(plain) | {"stuff": stuff, "stuff_present": present}))])
        numbers.append([case.inputs[f"{side}_ids"].tolist()])
    found = training.predictions(training.images(clips), 2)
    matches = [training.matches(x, wanted) for x, wanted in zip(found, targets)]
    total = 0
    for t, side in enumerate(order):
        stages = [training._of_things(stage) for stage in found[t].stages]
        entering = (found[t].initial, found[t].initial, *stages)
        matched = (matches[t].initial, *matches[t].stages, matches[t].final)
        names = (f"initial_{side}", *(f"stage_{i}_{side}" for i in range(3)), f"track_{side}")
        for name, stage, match in zip(names, entering, matched, strict=True):
            check_match(case, name, cost_of(stage, 0, targets[t][0], True), match[0])
        parts, suffix = training.frame_losses(found[t], targets[t], matches[t], alone), "_ref" if side == "ref" else ""
        for theirs, ours in (("mask", "mask"), ("dice", "dice"), ("seg", "semantic"), ("rank", "rank")):
            case.check(f"loss_rpn_{theirs}{suffix and '_ref_rpn'}", parts[f"initial_{ours}"])
        for number, stage in enumerate(found[t].stages):
            for theirs, ours in (("cls", "class"), ("mask", "mask"), ("dice", "dice")):
                case.check(f"s{number}_loss_{theirs}{suffix}", parts[f"frame_{ours}_{number}"])
            share = accuracy(stage, targets[t], matches[t].stages[number], 100)
            case.check(f"s{number}_pos_acc{suffix}", share)
        total = total + sum(parts.values())
    sides = [(found[t], matches[t], numbers[t]) for t in (1, 0)]
    (key, reference), same = training.embeddings(*sides, 0)
    case.check("association_dots", key @ reference.T)
    normalise = torch.nn.functional.normalize
    case.check("association_cosines", normalise(key, dim=1) @ normalise(reference, dim=1).T)
    case.check("association_targets", same)
    contrastive, cosine = training.pair_losses(*sides)
    case.check("loss_track", contrastive)
    case.check("loss_track_aux", cosine)
    total = total + contrastive + cosine
    case.check("loss_total", total)
    parameters = published_names(training.network, tensors)
    training.double()
    found = training.predictions(training.images(clips).double(), 2)
    parts = [training.frame_losses(found[t], targets[t], matches[t], alone) for t in range(2)]
    pair = training.pair_losses(*((found[t], matches[t], numbers[t]) for t in (1, 0)))
    check_gradients(case, parameters, sum((*parts[0].values(), *parts[1].values(), *pair)))
    case.check("grad_total_norm", torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0))
    case.check_all_compared()


@pytest.mark.parametrize("name", ["plain", "some_unmatched", "mined", "one_pair"])
def test_losses_of_association_are_as_recorded(name, shared):
    case = Case(shared, "association_losses")
    given = {part: case.inputs[f"{name}_{part}"] for part in ("gt_match", "key_gt", "ref_gt")}
    key, reference = (
        torch.from_numpy(case.inputs[f"{name}_{side}_embeddings"]).requires_grad_() for side in ("key", "ref")
    )
    same = torch.from_numpy(given["gt_match"][given["key_gt"]][:, None] == given["ref_gt"])
    found = association_losses.association_losses(key, reference, same)
    for part, loss in zip(("loss_track", "loss_track_aux"), found):
        case.check(f"{name}_{part}", loss)
    case.check(f"{name}_targets", same)
    case.check(f"{name}_weights", same.any(1))
    case.check(f"{name}_dot", key @ reference.T)
    normalise = torch.nn.functional.normalize
    case.check(f"{name}_cosine", normalise(key, dim=1) @ normalise(reference, dim=1).T)
    sum(found).backward()
    case.check(f"{name}_grad_key", key.grad)
    case.check(f"{name}_grad_ref", reference.grad)
    assert case.compared == {x for x in case.arrays if x.startswith(f"{name}_")}
