"""Videos that a JSON names: YouTube-VIS and COCO."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.vis_core.video.image_files import picture, read_all, with_orientation, write_folder
from vis_core.errors import InputError, OptionError
from vis_core.video.images import read_image
from vis_core.video.opening import open_video, open_videos
from vis_core.video.sources import ImageSequence

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the data folder ../shared/data is absent")


def write_json(path: Path, **changes: object) -> Path:
    entry = {
        "id": 7,
        "name": "clip",
        "width": 64,
        "height": 48,
        "length": 3,
        "file_names": ["c/0.png", "c/1.png", "c/2.png"],
    }
    path.write_text(json.dumps({"videos": [{**entry, **changes}]}))
    return path


def test_a_json_gives_each_of_its_videos_with_id_size_rate_and_stamps(tmp_path):
    write_folder(tmp_path / "frames" / "c")
    write_folder(tmp_path / "frames" / "d")
    common = {"width": 64, "height": 48}
    videos = [
        {"id": 9, "file_names": ["c/0.png", "c/1.png"], "stamps": [5, 70], "fps": 12.0, **common},
        {"id": 2, "name": "second", "file_names": ["d/2.png"], "length": 1, **common},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"videos": videos}))
    first, second = open_videos(tmp_path / "a.json")
    assert (first.name, first.video_id, first.length, first.fps) == ("c", 9, 2, 12)
    assert (second.name, second.video_id, second.length_is_exact) == ("second", 2, True)
    assert [frame.stamp for frame in first] == [5, 70]
    np.testing.assert_array_equal(next(iter(second)).image, picture(2))
    with pytest.raises(InputError, match="holds 2 videos"):
        open_video(tmp_path / "a.json")


def test_each_image_of_a_coco_json_is_a_video_of_one_frame(tmp_path):
    write_folder(tmp_path / "images" / "c")
    images = [{"id": 30 + i, "file_name": f"c/{i}.png", "width": 64, "height": 48} for i in (2, 0)]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": []}))
    first, second = open_videos(tmp_path / "a.json")
    assert (first.name, first.video_id, first.length) == ("2", 32, 1)
    np.testing.assert_array_equal(next(iter(second)).image, picture(0))


@pytest.mark.parametrize(
    ("image", "place"),
    [
        ({"file_name": "../a.png"}, r'images\[0\]: file_name "../a.png" leaves the folder of the images'),
        ({"file_name": 7}, r"images\[0\]: file_name 7; give a text"),
        ({"id": None}, r"images\[0\]: id null is neither an integer nor a text"),
        ({"width": -1}, r"images\[0\]: height 48, width -1; give pixels"),
    ],
)
def test_a_fault_in_a_coco_json_is_named_by_entry_and_value(tmp_path, image, place):
    entry = {"id": 1, "file_name": "a.png", "width": 64, "height": 48} | image
    (tmp_path / "a.json").write_text(json.dumps({"images": [entry]}))
    with pytest.raises(InputError, match=place):
        open_videos(tmp_path / "a.json", images=tmp_path)


def test_a_frame_missing_under_the_image_root_is_named(tmp_path):
    files = write_folder(tmp_path / "root" / "c")
    files[1].unlink()
    video = open_video(write_json(tmp_path / "a.json"), images=tmp_path / "root")
    assert [frame.index for frame in read_all(video)] == [0, 2]
    assert video.skipped == [(str(files[1]), "no such file")]


@pytest.mark.parametrize(
    "name", ["../secret.png", "c/../../secret.png", "/etc/passwd", "C:\\secret.png", "..\\secret.png", "a\0b", ""]
)
def test_a_json_cannot_name_files_outside_the_image_root(tmp_path, name):
    (tmp_path / "root").mkdir()
    cv2.imwrite(str(tmp_path / "secret.png"), picture())
    with pytest.raises(InputError, match=r"videos\[0\]: file_names\[0\] .* (leaves the folder|is not a file name)"):
        open_video(write_json(tmp_path / "a.json", file_names=[name], length=1), images=tmp_path / "root")


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"id": True}, r"videos\[0\]: id true is neither an integer nor a text"),
        ({"width": 0}, r"videos\[0\]: height 48, width 0; give pixels"),
        ({"height": True}, r"videos\[0\]: height true, width 64; give pixels"),
        ({"width": 10**6, "height": 10**6}, r"videos\[0\]: .* give at most 100000000 pixels"),
        ({"file_names": []}, r"videos\[0\]: file_names \[\]; give a list of texts, one a frame"),
        ({"length": 4}, r"videos\[0\]: length 4, but file_names has 3"),
        ({"stamps": [1, 2]}, r"videos\[0\]: stamps has 2 entries for 3 frames"),
        ({"stamps": [1, 3, 3]}, r"videos\[0\]: stamps do not grow"),
        ({"fps": 0}, r"videos\[0\]: fps 0 is not a number"),
        ({"name": 5}, r"videos\[0\]: name 5 is not a text"),
    ],
)
def test_a_fault_in_a_json_is_named_by_entry_and_value(tmp_path, changes, place):
    with pytest.raises(InputError, match=place):
        open_video(write_json(tmp_path / "a.json", **changes), images=tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"videos": []}', '{"videos": [3]}', "\x00", "[" * 100_000])
def test_a_file_that_is_no_youtube_vis_json_is_an_error(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json"):
        open_video(tmp_path / "a.json", images=tmp_path)


def test_two_videos_with_one_id_are_an_error(tmp_path):
    write_json(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    other = {**content["videos"][0], "name": "other", "length": 2, "file_names": ["c/0.png", "c/1.png"]}
    (tmp_path / "a.json").write_text(json.dumps({"videos": [*content["videos"], other]}))
    with pytest.raises(InputError, match=r"videos\[1\]: id 7 stands twice, for another video in videos\[0\]"):
        open_videos(tmp_path / "a.json", images=tmp_path)


def test_a_json_whose_images_are_nowhere_says_where_it_looked(tmp_path):
    with pytest.raises(InputError, match=r"JPEGImages, .*; name the folder"):
        open_video(write_json(tmp_path / "a.json"))
    with pytest.raises(InputError, match="no such folder of images"):
        open_video(write_json(tmp_path / "a.json"), images=tmp_path / "absent")


@needs_shared
def test_a_real_youtube_vis_json_is_read_with_its_default_image_folder():
    videos = open_videos(SHARED / "davis" / "val.json")
    assert len(videos) == 8
    video = next(v for v in videos if v.name == "cows")
    assert isinstance(video, ImageSequence)
    assert (video.length, video.size, video.fps) == (52, (270, 480), 12)
    assert len(list(video)) == 52


@pytest.mark.parametrize(("size", "turned"), [((48, 64), False), ((64, 48), True)])
def test_images_that_exif_turns_are_read_as_the_sizes_of_the_json_tell_and_it_is_told(tmp_path, size, turned):
    data = cv2.imencode(".jpg", picture())[1].tobytes()
    (tmp_path / "quarter.jpg").write_bytes(with_orientation(data, 6))
    (tmp_path / "half.jpg").write_bytes(with_orientation(data, 3))
    entries = [
        {"id": 1, "file_name": "quarter.jpg", "height": size[0], "width": size[1]},
        {"id": 2, "file_name": "half.jpg", "height": 48, "width": 64},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"images": entries}))
    videos = open_videos(tmp_path / "a.json")
    for video, name in zip(videos, ("quarter.jpg", "half.jpg")):
        np.testing.assert_array_equal(next(iter(video)).image, read_image(tmp_path / name, turned))
    way = "turned" if turned else "stored"
    assert videos[0].notes == [
        f"EXIF turns 2 of the images; by their sizes the labels follow 1 as {way}, "
        f"1 as {way}, which no size tells, as the others of the set"
    ]


def test_the_orientation_that_is_given_decides_and_a_size_that_fits_neither_way_names_exif(tmp_path):
    data = cv2.imencode(".jpg", picture())[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(with_orientation(data, 6))
    for size in ((48, 64), (64, 48), (50, 50)):
        entry = {"id": 1, "file_name": "a.jpg", "height": size[0], "width": size[1]}
        (tmp_path / "a.json").write_text(json.dumps({"images": [entry]}))
        for orientation, found in (("stored", (48, 64)), ("turned", (64, 48))):
            video = open_video(tmp_path / "a.json", orientation=orientation)
            frames = read_all(video)
            if size == (50, 50):
                assert "stored as 64x48, EXIF (orientation 6) turns it to 48x64" in video.skipped[0].reason
            else:
                assert [frame.image.shape[:2] for frame in frames] == [found]
    with pytest.raises(OptionError, match="orientation"):
        open_video(tmp_path / "a.json", orientation="up")


def test_a_folder_is_turned_as_viewers_do_unless_its_stored_pixels_are_asked_for_and_it_is_told(tmp_path):
    (tmp_path / "a").mkdir()
    data = cv2.imencode(".jpg", picture())[1].tobytes()
    for name in ("0.jpg", "1.jpg"):
        (tmp_path / "a" / name).write_bytes(with_orientation(data, 8))
    for path in (tmp_path / "a", tmp_path / "a" / "1.jpg"):
        video = open_video(path)
        assert video.size == (64, 48)
        assert "they are read as shown" in video.notes[0]
        stored = open_video(path, orientation="stored")
        assert stored.size == next(iter(stored)).size == (48, 64)
        assert "they are read as stored" in stored.notes[0]


def test_the_range_of_the_first_video_is_found_at_once_and_of_each_by_its_own_images(tmp_path):
    for number, low in enumerate((1000, 7000)):
        image = np.linspace(low, low + 500, 48 * 64).round().astype(np.uint16).reshape(48, 64)
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    images = [{"id": i, "file_name": f"{i}.png", "height": 48, "width": 64} for i in range(2)]
    (tmp_path / "a.json").write_text(json.dumps({"images": images}))
    with pytest.raises(InputError, match=r"0\.png: 16-bit values from 1000 to 1500"):
        open_videos(tmp_path / "a.json")
    first, second = open_videos(tmp_path / "a.json", value_range="auto")
    np.testing.assert_allclose(next(iter(first)).image, next(iter(second)).image.astype(int), atol=1)
