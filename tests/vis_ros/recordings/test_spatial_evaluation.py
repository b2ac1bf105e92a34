"""Errors in space from a rendered recording and its truth, with a segmenter that knows the masks."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from vis_core.data.synthetic_depth import CLASS_NAMES, Solid, depth_video
from vis_core.errors import InputError
from vis_core.files.findings import InputWarning
from vis_core.masks import RunLengths
from vis_core.structures import Instances, TrackState
from vis_core.system.segmenter import Segmenter
from vis_ros.recordings.bag_evaluation import answer_directly, evaluate_bag
from vis_ros.recordings.bag_writer import write_bag
from vis_ros.recordings.bags import ImageBag
from vis_ros.recordings.depth_scene import TOPICS, write_depth_scene

SOLIDS = (
    Solid("ball", (0.5, 0.5, 0.5), (-0.6, 0.3, 3.0), (0.4, 0.0, 0.0)),
    Solid("box", (0.5, 0.8, 0.5), (0.7, 0.4, 3.2), (-0.2, 0.0, 0.3), yaw=0.5, turn=0.6),
)
LENGTH = 16


class Knowing:
    """Answers with the masks of a scene, under ids that the frame decides."""

    delay, prefetches, class_names = 0, False, CLASS_NAMES

    def __init__(self, video, ids=lambda t: [5, 6], seen=lambda t: [True, True]) -> None:
        self._video, self._ids, self._seen = video, ids, seen

    def step(self, frame):
        (t,) = np.flatnonzero(self._video.stamps == frame.stamp).tolist()
        seen = np.array(self._seen(t))
        masks = [self._video.mask(t, i) if seen[i] else RunLengths(frame.size) for i in range(2)]
        states = np.where(seen, TrackState.TRACKED, TrackState.LOST)
        order = np.argsort(~seen, kind="stable")
        answer = Instances(
            frame.stamp, frame.index, frame.size, self._ids(t), [0, 1], seen * 0.9, [0.9, 0.9], np.zeros((2, 4)),
            tuple(masks), states, [t, t], [0, 0], [frame.stamp] * 2,
        )  # fmt: skip
        return [answer[order]]

    def flush(self):
        return []

    def reset(self):
        pass

    def run(self, frames):
        return Segmenter.run(self, frames)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    video = depth_video(SOLIDS, LENGTH)
    bag, truth = write_depth_scene(video, tmp_path_factory.mktemp("scene"))
    return SimpleNamespace(video=video, bag=bag, truth=truth)


def score(scene, out, segmenter, truth=None, **arguments):
    with ImageBag(scene.bag, TOPICS["image"][0]) as bag:
        return evaluate_bag(
            bag, truth or scene.truth, out, lambda pairing, take, _: answer_directly(bag, segmenter, pairing, take),
            **arguments,
        )  # fmt: skip


def test_whole_objects_are_placed_to_three_centimetres_and_their_velocity_to_a_tenth(scene, tmp_path):
    metrics = score(scene, tmp_path, Knowing(scene.video))
    spatial = metrics["spatial"]
    assert json.loads((tmp_path / "metrics.json").read_text())["spatial"] == spatial
    counts = {name: spatial[name] for name in ("objects", "matched", "placed", "id_switches")}
    assert counts == {"objects": 2 * LENGTH, "matched": 2 * LENGTH, "placed": 2 * LENGTH, "id_switches": 0}
    assert spatial["position_m"]["max"] < 0.03 and spatial["velocity_m_s"]["max"] < 0.1
    assert spatial["size_m"]["mean"] < 0.2
    assert spatial["depth"] == {
        "topic": TOPICS["depth"][0], "images_with_depth": LENGTH, "images_without_depth": 0, "too_few_points": 0,
    }  # fmt: skip


def test_ids_that_change_and_objects_that_are_not_found_are_counted(scene, tmp_path):
    segmenter = Knowing(scene.video, lambda t: [5, 6] if t < 8 else [5, 9], lambda t: [t < 12, True])
    spatial = score(scene, tmp_path, segmenter)["spatial"]
    assert (spatial["objects"], spatial["matched"], spatial["id_switches"]) == (2 * LENGTH, 2 * LENGTH - 4, 1)


def test_a_truth_that_is_elsewhere_is_that_far_away(scene, tmp_path):
    content = json.loads(scene.truth.read_text())
    for annotation in content["annotations"]:
        annotation["positions"] = [[x + 1, y, z] for x, y, z in annotation["positions"]]
        annotation["velocities"] = None
        annotation["sizes"][3] = None
    moved = tmp_path / "moved.json"
    moved.write_text(json.dumps(content))
    spatial = score(scene, tmp_path / "out", Knowing(scene.video), moved)["spatial"]
    assert abs(spatial["position_m"]["median"] - 1) < 0.03 and spatial["velocity_m_s"] is None


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([[0, 0, 1]], r"annotations\[1\]: positions holds 1 entries; give \[x, y, z\] or null for each of the 16"),
        ([[0, 0, 1]] * 15 + [[0, 1]], r"positions\[15\] is \[0, 1\]; give \[x, y, z\] in metres, or null"),
        ("far", "positions holds"),
    ],
)
def test_a_truth_of_another_form_is_refused_by_its_place(scene, tmp_path, values, told):
    content = json.loads(scene.truth.read_text())
    content["annotations"][1]["positions"] = values
    path = tmp_path / "faulty.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=told):
        score(scene, tmp_path / "out", Knowing(scene.video), path)


def test_without_depth_in_the_recording_the_rest_is_scored_and_it_is_said(scene, tmp_path):
    write_bag((scene.video.frame(t) for t in range(LENGTH)), tmp_path / "bag")
    flat = replace_bag(scene, tmp_path / "bag")
    with pytest.warns(InputWarning, match="positions are not scored: .*no topic of depth"):
        metrics = score(flat, tmp_path / "out", Knowing(scene.video))
    assert metrics["scores"]["AP"] == pytest.approx(1) and "spatial" not in metrics
    with pytest.raises(InputError, match=r"no topic of depth /elsewhere .*--depth-topic"):
        score(flat, tmp_path / "other", Knowing(scene.video), depth_topic="/elsewhere")


def replace_bag(scene, bag):
    return SimpleNamespace(**{**vars(scene), "bag": bag})


def test_a_depth_topic_without_a_truth_in_space_is_refused(scene, tmp_path):
    content = json.loads(scene.truth.read_text())
    content["annotations"] = [
        {key: value for key, value in a.items() if key not in ("positions", "sizes", "velocities")}
        for a in content["annotations"]
    ]
    path = tmp_path / "flat.json"
    path.write_text(json.dumps(content))
    assert "spatial" not in score(scene, tmp_path / "out", Knowing(scene.video), path)
    with pytest.raises(InputError, match="no annotation of video scene has positions"):
        score(scene, tmp_path / "other", Knowing(scene.video), path, depth_topic=TOPICS["depth"][0])
