"""Folders of panoptic images: every fault is named with its file and value, and what is only odd is told."""

from __future__ import annotations

import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest

from tests.vis_core.evaluation.plain_panoptic import CLASSES, write
from vis_core.errors import InputError
from vis_core.evaluation import InputWarning, evaluate_panoptic

CAR, ROAD, VOID = 7 << 16, 0, 255 << 16
IMAGE = np.full((3, 4), ROAD)


@pytest.fixture
def folders(tmp_path):
    """Ground truth and results: two videos of three frames."""
    for name in ("truth", "result"):
        for video in ("a", "b"):
            write(tmp_path / name / video, [IMAGE] * 3)
    return tmp_path / "truth", tmp_path / "result"


def error_of(folders):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        with pytest.raises(InputError) as caught:
            evaluate_panoptic(*folders, CLASSES)
    return str(caught.value)


def warnings_of(folders):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = evaluate_panoptic(*folders, CLASSES, windows=[1])
    assert tuple(str(item.message) for item in told) == found.warnings
    return found.warnings


def test_missing_frames_and_videos_are_named_together(folders):
    (folders[1] / "a" / "000001.png").unlink()
    (folders[1] / "a" / "000002.png").unlink()
    (folders[1] / "b").rename(folders[1] / "c")
    text = error_of(folders)
    assert text.startswith(f"{folders[1]}: 2 errors:")
    assert "results a: frame 1 is missing, and 1 more of its 3 frames" in text
    assert "results b: no such folder; the ground truth has 3 frames of it" in text


def test_frames_and_videos_without_ground_truth_are_told_and_not_scored(folders):
    write(folders[1] / "c", [IMAGE + CAR])
    write(folders[1] / "b", [IMAGE + CAR] * 2, [3, 4])
    (folders[0] / "b" / "notes.txt").write_text("")
    (folders[0] / "d").mkdir()
    told = warnings_of(folders)
    assert f"{folders[1]}: results c: the ground truth has no such video; not scored" in told
    assert f"{folders[1]}: results b: no ground truth for frame 3, and for 1 more; not scored" in told
    assert f"{folders[0]}: ground truth b/notes.txt: not a PNG; not read" in told
    assert f"{folders[0]}: ground truth d: no PNG in this folder" in told
    assert len(told) == 4


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("frame7.png", "a/frame7.png: not named by the number of its frame, as in 000017.png"),
        ("-1.png", "a/-1.png: not named by"),
        ("1.png", "a/1.png: frame 1 is 000001.png already"),
    ],
)
def test_names_that_are_no_frame_numbers_are_refused(folders, name, text):
    (folders[0] / "a" / name).write_bytes(b"")
    assert text in error_of(folders)


def test_frames_are_matched_by_number_whatever_zeros_lead(folders):
    for i in range(3):
        (folders[1] / "a" / f"{i:06d}.png").rename(folders[1] / "a" / f"{i}.png")
    assert warnings_of(folders) == ()


def test_a_single_folder_of_frames_is_a_video_whatever_its_name(folders):
    found = evaluate_panoptic(folders[0] / "a", folders[1] / "b", CLASSES, windows=[1])
    assert list(found.per_video) == ["a"] and found.summary["SQ"] == 1
    assert "results a: no such folder" in error_of((folders[0], folders[1] / "b"))


def test_a_folder_that_is_none_or_empty_or_mixed_is_refused(folders, tmp_path):
    assert f"{tmp_path / 'x'}: ground truth: no such folder" in error_of((tmp_path / "x", folders[1]))
    (tmp_path / "x").mkdir()
    assert f"{tmp_path / 'x'}: results: no PNG in this folder" in error_of((folders[0], tmp_path / "x"))
    write(folders[0], [IMAGE])
    assert "ground truth: holds PNGs and the folder a" in error_of(folders)


def test_frames_that_are_not_evenly_apart_are_told(folders):
    for folder in folders:
        write(folder / "a", [IMAGE], [9])
    assert warnings_of(folders) == (
        f"{folders[0]}: ground truth a: frames are 1 to 7 apart; a window takes them as they follow each other",
    )


def test_other_sizes_are_named(folders):
    write(folders[1] / "a", [np.zeros((3, 5), int)], [1])
    write(folders[1] / "b", [np.zeros((4, 3), int)], [2])
    text = error_of(folders)
    assert "results a/000001.png: size 3 x 5, but the video is 3 x 4" in text
    assert "results b/000002.png: size 4 x 3, but the video is 3 x 4" in text


def test_unknown_classes_and_numbered_stuff_are_named_with_their_place(folders):
    image = IMAGE.copy()
    image[1, 2], image[2, 3], image[0, 1], image[2, 0] = 9 << 16, 9 << 16 | 4, 1 << 16 | 300, 4 << 16 | 65535
    write(folders[1] / "a", [image], [2])
    text = error_of(folders)
    assert f"{folders[1]}: 2 errors:" in text
    assert "results a/000002.png: row 1 column 2: class 9 (red) is none of the 5 classes, nor 255, void" in text
    assert "a/000002.png: row 0 column 1: class 1 (sky) is stuff, but has instance number 300 (green, blue)" in text


def test_a_number_of_void_means_nothing(folders):
    write(folders[0] / "a", [IMAGE + (VOID | 77)], [0])
    write(folders[1] / "a", [IMAGE + (VOID | 78)], [1])
    assert warnings_of(folders) == ()


def test_things_without_a_number_in_the_results_are_told(folders):
    write(folders[0] / "a", [IMAGE + CAR] * 3)  # a crowd
    assert warnings_of(folders) == ()
    write(folders[1] / "a", [IMAGE + CAR] * 3)
    assert warnings_of(folders) == (
        f"{folders[1]}: results a/000000.png: things without an instance number; those of a class are taken as one "
        "instance (2 more like this)",
    )


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (np.zeros((3, 4), np.uint8), "mode grey of 8 bits, but a panoptic PNG is RGB of 8 bits"),
        (np.zeros((3, 4), np.uint16), "mode grey of 16 bits"),
        (np.zeros((3, 4, 3), np.uint16), "mode RGB of 16 bits"),
        (np.zeros((3, 4, 4), np.uint8), "mode RGBA of 8 bits"),
    ],
)
def test_other_modes_are_named(folders, image, text):
    cv2.imwrite(str(folders[0] / "b" / "000001.png"), image)
    assert f"{folders[0]}: ground truth b/000001.png: {text}" in error_of(folders)


def test_a_palette_is_refused(folders):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 3, 8, 3, 0, 0, 0)) + chunk(b"PLTE", bytes(6))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(15))) + chunk(b"IEND", b"")
    (folders[1] / "a" / "000000.png").write_bytes(data)
    assert "results a/000000.png: mode palette of 8 bits" in error_of(folders)


def test_damaged_files_are_named(folders, tmp_path):
    for name, change in {
        "000000": lambda data: b"",
        "000001": lambda data: data[:-20],
        "000002": lambda data: b"\xff\xd8" + data,
    }.items():
        path = folders[1] / "a" / f"{name}.png"
        path.write_bytes(change(path.read_bytes()))
    path = folders[1] / "b" / "000000.png"
    path.unlink()
    path.mkdir()
    data = bytearray((folders[1] / "b" / "000001.png").read_bytes())
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    (folders[1] / "b" / "000001.png").write_bytes(data)
    text = error_of(folders)
    for part in (
        "a/000000.png: empty",
        "a/000001.png: does not decode: damaged or cut off",
        "a/000002.png: not a PNG",
        "b/000000.png: cannot be read: Is a directory",
        "b/000001.png: size 100000 x 100000 is not between 1 and",
    ):
        assert part in text


def test_no_more_errors_are_looked_for_than_are_told(folders):
    write(folders[0] / "c", [IMAGE] * 50)
    write(folders[1] / "c", [IMAGE + (9 << 16)] * 50)
    write(folders[0] / "d", [IMAGE] * 5)
    write(folders[1] / "d", [IMAGE + (9 << 16)] * 5)
    text = error_of(folders)
    assert text.startswith(f"{folders[1]}: 20 errors:") and "c/000019.png" in text and "d/" not in text


@pytest.mark.parametrize("seed", range(20))
def test_bytes_of_chance_give_scores_or_an_input_error(folders, seed):
    rng = np.random.default_rng(seed)
    path = folders[seed % 2] / "a" / "000001.png"
    data = bytearray(path.read_bytes())
    for at in rng.integers(0, len(data), 1 + seed % 3):
        data[at] = rng.integers(256)
    path.write_bytes(data)
    text = ""
    try:
        evaluate_panoptic(*folders, CLASSES, windows=[1])
    except InputError as error:
        text = str(error)
    assert not text or "a/000001.png" in text
