"""The recipes and labels of visolo-lite's weights can be read."""

from pathlib import Path

import pytest

from vis_core.data.annotation_files import read_annotations
from vis_core.training.config_file import read_config

RECIPES = Path(__file__).parents[3] / "config" / "train"


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_has_known_keys_and_names_its_labels(recipe):
    config = read_config(recipe)
    assert config.system == "visolo-lite" and tuple(config.classes) == ("person", "vehicle", "animal")
    here = [part.annotations for part in config.data if RECIPES in part.annotations.parents]
    assert all(path.is_file() for path in here)


@pytest.mark.parametrize(
    ("name", "items", "drawn"), [("coco_more", 117, 271), ("coco_none", 373, 0), ("pixabay", 30, 2)]
)
def test_labels_are_without_fault(name, items, drawn):
    path = RECIPES / "labels" / f"{name}.json"
    annotated = read_annotations(path, class_names=("person", "vehicle", "animal"))
    assert not annotated.findings and len(annotated.items) == items
    assert path.read_text().count('"drawn":true') == drawn
