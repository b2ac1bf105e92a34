"""Evaluations while training: what is measured, and what partial labels leave out."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from tests.vis_core.fake_system import FakeSegmenter
from vis_core import masks
from vis_core.errors import InputError
from vis_core.training.config import EvaluationSet
from vis_core.training.evaluation import open_set, run_evaluation

SIZE = (40, 60)


def region(x, width=10):
    """A box of 20 x width pixels."""
    mask = np.zeros(SIZE, np.bool_)
    mask[10:30, x : x + width] = True
    return mask


class Finds(FakeSegmenter):
    """Finds regions, each as (label, mask), in every frame."""

    class_names = ("person", "vehicle")

    def __init__(self, *found):
        super().__init__()
        self.found = found
        self.ids = None

    def step(self, frame):
        self.on_step(frame)
        self.lifecycle.expire()
        classes = np.eye(2)[[label for label, _ in self.found]] * 0.9
        encoded = [masks.encode(mask) for _, mask in self.found]
        answer = self.lifecycle.update(
            frame, self.ids or [None] * len(encoded), np.full(len(encoded), 0.9), classes, encoded
        )
        self.ids = answer.track_ids[: len(encoded)].tolist()
        return [answer]

    def reset(self):
        super().reset()
        self.ids = None


@pytest.fixture
def written(tmp_path):
    """Writes videos of two frames with one person on the left each, as a YouTube-VIS file."""

    def write(*extras, images=False):
        content = {"categories": [{"id": 4, "name": "vehicle"}, {"id": 7, "name": "human"}], "annotations": []}
        items = content["images" if images else "videos"] = []
        for number, extra in enumerate(extras, 1):
            names = [f"{number}_{t}.png" for t in range(1 if images else 2)]
            for name in names:
                cv2.imwrite(str(tmp_path / name), np.full((*SIZE, 3), 90, np.uint8))
            segmentation = masks.to_coco(masks.encode(region(5)))
            entry = {"id": number, "height": SIZE[0], "width": SIZE[1], **extra}
            annotation = {"id": number, "category_id": 7, "iscrowd": 0}
            if images:
                items.append({**entry, "file_name": names[0]})
                content["annotations"].append({**annotation, "image_id": number, "segmentation": segmentation})
            else:
                items.append({**entry, "file_names": names, "length": 2})
                content["annotations"].append({**annotation, "video_id": number, "segmentations": [segmentation] * 2})
        path = tmp_path / "val.json"
        path.write_text(json.dumps(content))
        return path

    return write


def opened(path, **options):
    return open_set(EvaluationSet(path, categories={"human": "person"}, **options), ("person", "vehicle"))


def score(segmenter, sets, tmp_path, **changed):
    told = changed.pop("warn", [])
    asked = changed.pop("stop_asked", lambda: False)
    return run_evaluation(segmenter, sets, "AP", tmp_path / "out", changed.get("pictures", 0), asked, told.append)


def test_the_categories_of_a_file_are_scored_under_the_names_of_the_classes(written, tmp_path):
    scores = score(Finds((0, region(5))), [opened(written({}))], tmp_path)
    assert scores.value == pytest.approx(1.0)
    assert scores.rows[0]["AP_person"] == pytest.approx(1.0) and scores.rows[0]["AP_vehicle"] == -1
    assert score(Finds((1, region(5))), [opened(written({}))], tmp_path).value == 0


@pytest.mark.parametrize(
    ("extra", "found", "ap"),
    [
        # More than one result at the same score: a wrong one halves the precision.
        ({}, [(0, region(40)), (0, region(5))], 0.5),
        ({"partial": True}, [(0, region(40)), (0, region(5))], 1.0),
        # Half of its pixels are the labelled one's: it counts, and is wrong.
        ({"partial": True}, [(0, region(10)), (0, region(5))], 0.5),
        ({"labelled_categories": [4]}, [(0, region(40)), (0, region(5))], 1.0),
        ({"labelled_categories": [7]}, [(0, region(40)), (0, region(5))], 0.5),
    ],
)
def test_where_labels_are_partial_only_results_that_overlap_one_count(written, tmp_path, extra, found, ap):
    scores = score(Finds(*found), [opened(written(extra))], tmp_path)
    assert scores.value == pytest.approx(ap)


def test_images_are_videos_of_one_frame(written, tmp_path):
    scores = score(Finds((0, region(5))), [opened(written({}, {}, images=True))], tmp_path)
    assert scores.value == pytest.approx(1.0)


def test_a_set_can_be_cut_down_to_some_items_and_to_complete_ones(written):
    path = written({}, {"partial": True}, {}, {}, {"partial": True}, {})
    assert [item.name for item in opened(path, limit=3).items] == ["1_0.png", "3_0.png", "6_0.png"]
    assert [item.name for item in opened(path, complete_only=True).items] == [f"{i}_0.png" for i in (1, 3, 4, 6)]
    with pytest.raises(InputError, match="holds nothing to evaluate on"):
        opened(written({"partial": True}), complete_only=True)


def test_the_mean_of_several_sets_decides(written, tmp_path):
    path = written({})
    empty = tmp_path / "other.json"
    empty.write_text(path.read_text().replace('"category_id": 7', '"category_id": 4'))
    scores = score(Finds((0, region(5))), [opened(path), opened(empty, name="other")], tmp_path)
    assert [(row["set"], row["AP"]) for row in scores.rows] == [
        (f"{tmp_path.name}/val", pytest.approx(1.0)),
        ("other", 0.0),
        ("mean", pytest.approx(0.5)),
    ]
    assert scores.value == pytest.approx(0.5)


def test_a_frame_that_cannot_be_read_is_told_and_counts_as_not_found(written, tmp_path):
    path = written({})
    (tmp_path / "1_1.png").write_bytes(b"no image")
    told = []
    scores = score(Finds((0, region(5))), [opened(path)], tmp_path, warn=told)
    assert len(told) == 1 and "1_1.png" in told[0]
    assert 0 < scores.rows[0]["AP50"] <= 1 and scores.value < 0.5


def test_the_same_frames_are_drawn_every_time(written, tmp_path):
    opened_set = opened(written({}, {}, {}))
    first, second = (score(Finds((0, region(5))), [opened_set], tmp_path, pictures=2).pictures for _ in range(2))
    assert list(first) == list(second) and len(first) == 2
    for image in first.values():
        assert image.shape == (*SIZE, 3) and len(np.unique(image)) > 2


def test_an_evaluation_stops_when_it_is_asked_to(written, tmp_path):
    segmenter = Finds((0, region(5)))
    assert score(segmenter, [opened(written({}))], tmp_path, stop_asked=lambda: True) is None
    assert segmenter.resets == 1
