"""``vis segment`` of several inputs: patterns, a folder each, and what one that fails does to the others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.vis_core.commands.command_line import read_results, run, segment, write_frames
from tests.vis_core.fake_system import FakeSegmenter
from vis_core.commands.inputs import expanded, folder_names, result_folders
from vis_core.errors import InputError


def test_each_input_has_a_folder_and_all_a_row_in_the_table(tmp_path, monkeypatch, capfd):
    inputs = [write_frames(tmp_path / name, 2) for name in ("a", "b")]
    run(monkeypatch, FakeSegmenter(), *segment(inputs[0], tmp_path / "out"), inputs[1])
    for name in ("a", "b"):
        assert len(read_results(tmp_path / "out" / name)) == 1
        assert (tmp_path / "out" / name / "overlay.mp4").is_file()
    told = capfd.readouterr().out
    assert re.search(r"a\s*│\s*2\s*│", told) and re.search(r"b\s*│\s*2\s*│", told)
    assert f"{tmp_path}/out/b\n" in told


def test_one_that_fails_is_told_and_the_others_go_on_with_exit_code_1(tmp_path, monkeypatch, capfd):
    good, broken, odd = write_frames(tmp_path / "good", 1), tmp_path / "broken.mp4", write_frames(tmp_path / "odd", 2)
    broken.write_bytes(b"no video")
    segmenter = FakeSegmenter(on_step=lambda frame: 1 / 0 if frame.index == 1 else None)
    run(monkeypatch, segmenter, *segment(broken, tmp_path / "out"), odd, good, code=1)
    assert len(read_results(tmp_path / "out" / "good")) == 1
    told = capfd.readouterr().err.replace("\n", " ")
    assert f"failed {broken}: is no video" in told
    assert f"failed {odd}: division by zero" in told and "2 of 3 inputs failed" in told


def test_none_begins_where_one_is_not_there_or_its_results_are(tmp_path, monkeypatch, capfd):
    inputs = [write_frames(tmp_path / name, 1) for name in ("a", "b")]
    lazy = FakeSegmenter(on_step=lambda frame: pytest.fail("work began"))
    run(monkeypatch, lazy, *segment(inputs[0], tmp_path / "out"), tmp_path / "absent", code=2)
    assert "absent: no such file or folder" in capfd.readouterr().err
    (tmp_path / "out" / "b").mkdir(parents=True)
    (tmp_path / "out" / "b" / "results.json").write_text("mine")
    run(monkeypatch, lazy, *segment(inputs[0], tmp_path / "out"), inputs[1], code=2)
    assert "results.json: is there already; --force replaces" in capfd.readouterr().err
    assert [str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")] == ["b", "b/results.json"]


def test_without_out_the_folder_is_called_after_the_input_and_numbered(tmp_path, monkeypatch):
    source = write_frames(tmp_path / "walk", 1)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        run(monkeypatch, FakeSegmenter(), "segment", source, "--system", "fake", "--no-overlay")
    run(monkeypatch, FakeSegmenter(), "segment", source, "--system", "fake", "--no-overlay", "--force", "--save-masks")
    made = sorted(str(path) for path in Path("segmented").glob("*/*") if path.suffix != ".json")
    assert made == ["segmented/walk-2/masks"]
    assert all(Path(f"segmented/{name}/results.json").is_file() for name in ("walk", "walk-2"))


def test_a_pattern_stands_for_what_it_matches_in_natural_order(tmp_path):
    for name in ("clip10.mp4", "clip2.mp4", "other.avi", "odd[1].mp4"):
        (tmp_path / name).touch()
    assert expanded([f"{tmp_path}/clip*.mp4"]) == [f"{tmp_path}/clip2.mp4", f"{tmp_path}/clip10.mp4"]
    assert expanded([f"{tmp_path}/odd[1].mp4", "rtsp://host/a?b=[1]"]) == [
        f"{tmp_path}/odd[1].mp4",
        "rtsp://host/a?b=[1]",
    ]
    with pytest.raises(InputError, match="none\\*: matches no file or folder"):
        expanded([f"{tmp_path}/none*"])
    with pytest.raises(InputError, match="given twice"):
        expanded([f"{tmp_path}/other.avi", f"{tmp_path}/*.avi"])


def test_names_of_folders_are_those_of_the_inputs_with_as_much_of_the_path_as_tells_them_apart():
    assert folder_names(["x/street.mp4", "camera:0", "rtsp://user:secret@cam/live?key=1", "/y/a b.json"]) == [
        "street",
        "camera0",
        "live",
        "a_b",
    ]
    assert folder_names(["run1/video.mp4", "run2/video.mp4", "walk.mp4"]) == ["run1-video", "run2-video", "walk"]
    assert folder_names(["run1/video.mp4", "run1/video.avi"])[1].endswith("run1-video-2")
    assert result_folders(["a.mp4"], Path("o")) == [Path("o")]
    assert result_folders(["a.mp4", "b.mp4"], None) == [Path("segmented/batch/a"), Path("segmented/batch/b")]


def test_images_of_one_folder_are_each_by_themselves_and_it_is_told(tmp_path, monkeypatch, capfd):
    write_frames(tmp_path / "frames", 2)
    run(monkeypatch, FakeSegmenter(), *segment(f"{tmp_path}/frames/*.png", tmp_path / "out"))
    told = capfd.readouterr().err.replace("\n", "")
    assert f"2 images, each by itself; as the frames of one video: vis segment {tmp_path}/frames/" in told
    assert [(tmp_path / "out" / name / "overlay.png").is_file() for name in ("00000", "00001")] == [True, True]
