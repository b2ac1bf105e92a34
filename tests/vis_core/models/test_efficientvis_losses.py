"""Training of EfficientVIS: matches, losses and gradients as recorded, and how clips follow each other."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.vis_core.nn.region_targets import LEFT, NOWHERE, RIGHT, clip_of, outputs_of, targets_of, wanted_of
from vis_core.errors import CheckpointError, OptionError
from vis_core.models.efficientvis import losses, published
from vis_core.models.efficientvis.losses import TaughtClip
from vis_core.models.efficientvis.network import EfficientVISNetwork
from vis_core.models.efficientvis.trainables import trainable
from vis_core.models.efficientvis.training import EfficientVISTraining, carried_queries, start_from
from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD
from vis_core.nn.region_losses import Match, match_stages, matching_costs
from vis_core.nn.region_queries import Dimensions
from vis_core.system.option import check_options, options_of

SMALL = Dimensions(width=32, heads=4, dynamic=8, feedforward=64, stages=3)
RANDOM = torch.Generator().manual_seed(0)


def alone(x):
    """Sums over one process."""
    return x


class Case:
    """A recorded case, which knows what of it was compared."""

    def __init__(self, folder):
        self.config = json.loads((folder / "case.json").read_text())
        self.inputs, self.expected = (dict(np.load(folder / f"{name}.npz")) for name in ("inputs", "expected"))
        self.manifest = folder.parent / self.config["manifest"]
        self.compared = set()

    def check(self, key, found):
        """Compare an array within the tolerance that its key has."""
        tolerances = self.config["tolerances"]
        names = [name for name in tolerances if any(part.startswith(name) for part in key.split("/"))]
        limits = tolerances[max(names, key=len, default="default")]
        np.testing.assert_allclose(found.detach(), self.expected[key], limits["rtol"], limits["atol"], err_msg=key)
        self.compared.add(key)

    def keys(self, start):
        return {key for key in self.expected if key.startswith(start)}


RULES = {
    "all": ({}, {"carry": "all"}),
    "confident": ({}, {"carry": "confident"}),
    "independent": ({}, {"correspondence": False}),
    "still_shared": (
        {"attention": "spatial", "dynamic_convolution": "still", "queries_over_time": "shared"},
        {"carry": "all"},
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_matches_losses_and_gradients_of_two_clips_are_those_recorded(rule, shared, fill, one_thread):
    case = Case(shared / "parity" / "efficientvis" / "case_6_losses")
    sizes, inputs = case.config["dimensions"], case.inputs
    dimensions = Dimensions(**{name: sizes[name] for name in Dimensions._fields})
    network_options, options = RULES[rule]
    network = EfficientVISNetwork(None, sizes["classes"], sizes["queries"], dimensions, **network_options)
    network.load_state_dict(published.convert({key: torch.from_numpy(x) for key, x in fill(case.manifest).items()}))
    training = EfficientVISTraining(network, **options)
    maps, targets = [], []
    for clip in ("clip0", "clip1"):
        levels = [torch.from_numpy(inputs[f"{clip}/level{i}"]).float() / 16 for i in range(4)]
        maps.append([x.contiguous(memory_format=torch.channels_last) for x in levels])
        masks = np.unpackbits(inputs[f"{clip}/masks"], axis=-1, count=case.config["network_size"][1]).astype(bool)
        parts = (inputs[f"{clip}/{name}"] for name in ("labels", "boxes"))
        targets.append(targets_of(*parts, masks, sizes["classes"], inputs[f"{clip}/present"]))
    clips = training.taught(maps, targets)
    total = 0
    for c, clip in enumerate(clips):
        for m, found in enumerate(losses.clip_losses([clip], alone)):
            at = f"{rule}/clip{c}/stage{m}"
            case.check(f"{at}/match", torch.stack((clip.matches[m].instances, clip.matches[m].queries)))
            case.check(f"{at}/loss_class", found.classes)
            for name in ("l1", "giou", "dice", "mask"):
                case.check(f"{at}/loss_{name}", getattr(found, name))
            total = total + sum(vars(found).values())
            terms = matching_costs(clip.outputs[m], clip.targets)
            if f"{at}/cost" in case.expected:
                case.check(f"{at}/cost", 2 * terms[0] + 5 * terms[1] + 2 * terms[2])
            if f"{at}/cost_terms" in case.expected:
                case.check(f"{at}/cost_terms", terms)
    case.check(f"{rule}/total", total)
    if options.get("correspondence", True):
        learned, (first, _) = network.init_proposal_features.weight, clips
        queries = carried_queries(first.outputs[-1], first.matches[-1], learned, options["carry"])
        case.check(f"{rule}/carried_queries", queries)
    total.backward()
    for key in case.keys(f"{rule}/gradient_norm/"):
        gradient = network.get_parameter(key.split("/")[-1]).grad
        case.check(key, torch.zeros(()) if gradient is None else gradient.norm())
    assert case.compared == case.keys(f"{rule}/")


@pytest.mark.slow
def test_without_tracklets_losses_and_gradients_are_those_of_sparse_rcnn(shared, fill, one_thread):
    case = Case(shared / "parity" / "sparse_rcnn" / "case_2_losses")
    network = EfficientVISNetwork(50, 80, 100, tracklets=False, attention="spatial", dynamic_convolution="still")
    tensors = published.convert({key: torch.from_numpy(x) for key, x in fill(case.manifest).items()})
    network.to(memory_format=torch.channels_last).load_state_dict(tensors)
    images = [torch.from_numpy(case.inputs[f"image{j}"]) for j in range(3)]
    batch = torch.zeros((3, 3, 128, 128))
    for image, padded in zip(images, batch):
        normalised = (image - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
        padded[:, : image.shape[0], : image.shape[1]] = normalised.permute(2, 0, 1)
    maps = network.maps(batch.contiguous(memory_format=torch.channels_last))
    clips = []
    for j, image in enumerate(images):
        labels, boxes = case.inputs[f"labels{j}"], case.inputs[f"boxes{j}"][:, None]
        masks = torch.zeros((len(labels), 1, *image.shape[:2]), dtype=torch.bool)
        wanted = targets_of(labels, boxes, masks, 80, np.ones((len(labels), 1), bool))
        queries, boxes = network.learned(wanted.size)
        outputs = network.head([level[j : j + 1] for level in maps], queries[None], boxes[None])
        matches = match_stages(outputs, wanted)
        clips.append(TaughtClip(wanted, outputs, matches, None))
        for m, match in enumerate(matches):
            order = match.queries.argsort()
            pairs = torch.stack((match.queries[order], match.instances[order]))
            case.check(f"match/stage{m}/image{j}", pairs)
    total = 0
    for m, found in enumerate(losses.clip_losses(clips, alone)):
        suffix = "" if m == 5 else f"_{m}"
        for name, value in (("ce", found.classes), ("bbox", found.l1), ("giou", found.giou)):
            case.check(f"loss/loss_{name}{suffix}", value)
        assert found.dice == found.mask == 0
        total = total + found.classes + found.l1 + found.giou
    case.check("loss/total", total)
    total.backward()
    published_keys = [row["key"] for row in json.loads(case.manifest.read_text())]
    ours = {key: name for name, key in published.convert({key: key for key in published_keys}).items()}
    for key in case.keys("gradient_norm/"):
        case.check(key, network.get_parameter(ours[key.split("/")[1]]).grad.norm())
    assert case.compared == case.keys("")


def test_masks_are_taught_in_all_frames_and_their_overlap_where_the_instance_is():
    wanted = wanted_of([0, 1], [[LEFT, NOWHERE], [RIGHT, RIGHT]])
    out = outputs_of([[RIGHT, LEFT], [RIGHT, [0, 0, 20, 10]]])
    match = Match(torch.tensor([1, 0]), torch.tensor([0, 1]))
    truth = losses.mask_targets(out, match, wanted, 28)
    # All but corners, whose pixels are half inside.
    assert truth.shape == (2, 2, 28, 28) and truth[[0, 0, 1], [0, 1, 1]].mean() > 0.99 and not truth[1, 0].any()
    logits = torch.randn((2, 2, 28, 28), generator=RANDOM)
    dice, entropy = losses.mask_losses(logits, out, match, wanted)
    entropies = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((2, 3))
    torch.testing.assert_close(entropy, entropies.sum())
    shown = [(0, 0), (0, 1), (1, 1)]
    parts = []
    for t, n in shown:
        s, g = logits[t, n].sigmoid(), truth[t, n]
        parts.append(1 - 2 * (s * g).sum() / (s.square().sum() + g.sum() + 1e-5))
    torch.testing.assert_close(dice, sum(parts))


def test_a_mask_s_target_is_what_its_box_holds_of_it():
    wanted = wanted_of([0], [[[10, 8, 20, 16]]])
    match = Match(torch.tensor([0]), torch.tensor([0]))
    truth = losses.mask_targets(outputs_of([[[6, 4, 34, 32]]]), match, wanted, 28)[0, 0]
    expected = torch.zeros(28, 28)
    expected[4:12, 4:14] = 1
    assert torch.equal(truth, expected)
    vast = losses.mask_targets(outputs_of([[[-1e6, -1e6, 1e6, 1e6]]]), match, wanted, 28)
    assert not vast.any()


class Strides(nn.Module):
    """A backbone of one convolution a stage."""

    def __init__(self, width):
        super().__init__()
        self.stem, self.res2 = (nn.Conv2d(3, width, stride, stride) for stride in (4, 4))
        self.later = nn.ModuleList(nn.Conv2d(3, width, stride, stride) for stride in (8, 16, 32))

    def forward(self, images):
        return [self.stem(images) + self.res2(images), *(conv(images) for conv in self.later)]


def small_network(classes=3, queries=5, **options):
    torch.manual_seed(0)
    network = EfficientVISNetwork(None, classes, queries, SMALL, **options)
    network.backbone, network.pyramid = Strides(SMALL.width), Passing()
    network.initialise()
    return network


class Passing(nn.Module):
    """A pyramid that gives what it is given."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def initialise(self):
        nn.init.ones_(self.scale)

    def forward(self, maps):
        return [x * self.scale for x in maps]


def small_training(options=None, **network_options):
    return EfficientVISTraining(small_network(**network_options), **(options or {}))


def test_a_clip_is_cut_into_two_successive_ones_of_the_same_instances():
    training = small_training()
    first, second = training.targets(clip_of())
    assert first.size == second.size == (40, 50)
    assert first.present.tolist() == [[True, True], [True, True], [False, False]]
    assert second.present.tolist() == [[True, True], [False, False], [True, True]]
    assert second.boxes[2, 0].tolist() == [7, 20, 32, 29]
    assert [len(training.targets(clip_of(((1,) * frames,)))) for frames in (1, 2, 5)] == [1, 2, 2]
    assert training.runs(5) == [slice(0, 3), slice(3, 5)]
    (whole,) = small_training({"successive_clips": 1}).targets(clip_of())
    assert whole.present.shape == (3, 4)


def test_what_is_not_labelled_everywhere_and_what_is_to_be_ignored_reaches_the_losses():
    region = np.zeros((1, 4, 40, 50), bool)
    region[0, 3, 20:] = True
    clip = clip_of(exhaustive=np.array([True, False, True]), ignore_masks=region, ignore_labels=np.array([2]))
    first, second = small_training().targets(clip)
    assert first.open_classes.tolist() == [False, True, False] and first.ignore_labels.tolist() == [2]
    assert not first.ignore_masks.any() and second.ignore_masks.sum() == 1000
    training, strict = small_training(), small_training()
    assert sum(training([clip], alone).values()) < sum(strict([clip_of()], alone).values())


@pytest.mark.parametrize("options", [{}, {"carry": "all"}, {"correspondence": False}, {"successive_clips": 1}])
@pytest.mark.parametrize("attention", ["factorised", "spatial", "temporal", "joint"])
def test_losses_are_numbers_and_every_parameter_learns(options, attention):
    training = small_training(options, attention=attention)
    parts = training([clip_of(), clip_of(((0, 0, 0, 0), (0, 0, 0, 1)))], alone)
    assert set(parts) == {f"{a}{b}" for a in ("", "auxiliary_") for b in ("class", "l1", "giou", "dice", "mask")}
    torch.stack(list(parts.values())).sum().backward()
    for name, parameter in training.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        else:
            assert "attn" in name and attention != "factorised", name


@pytest.mark.parametrize("instances", [0, 1])
def test_a_batch_of_empty_clips_gives_every_parameter_a_gradient(instances):
    training = small_training()
    parts = training([clip_of(np.zeros((instances, 4), bool))], alone)
    assert parts["class"] > 0 and not any(parts[name] for name in ("l1", "giou", "dice", "mask"))
    sum(parts.values()).backward()
    assert all(parameter.grad is not None for parameter in training.parameters())


def test_the_second_clip_teaches_the_queries_of_the_first():
    maps = [torch.randn((4, SMALL.width, 64 // s, 64 // s), generator=RANDOM) for s in (4, 8, 16, 32)]
    gradients = {}
    for correspondence in (True, False):
        training = small_training({"correspondence": correspondence})
        parts = [[level[:2] for level in maps], [level[2:] for level in maps]]
        first, second = training.taught(parts, training.targets(clip_of()))
        assert (torch.equal(first.matches[-1].queries[:2], second.matches[0].queries[:2])) or not correspondence
        losses.clip_losses([second], alone)[-1].classes.backward()
        gradients[correspondence] = training.network.init_proposal_features.weight.grad
    assert not torch.allclose(gradients[True], gradients[False])


def test_two_processes_share_the_losses_of_one_with_all_clips():
    training = small_training().eval()
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
    training = small_training()
    exact = sum(training([clip_of()], alone).values())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = sum(training([clip_of()], alone).values())
    rounded.backward()
    assert rounded.dtype == torch.float32 and abs(rounded - exact) < 0.1 * exact


def test_an_unknown_way_to_carry_queries_is_refused():
    with pytest.raises(OptionError, match="some"):
        small_training({"carry": "some"})


def test_a_start_takes_the_first_proposals_and_leaves_the_classes_of_another_number(caplog):
    given = small_network(classes=7, queries=8).state_dict()
    given = {key: x + 1 for key, x in given.items() if "temporal_attn" not in key}
    network = small_network(classes=3, queries=5)
    start_from(network, given)
    found = network.state_dict()
    for key in ("init_proposal_features.weight", "init_proposal_boxes.weight"):
        assert torch.equal(found[key], given[key][:5])
    for stage in range(SMALL.stages):
        before = f"head.head_series.{stage}."
        assert found[f"{before}class_logits.bias"].allclose(torch.tensor(-np.log(99)).float())
        assert torch.equal(found[f"{before}linear1.weight"], given[f"{before}linear1.weight"])
        assert not found[f"{before}temporal_attn.out_proj.weight"].any()
    few = small_network(queries=9)
    start_from(few, given)
    assert torch.equal(few.init_proposal_boxes.weight[:8], given["init_proposal_boxes.weight"])
    assert few.init_proposal_boxes.weight[8].tolist() == [0.5, 0.5, 1, 1]


def test_a_start_with_nothing_that_fits_is_refused():
    with pytest.raises(CheckpointError, match="none of the 1 tensors"):
        start_from(small_network(), {"other": torch.zeros(3)})


def test_the_trainer_gets_a_network_whose_first_stages_and_norms_are_frozen():
    options = check_options(options_of(trainable), {"queries": 4, "carry": "all"})
    training = trainable(("cat", "dog"), None, torch.Generator().manual_seed(3), **options)
    network = training.network
    assert (network.classes, network.queries) == (2, 4)
    learned = {name for name, x in network.named_parameters() if x.requires_grad}
    frozen = {name for name, _ in network.named_parameters()} - learned
    assert frozen and all(name.startswith(("backbone.stem.", "backbone.res2.")) for name in frozen)
    assert not any("norm" in name for name in learned if name.startswith("backbone."))
    tensors = training.weights()
    assert tensors.keys() == network.state_dict().keys()
    assert all(x.dtype == torch.float32 for x in tensors.values())
    groups = training.parameter_groups()
    assert len(groups["backbone"]) + len(groups["heads"]) == len(learned)


def test_a_depth_that_is_none_is_refused():
    with pytest.raises(OptionError, match="depth 60"):
        trainable(("cat",), None, torch.Generator(), depth=60)
