"""The online GMP-VIS on a stream: small random networks whose classes are made sure."""

import numpy as np
import pytest
import torch

from tests.vis_core.models.gmp_vis.small_online import small_network
from vis_core.models.gmp_vis.online import GMPVISModel
from vis_core.structures import Frame, TrackState
from vis_core.system.driver import StreamSegmenter
from vis_core.tracking.associator import Window
from vis_core.tracking.graph_association import GraphAssociator
from vis_core.tracking.lifecycle import TrackLifecycle

NAMES = ("disc", "box", "star")
SIZE = (64, 96)


def sure_network(temporal=True):
    """A network whose queries each name a class, surely, and whose masks differ."""
    network = small_network(len(NAMES), temporal).eval().requires_grad_(False)
    network.query_embed.weight.mul_(3)
    torch.nn.init.normal_(network.class_embed.weight, std=0.4)
    network.class_embed.bias[-1] = -9
    last = network.insmask_head[-1]
    last.weight.mul_(20)
    last.bias.zero_()
    return network


@pytest.fixture(scope="module")
def network():
    return sure_network()


def segmenter(network, max_lost_frames=30, **options):
    associator = GraphAssociator(birth_score=options.pop("birth_score", 0.5))
    model = GMPVISModel(network, NAMES, associator, None, **options)
    return StreamSegmenter(model, associator, TrackLifecycle(max_lost_frames, None))


def frames(count, size=SIZE, moved=2):
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (*size, 3), np.uint8)
    return [Frame(np.roll(image, moved * t, 1), t * 100_000_000, t) for t in range(count)]


def test_every_frame_is_answered_at_once_and_tracks_go_on(network):
    runner = segmenter(network, score_threshold=0.0)
    answers = [runner.step(frame) for frame in frames(6, moved=0)]
    assert [len(found) for found in answers] == [1] * 6 and runner.delay == 0
    first, *others = [found[0] for found in answers]
    assert len(first) and set(first.states) == {TrackState.NEW}
    for instances in others:
        np.testing.assert_array_equal(instances.track_ids, first.track_ids)
        assert set(instances.states) == {TrackState.TRACKED}


def test_it_is_what_its_parts_say(network):
    frame = frames(1)[0]
    associator = GraphAssociator()
    model = GMPVISModel(network, NAMES, associator, None, score_threshold=0.2)
    found = model.segment([model.encode(frame)], Window(0, 1, SIZE))
    with torch.no_grad():
        maps = network.maps(model.transform(frame.image))
        out = network.frames(maps)
        scores = out.logits[-1, 0].softmax(1)[:, :-1]
        masks = network.masks(out.queries[-1], out.memory, network.mask_parts(out.memory, maps))[0]
    assert len(found)
    for row in range(len(found)):
        query = int((scores.numpy() == found.class_scores[row]).all(1).nonzero()[0][0])
        np.testing.assert_allclose(found.mask_logits[row], masks[query], rtol=1e-4, atol=1e-4)
        x, y, width, height = (out.boxes[-1, 0, query] * torch.tensor([96, 64, 96, 64.0])).tolist()
        np.testing.assert_allclose(
            found.boxes[row], (x - width / 2, y - height / 2, x + width / 2, y + height / 2), rtol=1e-4, atol=1e-3
        )
    assert (np.diff(found.frame_scores(0, np.zeros(len(found), np.int64))) <= 0).all()
    torch.testing.assert_close(found.embeddings, network.matching(found.features))


def test_masks_that_overlap_and_those_without_a_pixel_are_left_out(network):
    model = GMPVISModel(network, NAMES, GraphAssociator(), None, score_threshold=0.0)
    found = model.segment([model.encode(frames(1)[0])], Window(0, 1, SIZE))
    shown = (found.mask_logits > 0).flatten(1).float()
    assert shown.any(1).all()
    common = shown @ shown.T
    union = shown.sum(1)[:, None] + shown.sum(1) - common
    assert ((common / union).triu(1) <= 0.6).all()


def test_no_mask_is_made_of_what_is_not_sure(network, monkeypatch):
    asked = []
    masks = type(network).masks
    monkeypatch.setattr(
        type(network), "masks", lambda self, q, *rest: asked.append(q.shape[1]) or masks(self, q, *rest)
    )
    list(segmenter(network, score_threshold=0.999999).run(frames(2)))
    list(segmenter(network, score_threshold=0.0, max_instances=2).run(frames(2)))
    assert asked == [0, 0, 2, 2]


def test_an_empty_frame_ages_the_tracks(network):
    runner = segmenter(network, max_lost_frames=2)
    (first,) = runner.step(frames(1)[0])
    runner.model.score_threshold = 2.0
    states = []
    for frame in frames(4)[1:]:
        (instances,) = runner.step(frame)
        states.append({TrackState(state).name for state in instances.states})
    assert len(first) and states == [{"LOST"}, {"LOST"}, {"ENDED"}]


def test_embeddings_look_at_what_the_associator_stored():
    network = sure_network()
    for parameter in network.matching.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    runner = segmenter(network)
    frame = frames(1)[0]
    runner.step(frame)
    runner.step(frame)
    features, ages = runner.associator.stored_features(2)
    assert len(features) == 2 * len(runner.associator.remembered) and sorted(set(ages.tolist())) == [1, 2]
    found = runner.model.segment([runner.model.encode(frame)], Window(2, 1, SIZE))
    torch.testing.assert_close(found.embeddings, network.matching(found.features, features, ages))
    assert (found.embeddings - network.matching(found.features)).abs().max() > 1e-3


def test_memory_is_flat(network):
    runner = segmenter(network, max_lost_frames=3)
    sizes = []
    for frame in frames(40):
        runner.step(frame)
        sizes.append(runner.state_bytes())
    assert max(sizes[20:]) <= max(sizes[:20])


def test_a_prefetched_frame_gives_the_same(network):
    first, second = (list(segmenter(network).run(iter(frames(5)), prefetch=prefetch)) for prefetch in (False, True))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.track_ids, other.track_ids)
        np.testing.assert_array_equal(one.dense_masks(), other.dense_masks())


def test_frames_of_another_size_begin_anew(network):
    runner = segmenter(network)
    (first,) = runner.step(frames(1)[0])
    (second,) = runner.step(frames(1, size=(48, 64))[0])
    new = second.track_ids[second.scores > 0]
    assert len(first) and len(new) and not set(new.tolist()) & set(first.track_ids.tolist())
