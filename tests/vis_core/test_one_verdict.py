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
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.vis_core.annotation_cases import (
    IMAGES,
    MASKS,
    NAMES,
    REFUSED,
    SIZE,
    SOUND,
    TEXT_IDS,
    TOLD,
    TRACK,
    VIDEO,
    VIDEOS,
    WORD_IDS,
    of_image,
    of_video,
    without,
)
from tests.vis_core.commands.command_line import run
from tests.vis_core.data.annotated import write_image
from tests.vis_core.fake_system import FakeSegmenter
from vis_core.data.annotation_files import read_annotations
from vis_core.errors import InputError
from vis_core.evaluation import evaluate
from vis_core.evaluation.inputs.ground_truth import read_ground_truth
from vis_core.files.findings import InputWarning
from vis_core.video.opening import open_videos

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


@pytest.mark.filterwarnings("ignore::vis_core.files.findings.InputWarning")
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


# Any file

VALUES = (
    None,
    True,
    0,
    -1,
    3,
    2**63,
    1.5,
    float("nan"),
    "",
    "1",
    "a\0b",
    "../x",
    "C:\\x",
    [],
    {},
    [1],
    {"a": 1},
    [[1]],
)


def places(tree: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All places of a JSON tree but its root."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, item in items:
        yield (*place, key)
        yield from places(item, (*place, key))


def mutated(content: Any, random: Random) -> Any:
    """A file in which one place holds something else, or nothing, or is there twice."""
    content = copy.deepcopy(content)
    found = [*places(content)]
    depth = random.choice(sorted({len(place) for place in found}))
    *way, last = random.choice([place for place in found if len(place) == depth])
    target = content
    for key in way:
        target = target[key]
    action = random.choice(("replace", "replace", "remove", "double"))
    if action == "replace":
        target[last] = random.choice(VALUES)
    elif action == "remove":
        del target[last]
    elif isinstance(target, list):
        target.insert(last, copy.deepcopy(target[last]))
    return content


@pytest.mark.parametrize("name", [*SOUND, *TOLD])
def test_whatever_a_file_holds_it_is_read_or_refused_and_by_all_who_open_images_alike(folder, name):
    random = Random(name)
    for _ in range(25):
        content = mutated((SOUND | TOLD)[name], random)
        path = write(folder, content)
        trained, scored, opened = (verdict(read, path) for read in READERS)
        if opened[0] == "refused" and "is in none of" not in opened[1]:  # images that are nowhere are not of the form
            lists = [content.get("categories"), content.get("annotations", content.get("sequences"))]
            assert trained == opened or not all(isinstance(given, list) for given in lists)
            assert scored[0] == "refused" or "file_name" in opened[1] or "hold no frame" in opened[1]


# Names of images that leave their folder


@pytest.mark.filterwarnings("ignore::vis_core.files.findings.InputWarning")
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
