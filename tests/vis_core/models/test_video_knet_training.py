"""Training of both systems of Video K-Net: matches, costs, losses, gradients and steps as recorded, and our choices."""

import numpy as np
import pytest
import torch

from tests.vis_core.models.recorded_video_knet import Case, FilledWeights, SmallBackbone
from vis_core.data.clips import TrainingClip
from vis_core.models.video_knet import association_losses, losses, published
from vis_core.models.video_knet.losses import soft_masks
from vis_core.models.video_knet.network import ClipNetwork, OnlineNetwork, Sizes
from vis_core.models.video_knet.online_training import OnlineTraining
from vis_core.models.video_knet.training import ClipTraining, summed
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


@pytest.mark.slow
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


SMALL = Sizes(kernels=8, width=32, heads=8, hidden=64, encoder_layers=1, encoder_hidden=32)


def small_training(online, neck="fpn", **options):
    torch.manual_seed(0)
    if online:
        network = OnlineNetwork(SmallBackbone(), neck, 3, 0, **({"linking": "ffn"} | options), sizes=SMALL)
    else:
        network = ClipNetwork(SmallBackbone(), neck, 3, SMALL)
    network.initialise()
    return (OnlineTraining if online else ClipTraining)(network)


def small_clip(present=((1, 1), (1, 0), (0, 0)), **other):
    """Instances of classes 0, 1, 2 in the frames where they are present, of an odd size."""
    present = np.array(present, bool)
    masks = np.zeros((*present.shape, 50, 90), bool)
    for n, t in np.argwhere(present):
        masks[n, t, 12 * n : 12 * n + 11, 5:50] = True
    images = np.random.default_rng(0).integers(0, 256, (present.shape[1], 50, 90, 3), dtype=np.uint8)
    return clip_of(images, masks, np.arange(len(present)) % 3, 3, **other)


PARTS = {
    False: {
        *(f"initial_{part}" for part in ("mask", "dice", "semantic")),
        *(f"{kind}_{part}" for kind in ("frame", "clip") for part in ("class", "mask", "dice")),
    },
    True: {
        *(f"initial_{part}" for part in ("mask", "dice", "semantic", "rank")),
        *(f"frame_{part}" for part in ("class", "mask", "dice")),
        "association",
        "association_cosine",
    },
}


@pytest.mark.parametrize("present", [((1, 1), (1, 0)), ((1, 0), (0, 1)), ((0, 0),)])
@pytest.mark.parametrize(
    ("online", "options"),
    [
        (False, {}),
        (False, {"neck": "deformable"}),
        (True, {}),
        (True, {"linking": "update", "fusion": True}),
    ],
)
def test_losses_are_numbers_and_every_parameter_learns(online, options, present):
    training = small_training(online, **options)
    parts = training([small_clip(present), small_clip(((0, 0), (0, 0)))], alone)
    assert set(parts) == PARTS[online]
    torch.stack(list(parts.values())).sum().backward()
    for name, parameter in training.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_an_instance_that_no_frame_shows_is_no_target_and_padding_is_background():
    training = small_training(online=False)
    clip = small_clip()
    (first, second), whole = (
        (training.targets(clip, slice(t, t + 1)) for t in range(2)),
        training.targets(clip, slice(0, 2)),
    )
    assert (first.labels.tolist(), second.labels.tolist(), whole.labels.tolist()) == ([0, 1], [0], [0, 1])
    assert first.masks.shape == (2, 16, 24) and whole.masks.shape == (2, 32, 24)
    assert not first.masks[:, 13:].any() and not first.masks[..., 23:].any()
    torch.testing.assert_close(whole.masks[:, :16], first.masks)
    assert not whole.masks[1, 16:].any()


def test_masks_at_the_size_of_targets_are_shares_of_pixels():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, :, :2] = True
    assert soft_masks(mask, (8, 8), 4)[0].tolist() == [[0.5, 0], [0.5, 0]]
    assert soft_masks(mask[:0], (32, 32), 4).shape == (0, 8, 8)


def one_kernel(label, kernel_masks=1.0):
    """Predictions of one kernel of three classes that names one, and covers the frame."""
    logits = torch.full((1, 1, 3), -8.0)
    logits[0, 0, label] = 8
    return losses.Predictions(logits, torch.full((1, 1, 16, 24), kernel_masks))


def nothing_matched():
    none = torch.zeros(0, dtype=torch.int64)
    return [losses.Match(none, none)]


@pytest.mark.parametrize(("label", "costs"), [(1, False), (0, True)])
def test_a_kernel_may_name_a_class_whose_objects_are_not_all_labelled(label, costs):
    training = small_training(online=False)
    clip = small_clip(((0, 0),), exhaustive=np.array([True, False, True]))
    loss = losses.class_loss(one_kernel(label), [training.targets(clip, slice(0, 1))], nothing_matched(), 1, alone)
    assert (loss > 1) == costs


@pytest.mark.parametrize(("label", "costs"), [(2, False), (0, True)])
def test_a_kernel_may_name_the_class_of_a_region_to_ignore_that_it_covers(label, costs):
    region = np.ones((1, 2, 50, 90), bool)
    training = small_training(online=False)
    clip = small_clip(((0, 0),), ignore_masks=region, ignore_labels=np.array([2]))
    loss = losses.class_loss(one_kernel(label), [training.targets(clip, slice(0, 1))], nothing_matched(), 1, alone)
    assert (loss > 1) == costs


@pytest.mark.parametrize("online", [False, True])
def test_two_processes_with_half_a_batch_each_have_the_losses_of_the_batch(online):
    clips = [small_clip(((1, 1), (1, 1))), small_clip(((1, 0),))]
    training = small_training(online)
    together = training(clips, alone)
    counts = []
    for clip in clips:  # what each process counts, in order
        counts.append([])
        training([clip], lambda x: counts[-1].append(x.detach().clone()) or x)
    halves = []
    for clip in clips:
        sums = iter([a + b for a, b in zip(*counts)])
        halves.append(training([clip], lambda x, sums=sums: next(sums)))
    for name, loss in together.items():
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, loss, rtol=1e-4, atol=1e-5, msg=name)


def test_stages_are_summed_under_the_name_of_their_part():
    parts = summed(
        {"frame_mask_0": torch.tensor(1.0), "frame_mask_1": torch.tensor(2.0), "initial_mask": torch.tensor(4.0)}
    )
    assert {name: float(x) for name, x in parts.items()} == {"frame_mask": 3.0, "initial_mask": 4.0}


def test_the_norms_of_a_resnet_learn_but_for_those_of_its_first_stages_and_keep_their_statistics():
    training = ClipTraining(ClipNetwork("resnet50", "fpn", 3, SMALL))
    learning = {name for name, parameter in training.network.named_parameters() if parameter.requires_grad}
    assert "backbone.res3.0.conv1.norm.weight" in learning
    assert not any(name.startswith(("backbone.stem.", "backbone.res2.")) for name in learning)
    assert not any(name.endswith(("running_mean", "running_var")) for name in learning)
    assert set(training.weights()) == set(ClipNetwork("resnet50", "fpn", 3, SMALL).state_dict())
