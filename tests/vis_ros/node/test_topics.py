"""Names of cameras, and what their topics are called."""

import pytest

from vis_core.errors import OptionError
from vis_ros.node.topics import ONLY, camera_names, topic_names, topic_of


@pytest.mark.parametrize(
    ("text", "names"),
    [("", (ONLY,)), ("  ", (ONLY,)), ("front", ("front",)), ("front, rear_left", ("front", "rear_left"))],
)
def test_a_list_names_cameras_and_an_empty_one_the_only_one(text, names):
    assert camera_names(text) == names


@pytest.mark.parametrize("text", ["front,", "2nd", "front/left", "a__b", "front left", "~", "_a", "a_"])
def test_what_cannot_be_part_of_a_topic_s_name_is_refused_in_words(text):
    with pytest.raises(OptionError, match="cannot be part of a topic's name"):
        camera_names(text)


def test_a_camera_that_stands_there_twice_is_refused():
    with pytest.raises(OptionError, match="'front' stands there twice"):
        camera_names("front,left,front")


@pytest.mark.parametrize("topic", ["image", "~/overlay", "mask/image", "~/debug/processing_time_ms"])
def test_the_only_camera_has_the_topics_of_the_node_and_others_begin_with_their_name(topic):
    assert topic_of(ONLY, topic) == topic
    assert topic_of("front", topic) == "front/" + topic.removeprefix("~/")


def test_classes_have_names_that_topics_may_have_and_no_two_the_same():
    names = topic_names(["person", "Traffic Light", "traffic-light", "giant_panda", "2 wheeler", "..."])
    assert list(names.values()) == [
        "person", "traffic_light", "traffic_light_2", "giant_panda", "class_2_wheeler", "class",
    ]  # fmt: skip
