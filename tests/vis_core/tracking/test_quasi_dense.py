"""Association by embeddings: the recorded streams, frame by frame, and what a user may rely on."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from vis_core.masks import RunLengths
from vis_core.structures import Frame, TrackState
from vis_core.tracking.associator import Window
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.quasi_dense import QuasiDenseAssociator

SIZE = (4, 4)
NAMES = {
    "init_score_thr": "birth_score",
    "obj_score_thr": "object_score",
    "match_score_thr": "min_similarity",
    "memo_tracklet_frames": "memory_frames",
    "memo_backdrop_frames": "backdrop_frames",
    "memo_momentum": "momentum",
    "nms_conf_thr": "suppression_similarity",
    "nms_backdrop_iou_thr": "backdrop_overlap",
    "nms_class_iou_thr": "duplicate_overlap",
    "with_cats": "same_label",
    "match_metric": "metric",
}


@dataclass
class Detections:
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    embeddings: torch.Tensor


class Stream:
    """Frames as the driver hands them to an associator and a life cycle, every detection that stays being shown."""

    def __init__(self, **options):
        self.associator, self.lifecycle, self.number = QuasiDenseAssociator(**options), TrackLifecycle(None, None), 0

    def step(self, found):
        """The tracks of the detections, None for those that do not stay; and the frame's instances."""
        window = Window(self.number, 1, SIZE)
        self.associator.forget(self.lifecycle.expire())
        rows, continued = self.associator.associate(found, window, self.lifecycle)
        ids = [None] * len(found.scores)
        frame = Frame(np.zeros((*SIZE, 3), np.uint8), 10 * self.number, self.number)
        count = len(rows)
        instances = self.lifecycle.update(
            frame, continued, np.ones(count), np.ones((count, 2)), [RunLengths(SIZE)] * count
        )
        for row, track_id in zip(rows, instances.track_ids[:count].tolist()):
            ids[row] = track_id
        self.kept = self.associator._kept
        self.associator.remember(ids, found, window)
        self.number += 1
        return ids, instances


def detections(scores, embeddings, boxes=None, labels=None):
    count = len(scores)
    apart = [[30 * i, 0, 30 * i + 20, 20] for i in range(count)]
    return Detections(
        np.array(apart if boxes is None else boxes, np.float32).reshape(count, 4),
        np.array(scores, np.float32),
        np.array([0] * count if labels is None else labels, np.int64),
        torch.tensor(embeddings, dtype=torch.float32).reshape(count, -1 if count else 2),
    )


@pytest.mark.parametrize("run", ["published", "softmax", "cosine"])
def test_detections_are_associated_as_recorded(run, shared):
    folder = shared / "parity" / "video_knet" / "case_tracker"
    record = json.loads((folder / "case.json").read_text())
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    given, compared = record["config"]["runs"][run], 0
    stream = Stream(**{NAMES[name]: value for name, value in given["tracker"].items()})

    def check(name, found):
        nonlocal compared
        entry, compared = record["arrays"][name], compared + 1
        tolerance = (0, 0) if entry.get("exact") else (entry["rtol"], entry["atol"])
        np.testing.assert_allclose(np.asarray(found), expected[name], *tolerance, err_msg=name)

    assert given["frame_ids"] == list(range(len(given["frame_ids"])))
    for number in given["frame_ids"]:
        at = f"{run}_f{number}_"
        boxes, labels = inputs[f"{at}boxes"], inputs[f"{at}labels"]
        found = Detections(boxes[:, :4], boxes[:, 4], labels, torch.from_numpy(inputs[f"{at}embeddings"]))
        memory = stream.associator.remembered
        ids, _ = stream.step(found)
        if not len(boxes):
            assert f"{at}ids" not in expected
            continue
        kept = stream.kept
        check(f"{at}kept_boxes", kept.boxes)
        check(f"{at}kept_labels", kept.labels)
        recorded = np.maximum(expected[f"{at}ids"], -1)  # neither the free ones nor the suppressed stay
        assert [-1 if ids[row] is None else ids[row] - 1 for row in kept.places] == recorded.tolist()
        compared += 1
        check(f"{at}memory_ids", [i - 1 for i in memory])
        check(f"{at}memory_last_frame", [x.last_frame for x in memory.values()])
        check(f"{at}memory_embeddings", np.stack([x.embedding for x in memory.values()]))
        check(f"{at}memory_velocity", np.stack([x.velocity for x in memory.values()]))
        check(f"{at}backdrop_embeddings", torch.cat([x.embeddings for x in stream.associator.backdrops]))
    assert compared == sum(name.startswith(f"{run}_") for name in expected)


def test_a_track_goes_on_by_its_embedding_wherever_its_object_is():
    stream = Stream()
    (first, second), _ = stream.step(detections([0.9, 0.8], [[6, 0], [0, 6]]))
    assert (first, second) == (1, 2)
    assert stream.step(detections([0.9, 0.8], [[0, 6], [6, 0]]))[0] == [second, first]


def test_one_track_is_continued_once_by_the_better_detection():
    stream = Stream()
    stream.step(detections([0.9], [[6, 0]]))
    ids, _ = stream.step(detections([0.6, 0.9], [[6, 0], [6, 0]]))
    assert ids == [2, 1]


def test_of_two_detections_of_one_place_the_weaker_is_left_out():
    ids, _ = Stream().step(
        detections([0.9, 0.8, 0.7], [[6, 0], [0, 6], [6, 6]], [[0, 0, 20, 20], [1, 0, 21, 20], [60, 0, 80, 20]])
    )
    assert ids == [1, None, 2]


def test_as_published_identities_are_painted_by_position_after_one_was_left_out():
    boxes = [[0, 0, 20, 20], [1, 0, 21, 20], [60, 0, 80, 20]]
    found = detections([0.9, 0.8, 0.7], [[6, 0], [0, 6], [6, 6]], boxes)
    assert Stream(published_alignment=True).step(found)[0] == [1, 2, None]


def test_what_is_not_sure_enough_begins_no_track_and_draws_its_like_away_from_the_tracks():
    stream = Stream()
    assert stream.step(detections([0.9, 0.33], [[6, 0], [0, 6]]))[0] == [1, None]
    assert stream.step(detections([0.33], [[1, 6]]))[0] == [None]
    assert stream.step(detections([0.33], [[6, 0]]))[0] == [1]


@pytest.mark.parametrize(("same_label", "expected"), [(True, 2), (False, 1)])
def test_another_label_is_another_object_if_asked(same_label, expected):
    stream = Stream(same_label=same_label)
    stream.step(detections([0.9], [[6, 0]], labels=[0]))
    assert stream.step(detections([0.9], [[6, 0]], labels=[1]))[0] == [expected]


def test_a_track_that_was_not_seen_for_long_ends_once_and_is_forgotten():
    stream = Stream(memory_frames=3, metric="cosine")
    stream.step(detections([0.9], [[6, 0]]))
    states = [stream.step(detections([0.9], [[-6, 0]]))[1] for _ in range(5)]
    of_first = [x.states[x.track_ids == 1].tolist() for x in states]
    assert of_first == [[TrackState.LOST]] * 3 + [[TrackState.ENDED], []]
    assert list(stream.associator.remembered) == [2]


def test_frames_without_detections_change_nothing():
    stream = Stream(memory_frames=3)
    stream.step(detections([0.9], [[6, 0]]))
    for _ in range(6):
        assert stream.step(detections([], []))[0] == []
    assert stream.step(detections([0.9], [[6, 0]]))[0] == [1]


def test_memory_does_not_grow_with_the_stream():
    stream, random = Stream(), np.random.default_rng(0)
    sizes = []
    for _ in range(40):
        stream.step(detections([0.9, 0.9, 0.2, 0.2], random.normal(0, 5, (4, 8))))
        sizes.append(stream.associator.nbytes())
    track, backdrop = (8 + 5 + 5) * 4, 8 * 4 + 8
    assert 0 < max(sizes) <= 5 * 2 * track + 4 * backdrop  # two may begin in each of five frames
    stream.associator.clear()
    assert stream.associator.nbytes() == 0


def test_a_new_stream_remembers_nothing_of_the_last_one():
    stream = Stream()
    stream.step(detections([0.9, 0.33], [[6, 0], [0, 6]]))
    stream.associator.clear()
    stream.lifecycle.reset()
    assert stream.step(detections([0.9], [[6, 0]]))[0] == [2]
