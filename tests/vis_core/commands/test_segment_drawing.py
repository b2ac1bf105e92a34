"""What ``vis segment`` draws over videos and pictures, and of which tracks."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from tests.vis_core.commands.command_line import bright_square, read_results, run, segment, write_frames
from tests.vis_core.fake_system import FakeSegmenter
from vis_core.video.opening import open_video


def last_frame(out):
    return list(open_video(out / "overlay.mp4"))[-1].image.astype(int)


def is_drawn(image):
    """Whether there is colour: frames are black and white."""
    return bool((np.ptp(image, axis=2) > 60).any())


def test_a_picture_gives_a_picture_in_its_own_size(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "photo.png"), bright_square(8, (47, 63)))
    run(monkeypatch, FakeSegmenter(), *segment(tmp_path / "photo.png", tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "overlay.png",
        "results.info.json",
        "results.json",
    ]
    drawn = cv2.imread(str(tmp_path / "out" / "overlay.png"))
    assert drawn.shape == (47, 63, 3) and is_drawn(drawn.astype(int))


@pytest.mark.parametrize(
    ("options", "drawn"),
    [
        ([], True),
        (["--draw", "boxes"], True),
        (["--draw", "none"], False),
        (["--min-score", "0.52"], False),
        (["--classes", "person"], False),
    ],
)
def test_what_is_drawn_is_chosen_and_results_hold_all(tmp_path, monkeypatch, options, drawn):
    run(monkeypatch, FakeSegmenter(), *segment(write_frames(tmp_path / "a", 3), tmp_path / "out", *options))
    assert is_drawn(last_frame(tmp_path / "out")) == drawn
    (entry,) = read_results(tmp_path / "out")
    assert all(entry["segmentations"])


@pytest.mark.parametrize(("of_weights", "drawn"), [(0.51, True), (0.52, False)])
def test_by_default_tracks_are_drawn_that_reach_what_the_weights_are_shown_with(
    tmp_path, monkeypatch, of_weights, drawn
):
    segmenter = FakeSegmenter()
    segmenter.shown_score = of_weights
    run(monkeypatch, segmenter, *segment(write_frames(tmp_path / "a", 3), tmp_path / "out"))
    assert is_drawn(last_frame(tmp_path / "out")) == drawn


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--draw", "mask"], "draw: 'mask' is unknown; did you mean 'masks'?"),
        (["--classes", "persn"], "classes: 'persn' is unknown; did you mean 'person'?"),
    ],
)
def test_what_cannot_be_drawn_is_told_and_nothing_is_written(tmp_path, monkeypatch, capfd, options, message):
    run(monkeypatch, FakeSegmenter(), *segment(write_frames(tmp_path / "a", 3), tmp_path / "out", *options), code=2)
    told = capfd.readouterr()
    assert message in " ".join(told.err.replace("│", " ").split()) and not (tmp_path / "out").exists()
    assert "┃" not in told.out


def test_without_the_library_of_videos_the_error_says_what_to_do(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "av", None)
    source = write_frames(tmp_path / "a", 3)
    run(monkeypatch, FakeSegmenter(), *segment(source, tmp_path / "out"), code=2)
    assert "pip install av" in capfd.readouterr().err
    run(monkeypatch, FakeSegmenter(), *segment(source, tmp_path / "out", "--no-overlay"))
