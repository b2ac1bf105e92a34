"""Annotation files of any origin: what is right is read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.vis_core.data.annotated import (
    BOXES,
    FRAMES,
    SIZE,
    changed,
    coco,
    findings_of,
    masks_of,
    rectangle,
    run_lengths,
    write_image,
    write_json,
    youtube_vis,
)
from vis_core.data.annotation_files import read_annotations

# What is right


def test_images_are_videos_of_one_frame(tmp_path):
    annotated, findings = findings_of(coco(tmp_path, {"boxes": BOXES}, {"size": (30, 40)}))
    assert not findings and not annotated.videos and annotated.class_names == ("red", "green", "blue")
    first, second = annotated.items
    assert first.size == SIZE and first.files == (tmp_path / "1.png",) and first.exhaustive == (True,) * 3
    assert [(a.label, a.crowd, len(a.segmentations)) for a in first.annotations] == [(0, False, 1), (2, False, 1)]
    for mask, (_, box) in zip(masks_of(first), BOXES):
        assert np.array_equal(mask, rectangle(SIZE, box))
    assert second.size == (30, 40) and second.annotations == () and second.exhaustive == (True,) * 3


def test_a_video_has_a_mask_a_frame_or_none_where_the_object_is_away(tmp_path):
    annotated, findings = findings_of(youtube_vis(tmp_path, FRAMES))
    assert not findings and annotated.videos
    (video,) = annotated.items
    assert video.files == tuple(tmp_path / "frames" / "v1" / f"{t:05d}.png" for t in range(4))
    assert [s is not None for s in video.annotations[1].segmentations] == [False, True, False, True]
    for t in range(4):
        assert np.array_equal(masks_of(video, t)[0], rectangle(SIZE, (t, 5, 20, 20)))


def test_polygons_and_plain_runs_are_masks_like_compressed_runs(tmp_path):
    mask = rectangle(SIZE, (5, 5, 20, 20))
    flat = mask.ravel(order="F").astype(int)
    runs = np.diff(np.flatnonzero(np.diff(flat, append=2)) + 1, prepend=0).tolist()
    forms = [run_lengths(mask), {"size": [60, 80], "counts": runs}, [[5, 5, 25, 5, 25, 25, 5, 25]]]
    path = coco(tmp_path, *({"boxes": BOXES[:1]} for _ in forms))

    def change(content):
        for annotation, form in zip(content["annotations"], forms):
            annotation["segmentation"] = form

    annotated, findings = findings_of(changed(path, change))
    assert not findings
    for item in annotated.items:
        assert np.array_equal(masks_of(item)[0], mask)


def test_labels_follow_the_class_names_and_other_categories_are_left_away(tmp_path):
    path = coco(tmp_path, {"boxes": BOXES}, {"boxes": BOXES[:1]})
    annotated, findings = findings_of(path, class_names=["blue", "violet"])
    assert not findings and annotated.class_names == ("blue", "violet")
    assert [[a.label for a in item.annotations] for item in annotated.items] == [[0], []]
    # Nobody looked for violet.
    assert [item.exhaustive for item in annotated.items] == [(True, False)] * 2


def test_categories_are_mapped_to_classes_by_name(tmp_path):
    path = coco(tmp_path, {"boxes": [("green", (30, 5, 9, 9)), *BOXES]})
    annotated, _ = findings_of(path, class_names=["warm", "blue"], categories={"red": "warm", "green": "warm"})
    assert [a.label for a in annotated.items[0].annotations] == [0, 0, 1]
    annotated, _ = findings_of(path, categories={"green": "red"})
    assert annotated.class_names == ("red", "blue")


def test_class_names_are_the_categories_in_the_order_of_their_ids(tmp_path):
    categories = [{"id": 9, "name": "blue"}, {"id": 2, "name": "green"}, {"id": 1, "name": "red"}]
    path = changed(coco(tmp_path, {"boxes": BOXES[:1]}), lambda c: c.update(categories=categories))
    assert read_annotations(path).class_names == ("red", "green", "blue")


def test_ids_may_be_texts_or_whole_floats(tmp_path):
    def change(content):
        content["images"][0]["id"], content["annotations"][0]["image_id"] = "a-1", "a-1"
        content["images"][1]["id"], content["annotations"][1]["image_id"] = 7.0, "7"
        content["annotations"][0]["category_id"] = "1"

    annotated, findings = findings_of(changed(coco(tmp_path, {"boxes": BOXES[:1]}, {"boxes": BOXES[1:]}), change))
    assert not findings and [len(item.annotations) for item in annotated.items] == [1, 1]


def test_a_set_without_any_annotation_is_one_of_true_negatives(tmp_path):
    annotated, findings = findings_of(coco(tmp_path, {}, {}))
    assert not findings and [item.exhaustive for item in annotated.items] == [(True,) * 3] * 2


# What is labelled in part


def test_partial_labels_say_which_classes_are_complete(tmp_path):
    path = coco(
        tmp_path,
        {"boxes": BOXES},
        {"boxes": BOXES, "partial": True},
        {"boxes": BOXES, "partial": True, "labelled_categories": [1, 2]},
        {"boxes": BOXES, "labelled_categories": []},
        {"boxes": BOXES, "partial": False},
    )
    annotated, findings = findings_of(path)
    assert not findings
    complete = ["".join("01"[c] for c in item.exhaustive) for item in annotated.items]
    assert complete == ["111", "000", "110", "000", "111"]


def test_a_class_made_of_two_categories_is_complete_only_if_both_are(tmp_path):
    path = coco(tmp_path, {"boxes": BOXES, "labelled_categories": [1, 3]}, {"labelled_categories": [1, 2]})
    annotated, _ = findings_of(path, categories={"red": "warm", "green": "warm"})
    assert [item.exhaustive for item in annotated.items] == [(False, True), (True, False)]


def test_lvis_images_are_complete_in_what_was_looked_for(tmp_path):
    path = coco(
        tmp_path,
        {"boxes": BOXES, "neg_category_ids": [2], "not_exhaustive_category_ids": [3]},
        {"boxes": BOXES[:1], "neg_category_ids": [], "not_exhaustive_category_ids": []},
    )
    annotated, findings = findings_of(path)
    assert not findings
    assert [item.exhaustive for item in annotated.items] == [(True, True, False), (True, False, False)]


def test_a_list_of_categories_that_is_none_counts_as_empty(tmp_path):
    annotated, findings = findings_of(coco(tmp_path, {"boxes": BOXES, "labelled_categories": "all"}))
    assert annotated.items[0].exhaustive == (False,) * 3
    assert findings["labelled_categories taken as empty"].examples == ('images[0]: "all" instead of a list',)


# Where images lie, and whose they are


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("instances.json", "."),
        ("instances.json", "JPEGImages"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_train2017.json", "images/train2017"),
        ("annotations/valid.json", "valid/JPEGImages"),
        ("train/_annotations.coco.json", "train"),
    ],
)
def test_images_are_found_in_the_usual_folders(tmp_path, annotations, images):
    content = json.loads(coco(tmp_path / "elsewhere", {"boxes": BOXES}).read_text())
    path = write_json(tmp_path / annotations, content)
    image = write_image(tmp_path / images / "1.png", np.zeros((*SIZE, 3), np.uint8))
    assert read_annotations(path).items[0].files[0].resolve() == image.resolve()


def test_the_first_images_may_be_missing(tmp_path):
    path = coco(tmp_path / "images", *[{"boxes": BOXES}] * 4)
    path = path.rename(tmp_path / "coco.json")
    for number in (1, 2, 3):
        (tmp_path / "images" / f"{number}.png").unlink()
    assert read_annotations(path).items[0].files == (tmp_path / "images" / "1.png",)


def test_a_folder_that_is_given_is_not_searched(tmp_path):
    assert read_annotations(coco(tmp_path, {"boxes": BOXES}), images=Path("/data")).items[0].files == (
        Path("/data/1.png"),
    )


def test_licences_are_those_that_the_file_states(tmp_path):
    path = coco(
        tmp_path,
        {"license": 4},
        {"license": 9},
        {"licence": "CC0"},
        {},
        licenses=[{"name": "nameless"}, {"id": 4, "name": "CC BY 2.0"}],
        info={"license": "terms of the set"},
    )
    annotated = read_annotations(path)
    assert annotated.licence == "terms of the set"
    assert [item.licence for item in annotated.items] == ["CC BY 2.0", "", "CC0", ""]
