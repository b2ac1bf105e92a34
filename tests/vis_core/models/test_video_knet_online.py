"""Video K-Net's online system: its network, panoptic merge and identities as recorded, frame by frame."""

import numpy as np
import pytest
import torch

from tests.vis_core.models.recorded_video_knet import Case, FilledWeights
from vis_core.models.video_knet import build_online, published
from vis_core.models.video_knet.network import STAGES
from vis_core.structures import Frame
from vis_core.system.option import check_options, options_of

CPU = torch.device("cpu")
CASES = {
    "online_kitti": "online_kitti_r50",
    "online_kitti_swinb": "online_kitti_swinb",
    "online_vipseg": "online_vipseg_r50",
}


@pytest.fixture(scope="module")
def weights(shared, fill):
    return FilledWeights(shared, fill)


def built(tensors, **options):
    return build_online(published.convert(tensors), {}, CPU, "fp32", **check_options(options_of(build_online), options))


class Watch:
    """What a module was given and gave, under a name."""

    def __init__(self):
        self.found, self.hooks = {}, []

    def __call__(self, name, module, given=None):
        def keep(_, inputs, output):
            self.found[name] = output
            if given is not None:
                self.found[given] = inputs[0]

        self.hooks.append(module.register_forward_hook(keep))


def watched(network):
    """The parts of the network that the cases recorded."""
    watch = Watch()
    for number, stage in enumerate(network.frame_stages):
        watch(f"stage_{number}_updated", stage.kernel_update, given=f"stage_{number}_pooled")
        watch(f"stage_{number}_kernels", stage)
    if network.linking is not None:
        watch("linked_kernels", network.linking)
        if network.linking.update is None:
            watch("attention_previous_norm", network.linking.norm)
        else:
            watch("attention_previous_update_track", network.linking.update)
            watch("attention_previous_norm_track", network.linking.norm)
    if network.fusion is not None:
        watch("attention_previous_update_link", network.fusion.update)
        watch("attention_previous_norm_link", network.fusion.norm)
        watch("link_ffn_norm_link", network.fusion)
    return watch


def check_network(case, at, network, image, previous):
    """The frame's maps and stages, by the network's own steps; returns what the last stage gives."""
    maps = network.maps(image)
    for level, x in enumerate(maps):
        if f"{at}neck_p{level + 2}" in case.arrays:
            case.check(f"{at}neck_p{level + 2}", x)
    found = {}
    pyramid = network.initial_head.pyramid
    parts = {"localization_0": pyramid.localisation, "localization_1": pyramid.semantic}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: found.update({name: output}))
        for name, module in parts.items()
    ]
    initial = network.initial(maps)
    for hook in hooks:
        hook.remove()
    out = network.joined(initial)
    found |= {"x_features": initial.features, "seg_logits": initial.semantic}
    found |= {"initial_masks": out.masks, "initial_kernels": out.kernels}
    for number in range(STAGES - 1):
        out = network.stage(number, initial.features, out, classes=True)
        found |= {f"stage_{number}_{part}": getattr(out, part) for part in ("logits", "masks", "kernels")}
    last = network.last_stage(initial.features, out, previous)
    found |= {f"stage_2_{part}": getattr(last.outputs, part) for part in ("logits", "masks", "kernels")}
    for name, x in found.items():
        if at + name in case.arrays:
            case.check(at + name, x[0])
    return last


@pytest.mark.parametrize("name", CASES)
def test_networks_segments_and_identities_are_as_recorded(name, shared, weights):
    case = Case(shared, name)
    segmenter = built(weights.tensors(CASES[name]), published_id_alignment=True)
    model, network, associator = segmenter.model, segmenter.network, segmenter.associator
    images = case.inputs["images"]
    assert (network.things, network.stuff) == (case.config["num_thing_classes"], case.config["num_stuff_classes"])
    watch, seen = watched(network), []
    segment, remember = model.segment, associator.remember
    model.segment = lambda *x: seen.append(segment(*x)) or seen[-1]
    kept = []
    associator.remember = lambda *x: kept.append(associator._kept) or remember(*x)
    for number, image in enumerate(images):
        at, previous = f"f{number}_", model.previous
        with torch.inference_mode():
            inputs = model.transform(image)
            case.check(at + "network_input", inputs[0])
            check_network(case, at, network, inputs, previous)
        (answer,) = segmenter.step(Frame(image, 10 * number, number))
        for part, x in watch.found.items():
            if at + part in case.arrays:
                case.check(at + part, x[0])
        check_segments(case, at, model, seen[-1], kept[-1], answer)
    case.check_all_compared()


def check_segments(case, at, model, found, kept, answer):
    panoptic = model._panoptic
    case.check(at + "panoptic", panoptic.owners)
    rows = [
        (i, s.thing, s.label if s.thing else s.label + 1, s.candidate if s.thing else -1)
        for i, s in enumerate(panoptic.segments, 1)
    ]
    case.check(at + "segments", np.array(rows, np.int64).reshape(-1, 4))
    case.check(at + "segment_scores", [s.score if s.thing else -1 for s in panoptic.segments])
    if at + "boxes" in case.arrays:
        case.check(at + "boxes", np.concatenate((found.boxes, found.scores[:, None]), 1))
        case.check(at + "labels", found.labels)
        case.check(at + "embeddings", found.embeddings)
        case.check(at + "tracker_kept_boxes", kept.boxes)
    track_map = np.zeros(answer.size, np.int64)
    for row in np.flatnonzero(answer.visible):
        track_map[answer.masks[row].dense()] = answer.track_ids[row]
    case.check(at + "track_map", track_map)
    semantic = model.semantic_map()
    case.check(at + "semantic_map", np.where(semantic == 0, 0, semantic.astype(np.int64) - 1))
    if at + "tracker_ids" in case.arrays:
        numbers = [int(track_map[panoptic.owners.numpy() == n][0]) for n in found.numbers]
        recorded = np.maximum(case.expected[at + "tracker_ids"], -1) + 1  # of what was kept, by position
        assert numbers == [*recorded.tolist(), *[0] * (len(numbers) - len(recorded))]
        case.compared.add(at + "tracker_ids")
