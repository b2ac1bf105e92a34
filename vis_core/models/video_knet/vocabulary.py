"""What the published online checkpoints call things and stuff, and how a semantic map numbers them."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class SemanticLabels:
    """The classes of a semantic map.

    Attributes:
        names: of the classes.
        things: the class of each thing label.
        stuff: the class of each stuff label.
    """

    names: tuple[str, ...]
    things: tuple[int, ...]
    stuff: tuple[int, ...]


KITTI_STEP = SemanticLabels(CITYSCAPES, (11, 13), tuple(i for i in range(19) if i not in (11, 13)))
"""KITTI-STEP's: the training labels of Cityscapes."""

VIPSEG = SemanticLabels(
    VIPSEG_STUFF + VIPSEG_THINGS,
    tuple(range(len(VIPSEG_STUFF), len(VIPSEG_STUFF) + len(VIPSEG_THINGS))),
    tuple(range(len(VIPSEG_STUFF))),
)
"""VIPSeg's: stuff first."""


def known_labels(things: int, stuff: int) -> SemanticLabels | None:
    """Those of the published checkpoints with these numbers of classes, if there are any."""
    for known in (KITTI_STEP, VIPSEG):
        if (len(known.things), len(known.stuff)) == (things, stuff):
            return known
    return None


def numbered_stuff(things: tuple[str, ...], stuff: int) -> SemanticLabels:
    """Things by their names, then stuff by numbers."""
    names = (*things, *(f"stuff {i + 1}" for i in range(stuff)))
    return SemanticLabels(names, tuple(range(len(things))), tuple(range(len(things), len(names))))
