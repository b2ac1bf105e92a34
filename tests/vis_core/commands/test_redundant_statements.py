"""Boxes and areas that contradict masks: one verdict in inspect, in evaluate and in the reader of a training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vis_core.data.annotated import changed, coco, visible, youtube_vis
from tests.vis_core.files.test_redundancy import by_rows, tight
from vis_core.data.annotation_files import read_annotations
from vis_core.errors import InputError
from vis_core.evaluation import InputWarning, evaluate, evaluate_stream, read_ground_truth

SIZE = (60, 80)
BOXES = [("red", (5, 10, 30, 12)), ("blue", (50, 30, 25, 20)), ("green", (40, 2, 8, 25))]
FRAMES = [[(colour, (x + t, y, w, h)) for colour, (x, y, w, h) in BOXES] for t in range(4)]
ROWS = "the run lengths look taken row by row, COCO's go column by column"


def vis(*arguments, code=0):
    """What a command prints, blanks as one."""
    done = subprocess.run(
        [sys.executable, "-c", "from vis_core.commands.main import main; main()", *map(str, arguments)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "400", "NO_COLOR": "1"},
    )
    assert done.returncode == code, done.stderr
    return " ".join((done.stdout + done.stderr).split())


def with_statements(content, rows=False):
    """Give annotations of the video of `FRAMES` their boxes and areas, and run lengths row by row if wanted."""
    masks = [visible(SIZE, boxes) for boxes in FRAMES]
    for annotation in content["annotations"]:
        own = [frame[annotation["id"] - 1] for frame in masks]
        annotation["bboxes"], annotation["areas"] = [tight(m) for m in own], [int(m.sum()) for m in own]
        if rows:
            annotation["segmentations"] = [by_rows(m) for m in own]


@pytest.fixture
def truth(tmp_path):
    return changed(youtube_vis(tmp_path, FRAMES), with_statements)


def results_of(path, key="segmentations", **more):
    return [
        {
            "video_id": 1,
            "category_id": a["category_id"],
            "score": 0.5,
            "segmentations": a[key],
            "bboxes": a["bboxes"],
            **more,
        }
        for a in json.loads(path.read_text())["annotations"]
    ]


def test_a_sound_file_is_taken_by_all_without_a_word(truth, tmp_path, recwarn):
    (tmp_path / "results.json").write_text(json.dumps(results_of(truth)))
    assert "Nothing is wrong in it." in vis("inspect", truth)
    assert "warning" not in vis("evaluate", tmp_path / "results.json", "--ground-truth", truth)
    assert evaluate(truth, results_of(truth)).summary["AP"] == pytest.approx(1)
    assert not [w for w in recwarn if w.category is InputWarning]


def test_run_lengths_row_by_row_are_refused_by_all_in_the_same_words(truth, tmp_path):
    sound = tmp_path / "results.json"
    sound.write_text(json.dumps(results_of(truth)))
    changed(truth, lambda content: with_statements(content, rows=True))
    said = f"12 of 12 masks contradict their boxes: {ROWS}. annotations[0] frame 0: bboxes [5.0, 10.0, 30.0, 12.0]"
    for read in (read_annotations, read_ground_truth):
        with pytest.raises(InputError) as caught:
            read(truth)
        assert str(truth) in str(caught.value) and said in str(caught.value)
    assert said in vis("inspect", truth, code=1)
    assert said in vis("evaluate", sound, "--ground-truth", truth, code=2)


def test_results_row_by_row_are_refused(truth, tmp_path):
    wrong = results_of(changed(youtube_vis(tmp_path / "other", FRAMES), lambda c: with_statements(c, rows=True)))
    with pytest.raises(
        InputError, match="12 of 12 masks contradict their boxes: the run lengths look taken row by row"
    ):
        evaluate(truth, wrong)
    evaluate(truth, [{key: value for key, value in entry.items() if key != "bboxes"} for entry in wrong])


def test_a_stream_row_by_row_is_refused(truth):
    content = json.loads(truth.read_text())
    content["videos"][0]["stamps"] = [0, 1, 2, 3]
    with_statements(content, rows=True)
    messages = [
        {
            "stamp": t,
            "arrival": t,
            "frame": t,
            "tracks": [
                {
                    "track_id": a["id"],
                    "category_id": a["category_id"],
                    "score": 0.5,
                    "segmentation": a["segmentations"][t],
                    "bbox": a["bboxes"][t],
                }
                for a in content["annotations"]
            ],
        }
        for t in range(4)
    ]
    sound = json.loads(truth.read_text())
    sound["videos"][0]["stamps"] = [0, 1, 2, 3]
    with pytest.raises(InputError, match=r"stream: 12 of 12 masks contradict .* tracks\[0\]: bbox \[5\.0, 10\.0"):
        evaluate_stream(sound, messages)


def test_boxes_in_corners_are_told_by_all_with_their_cause(truth):
    def corners(content):
        for annotation in content["annotations"]:
            annotation["bboxes"] = [[x, y, x + w, y + h] for x, y, w, h in annotation["bboxes"]]

    changed(truth, corners)
    cause = "the boxes look written as x1, y1, x2, y2 (12 of 12 boxes)"
    with pytest.warns(InputWarning, match="12 x bboxes unlike the mask"):
        annotated = read_annotations(truth)
    assert [f.kind for f in annotated.findings] == [f"bboxes unlike the mask: {cause}"]
    (warning,) = read_ground_truth(truth).warnings
    assert (
        cause in warning and "annotations[0] frame 0: bboxes [5.0, 10.0, 35.0, 22.0], but the mask's box is" in warning
    )
    assert cause in vis("inspect", truth)


def test_one_box_and_one_area_of_an_image_are_told_by_all(tmp_path):
    path = coco(tmp_path, {"boxes": BOXES})

    def state(content):
        for annotation, (_, (x, y, w, h)) in zip(content["annotations"], BOXES):
            annotation.update(bbox=[x, y, w, h], area=w * h)
        content["annotations"][1].update(bbox=[1, 2, 3, 4], area=9000)

    changed(path, state)
    with pytest.warns(InputWarning):
        kinds = {f.kind: f.examples for f in read_annotations(path).findings}
    box = "annotations[1]: bbox [1, 2, 3, 4], but the mask's box is [50, 30, 25, 20]"
    assert kinds["bbox unlike the mask"] == (box,)
    assert kinds["area unlike the mask"] == ("annotations[1]: area says 9000, the mask has 500 pixels",)
    warnings = "\n".join(read_ground_truth(path).warnings)
    assert box in warnings and "says 9000, the mask has 500 pixels; areas decides the size range" in warnings
