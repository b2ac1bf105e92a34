"""``vis segment --csv``, ``--mot`` and ``--save-masks``: the files beside the results."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest

from tests.vis_core.commands.command_line import bright_square, read_results, run, segment, write_frames
from tests.vis_core.fake_system import FakeSegmenter
from vis_core.video.overlay import track_color


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_tables_have_the_tracks_of_the_results(tmp_path, monkeypatch, capfd):
    source, out = write_frames(tmp_path / "walk", 4), tmp_path / "out"
    run(monkeypatch, FakeSegmenter(), *segment(source, out, "--csv", "--mot", "--no-overlay"))
    (entry,) = read_results(out)
    with (out / "tracks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["video"], int(row["frame"]), row["class_name"]) for row in rows] == [
        ("walk", i, entry["category_name"]) for i in range(4)
    ]
    assert rows[3]["file"] == str(source / "00003.png") and int(rows[0]["track_id"]) == entry["track_id"]
    assert [line.split(",")[:6] for line in (out / "mot.txt").read_text().splitlines()] == [
        [str(i + 1), str(entry["track_id"]), str(2 * i + 1), "11", "12", "20"] for i in range(4)
    ]
    assert f"{entry['category_id']},{entry['category_name']}" in (out / "mot_classes.txt").read_text().splitlines()
    told = capfd.readouterr().out
    assert f"{out}/tracks.csv" in told and f"{out}/mot.txt" in told


def test_several_videos_have_a_table_each_and_one_that_went_on_has_them_all(tmp_path, monkeypatch):
    videos = []
    for number in (1, 2):
        write_frames(tmp_path / "frames" / f"v{number}", 2)
        names = [f"v{number}/{i:05d}.png" for i in range(2)]
        videos.append({"id": number, "width": 64, "height": 48, "name": f"v{number}", "file_names": names})
    (tmp_path / "videos.json").write_text(json.dumps({"videos": videos}))
    command = segment(tmp_path / "videos.json", tmp_path / "out", "--csv", "--mot", "--save-masks=color")
    seen = iter(range(9))

    def fails(frame):
        if next(seen) == 2:
            raise OSError(5, "the disk is gone")

    run(monkeypatch, FakeSegmenter(on_step=fails), *command, code=1)
    run(monkeypatch, FakeSegmenter(), *command, "--resume")
    made = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    tables = [f"{kind}/v{n}.{end}" for kind, end in (("mot", "txt"), ("tracks", "csv")) for n in (1, 2)]
    assert [name for name in made if name.startswith(("mot", "tracks"))] == [
        *tables[:2],
        "mot_classes.txt",
        *tables[2:],
    ]
    assert [name for name in made if name.startswith("masks")] == [
        f"masks/v{n}/0000{i}.png" for n in (1, 2) for i in (0, 1)
    ]


@pytest.mark.parametrize("place", ["before", "after"])
def test_masks_are_labels_unless_colours_are_asked_for_and_have_the_names_of_the_images(tmp_path, monkeypatch, place):
    source = write_frames(tmp_path / "walk", 1)
    (source / "00000.png").rename(source / "left eye.png")
    for out, option in (("a", "--save-masks"), ("b", "--save-masks=labels"), ("c", "--save-masks=color")):
        command = ["segment", "--system", "fake", "--out", tmp_path / out, "--no-overlay"]
        run(monkeypatch, FakeSegmenter(), *command, *([option, source] if place == "before" else [source, option]))
    labels, same, colors = (read(tmp_path / out / "masks" / "walk" / "left eye.png") for out in "abc")
    square = bright_square(0)[..., 0] > 0
    assert labels.dtype == np.uint16 and np.array_equal(labels > 0, square) and np.array_equal(labels > 0, same > 0)
    (entry,) = read_results(tmp_path / "c")
    assert np.array_equal(colors[..., ::-1], square[..., None] * np.array(track_color(entry["track_id"]), np.uint8))


def test_images_of_one_name_in_two_folders_are_numbered(tmp_path, monkeypatch):
    names = [str(write_frames(tmp_path / name, 1) / "00000.png") for name in ("a", "b")]
    video = {
        "id": 1,
        "width": 64,
        "height": 48,
        "name": "v",
        "file_names": [name.split(f"{tmp_path}/")[1] for name in names],
    }
    (tmp_path / "v.json").write_text(json.dumps({"videos": [video]}))
    more = ("--images", tmp_path, "--save-masks", "--no-overlay")
    run(monkeypatch, FakeSegmenter(), *segment(tmp_path / "v.json", tmp_path / "out", *more))
    made = sorted(path.name for path in (tmp_path / "out" / "masks" / "v").iterdir())
    assert made == ["000000.png", "000001.png"]
