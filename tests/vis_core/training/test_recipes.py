"""Recipes and labels in config/train can be read, and the systems have the options that they give."""

from dataclasses import replace
from pathlib import Path

import pytest

from vis_core.data.annotation_files import read_annotations
from vis_core.data.augmentation import NO_AUGMENTATION
from vis_core.data.vocabularies import YOUTUBE_VIS_2019
from vis_core.training.config_file import read_config
from vis_core.training.optimization import rate_factor
from vis_core.training.preparation import find_system

RECIPES = Path(__file__).parents[3] / "config" / "train"


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("visolo_lite*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_of_visolo_lite_s_weights_has_known_keys_and_names_its_labels(recipe):
    config = read_config(recipe)
    assert config.system == "visolo-lite" and tuple(config.classes) == ("person", "vehicle", "animal")
    find_system(config)
    here = [part.annotations for part in config.data if RECIPES in part.annotations.parents]
    assert all(path.is_file() for path in here)


def test_the_recipe_of_tevit_is_the_published_schedule():
    system, config = find_system(read_config(RECIPES / "tevit.yaml"))
    assert system.name == "tevit" and config.classes == YOUTUBE_VIS_2019
    assert (config.clip.frames, config.clip.order, config.clip.reach) == (5, "distinct", None)
    assert config.clip.augmentation == replace(NO_AUGMENTATION, flip=0.5, zoom=(0.75, 1.0))
    assert config.options["backbone"] == "msgshift" and config.options["queries"] == 100
    last = [rate_factor(config.schedule, step, config.steps) for step in (6099, 6100, 8500, 9199)]
    assert last == pytest.approx([1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("name", "items", "drawn"), [("coco_more", 117, 271), ("coco_none", 373, 0), ("pixabay", 30, 2)]
)
def test_labels_are_without_fault(name, items, drawn):
    path = RECIPES / "labels" / f"{name}.json"
    annotated = read_annotations(path, class_names=("person", "vehicle", "animal"))
    assert not annotated.findings and len(annotated.items) == items
    assert path.read_text().count('"drawn":true') == drawn
