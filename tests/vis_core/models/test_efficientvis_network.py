"""EfficientVIS's network gives the recorded numbers, part by part and whole, with every switch."""

import numpy as np
import pytest
import torch

from tests.vis_core.models.recorded_efficientvis import SMALL, Case, as_recorded, small_network
from vis_core.models.efficientvis.choices import ATTENTIONS
from vis_core.models.efficientvis.network import EfficientVISNetwork, neighbour_weights
from vis_core.nn.region_queries import pooled
from vis_core.nn.roi_align import box_levels


@pytest.mark.parametrize("frames", [5, 1, 2])
@pytest.mark.parametrize("attention", ATTENTIONS)
@torch.inference_mode()
def test_queries_see_one_another_as_recorded(frames, attention, shared, fill):
    case = Case(shared, "case_1_attention")
    stage = small_network(shared, fill, attention=attention).head.stages()[0]
    queries = case.tensor(f"queries_T{frames}")
    case.check(f"{attention}_T{frames}", stage.attend(queries))
    if attention == "factorised":
        over_time = queries.transpose(0, 1)
        half = queries + stage.temporal_attn(over_time, over_time, over_time).transpose(0, 1)
        case.check(f"after_temporal_T{frames}", half)


@pytest.mark.parametrize("frames", [5, 1, 2])
@torch.inference_mode()
def test_dynamic_convolutions_and_masks_are_as_recorded(frames, shared, fill):
    case = Case(shared, "case_2_dynamic_convolution")
    stage = small_network(shared, fill).head.stages()[1]
    queries = case.tensor(f"queries_T{frames}")
    regions = case.tensor(f"roi7_T{frames}").flatten(3).transpose(2, 3)
    if frames > 1:
        weights = neighbour_weights(regions).permute(1, 2, 0, 3).unflatten(3, (7, 7))
        case.check(f"weights_T{frames}", weights)
    for kind in ("temporal", "still"):
        found = stage.inst_interact(queries, regions, kind == "temporal")
        case.check(f"dynamic_{kind}_T{frames}", as_recorded(found, 7)[:, :, ::2])
        case.check(f"update_{kind}_T{frames}", stage.inst_interact.as_query(found))
    if frames < 5:
        regions = case.tensor(f"roi14_T{frames}").flatten(3).transpose(2, 3)
        found = stage.mask_head.inst_interact(queries[:, :2], regions, True)
        case.check(f"mask_dynamic_T{frames}", as_recorded(found, 14)[:, :, ::4])
        case.check(f"mask_logits_T{frames}", stage.mask_head(found)[:, :, 0])


STAGES = [("case_3_stage", 2), ("case_10_levels", 4)]


@pytest.mark.parametrize(("name", "number"), STAGES)
@torch.inference_mode()
def test_a_stage_gives_the_recorded_numbers(name, number, shared, fill):
    case = Case(shared, name)
    stage, levels = small_network(shared, fill).head.stages()[number], case.levels()
    queries, boxes = case.tensor("queries"), case.tensor("boxes")
    regions = pooled(levels, boxes, 7)
    case.check("roi", as_recorded(regions, 7)[:, :, ::8])
    attended = stage.attend(queries)
    found = stage.inst_interact(attended, regions, True)
    case.check("dynamic", as_recorded(found, 7)[:, :, ::8])
    case.check("query_update", stage.inst_interact.as_query(found))
    out = stage(levels, queries, boxes)
    if "levels" in case.expected:
        case.check("levels", box_levels(boxes.flatten(0, 1), STRIDES).unflatten(0, (3, 6)))
        case.check("mask_levels", box_levels(out.boxes.flatten(0, 1), STRIDES).unflatten(0, (3, 6)))
        case.check("weights", neighbour_weights(regions).permute(1, 2, 0, 3).unflatten(3, (7, 7)))
    else:
        case.check("attended", attended)
    for key, value in (("class_logits", out.logits), ("boxes", out.boxes), ("object", out.queries)):
        case.check(key, value)
    case.check("mask_logits", stage.masks(levels, out)[..., ::2, ::2])


@pytest.mark.parametrize(("name", "number"), STAGES)
def test_the_gradients_of_a_stage_are_the_recorded_ones(name, number, shared, fill):
    """In double precision: in single, one of case 10's seven thousand inputs of a ReLU, -1e-11, has the sign that
    rounding gives it, on one CPU another than on the next, and a query's gradient follows."""
    case = Case(shared, name)
    stage = small_network(shared, fill).head.stages()[number].double()
    levels = [x.double().requires_grad_() for x in case.levels()]
    queries, boxes = (case.tensor(key).double().requires_grad_() for key in ("queries", "boxes"))
    out = stage(levels, queries, boxes)
    random = np.random.RandomState(5)
    scalar = torch.zeros(())
    for x in (out.logits, out.boxes, stage.masks(levels, out), out.queries):
        scalar = scalar + (x * torch.from_numpy(random.standard_normal(x.shape).astype(np.float32))).mean()
    case.check("scalar", scalar)
    scalar.backward()
    case.check("gradient_queries", queries.grad)
    case.check("gradient_boxes", boxes.grad)
    for i, level in enumerate(levels):
        gradient = torch.zeros_like(level) if level.grad is None else level.grad
        case.check(f"gradient_level{i}_sum", gradient.abs().sum((2, 3)))


STRIDES = (4, 8, 16, 32)
OPTIONS = {
    "published": {},
    "spatial": {"attention": "spatial"},
    "temporal": {"attention": "temporal"},
    "joint": {"attention": "joint"},
    "still": {"dynamic_convolution": "still"},
    "shared": {"queries_over_time": "shared"},
}


def start(network, frames, size=(64, 96)):
    queries, boxes = network.learned(size)
    return queries.expand(frames, -1, -1), boxes.expand(frames, -1, -1)


@pytest.mark.parametrize("option", OPTIONS)
@torch.inference_mode()
def test_the_head_gives_the_recorded_answers_with_every_switch(option, shared, fill):
    case = Case(shared, "case_4_clip_head")
    network, levels = small_network(shared, fill, **OPTIONS[option]), case.levels()
    outputs = network.head(levels, *start(network, 5))
    stages = list(zip(network.head.stages(), outputs))
    for number, (stage, out) in enumerate(stages) if option == "published" else ():
        for key, value in (("class_logits", out.logits), ("boxes", out.boxes), ("queries", out.queries[..., ::4])):
            case.check(f"stage{number}/{key}", value)
        if number in (0, 5):
            step = 7 if number == 0 else 3
            case.check(f"stage{number}/mask_logits", stage.masks(levels, out)[..., ::step, ::step])
    stage, last = stages[-1]
    case.check(f"{option}/class_logits", last.logits)
    case.check(f"{option}/boxes", last.boxes)
    case.check(f"{option}/queries", last.queries[..., ::4])
    case.check(f"{option}/tracklet_scores", last.logits.sigmoid().mean(0))
    masks = stage.masks(levels, last)
    case.check(f"{option}/mask_logits", masks[..., ::7, ::7])
    torch.testing.assert_close(stage.masks(levels, last, [4, 1]), masks[:, [4, 1]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2])
@torch.inference_mode()
def test_clips_of_any_length_run_on_the_same_weights(frames, shared, fill):
    case = Case(shared, "case_4_clip_head")
    network = small_network(shared, fill)
    last = network.head(case.levels(frames=slice(frames)), *start(network, frames))[-1]
    case.check(f"length{frames}/class_logits", last.logits)
    case.check(f"length{frames}/boxes", last.boxes)
    case.check(f"length{frames}/tracklet_scores", last.logits.sigmoid().mean(0))


@torch.inference_mode()
def test_maps_of_each_frame_apart_give_what_maps_joined_give(shared, fill):
    case = Case(shared, "case_4_clip_head")
    network, levels = small_network(shared, fill), case.levels()
    apart = [level.split(1) for level in levels]
    for a, b in zip(network.head(levels, *start(network, 5)), network.head(apart, *start(network, 5))):
        torch.testing.assert_close(a.logits, b.logits)


def test_a_new_network_acts_as_sparse_rcnn_on_every_frame():
    torch.manual_seed(0)
    network = EfficientVISNetwork(None, 3, 4, SMALL, dynamic_convolution="still")
    network.initialise()
    alone = EfficientVISNetwork(None, 3, 4, SMALL, tracklets=False, attention="spatial", dynamic_convolution="still")
    missing, unexpected = alone.load_state_dict(network.state_dict(), strict=False)
    assert not missing and all("temporal_attn" in key or "mask_head" in key for key in unexpected)
    levels = [torch.randn(2, 32, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    for a, b in zip(network.head(levels, *start(network, 2)), alone.head(levels, *start(alone, 2))):
        torch.testing.assert_close(a.boxes, b.boxes)
    assert all(torch.allclose(stage.class_logits.bias.sigmoid(), torch.tensor(0.01)) for stage in network.head.stages())
