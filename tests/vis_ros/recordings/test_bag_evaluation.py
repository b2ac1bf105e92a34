"""From a recording and its ground truth to a score, with segmenters whose answers are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vis_core import masks
from vis_core.data.synthetic import CLASS_NAMES, SyntheticVideo, synthetic_video, write_youtube_vis
from vis_core.errors import InputError, OptionError
from vis_core.evaluation import evaluate
from vis_core.evaluation.evaluator import METRICS
from vis_core.structures import Frame, Instances
from vis_core.system.segmenter import Segmenter
from vis_ros.recordings.bag_evaluation import answer_directly, evaluate_bag
from vis_ros.recordings.bag_writer import write_bag
from vis_ros.recordings.bags import ImageBag
from vis_ros.recordings.stream_files import new_stream, write_stream_message

MILLISECOND = 10**6


class Scripted:
    """Answers each frame as it is told, ``delay`` frames late."""

    def __init__(self, answers: list[Instances], class_names: tuple[str, ...] = CLASS_NAMES, delay: int = 0) -> None:
        self.class_names = class_names
        self.delay = delay
        self.prefetches = False
        self.resets = 0
        self._answers = {answer.stamp: answer for answer in answers}
        self._waiting: list[Frame] = []

    def step(self, frame: Frame) -> list[Instances]:
        self._waiting.append(frame)
        return [self._answer(self._waiting.pop(0))] if len(self._waiting) > self.delay else []

    def flush(self) -> list[Instances]:
        answers = [self._answer(frame) for frame in self._waiting]
        self._waiting.clear()
        return answers

    def reset(self) -> None:
        self.resets += 1

    def run(self, frames):
        return Segmenter.run(self, frames)

    def _answer(self, frame: Frame) -> Instances:
        return replace(self._answers[frame.stamp], index=frame.index)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("scene")
    video, other = synthetic_video(3, 20, (96, 128)), synthetic_video(4, 5, (96, 128))
    ground_truth = write_youtube_vis([video, other], folder)
    write_bag((video.frame(t) for t in range(len(video))), folder / "bag", encoding="png")
    return SimpleNamespace(video=video, ground_truth=ground_truth, bag=folder / "bag", folder=folder)


def score(scene: SimpleNamespace, out: Path, segmenter: Any, **arguments: Any) -> dict[str, Any]:
    arguments = {"video": "synthetic_3", **arguments}
    ground_truth = arguments.pop("ground_truth", scene.ground_truth)
    with ImageBag(arguments.pop("bag", scene.bag)) as bag:
        return evaluate_bag(
            bag, ground_truth, out, lambda pairing, take, _: answer_directly(bag, segmenter, pairing, take), **arguments
        )


def shifted(instances: Instances, by: int) -> Instances:
    moved = []
    for mask in instances.masks:
        dense = np.zeros(mask.size, np.bool_)
        dense[:, by:] = mask.dense()[:, :-by]
        moved.append(masks.encode(dense))
    return replace(instances, masks=tuple(moved))


def entries_of(video: SyntheticVideo, answers: list[Instances], video_id: int = 1) -> list[dict[str, Any]]:
    """Results written by hand: one entry a track."""
    entries: dict[int, dict[str, Any]] = {}
    for t, answer in enumerate(answers):
        for row in np.flatnonzero(answer.visible):
            entry = entries.setdefault(
                int(answer.track_ids[row]), {"video_id": video_id, "segmentations": [None] * len(video)}
            )
            entry["category_id"] = int(answer.labels[row]) + 1
            entry["score"] = float(answer.track_scores[row])
            if answer.masks[row].area:
                entry["segmentations"][t] = masks.to_coco(answer.masks[row])
    return [entry for entry in entries.values() if any(entry["segmentations"])]


@pytest.mark.parametrize("delay", [0, 3])
def test_answers_equal_to_the_ground_truth_score_one(scene, tmp_path, delay):
    segmenter = Scripted(scene.video.instances(), delay=delay)
    metrics = score(scene, tmp_path / "out", segmenter)
    assert [metrics["scores"][name] for name in ("AP", "AP50", "AP75", "AR10")] == [1, 1, 1, 1]
    assert metrics["pairing"] == {"by": "stamps", "frames": 20, "images": 20, "paired": 20}
    assert (metrics["mode"], metrics["answered"], metrics["classes_by"]) == ("direct", 20, "names")
    assert segmenter.resets == 1
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    names = ["metrics.json", "results.info.json", "results.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def test_shifted_answers_score_what_the_evaluator_says_of_results_written_by_hand(scene, tmp_path):
    answers = [shifted(answer, 4) for answer in scene.video.instances()]
    metrics = score(scene, tmp_path, Scripted(answers))
    content = json.loads(scene.ground_truth.read_text())
    content["videos"] = [entry for entry in content["videos"] if entry["id"] == 1]
    content["annotations"] = [entry for entry in content["annotations"] if entry["video_id"] == 1]
    expected = evaluate(content, entries_of(scene.video, answers), METRICS).summary
    assert metrics["scores"] == dict(expected)
    assert 0 < metrics["scores"]["AP"] < 1


def test_frames_without_an_image_count_as_missed(scene, tmp_path):
    write_bag((scene.video.frame(t) for t in range(0, 20, 2)), tmp_path / "half")
    metrics = score(scene, tmp_path / "out", Scripted(scene.video.instances()), bag=tmp_path / "half")
    assert metrics["pairing"] == {"by": "stamps", "frames": 20, "images": 10, "paired": 10}
    full = [answer if t % 2 == 0 else answer[[]] for t, answer in enumerate(scene.video.instances())]
    assert metrics["scores"] == score(scene, tmp_path / "full", Scripted(full))["scores"]
    assert metrics["scores"]["AP"] < 1


def test_images_between_the_frames_are_segmented_and_not_scored(scene, tmp_path):
    stamps = scene.video.stamps
    between = [replace(scene.video.frame(t), stamp=int(stamps[t]) + 50 * MILLISECOND + 1) for t in range(20)]
    every = sorted([*between, *(scene.video.frame(t) for t in range(20))], key=lambda frame: frame.stamp)
    write_bag(every, tmp_path / "dense")
    wrong = [replace(answer[[]], stamp=frame.stamp) for answer, frame in zip(scene.video.instances(), between)]
    metrics = score(
        scene, tmp_path / "out", Scripted(scene.video.instances() + wrong), bag=tmp_path / "dense", by="stamps"
    )
    assert metrics["answered"] == 40
    assert metrics["pairing"]["paired"] == 20
    assert metrics["scores"]["AP"] == 1


def test_a_broken_image_is_told_and_costs_its_frame(scene, tmp_path):
    frames = [scene.video.frame(t) for t in range(20)]
    frames[7] = Frame(np.zeros((10, 10, 3), np.uint8), frames[7].stamp, 7)
    write_bag(frames, tmp_path / "bag")
    with pytest.warns(UserWarning, match=r"stamp 0\.700000000: is 10x10"):
        metrics = score(scene, tmp_path / "out", Scripted(scene.video.instances()), bag=tmp_path / "bag")
    assert metrics["answered"] == 19
    assert metrics["skipped"] == [
        {"name": "/camera/image_raw stamp 0.700000000", "reason": "is 10x10, the first is 128x96"}
    ]


def test_classes_go_by_name_where_the_names_are_known(scene, tmp_path):
    order = [2, 0, 1]
    names = tuple(f"{CLASS_NAMES[i].upper()}" for i in order)
    answers = [
        replace(answer, labels=[order.index(label) for label in answer.labels.tolist()])
        for answer in scene.video.instances()
    ]
    assert score(scene, tmp_path, Scripted(answers, names))["scores"]["AP"] == 1


def test_classes_of_which_none_is_a_category_are_refused_before_the_first_answer(scene, tmp_path):
    segmenter = Scripted([], ("person", "car", "dog"))
    with pytest.raises(InputError, match=r"no class \(person, car, dog\) has the name .* \(disc, box, star\)"):
        score(scene, tmp_path / "out", segmenter)
    assert list((tmp_path / "out").iterdir()) == []


def test_without_categories_other_classes_are_scored_too(scene, tmp_path):
    segmenter = Scripted(scene.video.instances(), ("person", "car", "dog"))
    metrics = score(scene, tmp_path, segmenter, class_agnostic=True)
    assert (metrics["scores"]["AP"], metrics["classes_by"]) == (1, "none")
    assert [row["id"] for row in metrics["per_category"]] == [-1]


def test_classes_are_paired_as_the_user_says(scene, tmp_path):
    segmenter = Scripted(scene.video.instances(), ("plate", "Box", "dog"))
    metrics = score(scene, tmp_path, segmenter, categories={"plate": "disc", "dog": "star"})
    assert (metrics["scores"]["AP"], metrics["classes"]["without_category"]) == (1, [])
    assert metrics["classes"]["renamed"] == {"plate": "disc", "dog": "star"}
    assert evaluate(scene.ground_truth, tmp_path / "results.json").per_video[1]["AP"] == 1
    with pytest.raises(OptionError, match="there is no class 'dig'"):
        score(scene, tmp_path, segmenter, categories={"dig": "star"})


def test_classes_and_categories_without_a_partner_are_listed_and_their_results_keep_ids_of_their_own(scene, tmp_path):
    metrics = score(scene, tmp_path, Scripted(scene.video.instances(), ("disc", "lorry", "STAR")))
    assert metrics["classes"] == {
        "by": "names", "renamed": {}, "without_category": ["lorry"], "without_class": ["box"],
    }  # fmt: skip
    info = json.loads((tmp_path / "results.info.json").read_text())
    assert info["categories"] == [{"id": 1, "name": "disc"}, {"id": 3, "name": "star"}, {"id": 4, "name": "lorry"}]
    used = {entry["category_id"] for entry in json.loads((tmp_path / "results.json").read_text())}
    assert 4 in used and used <= {1, 3, 4}
    left_out = score(scene, tmp_path, Scripted(scene.video.instances(), CLASS_NAMES), categories={"box": ""})
    assert left_out["scores"] == metrics["scores"]


def test_an_evaluation_that_fails_leaves_no_file(scene, tmp_path):
    with pytest.raises(KeyError):
        score(scene, tmp_path / "out", Scripted(scene.video.instances()[:7]))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("wanted", ["synthetic_3", "1"])
def test_the_video_is_chosen_by_name_or_id(scene, tmp_path, wanted):
    metrics = score(scene, tmp_path, Scripted(scene.video.instances()), video=wanted)
    assert metrics["video"] == {"id": 1, "name": "synthetic_3"}


@pytest.mark.parametrize(("wanted", "problem"), [(None, "several videos"), ("street", "no single video 'street'")])
def test_a_video_that_is_not_there_is_an_error_that_lists_what_is(scene, tmp_path, wanted, problem):
    with pytest.raises(InputError, match=rf"{problem}.*synthetic_3 \(id 1\), synthetic_4 \(id 2\)"):
        score(scene, tmp_path, Scripted([]), video=wanted)


def test_images_of_another_size_than_the_video_are_refused(scene, tmp_path):
    write_bag([Frame(np.zeros((24, 32, 3), np.uint8))], tmp_path / "small")
    with pytest.raises(InputError, match=r"images of 32x24, but video 1 .* is 128x96"):
        score(scene, tmp_path, Scripted([]), bag=tmp_path / "small")


@pytest.mark.parametrize("by", ["stamps", "order"])
def test_a_recorded_stream_is_scored_by_what_was_known_when(scene, tmp_path, by):
    """Perfect answers to every second image, 60 ms late, by class names in another order than the ground truth's."""
    names = dict(enumerate(reversed(CLASS_NAMES)))
    answers = [replace(answer, labels=len(CLASS_NAMES) - 1 - answer.labels) for answer in scene.video.instances()]

    def answer(pairing, take, folder):
        with new_stream(folder / "stream.jsonl") as stream:
            for position, instances in list(enumerate(answers))[::2]:
                write_stream_message(stream, instances, instances.stamp + 60 * MILLISECOND)
                take(position, instances, names)
        return {"mode": "live"}

    with ImageBag(scene.bag) as bag:
        metrics = evaluate_bag(bag, scene.ground_truth, tmp_path, answer, video="synthetic_3", by=by)
    stream = metrics["stream"]
    assert (stream["frames"], stream["answered_frames"], stream["dropped_frames"]) == (20, 10, 10)
    assert stream["latency_s"]["p95"] == pytest.approx(0.06)
    policies = {name: scores["summary"] for name, scores in stream["policies"].items()}
    assert policies["answered"]["AP"] == policies["answered"]["HOTA"] == 1
    assert policies["strict"]["AP"] == metrics["scores"]["AP"] < 1
    assert policies["live"]["HOTA"] < policies["hold"]["HOTA"] < 1
    assert stream["id_switches_per_minute"] == 0
    assert stream["time_to_first_detection_s"]["never"] == 0
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    told = json.loads((tmp_path / "stream.info.json").read_text())
    assert told["categories"] == [{"id": i, "name": name} for i, name in enumerate(CLASS_NAMES, 1)]
    assert not told["complete"]
