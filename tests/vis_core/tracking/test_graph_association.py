"""The graph associator: the recorded tracks, and what a user may rely on."""

from pathlib import Path

import numpy as np
import pytest
import torch

import vis_core
from vis_core.errors import OptionError
from vis_core.masks import RunLengths
from vis_core.structures import Frame, TrackState
from vis_core.tracking import graph_pairs
from vis_core.tracking.associator import Window
from vis_core.tracking.graph_association import Detections, GraphAssociator, predicted_boxes
from vis_core.tracking.lifecycle import TrackLifecycle

HEIGHT, WIDTH = 360, 640
LOOKS = np.eye(8)


class Stream:
    """Frames, one after the other, linked by an associator."""

    def __init__(self, associator, max_lost_frames=30):
        self.associator, self.lifecycle = associator, TrackLifecycle(max_lost_frames, None)
        self.count = 0

    def step(self, found):
        """The instances of the next frame, and the id of each detection, None if it did not stay."""
        window = Window(self.count, 1, (HEIGHT, WIDTH))
        self.associator.forget(self.lifecycle.expire())
        rows, continues = self.associator.associate(found, window, self.lifecycle)
        frame = Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), self.count, self.count)
        classes, masks = found.class_scores[rows], [RunLengths(frame.size)] * len(rows)
        instances = self.lifecycle.update(frame, continues, classes.max(1, initial=0), classes, masks)
        ids = [None] * len(found.boxes)
        for row, track_id in zip(rows, instances.track_ids.tolist()):
            ids[row] = track_id
        self.associator.remember(ids, found, window)
        self.count += 1
        return instances, ids

    def ids(self, found):
        return self.step(found)[1]


def seen(*centres, looks=None, scores=0.9, labels=0, features=None):
    """Detections of 40x40 boxes."""
    middle = np.array(centres, np.float64).reshape(-1, 2)
    classes = np.zeros((len(middle), 3))
    classes[np.arange(len(middle)), labels] = scores
    embeddings = None if looks is None else torch.from_numpy(np.array(looks, np.float64)).float()
    return Detections(np.concatenate((middle - 20, middle + 20), 1), classes, embeddings, features)


NOTHING = seen()


@pytest.mark.parametrize("scene", range(4))
@pytest.mark.parametrize(("name", "weight"), [("graph", 1.0), ("plain", 0.0)])
def test_tracks_are_the_recorded_ones(shared, scene, name, weight):
    folder = shared / "parity" / "graph_matching" / "case_5_tracks"
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    frames, boxes, embeddings, classes = (
        inputs[f"{scene}/{key}"] for key in ("frame", "boxes", "embeddings", "classes")
    )
    associator = GraphAssociator(weight, class_aware=True, prune=False, birth_score=0, max_tracks=1000)
    stream, ids = Stream(associator, max_lost_frames=31), []  # the case forgets after the frame, not before the next
    for t in range(60):
        now = frames == t
        found = Detections(boxes[now], np.eye(classes.max() + 1)[classes[now]], torch.from_numpy(embeddings[now]))
        ids += stream.ids(found)
    recorded = expected[f"{scene}/{name}/ids"].tolist()
    assert len(set(zip(ids, recorded))) == len(set(ids)) == len(set(recorded))


def test_in_the_first_frame_all_that_is_sure_enough_begins_a_track():
    instances, ids = Stream(GraphAssociator()).step(seen((100, 100), (300, 100), scores=[0.9, 0.4]))
    assert ids == [1, None]
    assert instances.states.tolist() == [TrackState.NEW]


def test_what_is_not_sure_enough_to_begin_a_track_may_continue_one():
    stream = Stream(GraphAssociator())
    stream.step(seen((100, 100)))
    assert stream.ids(seen((102, 100), (300, 100), scores=0.3)) == [1, None]


def test_empty_frames_leave_tracks_as_they_are_but_older():
    stream = Stream(GraphAssociator())
    stream.step(NOTHING)
    stream.step(seen((100, 100)))
    for _ in range(3):
        instances, _ = stream.step(NOTHING)
        assert instances.states.tolist() == [TrackState.LOST]
    assert stream.ids(seen((100, 100))) == [1]


def test_a_track_is_expected_where_its_velocity_carries_it_for_three_frames():
    stream = Stream(GraphAssociator())
    for x in range(100, 260, 20):
        stream.step(seen((x, 100)))
    track = stream.associator.remembered[1]
    np.testing.assert_allclose(track.velocity, (20, 0), atol=0.2)
    middles = [predicted_boxes([track], 7 + gap)[0, [0, 2]].mean() for gap in (1, 2, 3, 4, 10)]
    np.testing.assert_allclose(middles, (260, 280, 300, 300, 300), atol=0.5)
    stream.step(NOTHING)
    assert stream.ids(seen((280, 100))) == [1]


def test_what_comes_back_elsewhere_after_long_is_known_by_its_look_alone():
    stream = Stream(GraphAssociator())
    stream.step(seen((100, 100), looks=LOOKS[:1]))
    for _ in range(10):
        stream.step(NOTHING)
    assert stream.ids(seen((100, 100), (500, 300), looks=LOOKS[[1, 0]])) == [2, 1]


def test_without_embeddings_place_links_for_five_frames():
    for absence, expected in ((5, 1), (6, 2)):
        stream = Stream(GraphAssociator())
        stream.step(seen((100, 100)))
        for _ in range(absence):
            stream.step(NOTHING)
        assert stream.ids(seen((100, 100))) == [expected]


def test_what_the_life_cycle_ended_is_not_found_again():
    stream = Stream(GraphAssociator(), max_lost_frames=3)
    stream.step(seen((100, 100), looks=LOOKS[:1]))
    for _ in range(4):
        stream.step(NOTHING)
    assert not stream.associator.remembered
    assert stream.ids(seen((100, 100), looks=LOOKS[:1])) == [2]


def test_edges_tell_look_alikes_apart_that_a_jump_of_the_camera_brings_to_each_others_place():
    # Two pairs of neighbours; the left ones of both look alike. The jump is as wide as the pairs are apart.
    looks = LOOKS[[0, 0, 1, 2]]
    before = seen((50, 100), (300, 100), (50, 150), (300, 150), looks=looks)
    after = seen((300, 100), (550, 100), (300, 150), (550, 150), looks=looks)
    for weight, expected in ((0.0, [2, 1, 3, 4]), (2.0, [1, 2, 3, 4])):
        stream = Stream(GraphAssociator(edge_weight=weight))
        stream.step(before)
        assert stream.ids(after) == expected


def test_order_of_the_detections_does_not_matter():
    random = np.random.default_rng(0)
    centres, looks = random.uniform(50, 300, (12, 2)), random.standard_normal((12, 8))
    stream, shuffled, orders = Stream(GraphAssociator()), Stream(GraphAssociator()), []
    for _ in range(6):
        centres = centres + random.normal(0, 4, centres.shape)
        order = random.permutation(12)
        straight = stream.ids(seen(*centres, looks=looks))
        other = shuffled.ids(seen(*centres[order], looks=looks[order]))
        orders.append([other[order.tolist().index(i)] for i in range(12)])
        assert straight == list(range(1, 13))
    assert all(each == orders[0] for each in orders)


def test_a_class_that_flickers_breaks_a_track_only_if_asked_to():
    for class_aware, expected in ((False, 1), (True, 2)):
        stream = Stream(GraphAssociator(class_aware=class_aware))
        stream.step(seen((100, 100)))
        assert stream.ids(seen((100, 100), labels=1)) == [expected]


def test_the_class_of_a_track_is_that_of_most_of_its_detections_not_of_the_last():
    stream = Stream(GraphAssociator())
    for label in (0, 0, 1):
        assert stream.ids(seen((100, 100), labels=label)) == [1]
    assert stream.ids(seen((105, 100), (95, 100), labels=[0, 1])) == [1, 2]
    assert stream.ids(seen((95, 100), (105, 100), labels=[1, 0])) == [2, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_box_or_score_that_is_not_finite_does_not_stay_and_harms_nothing_else(value):
    stream = Stream(GraphAssociator())
    stream.step(seen((100, 100), (300, 100), looks=LOOKS[:2]))
    found = seen((100, 100), (300, 100), (500, 100), looks=LOOKS[:3])
    found.boxes[0, 1] = value
    found.class_scores[2, 1] = value
    assert stream.ids(found) == [None, 2, None]
    assert stream.ids(seen((100, 100), (300, 100), looks=LOOKS[:2])) == [1, 2]


def test_what_has_an_embedding_that_is_not_finite_is_linked_by_place():
    stream = Stream(GraphAssociator())
    stream.step(seen((100, 100), (300, 100), looks=LOOKS[:2]))
    broken = LOOKS[:2].copy()
    broken[0, 3] = np.nan
    assert stream.ids(seen((100, 100), (300, 100), looks=broken)) == [1, 2]
    assert np.isfinite(stream.associator.remembered[1].embedding).all()
    assert stream.ids(seen((100, 100), (300, 100), looks=LOOKS[:2])) == [1, 2]


def test_embeddings_may_come_and_go():
    stream = Stream(GraphAssociator())
    for looks in (None, LOOKS[:2], None, LOOKS[:2, :4], None):
        assert stream.ids(seen((100, 100), (300, 100), looks=looks)) == [1, 2]


def test_larger_graphs_are_matched_without_edges_and_it_is_told(monkeypatch):
    monkeypatch.setattr(graph_pairs, "LARGEST", 20)
    monkeypatch.setattr(graph_pairs, "match_graphs", lambda *_, **__: pytest.fail("edges were used"))
    centres = [(20 + 60 * x, 20 + 60 * y) for x in range(7) for y in range(3)]
    stream = Stream(GraphAssociator())
    stream.step(seen(*centres))
    with pytest.warns(RuntimeWarning, match="graph of 21 nodes"):
        assert stream.ids(seen(*centres)) == list(range(1, 22))


def test_tracks_that_can_be_matched_with_nothing_take_part_only_if_not_pruned(monkeypatch):
    sizes = []
    matched = graph_pairs.match_graphs

    def counted(edges1, edges2, affinity, **options):
        sizes.append(list(affinity.shape))
        return matched(edges1, edges2, affinity, **options)

    monkeypatch.setattr(graph_pairs, "match_graphs", counted)
    for prune in (True, False):
        stream = Stream(GraphAssociator(prune=prune))
        stream.step(seen((100, 100), (160, 100), (500, 100)))
        stream.step(seen((100, 100), (160, 100), (300, 300)))
    assert sizes == [[2, 2], [3, 3]]


def test_a_full_table_ends_the_track_lost_longest_first():
    stream = Stream(GraphAssociator(max_tracks=2))
    stream.step(seen((100, 100)))
    stream.step(seen((300, 100)))
    stream.step(NOTHING)
    instances, ids = stream.step(seen((500, 100)))
    assert ids == [3]
    states = dict(zip(instances.track_ids.tolist(), instances.states.tolist()))
    assert states == {1: TrackState.ENDED, 2: TrackState.LOST, 3: TrackState.NEW}
    assert list(stream.associator.remembered) == [2, 3]


def test_a_full_table_of_tracks_that_are_seen_gives_way_to_a_better_one_alone():
    stream = Stream(GraphAssociator(max_tracks=2))
    stream.step(seen((100, 100), (300, 100), scores=[0.9, 0.6]))
    assert stream.ids(seen((100, 100), (300, 100), (500, 100), scores=[0.9, 0.6, 0.55])) == [1, 2, None]
    instances, ids = stream.step(seen((100, 100), (300, 100), (500, 100), scores=[0.9, 0.6, 0.8]))
    assert ids == [1, None, 3]
    assert dict(zip(instances.track_ids.tolist(), instances.states.tolist()))[2] == TrackState.ENDED


def test_of_more_detections_than_tracks_the_best_begin():
    assert Stream(GraphAssociator(max_tracks=2)).ids(
        seen((100, 100), (300, 100), (500, 100), scores=[0.7, 0.6, 0.8])
    ) == [1, None, 2]


def test_the_last_features_of_each_track_are_kept_with_their_age():
    stream = Stream(GraphAssociator(memory_features=3))
    for t in range(5):
        stream.step(seen((100, 100), features=torch.tensor([[t, 0.5]])))
    stream.step(NOTHING)
    stream.step(seen((300, 100), features=torch.tensor([[6, 0.5]])))
    features, ages = stream.associator.stored_features(7)
    assert features[:, 0].tolist() == [2, 3, 4, 6]
    assert ages.tolist() == [5, 4, 3, 1]
    stream.associator.forget([1])
    assert stream.associator.stored_features(7)[1].tolist() == [1]
    stream.associator.clear()
    assert [len(part) for part in stream.associator.stored_features(0)] == [0, 0]


def test_features_are_kept_neither_where_none_are_asked_for_nor_beside_a_broken_embedding():
    for looks, count in ((LOOKS[:1], 0), (LOOKS[:1] * np.nan, 8)):
        stream = Stream(GraphAssociator(memory_features=count))
        stream.step(seen((100, 100), looks=looks, features=torch.ones(1, 4)))
        assert not len(stream.associator.stored_features(1)[0])


def test_memory_is_flat_in_the_length_of_the_stream():
    random, sizes = np.random.default_rng(0), []
    stream = Stream(GraphAssociator(max_tracks=16, edge_weight=0))
    for _ in range(120):
        centres, looks = random.uniform(0, 640, (20, 2)), random.standard_normal((20, 32))
        stream.step(seen(*centres, looks=looks, scores=random.uniform(0.3, 1, 20), features=torch.zeros(20, 64)))
        sizes.append(stream.associator.nbytes())
        assert len(stream.associator.remembered) <= 16
    assert max(sizes) < 16 * (4 * 32 + 8 * 4 * 64 + 64)
    stream.associator.clear()
    assert stream.associator.nbytes() == 0


def test_a_system_may_say_what_of_its_instances_is_linked():
    found = seen((10, 10))

    def enlarged(given, window):
        assert window.size == (HEIGHT, WIDTH)
        return Detections(10 * given.boxes, given.class_scores)

    stream = Stream(GraphAssociator(describe=enlarged))
    assert stream.ids(found) == [1]
    np.testing.assert_array_equal(stream.associator.remembered[1].box, 10 * found.boxes[0])


def test_the_documented_lines_link_what_any_detector_finds(monkeypatch):
    text = (Path(__file__).parents[3] / "docs" / "graph_matching.md").read_text(encoding="utf-8")
    frames = [Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), t, t) for t in range(4)]
    monkeypatch.setattr(vis_core, "open_video", lambda name: frames)
    left = iter([seen((100, 100), (300, 100)), NOTHING, seen((104, 100), (500, 100), scores=[0.9, 0.2]), NOTHING])

    def detect(image):
        found = next(left)
        masks = np.ones((len(found.boxes), *image.shape[:2]), bool)
        return found.boxes, found.class_scores, found.embeddings, masks

    code = text.split("```python\n")[1].split("```")[0] + "    answers.append((ids, instances))\n"
    answers = []
    exec(code, {"detect": detect, "answers": answers})
    assert [ids for ids, _ in answers] == [{0: 1, 1: 2}, {}, {0: 1}, {}]
    assert answers[2][1].track_ids.tolist() == [1, 2]


def test_options_that_make_no_sense_are_refused():
    for options in ({"edge_weight": -1.0}, {"edge_weight": np.nan}, {"max_tracks": 0}, {"memory_features": -1}):
        with pytest.raises(OptionError, match=next(iter(options))):
            GraphAssociator(**options)
