"""Classes of panoptic data sets, and which of them are things: KITTI-STEP's, VIPSeg's, or those of a JSON file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vis_core.errors import OptionError
from vis_core.files.findings import Findings, is_integer, shown
from vis_core.files.json_files import parse_json, read_text
from vis_core.files.panoptic_images import VOID

CITYSCAPES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip

VIPSEG_STUFF = (
    "wall", "ceiling", "stair", "escalator", "Playground_slide", "handrail_or_fence", "rail", "pillar", "pole",
    "floor", "ground", "grass", "sand", "athletic_field", "road", "path", "crosswalk", "building", "house", "bridge",
    "tower", "windmill", "well_or_well_lid", "other_construction", "sky", "mountain", "stone", "wood", "ice",
    "snowfield", "grandstand", "sea", "river", "lake", "waterfall", "water", "billboard_or_Bulletin_Board",
    "pipeline", "cushion_or_carpet", "wheeled_machine", "tyre", "traffic_light", "lamp", "tree", "flower",
    "other_plant", "toy", "ball_net", "backboard", "bat", "cupboard_or_showcase_or_storage_rack", "trash_can", "cage",
    "shelf", "bathtub", "other_machine", "curtain", "textiles", "clothes", "book", "tool", "blackboard", "tissue",
    "other_electronic_product", "fruit", "food",
)  # fmt: skip

VIPSEG_THINGS = (
    "door", "ladder", "window", "goal", "sculpture", "flag", "parasol_or_umbrella", "tent", "roadblock", "car", "bus",
    "truck", "bicycle", "motorcycle", "ship_or_boat", "raft", "airplane", "person", "cat", "dog", "horse", "cattle",
    "other_animal", "skateboard", "ball", "box", "traveling_case_or_trolley_case", "basket", "bag_or_package",
    "plate", "tub_or_bowl_or_pot", "bottle_or_cup", "barrel", "fishbowl", "bed", "pillow", "table_or_desk",
    "chair_or_seat", "bench", "sofa", "gun", "commode", "roaster", "refrigerator", "washing_machine",
    "Microwave_oven", "fan", "painting_or_poster", "mirror", "flower_pot_or_vase", "clock", "screen_or_television",
    "computer", "printer", "Mobile_phone", "keyboard", "instrument", "train",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PanopticClasses:
    """The classes of panoptic images.

    Attributes:
        names: by class id, ascending.
        things: ids of the classes whose instances are told apart; the others are stuff.
    """

    names: Mapping[int, str]
    things: frozenset[int]


KNOWN: Mapping[str, PanopticClasses] = {
    "kitti-step": PanopticClasses(dict(enumerate(CITYSCAPES)), frozenset({11, 13})),
    "vipseg": PanopticClasses(
        dict(enumerate(VIPSEG_STUFF + VIPSEG_THINGS)),
        frozenset(range(len(VIPSEG_STUFF), len(VIPSEG_STUFF) + len(VIPSEG_THINGS))),
    ),
}
"""By name: the training labels of Cityscapes; stuff, then things."""


def read_classes(classes: str | os.PathLike[str]) -> PanopticClasses:
    """The classes of a known data set, or of a JSON file.

    Args:
        classes: one of `KNOWN`, or path of a JSON list of ``{"id": 0, "name": "road", "isthing": 0}``, or of an object
            that holds it as ``categories``, as COCO's panoptic files do.

    Raises:
        InputError: the file is not usable; the text names all its errors, up to 20.
        OptionError: neither the name of a data set nor a file.
    """
    if isinstance(classes, str) and classes in KNOWN:
        return KNOWN[classes]
    if not Path(classes).is_file():
        raise OptionError(f"classes: {classes} is no file; give one, or one of {', '.join(KNOWN)}")
    content = parse_json(read_text(classes, "classes"), str(classes), "classes")
    if isinstance(content, dict):
        content = content.get("categories")
    findings = Findings(str(classes), "classes")
    if not isinstance(content, list) or not content:
        findings.error("", f'{shown(content)} is not a list of classes: [{{"id": 0, "name": ..., "isthing": 0}}]')
        content = []
    names: dict[int, str] = {}
    things = set()
    for i, entry in enumerate(content):
        fault = _fault(entry, names)
        if fault:
            findings.error(f"[{i}]", fault, index=i)
            continue
        names[entry["id"]] = entry["name"]
        if entry["isthing"]:
            things.add(entry["id"])
    findings.raise_errors()
    return PanopticClasses(dict(sorted(names.items())), frozenset(things))


def _fault(entry: Any, names: Mapping[int, str]) -> str | None:
    """What is wrong with an entry, given those before it."""
    if not isinstance(entry, dict):
        return f"{shown(entry)} is not an object"
    number = entry.get("id")
    if not is_integer(number) or not 0 <= number < VOID:
        return f"id {shown(number)} is not between 0 and {VOID - 1}"
    if number in names:
        return f"id {number} is {json.dumps(names[number])} already"
    if not isinstance(entry.get("name"), str):
        return f"name {shown(entry.get('name'))} is not a text"
    thing = entry.get("isthing")
    return None if isinstance(thing, (bool, int)) and thing in (0, 1) else f"isthing {shown(thing)} is not 0 or 1"
