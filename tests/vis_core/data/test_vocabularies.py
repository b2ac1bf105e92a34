"""Class names of known data sets, and the mappings between them."""

from __future__ import annotations

import pytest

from tests.vis_core.data.annotated import rectangle, run_lengths, write_json
from vis_core.data.annotation_files import read_annotations
from vis_core.data.vocabularies import (
    COARSE_CLASSES,
    COCO,
    COCO_TO_YOUTUBE_VIS_2019,
    OVIS,
    YOUTUBE_VIS_2019,
    YOUTUBE_VIS_2021,
    category_mapping,
    names_by_count,
)
from vis_core.errors import OptionError

VOCABULARIES = {"coco": COCO, "2019": YOUTUBE_VIS_2019, "2021": YOUTUBE_VIS_2021, "ovis": OVIS}


def one_of_each(folder, names, first_id=1):
    """A video file in which each category has one object, in a column of its own."""
    size = (8, 2 * len(names))
    videos = [{"id": 1, "height": size[0], "width": size[1], "length": 1, "file_names": ["v/0.jpg"]}]
    categories = [{"id": first_id + i, "name": name, "supercategory": "object"} for i, name in enumerate(names)]
    annotations = [
        {"id": i, "video_id": 1, "category_id": first_id + i, "iscrowd": 0,
         "segmentations": [run_lengths(rectangle(size, (2 * i, 0, 2, 8)))]}
        for i in range(len(names))
    ]  # fmt: skip
    return write_json(folder / "all.json", {"videos": videos, "categories": categories, "annotations": annotations})


@pytest.mark.parametrize(("name", "count"), [("coco", 80), ("2019", 40), ("2021", 40), ("ovis", 25)])
def test_vocabularies_hold_as_many_different_names_as_published(name, count):
    assert len(VOCABULARIES[name]) == len(set(VOCABULARIES[name])) == count


def test_names_stand_at_the_published_category_ids():
    for names, some in (
        (YOUTUBE_VIS_2019, {1: "person", 8: "dog", 21: "motorbike", 40: "tennis_racket"}),
        (YOUTUBE_VIS_2021, {1: "airplane", 9: "dog", 26: "person", 40: "zebra"}),
        (OVIS, {1: "Person", 4: "Dog", 13: "Giant_panda", 25: "Vehical"}),
        (COCO, {1: "person", 17: "dog", 80: "toothbrush"}),
    ):
        assert {number: names[number - 1] for number in some} == some


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_file_with_a_known_vocabulary_is_read_with_its_names(tmp_path, name):
    annotated = read_annotations(one_of_each(tmp_path, VOCABULARIES[name]))
    assert annotated.class_names == VOCABULARIES[name]
    assert [a.label for a in annotated.items[0].annotations] == list(range(len(VOCABULARIES[name])))


@pytest.mark.parametrize(
    ("name", "vehicles", "left"),
    [
        ("2019", {"sedan", "train", "motorbike", "airplane", "truck", "boat"},
         {"hand", "skateboard", "surfboard", "snowboard", "tennis_racket"}),
        ("2021", {"airplane", "boat", "car", "motorbike", "train", "truck"},
         {"flying_disc", "skateboard", "snowboard", "surfboard", "tennis_racket"}),
        ("ovis", {"Bicycle", "Motorcycle", "Airplane", "Boat", "Vehical"}, set()),
    ],
)  # fmt: skip
def test_coarse_sorts_the_video_vocabularies_into_person_vehicle_and_animal(tmp_path, name, vehicles, left):
    names = VOCABULARIES[name]
    path = one_of_each(tmp_path, names)
    annotated = read_annotations(path, class_names=COARSE_CLASSES, categories="coarse")
    assert COARSE_CLASSES == ("person", "vehicle", "animal")
    kept = [n for n in names if n not in left]
    labels = [a.label for a in annotated.items[0].annotations]
    assert labels == [0 if n.lower() == "person" else 1 if n in vehicles else 2 for n in kept]
    assert annotated.items[0].exhaustive == (True, True, True) and not annotated.findings


def test_coarse_takes_the_animals_and_vehicles_of_coco_and_leaves_things_away(tmp_path):
    mapping = category_mapping("coarse", COCO)
    assert {n for n, to in mapping.items() if to == "vehicle"} == {
        "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"
    }  # fmt: skip
    assert {n for n, to in mapping.items() if to == "animal"} == {
        "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"
    }  # fmt: skip
    annotated = read_annotations(one_of_each(tmp_path, COCO), categories="coarse")
    assert annotated.class_names == COARSE_CLASSES and len(annotated.items[0].annotations) == 19


def test_a_mouse_is_an_animal_beside_the_seal_and_a_device_in_coco():
    assert category_mapping("coarse", YOUTUBE_VIS_2019)["mouse"] == "animal"
    assert "mouse" not in category_mapping("coarse", COCO)


def test_coco_stands_in_for_youtube_vis_but_for_its_mouse(tmp_path):
    path = one_of_each(tmp_path, COCO)
    annotated = read_annotations(path, class_names=YOUTUBE_VIS_2019, categories="coco-to-youtube-vis-2019")
    found = {YOUTUBE_VIS_2019[a.label] for a in annotated.items[0].annotations}
    assert found == set(COCO_TO_YOUTUBE_VIS_2019.values()) and "mouse" not in found
    assert set(COCO_TO_YOUTUBE_VIS_2019) <= set(COCO) and found <= set(YOUTUBE_VIS_2019)


def test_case_and_underscores_make_no_difference_to_a_mapping():
    assert category_mapping("coarse", ["Giant Panda", "GIANT_PANDA", "Bus", "kerb"]) == {
        "Giant Panda": "animal",
        "GIANT_PANDA": "animal",
        "Bus": "vehicle",
    }


def test_an_unknown_mapping_is_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(OptionError, match="there is no mapping 'course'; known are coarse, coco-to-youtube-vis-2019"):
        read_annotations(one_of_each(tmp_path, OVIS), categories="course")


def test_a_class_count_alone_names_the_vocabulary_it_fits():
    assert names_by_count(40) == YOUTUBE_VIS_2019 and names_by_count(25) == OVIS and names_by_count(80) == COCO
    assert names_by_count(3) == ("class 1", "class 2", "class 3")
