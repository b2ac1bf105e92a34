"""Classes against categories: what makes no difference, what the user says, what is left without a partner."""

from __future__ import annotations

import pytest

from tests.vis_core.data.annotated import rectangle, run_lengths, write_json
from vis_core.data.annotation_files import read_annotations
from vis_core.data.class_matching import category_pairs, match_classes, shown_names
from vis_core.errors import OptionError

CLASSES = {0: "person", 1: "Giant panda", 2: "tennis-racket", 3: "lorry"}
CATEGORIES = {3: "tennis_racket", 5: "giant_panda", 9: "Person", 12: "car"}


def test_case_blank_underscore_and_hyphen_make_no_difference():
    matching = match_classes(CLASSES, CATEGORIES)
    assert matching.ids == {0: 9, 1: 5, 2: 3, 3: 13}
    assert matching.names == {9: "Person", 5: "giant_panda", 3: "tennis_racket", 13: "lorry"}
    assert (matching.without_category, matching.without_class, matching.matched) == (("lorry",), ("car",), 3)


def test_the_very_name_goes_before_what_is_plainly_the_same():
    assert match_classes({0: "car"}, {1: "Car", 2: "car"}).ids == {0: 2}
    matching = match_classes({0: "CAR"}, {1: "Car", 2: "car"})
    assert (matching.ids, matching.without_class) == ({0: 1}, ("car",))


def test_what_the_user_says_goes_before_the_name():
    matching = match_classes(CLASSES, CATEGORIES, {"Lorry": "CAR", "person": "", "tennis racket": "12"})
    assert matching.ids == {0: 13, 1: 5, 2: 12, 3: 12}
    assert (matching.without_category, matching.without_class) == ((), ("tennis_racket", "Person"))


def test_classes_without_names_are_the_categories_of_their_numbers_but_for_those_that_are_renamed():
    numbers = {n: str(n) for n in (3, 4, 5)}
    assert match_classes(numbers, CATEGORIES, {"3": "car"}, numbered=True).ids == {3: 12, 4: 13, 5: 5}


@pytest.mark.parametrize(
    ("renamed", "said"),
    [
        ({"bus": "car"}, "categories bus=car: there is no class 'bus'; there are person, Giant panda, tennis-racket"),
        ({"lorry": "bus"}, "categories lorry=bus: there is no category 'bus'; there are tennis_racket, giant_panda"),
    ],
)  # fmt: skip
def test_names_that_are_not_there_are_refused_with_those_that_are(renamed, said):
    with pytest.raises(OptionError) as caught:
        match_classes(CLASSES, CATEGORIES, renamed)
    assert said in str(caught.value)


def test_pairs_are_written_from_equals_to():
    assert category_pairs(["car=vehicle", " a b = c ", "dog="]) == {"car": "vehicle", "a b": "c", "dog": ""}
    for wrong in (["car"], ["=vehicle"], ["car=a", "car=b"]):
        with pytest.raises(OptionError, match="--categories"):
            category_pairs(wrong)


def test_of_many_names_a_message_has_the_first():
    assert shown_names(map(str, range(12))) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert shown_names(()) == "none"


def test_a_training_set_is_read_by_the_same_names(tmp_path):
    size = (8, 8)
    names = ["Box", "round_disc", "lorry"]
    content = {
        "videos": [{"id": 1, "height": 8, "width": 8, "length": 1, "file_names": ["v/0.jpg"]}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
        "annotations": [
            {"id": i, "video_id": 1, "category_id": i, "segmentations": [run_lengths(rectangle(size, (i, 0, 1, 8)))]}
            for i in (1, 2, 3)
        ],
    }
    path = write_json(tmp_path / "all.json", content)
    (item,) = read_annotations(path, tmp_path, ("round disc", "box", "vehicle"), {"LORRY": "vehicle"}).items
    assert [annotation.label for annotation in item.annotations] == [1, 0, 2]
