"""Video K-Net's clip network gives the recorded numbers, part by part and whole, with both necks and backbones."""

import pytest
import torch

from tests.costs import by_cost
from tests.vis_core.models.recorded_video_knet import Case, FilledWeights
from vis_core.models.video_knet.kernels import StageOutputs
from vis_core.models.video_knet.network import STAGES, FrameKernels, first_outputs
from vis_core.nn.input_transform import WithinTransform

CASES = {
    "clip_r50": "clip_r50",
    "clip_r50_odd": "clip_r50",
    "clip_deformable": "clip_r50_deformable",
    "clip_swinb": "clip_swinb",
    "clip_published_size": "clip_r50",
}


@pytest.fixture(scope="module")
def weights(shared, fill):
    return FilledWeights(shared, fill)


def check_signs(case, name, masks):
    """Not recorded for the largest case, where signs flip by rounding."""
    if name in case.arrays:
        case.check(name, masks.sigmoid() > 0.5)


def watched(module, found, name):
    """Keep what a module gives under a name; returns the hook, to be removed."""
    return module.register_forward_hook(lambda _, __, output: found.update({name: output}))


def check_maps(case, network, images):
    """Backbone and neck; returns the neck's maps."""
    maps = network.backbone(images)
    for level, x in enumerate(maps):
        if f"backbone_c{level + 2}" in case.arrays:
            case.check(f"backbone_c{level + 2}", x)
    encoder = []
    if "neck_encoder" in case.arrays:
        network.neck.layers[-1].register_forward_hook(lambda _, __, output: encoder.append(output))
    levels = network.neck_maps(maps)
    if encoder:
        case.check("neck_encoder", torch.cat(encoder).transpose(0, 1))
    for level, x in enumerate(levels):
        case.check(f"neck_p{level + 2}", x)
    return levels


def check_initial(case, network, levels, prefix=""):
    """The initial head; returns its outputs."""
    found, head = {}, network.initial_head
    parts = {f"semantic_level_{i}": chain[-1] for i, chain in enumerate(head.pyramid.levels)}
    parts |= {"localization_0": head.pyramid.localisation, "localization_1": head.pyramid.semantic}
    parts |= {"loc_features": head.loc_conv, "seg_features": head.seg_conv}
    hooks = [watched(module, found, name) for name, module in parts.items()]
    initial = head(levels, semantic=True)
    for hook in hooks:
        hook.remove()
    found |= {"x_features": initial.features, "seg_logits": initial.semantic}
    found |= {"initial_masks": initial.masks, "initial_kernels": initial.kernels}
    for name, x in found.items():
        case.check(prefix + name, x)
    check_signs(case, prefix + "initial_mask_signs", initial.masks)
    return initial


def check_frame_stages(case, network, initial):
    out = first_outputs(initial)
    for number in range(STAGES):
        stage, name, found = network.frame_stages[number], f"frame_stage_{number}_", {}
        hooks = [watched(stage.kernel_update, found, "updated"), watched(stage.attention_norm, found, "attention")]
        pooled = stage.pooled(initial.features, out.masks)
        out = network.stage(number, initial.features, out, classes=True)
        for hook in hooks:
            hook.remove()
        check_signs(case, name + "mask_signs", out.masks)
        found |= {"pooled": pooled, "kernels": out.kernels, "logits": out.logits, "masks": out.masks}
        for part, x in found.items():
            case.check(name + part, x)
    return out


def check_clip_stages(case, network, frames):
    pooled, length = [], len(frames.features)
    for stage in network.clip_stages:  # what enters the update is the pooled features
        stage.kernel_update.register_forward_hook(lambda _, inputs, __: pooled.append(inputs[0]))
    case.check("clip_kernels", frames.kernels.mean(0))
    outputs = network.clip([frames], every=True)
    kernels = network.frames_of_clip([frames], outputs[-1])
    outputs.append(StageOutputs(None, network.clip_masks([frames], kernels), kernels))
    for number, out in enumerate(outputs):
        name = f"clip_stage_{number}_"
        check_signs(case, name + "mask_signs", out.masks)
        case.check(name + "pooled", pooled[number])
        case.check(name + "kernels", out.kernels)
        case.check(name + "masks", out.masks)
        if out.logits is not None:
            case.check(name + "logits", out.logits)
    if "clip_stage_2_mask_signs" not in case.arrays:
        return
    alone = [FrameKernels(*(x[t : t + 1] for x in frames)) for t in range(length)]
    brief, named = network.clip(alone)
    assert brief.logits is None
    torch.testing.assert_close(named.logits, outputs[1].logits, rtol=1e-4, atol=1e-3)
    chosen = [7, 3]
    masks = network.clip_masks(alone, network.frames_of_clip(alone, named)[:, chosen])
    torch.testing.assert_close(masks, outputs[2].masks[:, chosen], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", by_cost(CASES, "clip_swinb", "clip_published_size"))
@torch.inference_mode()
def test_every_part_of_the_clip_network_is_as_recorded(name, shared, weights):
    case, network = Case(shared, name), weights.clip_network(CASES[name])
    long, short = case.config["test_scale"]
    images = torch.cat([WithinTransform(short, long, rounded=False)(image) for image in case.inputs["images"]])
    case.check("network_input", images)
    initial = check_initial(case, network, check_maps(case, network, images))
    frames = check_frame_stages(case, network, initial)
    kernels = network.frame_kernels(initial.features, frames)
    found = network.frames(network.maps(images))
    if "initial_mask_signs" in case.arrays:
        torch.testing.assert_close(tuple(found), tuple(kernels), rtol=1e-4, atol=1e-3)
    check_clip_stages(case, network, kernels)
    results = {"scores", "labels", "queries", "mask_probabilities", "masks"}
    assert set(case.arrays) - case.compared == results  # of which test_video_knet_clip.py speaks
