"""The classes of panoptic images."""

from __future__ import annotations

import json

import pytest

from vis_core.data.panoptic_classes import KNOWN, read_classes
from vis_core.errors import InputError, OptionError

CLASSES = [{"id": 3, "name": "car", "isthing": 1}, {"id": 0, "name": "road", "isthing": 0, "color": [1, 2, 3]}]


def test_kitti_step_has_nineteen_classes_with_person_and_car_as_things():
    classes = read_classes("kitti-step")
    assert list(classes.names) == [*range(19)] and classes.things == {11, 13}
    assert [classes.names[number] for number in (0, 11, 13, 18)] == ["road", "person", "car", "bicycle"]


def test_vipseg_has_sixty_six_stuff_classes_and_then_fifty_eight_things():
    classes = read_classes("vipseg")
    assert list(classes.names) == [*range(124)] and classes.things == {*range(66, 124)}
    assert [classes.names[number] for number in (0, 65, 66, 123)] == ["wall", "food", "door", "train"]


@pytest.mark.parametrize("content", [CLASSES, {"categories": CLASSES}])
def test_classes_of_a_file_are_a_list_or_the_categories_of_an_object(tmp_path, content):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(content))
    classes = read_classes(path)
    assert dict(classes.names) == {0: "road", 3: "car"} and list(classes.names) == [0, 3] and classes.things == {3}


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (5, "5 is not an object"),
        ({"name": "a", "isthing": 0}, "id null is not between 0 and 254"),
        ({"id": 255, "name": "a", "isthing": 0}, "id 255 is not between 0 and 254"),
        ({"id": True, "name": "a", "isthing": 0}, "id true is not between"),
        ({"id": 3, "name": "a", "isthing": 0}, 'id 3 is "car" already'),
        ({"id": 4, "isthing": 0}, "name null is not a text"),
        ({"id": 4, "name": "a"}, "isthing null is not 0 or 1"),
        ({"id": 4, "name": "a", "isthing": 2}, "isthing 2 is not 0 or 1"),
    ],
)
def test_faults_of_a_file_are_named_with_entry_and_value(tmp_path, entry, text):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps([*CLASSES, entry]))
    with pytest.raises(InputError) as caught:
        read_classes(path)
    assert str(caught.value).startswith(f"{path}: classes [2]: {text}")


@pytest.mark.parametrize("content", ["[]", "{}", '"kitti-step"', "[", ""])
def test_a_file_without_a_list_is_refused(tmp_path, content):
    path = tmp_path / "classes.json"
    path.write_text(content)
    with pytest.raises(InputError, match="classes"):
        read_classes(path)


def test_what_is_neither_a_name_nor_a_file_is_refused():
    with pytest.raises(OptionError, match="classes: kitti is no file; give one, or one of kitti-step, vipseg"):
        read_classes("kitti")
    assert set(KNOWN) == {"kitti-step", "vipseg"}
