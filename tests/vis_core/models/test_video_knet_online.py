"""Video K-Net's online system: its network, panoptic merge and identities as recorded, frame by frame."""

import numpy as np
import pytest
import torch

from tests.costs import by_cost
from tests.vis_core.models.recorded_video_knet import Case, FilledWeights, SmallBackbone
from vis_core.models.video_knet import build_online, panoptic, published
from vis_core.models.video_knet.network import STAGES, OnlineNetwork, Sizes
from vis_core.models.video_knet.online import VideoKNetOnlineModel
from vis_core.models.video_knet.panoptic import (
    Candidates,
    MaskSizes,
    Panoptic,
    Segment,
    candidates,
    mask_probabilities,
    merge,
)
from vis_core.models.video_knet.vocabulary import numbered_stuff
from vis_core.structures import Frame
from vis_core.system.driver import StreamSegmenter
from vis_core.system.option import check_options, options_of
from vis_core.tracking.associator import Window
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.quasi_dense import QuasiDenseAssociator

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


@pytest.mark.parametrize("name", by_cost(CASES, "online_kitti_swinb"))
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
    merge_of_frame = model._panoptic
    case.check(at + "panoptic", merge_of_frame.owners)
    rows = [
        (i, s.thing, s.label if s.thing else s.label + 1, s.candidate if s.thing else -1)
        for i, s in enumerate(merge_of_frame.segments, 1)
    ]
    case.check(at + "segments", np.array(rows, np.int64).reshape(-1, 4))
    case.check(at + "segment_scores", [s.score if s.thing else -1 for s in merge_of_frame.segments])
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
        numbers = [int(track_map[merge_of_frame.owners.numpy() == n][0]) for n in found.numbers]
        recorded = np.maximum(case.expected[at + "tracker_ids"], -1) + 1  # of what was kept, by position
        assert numbers == [*recorded.tolist(), *[0] * (len(numbers) - len(recorded))]
        case.compared.add(at + "tracker_ids")


SIZES = MaskSizes((32, 32), (32, 32), (32, 32))


def merged(scores, labels, masks, things, threshold=0.25):
    """Panoptic merge of candidates with kernels of their own."""
    found = Candidates(torch.arange(len(scores)), torch.tensor(labels), torch.tensor(scores), things)
    return merge(found, lambda kernels: masks[kernels], masks.flatten(1).amax(1), threshold, masks.shape[1:])


def halves(*columns, size=(4, 8)):
    """Masks that cover columns surely."""
    masks = torch.full((len(columns), *size), 0.01)
    for mask, part in zip(masks, columns):
        mask[:, part] = 0.99
    return masks


def test_each_pixel_has_one_owner_and_stuff_begins_where_things_end():
    masks = halves(slice(0, 3), slice(0, 8))
    found = merged([0.9, 0.5], [1, 0], masks, things=1)
    assert [(s.thing, s.label, s.candidate) for s in found.segments] == [(True, 1, 0), (False, 0, 1)]
    assert found.owners[0].tolist() == [1, 1, 1, 2, 2, 2, 2, 2]


def test_what_is_unsure_or_mostly_hidden_leaves_its_pixels_to_nobody():
    found = merged([0.9, 0.5], [0, 0], halves(slice(0, 4), slice(0, 8)), things=2)  # half of the second is hidden
    assert found.owners[0].tolist() == [1] * 4 + [0] * 4
    found = merged([0.2, 0.1], [0, 0], halves(slice(0, 4), slice(4, 8)), things=1)  # stuff has no threshold
    assert found.owners[0].tolist() == [0] * 4 + [1] * 4


def test_without_stuff_what_no_mask_covers_is_nobodys():
    masks = halves(slice(0, 3), slice(5, 7))
    assert merged([0.9, 0.8], [0, 1], masks, things=2).owners[0].tolist() == [1, 1, 1, 0, 0, 2, 2, 0]
    assert merged([0.9, 0.8], [0, 0], masks, things=1).owners[0].tolist() == [1, 1, 1, 1, 1, 2, 2, 1]


def test_without_stuff_what_is_not_sure_enough_takes_no_pixel_from_others():
    masks = halves(slice(0, 8), slice(0, 4))
    assert merged([0.5, 0.2], [0, 1], masks, things=2).owners[0].tolist() == [1] * 8
    assert not merged([0.1, 0.1], [0, 1], masks, things=2).segments


def test_only_masks_that_can_win_a_pixel_are_made_and_the_owners_are_the_same():
    random = torch.Generator().manual_seed(0)
    masks = torch.rand((60, 6, 7), generator=random) ** torch.linspace(0.2, 40, 60)[:, None, None]
    scores = torch.rand(60, generator=random).sort(descending=True).values
    made = []

    def masks_of(kernels):
        made.extend(kernels.tolist())
        return masks[kernels]

    found = Candidates(torch.arange(60), torch.zeros(60, dtype=torch.int64), scores, 50)
    owner, _ = panoptic._owners(found, list(range(60)), masks_of, masks.flatten(1).amax(1), (6, 7))
    assert torch.equal(owner, (masks * scores[:, None, None]).argmax(0))
    assert len(made) < 60


def test_of_equal_candidates_the_first_owns_the_pixel():
    found = merged([0.5, 0.5], [0, 1], halves(slice(0, 8), slice(0, 8)), things=2)
    assert [s.candidate for s in found.segments] == [0]


def test_things_and_stuff_compete_in_their_own_columns():
    probabilities = torch.tensor([[0.9, 0.1, 0.99], [0.3, 0.6, 0.0], [0.99, 0.99, 0.4]])
    found = candidates(probabilities, things=2)
    assert (found.kernels.tolist(), found.labels.tolist(), found.things) == ([0, 1, 1, 0, 2], [0, 1, 0, 1, 0], 4)


def test_masks_are_resized_by_way_of_the_padded_image():
    logits = torch.full((1, 4, 4), -9.0)
    logits[:, :, :2] = 9
    mask = mask_probabilities(logits, MaskSizes((32, 32), (30, 20), (60, 40))) > 0.5
    assert mask.shape == (1, 60, 40) and mask[0, :, :30].all() and not mask[0, :, 34:].any()
    assert mask_probabilities(logits, SIZES).shape == (1, 32, 32)


def small_network(stuff=2, **options):
    torch.manual_seed(4)
    network = OnlineNetwork(
        SmallBackbone(), "fpn", 3, stuff, **options, sizes=Sizes(kernels=8, width=32, heads=8, hidden=64)
    )
    network.initialise()
    for key, x in network.state_dict().items():
        if "neck" in key and x.dim() == 4:
            x.normal_(0, x[0].numel() ** -0.5)
        if key.endswith("fc_cls.bias"):
            x.zero_()  # else nothing is sure enough to begin a track
        if key.endswith(("fc_cls.weight", "fc_mask.weight", "fc_mask.bias", "association.output.weight")):
            x.normal_(0, 1 if "mask" in key else 0.3)
    return network.eval().requires_grad_(False)


def stream(network, **options):
    names = ("a", "b", "c")
    model = VideoKNetOnlineModel(network, names, numbered_stuff(names, network.stuff), **options)
    return StreamSegmenter(model, QuasiDenseAssociator(), TrackLifecycle(5, None))


def frames_like(count, size=(60, 90)):
    """Blobs that move over noise."""
    random = np.random.default_rng(0)
    ground = random.integers(0, 255, (*size, 3))
    frames = []
    for t in range(count):
        image = ground.copy()
        image[10:40, 5 + t : 35 + t] = (200, 30, 60)
        frames.append(Frame(image.astype(np.uint8), 10 * t, t))
    return frames


@pytest.mark.parametrize("stuff", [0, 2])
@pytest.mark.parametrize("options", [{"linking": "ffn"}, {"linking": "update", "fusion": True}, {"linking": None}])
def test_a_stream_answers_each_frame_at_once_with_masks_that_do_not_overlap(options, stuff):
    segmenter = stream(small_network(stuff, **options), score_threshold=0.0)
    shown = 0
    for frame in frames_like(5):
        (answer,) = segmenter.step(frame)
        assert (answer.index, answer.size) == (frame.index, frame.size)
        masks = answer.dense_masks()
        assert masks.sum(0).max(initial=0) <= 1
        semantic = segmenter.model.semantic_map()
        assert semantic.shape == frame.size and semantic.max() <= 3 + stuff
        for mask in answer.masks[: answer.visible.sum()]:
            assert len(np.unique(semantic[mask.dense()])) == 1
            shown += 1
    assert shown


def test_a_frame_is_linked_to_the_one_before_and_a_new_stream_to_none():
    network = small_network(linking="update", fusion=True)
    frames = frames_like(3)

    def last_kernels(sequence):
        segmenter = stream(network)
        for frame in sequence:
            segmenter.step(frame)
        return segmenter.model.previous

    assert not torch.equal(last_kernels(frames), last_kernels(frames[2:]))
    segmenter = stream(network)
    list(segmenter.run(frames))  # which ends the stream
    segmenter.step(frames[2])
    torch.testing.assert_close(segmenter.model.previous, last_kernels(frames[2:]))


def test_the_state_of_a_stream_does_not_grow():
    segmenter, sizes = stream(small_network(), score_threshold=0.0), []
    for frame in frames_like(20):
        segmenter.step(frame)
        sizes.append(segmenter.state_bytes())
    assert max(sizes[10:]) <= max(sizes[:10]) * 1.05
    segmenter.reset()
    assert segmenter.state_bytes() < 1000 and segmenter.model.semantic_map() is None


def test_things_that_no_pixel_names_as_one_have_the_boxes_of_their_masks_unless_published():
    network = small_network()
    owners = torch.zeros(32, 32, dtype=torch.int64)
    owners[4:9, 20:30] = 1
    found = Panoptic(owners, [Segment(True, 0, 0, 0, 0.9)])
    semantic = torch.zeros(1, 5, 4, 4)
    semantic[:, 4] = 5  # stuff everywhere
    for published_boxes, box in ((False, [20, 4, 29, 8]), (True, [-1, -1, 10, 10])):
        model = stream(network, published=published_boxes).model
        assert model._boxes(found, [1], semantic, SIZES).tolist() == [box]
    semantic[:, 1, :, 3:] = 9
    assert model._boxes(found, [1], semantic, SIZES)[0, 0] > 20


def test_kernels_can_take_the_place_of_embeddings():
    network = small_network(linking=None)
    frame = frames_like(1)[0]
    found = []
    for association in ("embedding", "kernel"):
        model = stream(network, association=association, score_threshold=0.0).model
        with torch.inference_mode():
            found.append(model.segment([model.encode(frame)], Window(0, 1, frame.size)))
    assert len(found[0]) == len(found[1]) > 0
    torch.testing.assert_close(network.association(found[1].embeddings), found[0].embeddings)
