"""Every command gives the same verdict on the same annotation file: what one takes all take, and refuse likewise.

The form of a file (lists, entries, categories) has one verdict and one wording. Of single annotations a training leaves
faulty ones out and says so, an evaluation refuses them, whose score would be wrong, and whoever opens the images alone
does not look at them.
"""

from __future__ import annotations

import codecs
import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.vis_core.commands.command_line import run
from tests.vis_core.data.annotated import rectangle, run_lengths, write_image
from tests.vis_core.fake_system import FakeSegmenter
from vis_core.data.annotation_files import read_annotations
from vis_core.errors import InputError
from vis_core.evaluation import evaluate
from vis_core.evaluation.inputs.ground_truth import read_ground_truth
from vis_core.files.findings import InputWarning
from vis_core.video.opening import open_videos

SIZE = (48, 64)
NAMES = [f"0a1/0000{t}.jpg" for t in range(3)]
MASKS = [run_lengths(rectangle(SIZE, (4 + 5 * t, 8, 14, 14))) for t in range(3)]
TRACK = {"id": 1, "video_id": 1, "category_id": 1, "iscrowd": 0, "segmentations": MASKS}
VIDEO = {"id": 1, "width": 64, "height": 48, "length": 3, "file_names": NAMES}
VIDEOS = {"videos": [VIDEO], "categories": [{"id": 1, "name": "c1"}], "annotations": [TRACK]}
OBJECT = {"id": 1, "image_id": 9, "category_id": 1, "iscrowd": 0, "segmentation": MASKS[0]}
IMAGE = {"id": 9, "width": 64, "height": 48, "file_name": "0a1/00000.jpg"}
IMAGES = {"images": [IMAGE], "categories": [{"id": 1, "name": "c1"}], "annotations": [OBJECT]}

Verdict = tuple[str, str]
"""``taken`` with what was read, ``told`` with the kinds of notices too, or ``refused`` with the words."""


def train(path: Path, images: Path | None) -> Any:
    """What ``vis inspect`` and ``vis train`` read: the size of each item, its files, and how many objects it has."""
    items = read_annotations(path, images).items
    return [(item.size, [file.resolve() for file in item.files], len(item.annotations)) for item in items]


def score(path: Path, images: Path | None) -> Any:
    """What ``vis evaluate`` reads."""
    truth = read_ground_truth(path, images=images)
    for text in truth.warnings:
        warnings.warn(text, InputWarning, stacklevel=2)
    return [(video.size, video.file_names, len(truth.tracks[number])) for number, video in truth.videos.items()]


def open_(path: Path, images: Path | None) -> Any:
    """What ``vis segment`` and ``vis-ros make-bag`` open."""
    return [(video.size, [file.resolve() for file in video.files]) for video in open_videos(path, images)]


def verdict(read: Callable[[Path, Path | None], Any], path: Path, images: Path | None = None) -> Verdict:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            read(path, images)
        except InputError as error:
            words = str(error).replace("annotations: cannot", "cannot").replace("ground truth: cannot", "cannot")
            for role in ("annotations: ", "ground truth: ", "ground truth "):
                words = words.replace(role, "")
            return "refused", words
    return ("told" if any(item.category is InputWarning for item in told) else "taken"), ""


def changed(content: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content = copy.deepcopy(content)
    change(content)
    return content


def of_video(**fields: Any) -> dict[str, Any]:
    return changed(VIDEOS, lambda c: c["videos"][0].update(fields))


def of_image(**fields: Any) -> dict[str, Any]:
    return changed(IMAGES, lambda c: c["images"][0].update(fields))


def of_categories(*categories: Any) -> dict[str, Any]:
    return {**VIDEOS, "categories": list(categories)}


def without(content: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in keys}


TEXT_IDS = {
    "videos": [{**VIDEO, "id": "1", "width": 64.0, "height": 48.0}],
    "categories": [{"id": "1", "name": "c1"}],
    "annotations": [{**TRACK, "id": "a7", "video_id": "1", "category_id": "1", "iscrowd": None}],
}
WORD_IDS = {
    "videos": [{**VIDEO, "id": "clip-a"}],
    "categories": [{"id": "c", "name": "c1"}],
    "annotations": [{**TRACK, "video_id": "clip-a", "category_id": "c"}],
}
COCO_VID = {
    "videos": [{"id": 1, "name": "0a1"}],
    "images": [
        {"id": 10 + t, "video_id": 1, "frame_id": t, "file_name": name, "width": 64, "height": 48}
        for t, name in enumerate(NAMES)
    ],
    "categories": [{"id": 1, "name": "c1"}],
    "annotations": [
        {"id": t + 1, "image_id": 10 + t, "video_id": 1, "category_id": 1, "instance_id": 4, "segmentation": mask}
        for t, mask in enumerate(MASKS)
    ],
}
BURST = {
    "split": "val",
    "categories": [{"id": 1, "name": "c1"}],
    "sequences": [
        {
            "id": 0,
            "seq_name": "0a1",
            "dataset": "",
            "width": 64,
            "height": 48,
            "fps": 30,
            "annotated_image_paths": [Path(name).name for name in NAMES],
            "track_category_ids": {"3": 1},
            "segmentations": [{"3": {"rle": mask["counts"], "is_gt": True}} for mask in MASKS],
        }
    ],
}

SOUND = {
    "videos": VIDEOS,
    "images": IMAGES,
    "texts of digits as ids": TEXT_IDS,
    "words as ids": WORD_IDS,
    "length null": of_video(length=None),
    "no length": {**VIDEOS, "videos": [without(VIDEO, "length")]},
    "fps and name null": of_video(fps=None, name=None, stamps=None),
    "iscrowd null": {**VIDEOS, "annotations": [{**TRACK, "iscrowd": None, "areas": None, "bboxes": None}]},
    "empty videos beside images": {**IMAGES, "videos": []},
    "no annotation of an image": {**IMAGES, "images": [IMAGE, {**IMAGE, "id": 10}]},
    "LVIS v1": {
        **IMAGES,
        "images": [{**without(IMAGE, "file_name"), "coco_url": "http://images.cocodataset.org/0a1/00000.jpg"}],
    },
    "CocoVID": COCO_VID,
    "CocoVID with track_id and frames out of order": changed(
        COCO_VID,
        lambda c: (c["images"].reverse(), [a.update(track_id=a.pop("instance_id")) for a in c["annotations"]]),
    ),
    "BURST": BURST,
}
TOLD = {
    "backslashes": of_video(file_names=[name.replace("/", "\\") for name in NAMES]),
    "dots within the folder": of_video(file_names=[f"0a1/../{name}" for name in NAMES]),
    "a category stated twice": of_categories({"id": 1, "name": "c1"}, {"id": 1, "name": "c1"}),
    "a name of two categories": of_categories({"id": 1, "name": "c1"}, {"id": 2, "name": "c1"}),
    "a video stated twice": {**VIDEOS, "videos": [VIDEO, VIDEO]},
    "a video without frames": {**VIDEOS, "videos": [VIDEO, {**VIDEO, "id": 2, "length": 0, "file_names": []}]},
}
REFUSED = {
    "a number": (3, "3 instead of an object with images or videos"),
    "results": ([{"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": MASKS}], "were the two swapped?"),
    "an empty list": ([], "is it a result file?"),
    "another object": ({"info": {}}, "images is missing, as COCO's form has it"),
    "Labelme": ({"version": "5", "shapes": [], "imagePath": "a.jpg", "imageData": None}, "is Labelme's file of one"),
    "VIA": ({"_via_settings": {}, "_via_img_metadata": {}}, "VGG Image Annotator"),
    "VIA's export": ({"a.jpg12": {"filename": "a.jpg", "regions": []}}, "VGG Image Annotator"),
    "SA-1B": ({"image": {"image_id": 1}, "annotations": []}, "the SA-1B form of one image"),
    "Label Studio": ([{"id": 1, "data": {}, "annotations": []}], "Label Studio's own form"),
    "BDD100K": ([{"name": "a.jpg", "labels": []}], "BDD100K"),
    "YouTube-VOS": ({"videos": {"0a1": {"objects": {}}}}, "meta.json of YouTube-VOS"),
    "panoptic": ({**IMAGES, "annotations": [{"image_id": 9, "segments_info": []}]}, "is a panoptic file"),
    "videos is null": ({"videos": None}, "images is missing, as COCO's form has it"),
    "videos is a number": ({**VIDEOS, "videos": 7}, "videos is 7 instead of a list"),
    "videos is empty": ({**VIDEOS, "videos": [], "annotations": []}, "holds no video: videos is an empty list"),
    "images is empty": ({**IMAGES, "images": [], "annotations": []}, "holds no image: images is an empty list"),
    "categories is an object": ({**VIDEOS, "categories": {}}, "categories is an object of 0 keys instead of a list"),
    "annotations is a text": ({**VIDEOS, "annotations": "none"}, 'annotations is "none" instead of a list'),
    "a video that is a number": ({**VIDEOS, "videos": [VIDEO, 3]}, "videos[1]: 3 instead of an object"),
    "no id": ({**VIDEOS, "videos": [VIDEO, without(VIDEO, "id")]}, "videos[1]: id is missing"),
    "id null": (of_video(id=None), "videos[0]: id null is neither an integer nor a text"),
    "id true": (of_image(id=True), "images[0]: id true is neither an integer nor a text"),
    "one id of two videos": (
        {**VIDEOS, "videos": [VIDEO, {**VIDEO, "width": 65}]},
        "videos[1]: id 1 stands twice, for another video in videos[0]",
    ),
    "no width": (
        {**IMAGES, "images": [without(IMAGE, "width")]},
        "images[0]: height 48, width is missing; give pixels",
    ),
    "height 0": (of_video(height=0), "videos[0]: height 0, width 64; give pixels"),
    "length 4": (of_video(length=4), "videos[0]: length 4, but file_names has 3"),
    "length is a text": (of_video(length="3"), 'videos[0]: length "3" is not a number of frames'),
    "file_names with null": (of_video(file_names=["a.jpg", None, "b.jpg"]), "give a list of texts, one a frame"),
    "file_name 7": (of_image(file_name=7), "images[0]: file_name 7; give a text"),
    "an empty name": (of_video(file_names=["", "b", "c"]), 'videos[0]: file_names[0] "" is not a file name'),
    "name 5": (of_video(name=5), "videos[0]: name 5 is not a text"),
    "fps is a text": (of_video(fps="25"), 'videos[0]: fps "25" is not a number'),
    "stamps do not grow": (of_video(stamps=[1, 5, 5]), "videos[0]: stamps do not grow"),
    "two stamps": (of_video(stamps=[1, 5]), "videos[0]: stamps has 2 entries for 3 frames"),
    "a category that is a text": (of_categories("c1"), 'categories[0]: "c1" instead of an object'),
    "a category without name": (of_categories({"id": 1}), "categories[0]: name is missing; give a text"),
    "a category with an empty name": (of_categories({"id": 1, "name": " "}), 'categories[0]: name " "; give a text'),
    "a category with name null": (of_categories({"id": 1, "name": None}), "categories[0]: name null; give a text"),
    "a category without id": (of_categories({"name": "c1"}), "categories[0]: id is missing"),
    "one id of two categories": (
        of_categories({"id": 1, "name": "c1"}, {"id": 1, "name": "c2"}),
        "categories[1]: id 1 is 'c2' here, and 'c1' before",
    ),
    "a CocoVID image of no video": (
        changed(COCO_VID, lambda c: c["images"][1].update(video_id=7)),
        "images[1]: video_id 7 is not in videos",
    ),
    "a CocoVID object without identity": (
        changed(COCO_VID, lambda c: c["annotations"][2].pop("instance_id")),
        "annotations[2]: instance_id null",
    ),
    "a CocoVID object twice in a frame": (
        changed(COCO_VID, lambda c: c["annotations"][2].update(image_id=11)),
        "annotations[2]: instance 4 stands twice in frame 1",
    ),
}


@pytest.fixture
def folder(tmp_path):
    for t, name in enumerate(NAMES):
        write_image(tmp_path / "JPEGImages" / name, np.full((*SIZE, 3), 80 * t, np.uint8))
    return tmp_path


def write(folder: Path, content: Any, name: str = "set.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content), "utf-8")
    return path


READERS = (train, score, open_)


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_file_is_taken_by_all(folder, name):
    path = write(folder, SOUND[name])
    assert [verdict(read, path) for read in READERS] == [("taken", "")] * 3
    trained, opened = train(path, None), open_(path, None)
    assert [item[:2] for item in trained] == opened and trained[0][2] == 1
    assert [(item[0], item[2]) for item in trained] == [(item[0], item[2]) for item in score(path, None)]
    assert all(file.is_file() for _, files in opened for file in files)


@pytest.mark.parametrize("name", TOLD)
def test_an_odd_file_is_taken_by_all_with_a_notice(folder, name):
    path = write(folder, TOLD[name])
    assert [verdict(read, path) for read in READERS] == [("told", "")] * 3
    assert all(file.is_file() for _, files in open_(path, None) for file in files)


@pytest.mark.parametrize("name", REFUSED)
def test_a_malformed_file_is_refused_by_all_in_the_same_words(folder, name):
    content, words = REFUSED[name]
    path = write(folder, content)
    found = [verdict(read, path) for read in READERS]
    assert found[0][0] == "refused" and words in found[0][1] and str(path) in found[0][1]
    labelled = isinstance(content, dict) and {"categories", "annotations"} <= set(content)
    assert found[0] == found[1] and (found[0] == found[2] or (not labelled and words in found[2][1]))


@pytest.mark.parametrize("key", ["categories", "annotations"])
def test_labels_that_are_missing_are_asked_for_by_those_who_need_them(folder, key):
    path = write(folder, without(VIDEOS, key))
    found = [verdict(read, path) for read in READERS]
    assert found[0] == found[1] and found[0][0] == "refused" and f"{key} is missing" in found[0][1]
    assert found[2] == ("taken", "")


def test_an_empty_list_of_annotations_is_not_missing(folder):
    path = write(folder, {**VIDEOS, "annotations": []})
    assert [verdict(read, path)[0] for read in READERS] == ["taken", "told", "taken"]


@pytest.mark.parametrize(
    "text",
    ["", " \n", "{", "[" * 100_000, "\x00", '{"videos": []} x'],
)
def test_what_is_no_json_is_refused_by_all_in_the_same_words(folder, text):
    path = folder / "set.json"
    path.write_text(text)
    found = [verdict(read, path) for read in READERS]
    assert found[0][0] == "refused" and found == [found[0]] * 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_read_by_all(folder, encoding):
    path = folder / "set.json"
    path.write_bytes(json.dumps({**VIDEOS, "info": "Kühe"}, ensure_ascii=False).encode(encoding))
    assert path.read_bytes()[:1] in (codecs.BOM_UTF8[:1], codecs.BOM_UTF16[:1])
    assert [verdict(read, path) for read in READERS] == [("taken", "")] * 3


def test_a_text_of_another_encoding_is_refused_by_all(folder):
    path = folder / "set.json"
    path.write_bytes(json.dumps({**VIDEOS, "info": "Kühe"}, ensure_ascii=False).encode("latin-1"))
    found = [verdict(read, path) for read in READERS]
    assert found == [found[0]] * 3 and "not a text in UTF-8" in found[0][1]


# Names of images that leave their folder


@pytest.mark.parametrize("kind", ["absolute", "from the file's folder"])
def test_names_that_leave_their_folder_are_taken_where_they_lie_under_the_given_one(folder, kind):
    images = folder / "JPEGImages"
    (folder / "labels").mkdir()
    base = images if kind == "absolute" else Path("../JPEGImages")
    path = write(folder / "labels", of_video(file_names=[f"{base}/{name}" for name in NAMES]))
    assert [verdict(read, path, images) for read in READERS] == [("told", "")] * 3
    assert open_(path, images) == [(SIZE, [(images / name).resolve() for name in NAMES])]
    found = [verdict(read, path, folder / "labels") for read in READERS]
    # An evaluation opens no image: it says what the others refuse.
    assert found[0] == found[2] and [item[0] for item in found] == ["refused", "told", "refused"]
    assert "videos[0]: file_names[0]" in found[0][1] and "leaves the folder of the images" in found[0][1]


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.jpg", "C:\\secret.jpg", "..\\secret.jpg", "a/../../b.jpg"])
def test_no_file_names_what_lies_elsewhere(folder, name):
    path = write(folder, of_image(file_name=name))
    for images in (None, folder / "JPEGImages"):
        assert verdict(open_, path, images) == verdict(train, path, images)
        assert verdict(open_, path, images)[0] == "refused" and "leaves the folder" in verdict(open_, path, images)[1]


# Where images are found


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("set.json", "frames"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_train2017.json", "images/train2017"),
        ("valid/_annotations.coco.json", "valid"),
    ],
)
def test_images_are_found_in_one_and_the_same_folder(tmp_path, file, images):
    for name in NAMES:
        write_image(tmp_path / images / name, np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / file).parent.mkdir(exist_ok=True)
    path = write(tmp_path, VIDEOS, file)
    assert train(path, None)[0][1] == open_(path, None)[0][1] == [(tmp_path / images / n).resolve() for n in NAMES]


def test_the_images_of_a_split_are_those_of_its_own_folder(tmp_path):
    for split in ("train", "val"):
        write_image(tmp_path / split / NAMES[0], np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        path = write(tmp_path, IMAGES, f"annotations/{split}.json")
        assert train(path, None)[0][1] == open_(path, None)[0][1] == [(tmp_path / split / NAMES[0]).resolve()]


@pytest.mark.parametrize("missing", [[0], [0, 1]])
def test_the_first_images_may_be_missing(folder, missing):
    for t in missing:
        (folder / "JPEGImages" / NAMES[t]).unlink()
    path = write(folder, VIDEOS)
    assert [verdict(read, path) for read in READERS] == [("taken", "")] * 3
    assert open_(path, None)[0][1] == [(folder / "JPEGImages" / name).resolve() for name in NAMES]


def test_a_folder_that_is_named_as_the_images_begin_is_that_folder(folder):
    (folder / "JPEGImages").rename(folder / "set")
    path = write(folder, VIDEOS)
    files = [(folder / "set" / name).resolve() for name in NAMES]
    for images in (folder / "set", folder / "set" / "0a1"):
        assert train(path, images)[0][1] == open_(path, images)[0][1] == files


# Results of text ids


@pytest.mark.parametrize(("content", "video", "category"), [(TEXT_IDS, "1", "1"), (WORD_IDS, "clip-a", "c")])
def test_results_find_text_ids_by_text_and_by_number(folder, content, video, category):
    path = write(folder, content)
    for ids in ({"video_id": video, "category_id": category}, {"video_id": 1, "category_id": 1}):
        assert evaluate(path, [{**ids, "score": 0.5, "segmentations": MASKS}]).summary["AP"] > 0.999


def test_text_ids_among_numbers_get_numbers_of_their_own(folder):
    videos = [{**VIDEO, "id": key} for key in ("b", 7, "a", "3")]
    tracks = [{**TRACK, "id": n, "video_id": key} for n, key in enumerate(("b", 7, "a", 3), 1)]
    path = write(folder, {**VIDEOS, "videos": videos, "annotations": tracks})
    truth = read_ground_truth(path)
    assert list(truth.videos) == [3, 7, 8, 9] and {len(found) for found in truth.tracks.values()} == {1}
    assert [video.video_id for video in open_videos(path)] == [8, 7, 9, 3]


# Single annotations


@pytest.mark.parametrize(
    "change",
    [
        {"category_id": 5},
        {"video_id": 5},
        {"iscrowd": 2},
        {"segmentations": MASKS[:2]},
        {"segmentations": [{"size": [64, 48], "counts": "1"}] * 3},
    ],
)
def test_a_faulty_annotation_is_left_out_refused_or_not_looked_at(folder, change):
    path = write(folder, {**VIDEOS, "annotations": [TRACK, {**TRACK, "id": 2, **change}]})
    assert [verdict(read, path)[0] for read in READERS] == ["told", "refused", "taken"]


# The commands themselves


def end(command: str, path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Run a command on the file; it ends with the code."""
    if command == "make-bag":
        pytest.importorskip("rosbags")
        from vis_ros import cli

        ended: Any = 0
        try:
            cli.main(["make-bag", str(path), str(path.parent / "bag")])
        except SystemExit as ending:
            ended = ending.code or 0
        assert ended == code
        return
    results = path.parent / "results.json"
    results.write_text("[]")
    arguments = {
        "inspect": ("inspect", path),
        "evaluate": ("evaluate", results, "--ground-truth", path, "--metrics", "ap"),
        "segment": ("segment", path, "--system", "fake", "--out", path.parent / "out", "--no-overlay"),
    }
    run(monkeypatch, FakeSegmenter(), *arguments[command], code=code)


@pytest.mark.parametrize("command", ["inspect", "evaluate", "segment", "make-bag"])
@pytest.mark.parametrize("name", ["texts of digits as ids", "words as ids", "CocoVID", "length null", "BURST"])
def test_every_command_ends_well_on_a_sound_file(folder, monkeypatch, command, name):
    end(command, write(folder, SOUND[name]), monkeypatch, 0)


@pytest.mark.parametrize("command", ["inspect", "evaluate", "segment", "make-bag"])
@pytest.mark.parametrize("name", ["a category without name", "height 0", "Labelme", "one id of two videos", "results"])
def test_every_command_refuses_a_malformed_file_in_the_same_words(folder, monkeypatch, capfd, command, name):
    content, words = REFUSED[name]
    end(command, write(folder, content), monkeypatch, 1 if command == "inspect" else 2)
    assert words in " ".join(capfd.readouterr().err.split())
