"""Annotation files of any origin: what is not right is named and left out, or the file is refused."""

from __future__ import annotations

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
    youtube_vis,
)
from vis_core.data.annotation_files import read_annotations
from vis_core.errors import InputError

# What is wrong with an annotation: it is left out, and its class is no longer complete there


@pytest.mark.parametrize(
    ("key", "value", "kind", "text"),
    [
        ("segmentation", None, "annotation without a mask skipped", "segmentation is missing or empty"),
        ("segmentation", [], "annotation without a mask skipped", "segmentation is missing or empty"),
        ("segmentation", 7, "mask skipped", "segmentation 7; give run lengths or polygons or null"),
        ("segmentation", [[1, 2, 3, 4]], "mask skipped", "polygon 0 has 4 numbers; give x and y of three points"),
        ("segmentation", {"size": [80, 60], "counts": [4800]}, "mask skipped", "size [80, 60], but"),
        ("segmentation", {"counts": [4800]}, "mask skipped", "size is missing"),
        ("segmentation", {"size": [60, 80], "counts": [5, 5]}, "mask skipped", "counts sum to 10, but 60 x 80 is 4800"),
        ("segmentation", {"size": [60, 80], "counts": "~"}, "mask skipped", 'counts "~"'),
        ("iscrowd", "yes", "annotation skipped", 'iscrowd "yes" is neither 0 nor 1'),
    ],
)
def test_a_faulty_annotation_is_named_and_its_class_incomplete(tmp_path, key, value, kind, text):
    path = coco(tmp_path, {"boxes": BOXES}, {"boxes": BOXES})
    annotated, findings = findings_of(changed(path, lambda c: c["annotations"][2].update({key: value})))
    assert list(findings) == [kind] and findings[kind].count == 1
    (example,) = findings[kind].examples
    assert example.startswith("annotations[2]: ") and text in example
    first, second = annotated.items
    assert len(first.annotations) == 2 and first.exhaustive == (True,) * 3
    assert [a.label for a in second.annotations] == [2] and second.exhaustive == (False, True, True)


def test_an_annotation_of_an_unknown_category_makes_every_class_incomplete(tmp_path):
    path = changed(coco(tmp_path, {"boxes": BOXES}), lambda c: c["annotations"][0].update(category_id=17))
    annotated, findings = findings_of(path)
    assert findings["annotation skipped"].examples == ("annotations[0]: category_id 17 is not in categories",)
    assert [a.label for a in annotated.items[0].annotations] == [2]
    assert annotated.items[0].exhaustive == (False,) * 3


@pytest.mark.parametrize("image_id", [99, None, [1]])
def test_an_annotation_of_no_image_is_named(tmp_path, image_id):
    path = changed(coco(tmp_path, {"boxes": BOXES}), lambda c: c["annotations"][1].update(image_id=image_id))
    annotated, findings = findings_of(path)
    assert "there is no such image" in findings["annotation skipped"].examples[0]
    assert len(annotated.items[0].annotations) == 1


def test_a_mask_without_a_pixel_is_told_and_no_object(tmp_path):
    empty = {"size": [60, 80], "counts": [4800]}
    path = changed(coco(tmp_path, {"boxes": BOXES}), lambda c: c["annotations"][0].update(segmentation=empty))
    annotated, findings = findings_of(path)
    assert findings["empty mask skipped"].examples == ("annotations[0]: it has no pixel in the image",)
    assert [a.label for a in annotated.items[0].annotations] == [2]
    assert annotated.items[0].exhaustive == (True,) * 3  # there is nothing that was not labelled


def test_a_polygon_that_leaves_the_image_is_clipped_and_told(tmp_path):
    polygon = [[60, 40, 120, 40, 120, 90, 60, 90]]
    path = changed(coco(tmp_path, {"boxes": BOXES}), lambda c: c["annotations"][1].update(segmentation=polygon))
    annotated, findings = findings_of(path)
    assert findings["polygon clipped"].count == 1
    assert np.array_equal(masks_of(annotated.items[0])[1], rectangle(SIZE, (60, 40, 20, 20)))


@pytest.mark.parametrize("count", [3, 5])
def test_segmentations_of_another_length_than_the_video_are_named(tmp_path, count):
    def change(content):
        masks = content["annotations"][0]["segmentations"]
        content["annotations"][0]["segmentations"] = (masks + masks)[:count]

    annotated, findings = findings_of(changed(youtube_vis(tmp_path, FRAMES), change))
    (example,) = findings["annotation skipped"].examples
    assert example == f"annotations[0]: {count} segmentations for the 4 frames of v1/00000.png"
    assert [a.label for a in annotated.items[0].annotations] == [1]
    assert annotated.items[0].exhaustive == (False, True, True)


def test_a_faulty_mask_of_one_frame_leaves_the_others(tmp_path):
    def change(content):
        content["annotations"][0]["segmentations"][2]["counts"] = "!"

    annotated, findings = findings_of(changed(youtube_vis(tmp_path, FRAMES), change))
    assert findings["mask skipped"].examples[0].startswith('annotations[0] frame 2: counts "!"')
    (video,) = annotated.items
    assert [s is not None for s in video.annotations[0].segmentations] == [True, True, False, True]
    assert video.exhaustive == (False, True, True)


def test_an_object_that_is_never_visible_is_told(tmp_path):
    path = changed(
        youtube_vis(tmp_path, FRAMES), lambda c: c["annotations"][1].update(segmentations=[None, [], None, None])
    )
    annotated, findings = findings_of(path)
    assert findings["annotation that is never visible"].examples == ("annotations[1]: no frame has a mask",)
    assert [a.label for a in annotated.items[0].annotations] == [0]


def test_a_box_without_a_mask_in_a_video_says_that_something_is_not_marked(tmp_path):
    boxes = [[1, 1, 5, 5], None, None, None]
    path = changed(youtube_vis(tmp_path, FRAMES), lambda c: c["annotations"][1].update(bboxes=boxes))
    annotated, findings = findings_of(path)
    assert findings["frame with a box and no mask"].examples == ("annotations[1] frame 0: box [1, 1, 5, 5]",)
    assert annotated.items[0].exhaustive == (True, False, True)


def test_the_first_few_faults_of_a_kind_are_named_and_all_are_counted(tmp_path):
    def change(content):
        for annotation in content["annotations"][:12]:
            annotation["segmentation"] = None

    annotated, findings = findings_of(changed(coco(tmp_path, *[{"boxes": BOXES}] * 7), change))
    found = findings["annotation without a mask skipped"]
    assert found.count == 12 and len(found.examples) == 5
    assert sum(len(item.annotations) for item in annotated.items) == 2


# What is wrong with an item: the form of the file is refused, as every command refuses it


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"id": None}, "id null is neither an integer nor a text"),
        ({"id": True}, "id true is neither an integer nor a text"),
        ({"file_name": None}, "file_name null; give a text"),
        ({"height": "60"}, 'height "60", width 80; give pixels'),
        ({"width": 0}, "height 60, width 0; give pixels"),
        ({"width": 10**9}, "give at most 100000000 pixels"),
    ],
)
def test_a_faulty_image_is_named_and_the_file_refused(tmp_path, given, text):
    path = changed(coco(tmp_path, {"boxes": BOXES}, {"boxes": BOXES}), lambda c: c["images"][0].update(given))
    with pytest.raises(InputError) as caught:
        read_annotations(path)
    assert str(caught.value).startswith(f"{path}: images[0]: ") and text in str(caught.value)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"file_names": []}, "file_names []; give a list of texts, one a frame"),
        ({"file_names": ["a.png", None, "b.png", "c.png"]}, "give a list of texts, one a frame"),
        ({"length": 5}, "length 5, but file_names has 4"),
    ],
)
def test_a_faulty_video_is_named_and_the_file_refused(tmp_path, given, text):
    path = changed(youtube_vis(tmp_path, FRAMES, FRAMES), lambda c: c["videos"][1].update(given))
    with pytest.raises(InputError) as caught:
        read_annotations(path)
    assert str(caught.value).startswith(f"{path}: videos[1]: ") and text in str(caught.value)


def test_two_images_of_one_id_cannot_be_told_apart(tmp_path):
    path = changed(coco(tmp_path, *[{"boxes": BOXES}] * 3), lambda c: c["images"][1].update(id=1))
    with pytest.raises(InputError, match=r"images\[1\]: id 1 stands twice, for another image in images\[0\]"):
        read_annotations(path)


def test_an_image_that_is_stated_twice_counts_once(tmp_path):
    path = changed(coco(tmp_path, {"boxes": BOXES}), lambda c: c["images"].append(dict(c["images"][0])))
    annotated, findings = findings_of(path)
    assert findings["image stated twice"].examples == ("images[1]: id 1 is images[0] too",)
    assert len(annotated.items) == 1 and len(annotated.items[0].annotations) == 2


# Files that are refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("{", "not JSON"),
        ("[]", "instead of an object with images or videos; is it a result file?"),
        ('{"images": []}', "categories is missing"),
        ('{"images": {}, "categories": [], "annotations": []}', "images is an object of 0 keys instead of a list"),
        ('{"videos": [], "categories": []}', "annotations is missing; is it a test split without labels?"),
        ('{"images": [], "annotations": [], "categories": [7]}', "categories[0]: 7 instead of an object"),
        ('{"images": [], "annotations": [], "categories": [{"name": "a"}]}', "categories[0]: id is missing"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "categories[0]: name is missing; give a text"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "categories[1]: id 1 is 'b' here, and 'a' before",
        ),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, text, message):
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_annotations(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: annotations: cannot be read: No such file"):
        read_annotations(tmp_path / "none.json")


def test_a_file_of_which_nothing_can_be_used_is_refused_and_the_faults_are_told(tmp_path):
    def change(content):
        for annotation in content["annotations"]:
            annotation["segmentation"]["size"] = [80, 60]

    path = changed(coco(tmp_path, {"boxes": BOXES}), change)
    with pytest.raises(InputError, match=r"coco\.json: nothing in it can be used: 2 x mask skipped \(annotations\[0\]"):
        read_annotations(path)
