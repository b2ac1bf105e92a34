"""From `vis segment` on an annotated set to `vis evaluate`: one score, whatever the ids of the categories are."""

from __future__ import annotations

import json

import pytest

from tests.vis_core.commands.command_line import bright_square, read_results, run, segment, write_frames
from tests.vis_core.fake_system import FakeSegmenter
from vis_core import masks
from vis_core.training.config import EvaluationSet
from vis_core.training.evaluation import open_set, run_evaluation


@pytest.fixture
def val(tmp_path):
    """Writes two videos of a bright square, which the fake system calls a vehicle, with categories of these names."""

    def write(names):
        for name in ("a", "b"):
            write_frames(tmp_path / "val" / name, 4)
        square = [masks.to_coco(masks.encode(bright_square(2 * t)[:, :, 0] > 0)) for t in range(4)]
        off = [masks.to_coco(masks.encode(bright_square(2 * t + 3)[:, :, 0] > 0)) for t in range(4)]
        size = {"height": 48, "width": 64, "length": 4, "fps": 10}
        videos = [
            {"id": i, **size, "file_names": [f"{name}/{t:05d}.png" for t in range(4)]}
            for i, name in ((5, "a"), (9, "b"))
        ]
        annotations = [
            {"id": i, "video_id": video, "category_id": min(names), "iscrowd": 0, "segmentations": marked}
            for i, video, marked in ((1, 5, square), (2, 9, off))
        ]
        categories = [{"id": number, "name": name} for number, name in names.items()]
        path = tmp_path / "val" / "instances.json"
        path.write_text(json.dumps({"videos": videos, "categories": categories, "annotations": annotations}))
        return path

    return write


def test_what_was_segmented_scores_as_the_trainer_says(val, tmp_path, monkeypatch, capfd):
    path, out = val({3: "Vehicle", 8: "dog"}), tmp_path / "out"
    trained = run_evaluation(
        FakeSegmenter(), [open_set(EvaluationSet(path), ("person", "vehicle"))], "AP", tmp_path / "run", 0,
        lambda: False, print,
    )  # fmt: skip
    run(monkeypatch, FakeSegmenter(), *segment(path, out))
    said = " ".join(capfd.readouterr().err.split())
    assert "classes that are no category of the JSON: person; categories of the JSON that are no class of the" in said
    assert {entry["category_id"] for entry in read_results(out)} == {3}
    info = json.loads((out / "results.info.json").read_text())
    assert info["categories"] == [{"id": 3, "name": "Vehicle"}, {"id": 9, "name": "person"}]
    assert [(v["id"], v["name"], v["length"], v["fps"]) for v in info["videos"]] == [(5, "a", 4, 10), (9, "b", 4, 10)]
    assert (info["system"], info["weights"]) == ("fake", None)
    run(monkeypatch, FakeSegmenter(), "evaluate", out / "results.json", "--ground-truth", path, "--out", tmp_path / "s")
    told = json.loads((tmp_path / "s" / "metrics.json").read_text())
    assert told["summary"]["AP"] == trained.value
    assert 0 < trained.value < 1
    assert (told["classes"]["without_category"], told["classes"]["without_class"]) == (["person"], ["dog"])
    assert "never found │ dog" in " ".join(capfd.readouterr().out.split())


def test_the_files_of_a_training_tell_their_classes(val, tmp_path):
    opened = open_set(EvaluationSet(val({3: "vehicle"}), name="val"), ("person", "vehicle"))
    run_evaluation(FakeSegmenter(), [opened], "AP", tmp_path / "run", 0, lambda: False, print)
    info = json.loads((tmp_path / "run" / "0_val.info.json").read_text())
    assert info["categories"] == [{"id": 1, "name": "person"}, {"id": 2, "name": "vehicle"}]
    assert [video["length"] for video in info["videos"]] == [4, 4]


def test_without_a_class_in_common_it_is_label_and_1_which_is_told_and_not_scored_unasked(
    val, tmp_path, monkeypatch, capfd
):
    path, out = val({2: "box", 3: "disc"}), tmp_path / "out"
    run(monkeypatch, FakeSegmenter(), *segment(path, out))
    assert "no class (person, vehicle) is called like a category of the JSON (box, disc): category_id is label" in (
        " ".join(capfd.readouterr().err.split())
    )
    assert {entry["category_id"] for entry in read_results(out)} == {2}
    score = ("evaluate", out / "results.json", "--ground-truth", path)
    run(monkeypatch, FakeSegmenter(), *score, code=2)
    said = " ".join(capfd.readouterr().err.split())
    assert "no class (person, vehicle) has the name of a category of the ground truth (box, disc)" in said
    for more in (["--class-agnostic"], ["--categories", "Vehicle=box", "--categories", "person="]):
        run(monkeypatch, FakeSegmenter(), *score, *more)
        assert "100.0" in capfd.readouterr().out
    run(monkeypatch, FakeSegmenter(), *score, "--categories", "vehicle", code=2)
    assert "write it as FROM=TO" in capfd.readouterr().err


def test_frames_without_categories_give_label_and_1(tmp_path, monkeypatch, capfd):
    run(monkeypatch, FakeSegmenter(), *segment(write_frames(tmp_path / "walk", 3), tmp_path / "out"))
    assert "category" not in capfd.readouterr().err
    assert read_results(tmp_path / "out")[0]["category_id"] == 2
    info = json.loads((tmp_path / "out" / "results.info.json").read_text())
    assert info["categories"] == [{"id": 1, "name": "person"}, {"id": 2, "name": "vehicle"}]


def test_of_two_files_each_is_paired_by_the_names_that_it_has(val, tmp_path, monkeypatch, capfd):
    path = val({2: "box"})
    for name, classes in (("a", ("person", "vehicle")), ("b", ("person", "lorry"))):
        segmenter = FakeSegmenter()
        segmenter.class_names = classes
        run(monkeypatch, segmenter, *segment(path, tmp_path / name))
    files = [tmp_path / name / "results.json" for name in "ab"]
    pairs = ("--categories", "vehicle=box", "--categories", "lorry=box")
    score = ("evaluate", "--compare", *files, "--ground-truth", path, "--draws", 0)
    run(monkeypatch, FakeSegmenter(), *score, *pairs)
    assert "A and B" in capfd.readouterr().out
    run(monkeypatch, FakeSegmenter(), *score, *pairs, "--categories", "lory=box", code=2)
    assert "there is no class 'lory'" in capfd.readouterr().err


def test_a_submission_takes_pairs_of_classes(val, tmp_path, monkeypatch, capfd):
    run(monkeypatch, FakeSegmenter(), *segment(val({2: "box"}), tmp_path / "out"))
    submit = ("submit", tmp_path / "out" / "results.json", "--split", "ytvis2021")
    run(monkeypatch, FakeSegmenter(), *submit, code=2)
    assert "classes that ytvis2021 does not have: vehicle" in " ".join(capfd.readouterr().err.split())
    run(monkeypatch, FakeSegmenter(), *submit, "--categories", "vehicle=car")
    assert "2 tracks in 2 videos" in capfd.readouterr().out
