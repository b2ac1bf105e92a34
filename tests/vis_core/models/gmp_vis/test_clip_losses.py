"""The losses of VisTR's clips: the recorded step of the published training, and what else they promise."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.vis_core.models.gmp_vis.recorded_clips import Case, recorded_weights
from vis_core.errors import VisError
from vis_core.models.gmp_vis import clip_losses as losses
from vis_core.models.gmp_vis import published
from vis_core.models.gmp_vis.clip_losses import Said, Sights, Taught
from vis_core.models.gmp_vis.clip_training import ClipAnswers, ClipTraining
from vis_core.models.gmp_vis.frame_graphs import frame_similarity, relaxed_matching, votes
from vis_core.nn.boxes import corners_from_centres
from vis_core.nn.region_losses import Match, Targets

SLOTS = 10


def clip_targets(labels, boxes, present, masks=None, size=(96, 128), classes=40, open_classes=(), ignored=()):
    """Boxes by centre and sides, 0..1; ignored: pairs of label and mask bool ``[T, H, W]``."""
    height, width = size
    sides = torch.tensor([width, height, width, height])
    frames = present.shape[1]
    excused = torch.zeros(classes, dtype=torch.bool)
    excused[list(open_classes)] = True
    return Targets(
        labels=torch.as_tensor(labels),
        present=present,
        boxes=corners_from_centres(boxes) * sides,
        masks=torch.zeros(len(labels), frames, height, width, dtype=torch.bool) if masks is None else masks,
        open_classes=excused,
        ignore_masks=torch.stack([mask for _, mask in ignored])
        if ignored
        else torch.zeros(0, frames, *size, dtype=torch.bool),
        ignore_labels=torch.tensor([label for label, _ in ignored], dtype=torch.int64),
    )


def recorded_targets(case):
    masks = np.unpackbits(case.inputs["masks"], axis=-1, count=case.record["size"][1]).astype(bool)
    labels, present = torch.from_numpy(case.inputs["labels"]), torch.from_numpy(case.inputs["valid"]).bool()
    return clip_targets(labels.amax(1) - 1, case.tensor("boxes"), present, torch.from_numpy(masks))


def check_pairs(case, name, found, taught):
    """Queries and rows of the targets, both as they are numbered in the case."""
    frames = found.present.shape[1]
    case.equal(f"{name}/queries", taught.frames * SLOTS + taught.slots)
    case.equal(f"{name}/targets", taught.instances * frames + taught.frames)


def matching_loss(case, votes_, boxes, targets):
    """The published loss that teaches nothing: votes in one order against nearest slots in another."""
    wanted = case.tensor("boxes")  # [G, T, 4], read as if frames came first
    wanted = wanted.flatten(0, 1).unflatten(0, (wanted.shape[1], wanted.shape[0])).transpose(0, 1)
    distance = (boxes[:, :, None, None, :2] - wanted[..., :2]).norm(dim=4)  # [T, N, G, T]
    nearest = F.one_hot(
        distance.argmin(1), boxes.shape[1]
    )  # of the slots of frame u to the box in frame v [u, G, v, N]
    target = nearest.permute(1, 0, 3, 2).flatten().double()
    weights = torch.where(target > 0, len(target) / (2 * target.sum()), len(target) / (2 * (1 - target).sum()))
    return F.binary_cross_entropy(votes_.flatten().clamp(0, 1), target, weights)


@pytest.mark.slow
def test_a_step_of_the_published_training_is_as_recorded(shared, fill, one_thread, monkeypatch):
    case = Case(shared, "case_4_training")
    tensors = published.convert(recorded_weights(shared, fill, 24))
    network = published.network_of(tensors)
    network.load_state_dict(tensors)
    names = {id(p): name for name, p in network.named_parameters()}
    parts = [network.get_submodule(part) for part in ("backbone.stem", "backbone.res2")]
    training = ClipTraining(network, parts, published_quirks=True)
    images, _ = case.images()
    images = images.contiguous(memory_format=torch.channels_last)
    targets, maps = recorded_targets(case), network.maps(images)
    states = network.states(network.tokens(maps[3]))
    said = Said(network.logits(states.queries[-1]), network.boxes(states.queries[-1]))
    for name, found in (("logits", said.logits), ("boxes", said.boxes)):
        case.close(f"pred_{name}", found.flatten(0, 1), every=(3,))
    embeddings = network.embeddings(states).detach()
    case.close("pred_ins", embeddings.flatten(0, 1), every=(3,))

    crops = case.tensor("crops").unflatten(0, (2, 24))
    found = losses.published_match(embeddings, crops, network.cross_graph)
    taught = Taught.of(found, targets, by_position=True)
    check_pairs(case, "match", targets, taught)
    check_pairs(case, "hungarian", targets, Taught.of(losses.match(said, targets), targets))
    misread = crops.flatten(0, 1).unflatten(0, (24, 2)).transpose(0, 1)
    with torch.no_grad():
        similarity = frame_similarity(embeddings.transpose(0, 1)[:, None], misread, network.cross_graph)
        voted = votes(relaxed_matching(similarity), first_row_only=True)
        case.close("match_gt", voted.flatten(0, 2), every=(7,))
        case.close("loss/loss_gt", matching_loss(case, voted, said.boxes, targets), "loss/*, gradient_norm/*")

    monkeypatch.setattr(losses, "crops", lambda *_: crops)
    answers = ClipAnswers(states, [said], network.adapted(maps), images, targets)
    found_losses = training.losses([answers], lambda x: x)
    weights = {"class": ("ce", 1), "l1": ("bbox", 5), "giou": ("giou", 2), "mask": ("mask", 1), "dice": ("dice", 1)}
    assert found_losses.keys() == weights.keys()
    for name, (theirs, weight) in weights.items():
        case.close(f"loss/loss_{theirs}", found_losses[name] / weight, "loss/*, gradient_norm/*")
    total = sum(found_losses.values())
    case.close("loss/total", total, "loss/*, gradient_norm/*")

    with torch.no_grad():
        second = network.second_logits(network.masks(states, answers.adapted, range(SLOTS)))
        entropy, weight = losses.class_loss(said._replace(logits=second), taught, found, targets)
        case.close("loss/loss_ce2", entropy / weight, "loss/*, gradient_norm/*")
        channels = Sights.of(targets).channels[taught.instances, taught.frames]
        for name, logits in (("class", said.logits), ("class2", second)):
            right = logits[taught.frames, taught.slots].argmax(1) == channels
            case.equal(f"loss/{name}_error", np.float64(100 - 100 * right.float().mean()))
        named = (said.logits.argmax(2) != said.logits.shape[2] - 1).sum()
        case.equal("loss/cardinality_error", np.float64(abs(int(named) - targets.present.numel())))

    total.backward()
    without = {names[id(p)] for p in network.parameters() if p.grad is None and "backbone" not in names[id(p)]}
    assert without == set(published.convert(dict.fromkeys(case.record["not_trained"], torch.zeros(1))))
    for name in sorted(case.unchecked):
        key = name.removeprefix("gradient_norm/")
        (ours,) = published.convert({key: torch.zeros(1)})
        tolerance = "gradient_norm/vistr.backbone*" if "backbone" in key else "loss/*, gradient_norm/*"
        case.close(name, network.get_parameter(ours).grad.norm(), tolerance)
    assert not case.unchecked


def made_up(frames=4, slots=5, classes=3, seed=0):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(frames, slots, classes + 2, generator=random)
    boxes = 0.2 + 0.4 * torch.rand(frames, slots, 4, generator=random)
    return Said(logits.requires_grad_(), boxes.requires_grad_())


def two_instances(**options):
    """The first one leaves after two frames, the second one is in all four."""
    present = torch.tensor([[True, True, False, False], [True] * 4])
    boxes = torch.tensor([[0.3, 0.3, 0.2, 0.2], [0.6, 0.6, 0.3, 0.4]])[:, None].expand(-1, 4, -1)
    return clip_targets([2, 0], boxes, present, size=(8, 8), classes=3, **options)


def pairs(*of):
    slots, instances = zip(*of)
    return Match(torch.tensor(slots), torch.tensor(instances))


def test_a_slot_says_its_class_where_its_instance_is_and_nothing_elsewhere():
    said, targets, match = made_up(), two_instances(), pairs((1, 1), (3, 0))
    wanted = torch.full((4, 5), 4)
    wanted[:, 1], wanted[:2, 3] = 1, 3
    entropy, weight = losses.class_loss(said, Taught.of(match, targets), match, targets)
    weights = torch.tensor([1.0, 1, 1, 1, 0.1])
    torch.testing.assert_close(entropy / weight, F.cross_entropy(said.logits.flatten(0, 1), wanted.flatten(), weights))


def test_the_published_code_teaches_a_slot_in_the_frames_of_the_instance_at_its_pairs_position():
    targets, match = two_instances(), pairs((1, 1), (3, 0))
    ours, theirs = Taught.of(match, targets), Taught.of(match, targets, by_position=True)
    assert torch.stack(ours, 1).tolist() == [[t, 1, 1] for t in range(4)] + [[t, 3, 0] for t in range(2)]
    assert torch.stack(theirs, 1).tolist() == [[t, 1, 1] for t in range(2)] + [[t, 3, 0] for t in range(4)]
    said = made_up()
    entropy, weight = losses.class_loss(said, theirs, match, targets)
    wanted = torch.full((4, 5), 4)
    wanted[:2, 1], wanted[:, 3] = 1, torch.tensor([3, 3, 0, 0])
    weights = torch.tensor([1.0, 1, 1, 1, 0.1])
    torch.testing.assert_close(entropy / weight, F.cross_entropy(said.logits.flatten(0, 1), wanted.flatten(), weights))
    distance, giou = losses.box_losses(said, theirs, targets)
    assert distance.isfinite() and giou.isfinite()


def test_slots_are_assigned_by_all_frames_and_to_instances_that_are_seen_alone():
    targets = two_instances()
    hidden = clip_targets([2, 0, 1], torch.rand(3, 4, 4), torch.tensor([[True] * 4, [False] * 4, [True] * 4]))
    said = made_up()
    boxes = said.boxes.detach().clone()
    boxes[:, 2] = Sights.of(targets).boxes[1]
    boxes[:2, 4] = Sights.of(targets).boxes[0, :2]
    found = losses.match(Said(said.logits, boxes), targets)
    assert (found.queries.tolist(), found.instances.tolist()) == ([2, 4], [1, 0])
    assert sorted(losses.match(made_up(classes=40), hidden).instances.tolist()) == [0, 2]
    crowd = clip_targets([0] * 7, torch.rand(7, 4, 4), torch.ones(7, 4, dtype=torch.bool), classes=3)
    assert losses.match(made_up(), crowd).queries.tolist() == [0, 1, 2, 3, 4]


def test_boxes_are_compared_where_they_are_taught_alone_and_right_ones_cost_nothing():
    targets, match, said = two_instances(), pairs((1, 1), (3, 0)), made_up()
    taught = Taught.of(match, targets)
    sum(losses.box_losses(said, taught, targets)).backward()
    reached = said.boxes.grad.abs().sum(2) > 0
    assert reached.nonzero().tolist() == sorted([t, s] for t, s in zip(taught.frames.tolist(), taught.slots.tolist()))
    right = said.boxes.detach().clone()
    right[taught.frames, taught.slots] = Sights.of(targets).boxes[taught.instances, taught.frames]
    distance, giou = losses.box_losses(Said(said.logits, right), taught, targets)
    assert float(distance) < 1e-5 and abs(float(giou)) < 2e-4  # as published, with a millionth of the clip beside areas


def test_what_may_be_there_without_a_mask_may_be_named_but_not_by_a_slot_that_is_an_instance():
    match, said = pairs((1, 1), (3, 0)), made_up()
    targets = two_instances(open_classes=[1])
    losses.class_loss(said, Taught.of(match, targets), match, targets)[0].backward()
    open_class = said.logits.grad[..., 2] < 0  # it is asked for more of it
    assert open_class[:, [0, 2, 4]].all() and not open_class[:, [1, 3]].any()


def test_in_a_region_to_ignore_its_class_may_be_named_even_by_a_slot_whose_instance_has_left():
    match, said = pairs((1, 1), (3, 0)), made_up()
    region = torch.zeros(4, 8, 8, dtype=torch.bool)
    region[2] = True
    targets = two_instances(ignored=[(2, region)])
    losses.class_loss(said, Taught.of(match, targets), match, targets)[0].backward()
    excused = said.logits.grad[..., 3] < 0
    excused[:, 3] &= ~targets.present[0]  # elsewhere that is its instance's class
    assert excused[2, [0, 2, 3, 4]].all() and excused.sum() == 4


def test_crops_are_the_first_numbers_of_a_square_that_is_mirrored_at_the_edge():
    images = torch.arange(2 * 3 * 20 * 30.0).reshape(2, 3, 20, 30)
    boxes = torch.tensor([[[15 / 30, 10 / 20, 10 / 30, 4 / 20]] * 2, [[1 / 30, 8 / 20, 6 / 30, 0.3]] * 2]) + 1e-4
    present = torch.tensor([[True, False], [True, True]])
    found = losses.crops(images, clip_targets([0, 1], boxes, present, size=(20, 30), classes=2))
    assert found.shape == (2, 2, 64) and not found[0, 1].any()
    square = images[0, :, 5:15, 10:20].permute(1, 2, 0)
    assert found[0, 0].tolist() == square.flatten()[:64].tolist()
    mirrored = images[1, :, 5:11, 2:4].permute(1, 2, 0).flatten()  # from |1 - 3| to 1 + 3
    assert found[1, 1].tolist() == [*mirrored.tolist(), *[0.0] * (64 - len(mirrored))]


def test_a_training_that_diverged_says_so():
    said = made_up()
    with pytest.raises(VisError, match="diverged"):
        losses.match(Said(said.logits * torch.inf, said.boxes), two_instances())
