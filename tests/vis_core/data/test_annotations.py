"""Annotation files of any origin: what is right is read, what is not is named and left out, or the file is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.vis_core.data.annotated import coco, rectangle, run_lengths, write_image, write_json, youtube_vis
from vis_core.data.annotations import read_annotations
from vis_core.errors import InputError
from vis_core.reading.findings import InputWarning

SIZE = (60, 80)
BOXES = [("red", (5, 5, 20, 20)), ("blue", (50, 30, 20, 20))]
FRAMES = [[("red", (t, 5, 20, 20)), ("green", (50, 30, 20, 20) if t % 2 else (0, 0, 0, 0))] for t in range(4)]


def findings_of(path, **options):
    """The set, and its findings by kind; there is a warning if and only if there is a finding."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        annotated = read_annotations(path, **options)
    told = [str(w.message) for w in told if w.category is InputWarning]
    assert bool(told) == bool(annotated.findings)
    if told:
        assert len(told) == 1 and told[0].startswith(f"{path}: ") and annotated.findings[0].examples[0] in told[0]
    return annotated, {found.kind: found for found in annotated.findings}


def changed(path, change):
    """The file after a change of its content."""
    content = json.loads(path.read_text())
    change(content)
    return write_json(path, content)


def masks_of(item, frame=0):
    """Dense masks of the annotations of a frame."""
    return [a.segmentations[frame] is not None and coco_mask.decode(a.segmentations[frame]) for a in item.annotations]


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


# What each pixel shows


def test_where_masks_overlap_the_smaller_is_in_front_and_crowds_are_apart(tmp_path):
    def change(content):
        boxes = (20, 20, 10, 10), (10, 10, 30, 30), (0, 0, 60, 60)
        for annotation, box in zip(content["annotations"], boxes):
            annotation["segmentation"] = run_lengths(rectangle(SIZE, box))

    path = changed(coco(tmp_path, {"boxes": [*BOXES, ("red", (0, 0, 5, 5))], "crowds": (2,)}), change)
    objects, crowds = read_annotations(path).items[0].object_images(0)
    assert objects.dtype == np.uint8
    assert objects[25, 25] == 1 and objects[15, 15] == 2 and objects[5, 5] == 0
    assert np.array_equal(crowds == 3, rectangle(SIZE, (0, 0, 60, 60)))


def test_more_objects_than_a_byte_counts_have_numbers_of_their_own(tmp_path):
    boxes = [("red", (4 * (i % 20), 4 * (i // 20), 3, 3)) for i in range(300)]
    objects, _ = read_annotations(coco(tmp_path, {"boxes": boxes})).items[0].object_images(0)
    assert objects.dtype == np.uint16 and np.array_equal(np.unique(objects), np.arange(301))


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


# What is wrong with an item


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"id": None}, "id null is not an integer"),
        ({"id": True}, "id true is not an integer"),
        ({"file_name": None}, "file_name null; give a text"),
        ({"height": "60"}, 'height "60", width 80; give pixels'),
        ({"width": 0}, "height 60, width 0; give pixels"),
        ({"width": 10**9}, "give pixels, at least 1 and 100000000 in all"),
    ],
)
def test_a_faulty_image_is_named_and_skipped_with_its_annotations(tmp_path, given, text):
    path = changed(coco(tmp_path, {"boxes": BOXES}, {"boxes": BOXES}), lambda c: c["images"][0].update(given))
    annotated, findings = findings_of(path)
    (example,) = findings["image skipped"].examples
    assert example.startswith("images[0]: ") and text in example
    assert [item.files[0].name for item in annotated.items] == ["2.png"]
    assert sum(found.count for found in findings.values()) == 3  # the image, and its two annotations


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"file_names": []}, "file_names []; give a list of texts, one a frame"),
        ({"file_names": ["a.png", None, "b.png", "c.png"]}, "give a list of texts, one a frame"),
        ({"length": 5}, "length 5, but file_names has 4"),
    ],
)
def test_a_faulty_video_is_named_and_skipped(tmp_path, given, text):
    path = changed(youtube_vis(tmp_path, FRAMES, FRAMES), lambda c: c["videos"][1].update(given))
    annotated, findings = findings_of(path)
    (example,) = findings["video skipped"].examples
    assert example.startswith("videos[1]: ") and text in example
    assert findings["annotation of a skipped video"].count == 2
    assert len(annotated.items) == 1


def test_two_images_of_one_id_cannot_be_told_apart(tmp_path):
    path = changed(coco(tmp_path, *[{"boxes": BOXES}] * 3), lambda c: c["images"][1].update(id=1))
    annotated, findings = findings_of(path)
    assert findings["image skipped"].examples[0].startswith("images[1]: id 1 is another image before")
    assert [item.files[0].name for item in annotated.items] == ["3.png"]


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
        ('{"images": [], "annotations": [], "categories": [{"name": "a"}]}', "categories[0]: id null is not"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "categories[0]: name null is not a text"),
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
    path = changed(coco(tmp_path, {"boxes": BOXES}), lambda c: c["images"][0].update(width=None))
    with pytest.raises(InputError, match=r"nothing in it can be used: 1 x image skipped \(images\[0\]: height 60"):
        read_annotations(path)


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
