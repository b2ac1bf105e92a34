"""What the published online checkpoints call things and stuff, and how a semantic map numbers them."""

from __future__ import annotations

from dataclasses import dataclass

from vis_core.data.panoptic_classes import CITYSCAPES, VIPSEG_STUFF, VIPSEG_THINGS


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
