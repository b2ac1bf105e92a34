"""TeViT gives the recorded numbers: pooling, pyramid, stages and masks of each backbone, and the ten results."""

import gc

import pytest
import torch
from torch.nn import functional as F

from tests.costs import by_cost
from tests.vis_core.models.recorded_tevit import Case, recorded_weights
from vis_core.models.tevit import published
from vis_core.models.tevit.instances import best_pairs
from vis_core.models.tevit.network import TeViTNetwork, box_levels
from vis_core.nn.boxes import decode_deltas
from vis_core.nn.pasting import paste_dense
from vis_core.nn.region_queries import MASK_REGION, REGION, pooled

CASES = {
    "case_1_msgshift": "weights_msgshift",
    "case_2_resized": "weights_msgshift",
    "case_4_resnet50": "weights_r50",
    "case_5_swin": "weights_swin_small",
}


@pytest.fixture(scope="module")
def network_of(shared, fill):
    """The network of a manifest; only the last one is kept: each takes 650 MB."""
    kept = {}

    def network_of(manifest):
        if manifest not in kept:
            kept.clear()
            gc.collect()
            tensors = published.convert(recorded_weights(shared, fill, manifest=manifest))
            sizes = published.sizes(tensors)
            network = TeViTNetwork(published.backbone_of(tensors), *sizes)
            network.load_state_dict(tensors)
            kept[manifest] = network.eval().requires_grad_(False)
        return kept[manifest]

    yield network_of
    kept.clear()


@torch.inference_mode()
def test_regions_are_pooled_and_boxes_moved_as_recorded(shared):
    case = Case(shared, "case_8_pooling")
    maps = [case.tensor(f"map{k}").div(16).contiguous(memory_format=torch.channels_last) for k in range(4)]
    boxes, frame = case.tensor("boxes"), case.tensor("frame").long()
    case.check("levels", box_levels(boxes))
    case.check("decoded_boxes", decode_deltas(boxes, case.tensor("deltas"), (-4.135166556742356, 4.135166556742356)))
    for size in (REGION, MASK_REGION):
        found = torch.empty(len(boxes), 8, size, size)
        for t in frame.unique():
            of_frame = [x[t : t + 1] for x in maps]
            regions = pooled(of_frame, boxes[None, frame == t], size, box_levels)[0]
            found[frame == t] = regions.transpose(1, 2).unflatten(2, (size, size))
        case.check(f"pooled{size}", found)
    assert not case.unchecked


@pytest.mark.parametrize("name", by_cost(CASES, "case_4_resnet50", "case_5_swin"))
@torch.inference_mode()
def test_every_part_gives_the_recorded_numbers(name, network_of, shared):
    case = Case(shared, name)
    network = network_of(CASES[name])
    images = case.network_input()
    frames = len(images)
    maps = network.backbone_maps(images, frames)
    levels = network.levels(maps)
    if "stem" in case.record["arrays"]:
        case.check("stem", network.backbone.stem(images))
    case.check_all({f"backbone/{k}": x for k, x in enumerate(maps)})
    case.check_all({f"fpn/{k}": x for k, x in enumerate(levels)})

    queries, boxes = network.learned(tuple(case.record["network_size"]))
    queries, boxes = queries.expand(frames, -1, -1), boxes.expand(frames, -1, -1)
    stages = network.head.stages()
    for s, stage in enumerate(stages):
        spatial = stage._attended(queries)
        attended = stage.attend(queries)
        regions = stage.pooled(levels, boxes, REGION)
        change = stage.inst_interact.as_query(stage.find(attended, regions))
        out = stage(levels, queries, boxes)
        at = f"head{s}"
        hidden = stage.bboxes_delta(stage.reg_module(out.queries))
        case.check_all(
            {
                f"{at}/boxes_in": boxes,
                f"{at}/spatial_attention": spatial,
                f"{at}/temporal_attention": attended,
                f"{at}/region_features": regions.flatten(0, 1).transpose(1, 2).unflatten(2, (REGION, REGION)),
                f"{at}/dynamic_conv": change.flatten(0, 1),
                f"{at}/dynamic_norm": stage.norm2(attended + change).flatten(0, 1),
                f"{at}/logits": out.logits,
                f"{at}/deltas": hidden,
                f"{at}/queries": out.queries,
                f"{at}/attended_queries": out.attended,
                f"{at}/boxes": out.boxes,
            }
        )
        queries, boxes = out.queries, out.boxes

    scores = out.logits.sigmoid().mean(0)
    case.check("mean_scores", scores)
    at, head = f"mask{len(stages) - 1}", stages[-1].mask_head
    rows = scores.flatten().topk(10, sorted=False).indices // scores.shape[1]  # as recorded
    regions = stages[-1].pooled(levels, out.boxes[:, rows], MASK_REGION)
    found = head.inst_interact(out.attended[:, rows], regions)
    x = found.flatten(0, 1).transpose(1, 2).unflatten(2, (MASK_REGION, MASK_REGION))
    case.check(f"{at}/region_features", regions.flatten(0, 1).transpose(1, 2).unflatten(2, (MASK_REGION, MASK_REGION)))
    case.check(f"{at}/dynamic_conv", found.flatten(0, 1))
    for conv in head.convs:
        x = conv(x)
    case.check(f"{at}/convs", x)
    case.check(f"{at}/logits", head.mask_logits(F.relu(head.upsample(x))))

    rows, labels, values = best_pairs(scores, 10)
    logits = stages[-1].masks(levels, out, rows)[:, torch.arange(10), labels]
    case.check_all({"scores": values, "labels": labels, "query": rows, "mask_logits": logits})
    at_original = out.boxes[:, rows] / torch.tensor(case.record["scale_factor"])
    case.check("boxes", at_original)
    size = tuple(case.record["original_size"])
    masks = paste_dense(logits.sigmoid().flatten(0, 1), at_original.flatten(0, 1), size)
    case.check("masks", masks.unflatten(0, (frames, 10)))
    # What is left is the backbone's inside, which its own tests check.
    inside = ("stage", "swin/", "patch_embed", "resized", "network_input")
    assert not [array for array in case.unchecked if not array.startswith(inside)]


@pytest.mark.slow
@torch.inference_mode()
def test_swin_gives_the_recorded_tokens_block_by_block(network_of, shared):
    case = Case(shared, "case_5_swin")
    swin = network_of("weights_swin_small").backbone
    found, hooks = {}, []
    for i, stage in enumerate(swin.layers):
        for j, block in enumerate(stage.blocks):
            name = f"swin/stage{i}/block{j}"
            hooks.append(
                block.register_forward_hook(lambda _, __, out, name=name: found.update({name: out.flatten(1, 2)}))
            )
    found["patch_embed"] = swin.patch_embed(case.network_input()).flatten(1, 2)
    swin(case.network_input())
    for hook in hooks:
        hook.remove()
    case.check_all(found)


@torch.inference_mode()
def test_frames_with_the_same_queries_may_share_them(network_of, shared):
    case = Case(shared, "case_4_resnet50")
    network = network_of("weights_r50")
    levels = network.levels(network.backbone_maps(case.network_input(), 3))
    queries, boxes = network.learned(tuple(case.record["network_size"]))
    first = network.head.stages()[0]
    each = first(levels, queries.expand(3, -1, -1), boxes.expand(3, -1, -1))
    shared_ones = first(levels, queries[None], boxes.expand(3, -1, -1))
    for attribute in ("logits", "boxes", "queries", "attended"):
        torch.testing.assert_close(getattr(shared_ones, attribute), getattr(each, attribute), rtol=1e-4, atol=1e-4)
