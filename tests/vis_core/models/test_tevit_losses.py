"""Training of TeViT: costs, matches, losses and gradients as recorded, and what else a user may rely on."""

import json

import numpy as np
import pytest
import torch

from tests.vis_core.models.recorded_tevit import Case, recorded_weights
from tests.vis_core.nn.region_targets import LEFT, MIDDLE, NOWHERE, RIGHT, clip_of, outputs_of, wanted_of
from vis_core.data.clips import TrainingClip
from vis_core.models.tevit import losses, published
from vis_core.models.tevit.choices import INTERACTIONS, MESSENGERS
from vis_core.models.tevit.losses import Positives, TaughtClip, batch_losses, mask_loss, mask_targets
from vis_core.models.tevit.msgshift import MsgShifT
from vis_core.models.tevit.network import TeViTNetwork
from vis_core.models.tevit.training import TeViTTraining
from vis_core.nn.region_losses import Match, matching_costs, weighed_costs
from vis_core.nn.region_queries import Dimensions

SMALL = Dimensions(width=32, heads=4, dynamic=8, feedforward=64, stages=3)


def alone(x):
    """Sums over one process."""
    return x


def recorded_clip(case):
    """What goes into the recorded step; instances in ascending order of their ids."""
    height, width = case.record["network_size"]
    frames = [
        {name: case.inputs[f"clip0/frame{t}/{name}"] for name in ("boxes", "labels", "ids", "masks")}
        for t in range(case.record["frames"])
    ]
    ids = np.unique(np.concatenate([frame["ids"] for frame in frames]))
    labels = np.zeros(len(ids), np.int64)
    boxes = np.zeros((len(ids), len(frames), 4), np.float32)
    masks = np.zeros((len(ids), len(frames), height, width), bool)
    for t, frame in enumerate(frames):
        rows = np.searchsorted(ids, frame["ids"])
        padded = np.unpackbits(frame["masks"], axis=-1, count=width + -width % 32).astype(bool)
        assert not padded[:, height:].any() and not padded[:, :, width:].any()
        labels[rows], boxes[rows, t], masks[rows, t] = frame["labels"], frame["boxes"], padded[:, :height, :width]
    images = case.inputs["clip0/images"]
    nothing = np.zeros((0, *images.shape[:3]), bool)
    return TrainingClip(images, masks, labels, np.ones(40, bool), nothing, np.zeros(0, np.int64)), boxes


@pytest.mark.slow
def test_a_training_step_is_the_recorded_one(shared, fill, one_thread, monkeypatch):
    case = Case(shared, "case_6_training")
    given = recorded_weights(shared, fill)
    tensors = published.convert(given)
    network = TeViTNetwork(MsgShifT(drop_path=0.0), *published.sizes(tensors))
    network.load_state_dict(tensors)
    clip, boxes = recorded_clip(case)
    training = TeViTTraining(network).train()
    targets = training.targets(clip)
    assert torch.equal(targets.present, torch.from_numpy(boxes.any(2)))
    assert np.array_equal(targets.boxes[targets.present], boxes[boxes.any(2)])

    step = []
    monkeypatch.setattr(
        losses, "batch_losses", lambda *given: step.append((*given[:2], batch_losses(*given))) or step[0][2]
    )
    total = sum(training([clip], alone).values())
    ((taught,), masks, found) = step[0]
    for s, (out, match, of_stage) in enumerate(zip(taught.outputs, taught.matches, found)):
        at = f"stage{s}"
        order = match.queries.argsort()
        frames, queries, instances = taught.positives[s]
        right = out.logits[frames, queries].argmax(1) == targets.labels[instances]
        case.check_all(
            {
                f"{at}/logits": out.logits,
                f"{at}/clip0/cost": weighed_costs(matching_costs(out, targets, losses.SMALLEST_PROBABILITY)),
                f"{at}/clip0/match": torch.stack((match.queries[order], match.instances[order])),
                f"{at}/mask_logits": masks[s],
                f"{at}/mask_target_sums": mask_targets(taught, s, 28).sum((1, 2)),
                f"{at}/loss_cls": of_stage.classes,
                f"{at}/loss_bbox": of_stage.l1,
                f"{at}/loss_iou": of_stage.giou,
                f"{at}/loss_mask": of_stage.dice,
                f"{at}/pos_acc": 100 * right.float().mean(),
            }
        )
    case.check("loss_total", total)
    mean = network.head.stages()[0].mask_head.convs[0].norm.running_mean
    case.check("after:roi_head.mask_head.0.convs.0.bn.running_mean", mean)

    total.backward()
    ours = {id(x): name for name, x in tensors.items()}
    learned = dict(network.named_parameters())
    gradients = {}
    for row in json.loads((shared / "parity/tevit/weights_msgshift/manifest.json").read_text()):
        if (name := ours[id(given[row["key"]])]) in learned:
            gradients[row["key"]] = learned[name].grad
    norms = torch.stack([gradient.norm() for gradient in gradients.values()])
    case.check_all({"grad_norms": norms, "grad_total_norm": norms.norm()})
    case.check_all({f"grad:{key}": x for key, x in gradients.items() if f"grad:{key}" in case.unchecked})
    assert not case.unchecked


def taught_of(wanted, boxes, match, logits=None):
    """A clip with one stage."""
    match = Match(*(torch.tensor(rows, dtype=torch.int64) for rows in match))
    return TaughtClip(wanted, [outputs_of(boxes, logits)], [match], [Positives.of(match, wanted)])


def test_positives_are_the_frames_that_show_an_instance_in_the_order_of_frames_and_queries():
    wanted = wanted_of([2, 0, 1], [[LEFT, RIGHT], [NOWHERE, LEFT], [MIDDLE, NOWHERE]])
    found = Positives.of(Match(torch.tensor([7, 3, 5]), torch.tensor([0, 1, 2])), wanted)
    assert found.frames.tolist() == [0, 0, 1, 1]
    assert found.queries.tolist() == [5, 7, 3, 7]
    assert found.instances.tolist() == [2, 0, 1, 0]


def test_a_mask_is_taught_inside_of_its_box_as_far_as_the_padded_image_goes():
    wanted = wanted_of([0], [[[32, 16, 48, 32], NOWHERE]])  # at the edges of 32 x 48 pixels, padded to 32 x 64
    taught = taught_of(wanted, [[[16, 16, 1000, 1000], [16, 16, 1000, 1000]]] * 2, ([1], [0]))
    assert taught.padded_masks.shape == (1, 2, 32, 64)
    (found,) = mask_targets(taught, 0, 24)  # of the box 16 16 64 32
    expected = torch.zeros(24, 24)
    expected[:, 8:16] = 1
    assert torch.equal(found, expected)


def test_the_mask_of_an_instance_s_class_alone_is_taught():
    truth = (torch.arange(28 * 28).view(28, 28) % 3 == 0).float().expand(2, -1, -1)
    logits = torch.randn((2, 3, 28, 28), generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([2, 0])
    logits[[0, 1], labels] = 40 * truth - 20
    assert mask_loss(logits, labels, truth) < 1e-5
    assert mask_loss(logits, labels, 1 - truth) > 2 - 1e-5


def test_losses_are_divided_by_the_positives_of_all_processes_and_at_least_by_one():
    two = taught_of(wanted_of([0], [[LEFT, RIGHT]]), [[MIDDLE, LEFT]] * 2, ([0], [0]))
    none = taught_of(wanted_of([], []), [[MIDDLE, LEFT]] * 2, ([], []), torch.zeros(2, 2, 3))
    logits = [torch.zeros(2, 3, 28, 28)]

    def found(clips, masks, positives, processes=1):
        return torch.stack(
            list(vars(batch_losses(clips, masks, lambda _: torch.tensor([positives, processes]))[0]).values())
        )

    once = found([two], logits, 1.0)
    assert (once > 0).all()
    for positives, processes, divisor in ((2.0, 1.0, 2), (12.0, 3.0, 4), (1.0, 4.0, 1), (0.0, 1.0, 1)):
        torch.testing.assert_close(found([two], logits, positives, processes), once / divisor)
    torch.testing.assert_close(batch_losses([two], logits, alone)[0].l1, once[1] / 2)
    both = batch_losses([two, none], logits, alone)[0]
    torch.testing.assert_close(both.l1, once[1] / 2)
    classes, *others = found([none], [logits[0][:0]], 0.0)
    assert classes == pytest.approx(2 * 12 * 0.75 * 0.5**2 * np.log(2)) and not any(others)


def small_network(classes=3, queries=5, **options):
    messengers = {name: options.pop(name) for name in ("messengers", "tokens") if name in options}
    torch.manual_seed(0)
    backbone = MsgShifT(**({"tokens": 4} | messengers), widths=(64,) * 4, depths=(1, 2, 1, 1), drop_path=0.0)
    network = TeViTNetwork(backbone, classes, queries, SMALL, **options)
    network.initialise()
    return network


def test_what_is_not_labelled_everywhere_and_what_is_to_be_ignored_reaches_the_losses():
    region = np.zeros((1, 4, 40, 50), bool)
    region[0, 3, 20:] = True
    clip = clip_of(exhaustive=np.array([True, False, True]), ignore_masks=region, ignore_labels=np.array([2]))
    training = TeViTTraining(small_network())
    targets = training.targets(clip)
    assert targets.open_classes.tolist() == [False, True, False] and targets.ignore_labels.tolist() == [2]
    assert targets.ignore_masks.sum() == 1000
    excused, strict = training([clip], alone), training([clip_of()], alone)
    assert excused["class"] < strict["class"] and excused["l1"] == strict["l1"]


@pytest.mark.parametrize("interaction", INTERACTIONS)
@pytest.mark.parametrize("messengers", MESSENGERS)
def test_losses_are_numbers_and_every_parameter_learns(interaction, messengers):
    training = TeViTTraining(small_network(query_interaction=interaction, messengers=messengers))
    parts = training([clip_of(), clip_of(((0, 0, 0, 0), (0, 0, 0, 1)))], alone)
    assert set(parts) == {f"{a}{b}" for a in ("", "auxiliary_") for b in ("class", "l1", "giou", "dice")}
    assert all(loss > 0 for loss in parts.values())
    torch.stack(list(parts.values())).sum().backward()
    for name, parameter in training.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_a_level_that_no_box_is_pooled_from_has_a_gradient_of_zero():
    training = TeViTTraining(small_network())
    sum(training([clip_of()], alone).values()).backward()  # pictures of 64 x 64 pixels: the first level alone
    outputs = {name: x.grad.norm() for name, x in training.network.pyramid.named_parameters() if "output" in name}
    assert outputs["output2.weight"] > 0
    assert all(norm == 0 for name, norm in outputs.items() if not name.startswith("output2."))


@pytest.mark.parametrize("instances", [0, 1])
def test_a_batch_without_any_instance_teaches_classes_alone_and_leaves_the_norms_statistics(instances):
    training = TeViTTraining(small_network())
    before = {name: x.clone() for name, x in training.network.named_buffers()}
    parts = training([clip_of(np.zeros((instances, 4), bool))] * 2, alone)
    assert 0 < parts["class"] < 100 and not any(parts[name] for name in ("l1", "giou", "dice"))
    sum(parts.values()).backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in training.parameters())
    assert training.network.init_proposal_features.weight.grad.any()
    for stage in training.network.head.stages():
        assert not any(x.grad.any() for x in (*stage.mask_head.parameters(), *stage.bboxes_delta.parameters()))
    assert all(torch.equal(x, before[name]) for name, x in training.network.named_buffers())


def test_the_norms_of_the_mask_heads_see_the_positives_of_all_clips_at_once():
    training = TeViTTraining(small_network())
    seen = []
    for stage in training.network.head.stages():
        stage.mask_head.convs[0].register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    clips = [clip_of(), clip_of(((0, 0, 0, 0), (0, 0, 0, 1)))]  # 8 positives and 1
    training(clips, alone)
    assert seen == [9] * SMALL.stages
    levels = training.levels(clips)
    taught = [
        training.taught([x[4 * c : 4 * c + 4] for x in levels], training.targets(clip)) for c, clip in enumerate(clips)
    ]
    training.eval()  # with stored statistics each stands for itself
    together = training.masks(levels, taught)
    for c, (rows, clip) in enumerate(((slice(0, 8), taught[0]), (slice(8, 9), taught[1]))):
        for masks, single in zip(together, training.masks([x[4 * c : 4 * c + 4] for x in levels], [clip])):
            torch.testing.assert_close(masks[rows], single)


def test_two_processes_share_the_losses_of_one_with_all_clips():
    training = TeViTTraining(small_network()).eval()  # in training each process has statistics of its own
    clips = [clip_of(), clip_of(((0, 0, 1, 0), (0, 1, 1, 1)))]
    whole = training(clips, alone)
    counts = []
    for clip in clips:  # what each process adds to the sums, in the order of the calls
        counts.append([])
        training([clip], lambda x, to=counts[-1]: (to.append(x), x)[1])
    summed = [a + b for a, b in zip(*counts)]
    shares = []
    for clip in clips:
        given = iter(summed)
        shares.append(training([clip], lambda _, given=given: next(given)))
    for name, loss in whole.items():
        torch.testing.assert_close(sum(share[name] for share in shares) / 2, loss)


def test_bfloat16_gives_losses_near_those_of_float32():
    training = TeViTTraining(small_network())
    exact = sum(training([clip_of()], alone).values())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = sum(training([clip_of()], alone).values())
    rounded.backward()
    assert rounded.dtype == torch.float32 and abs(rounded - exact) < 0.1 * exact
