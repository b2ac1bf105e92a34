"""``vis segment`` on images that EXIF turns, and on those of 16 bits: how they are read is told, and may be said."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from tests.vis_core.commands.command_line import bright_square, read_results, run, segment, write_frames
from tests.vis_core.fake_system import FakeSegmenter
from tests.vis_core.video.image_files import with_orientation

LOW, HIGH = 7000, 8000


def write_deep(folder, count=3):
    """The bright square as a thermal camera has it."""
    folder.mkdir(parents=True)
    for i in range(count):
        values = LOW + bright_square(2 * i)[..., 0].astype(np.uint16) * ((HIGH - LOW) // 255)
        cv2.imwrite(str(folder / f"{i:05d}.png"), values)
    return folder


def masks(folder):
    return [track["segmentations"] for track in read_results(folder)]


def test_sixteen_bits_that_need_a_range_are_an_error_before_anything_runs(tmp_path, monkeypatch, capfd):
    run(monkeypatch, FakeSegmenter(), *segment(write_deep(tmp_path / "a"), tmp_path / "out"), code=2)
    told = capfd.readouterr().err
    assert "00000.png: 16-bit values from 7000 to 7765 use less than a tenth" in told
    assert "auto or 7000,7765 (--range" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value_range", ["7000,8000", "auto"])
def test_a_range_shows_what_is_in_images_of_sixteen_bits_and_is_told(tmp_path, monkeypatch, capfd, value_range):
    run(monkeypatch, FakeSegmenter(), *segment(write_frames(tmp_path / "plain", 3), tmp_path / "plain_out"))
    deep = segment(write_deep(tmp_path / "a"), tmp_path / "out", "--range", value_range)
    run(monkeypatch, FakeSegmenter(), *deep)
    assert "a: 16-bit values 7000 to " in capfd.readouterr().err
    assert masks(tmp_path / "out") == masks(tmp_path / "plain_out") != []


def test_a_range_that_is_none_or_changes_nothing_is_told(tmp_path, monkeypatch, capfd):
    frames = write_frames(tmp_path / "a", 2)
    run(monkeypatch, FakeSegmenter(), *segment(frames, tmp_path / "out", "--range", "9,3"), code=2)
    assert "range '9,3': give auto, or MIN,MAX" in capfd.readouterr().err
    run(monkeypatch, FakeSegmenter(), *segment(frames, tmp_path / "out", "--range", "auto"))
    assert "--range auto changes nothing" in capfd.readouterr().err


@pytest.mark.parametrize(("more", "size", "told"), [((), (64, 48), "shown"), (("stored",), (48, 64), "stored")])
def test_images_that_exif_turns_are_told_and_may_stay_as_stored(tmp_path, monkeypatch, capfd, more, size, told):
    data = cv2.imencode(".jpg", bright_square(20))[1].tobytes()
    (tmp_path / "a").mkdir()
    for i in range(2):
        (tmp_path / "a" / f"{i}.jpg").write_bytes(with_orientation(data, 6))
    given = ("--orientation", *more) if more else ()
    run(monkeypatch, FakeSegmenter(), *segment(tmp_path / "a", tmp_path / "out", *given))
    assert f"EXIF turns 2 of the images; they are read as {told}" in capfd.readouterr().err
    (track,) = read_results(tmp_path / "out")
    assert track["segmentations"][0]["size"] == list(size)


def test_the_images_of_a_json_are_read_as_its_sizes_tell(tmp_path, monkeypatch, capfd):
    data = cv2.imencode(".jpg", bright_square(20))[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(with_orientation(data, 6))
    image = {"id": 1, "file_name": "a.jpg", "height": 48, "width": 64}
    (tmp_path / "a.json").write_text(json.dumps({"images": [image]}))
    run(monkeypatch, FakeSegmenter(), *segment(tmp_path / "a.json", tmp_path / "out"))
    assert "EXIF turns 1 of the images; by their sizes the labels follow 1 as stored" in capfd.readouterr().err
    (track,) = read_results(tmp_path / "out")
    assert track["segmentations"][0]["size"] == [48, 64]
