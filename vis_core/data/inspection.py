"""What an annotated set holds, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from vis_core.data.annotations import AnnotatedSet, Item
from vis_core.errors import InputError

IMAGE_SIDES = (32, 96)
VIDEO_SIDES = (128, 256)
"""Sides of the squares between small and medium, medium and large: those of COCO, and those of YouTube-VIS."""


@dataclass
class ClassFacts:
    """What is labelled of one class.

    Attributes:
        name: of the class.
        items: videos or images that have it.
        instances: identities, without crowds.
        masks: of them, over all frames.
        sizes: instances that are small, medium and large by their mean area.
        crowds: regions of several objects that were not told apart.
        incomplete: items in which not every visible object of it has a mask.
        lengths: of each instance, frames in which it is visible.
        returning: instances that are gone for a frame or more, and come back.
    """

    name: str
    items: int = 0
    instances: int = 0
    masks: int = 0
    sizes: list[int] = field(default_factory=lambda: [0, 0, 0])
    crowds: int = 0
    incomplete: int = 0
    lengths: list[int] = field(default_factory=list)
    returning: int = 0


@dataclass(frozen=True)
class SetFacts:
    """What a set holds.

    Attributes:
        items: videos or images.
        frames: of all.
        lengths: frames of each item.
        sizes: items of each height and width.
        empty: items without any annotation of the classes.
        complete: items in which every visible object of every class has a mask.
        licences: items of each licence that is stated; an empty text stands for none.
        classes: by label.
    """

    items: int
    frames: int
    lengths: npt.NDArray[np.int64]
    sizes: Counter[tuple[int, int]]
    empty: int
    complete: int
    licences: Counter[str]
    classes: tuple[ClassFacts, ...]


def facts_of(annotated: AnnotatedSet) -> SetFacts:
    """Count what a set holds; no image is opened."""
    classes = tuple(ClassFacts(name) for name in annotated.class_names)
    bounds = np.square(VIDEO_SIDES if annotated.videos else IMAGE_SIDES)
    for item in annotated.items:
        for label in {annotation.label for annotation in item.annotations}:
            classes[label].items += 1
        for label, complete in enumerate(item.exhaustive):
            classes[label].incomplete += not complete
        _count(item, classes, bounds)
    lengths = np.array([len(item.files) for item in annotated.items], np.int64)
    return SetFacts(
        items=len(annotated.items),
        frames=int(lengths.sum()),
        lengths=lengths,
        sizes=Counter(item.size for item in annotated.items),
        empty=sum(not item.annotations for item in annotated.items),
        complete=sum(all(item.exhaustive) for item in annotated.items),
        licences=Counter(item.licence for item in annotated.items),
        classes=classes,
    )


def _count(item: Item, classes: tuple[ClassFacts, ...], bounds: npt.NDArray[Any]) -> None:
    for annotation in item.annotations:
        facts = classes[annotation.label]
        visible = [frame for frame, segmentation in enumerate(annotation.segmentations) if segmentation is not None]
        if annotation.crowd:
            facts.crowds += 1
            continue
        area = np.mean(coco_mask.area([annotation.segmentations[frame] for frame in visible]))
        facts.instances += 1
        facts.masks += len(visible)
        facts.sizes[int(np.searchsorted(bounds, area, side="right"))] += 1
        facts.lengths.append(len(visible))
        facts.returning += visible[-1] - visible[0] >= len(visible)


def faulty_images(annotated: AnnotatedSet, decode: bool) -> tuple[int, list[str]]:
    """Images that are not there; the number, and a text on each of the first few.

    Args:
        annotated: whose images are looked at.
        decode: read each of them, too: what is damaged, or of another size than annotated, is faulty as well.
    """
    count, examples = 0, list[str]()
    for item in annotated.items:
        for frame in range(len(item.files)):
            fault = _fault(item, frame, decode)
            if fault:
                count += 1
                if len(examples) < 5:
                    examples.append(fault)
    return count, examples


def _fault(item: Item, frame: int, decode: bool) -> str:
    path = item.files[frame]
    try:
        if not decode:
            return "" if path.is_file() else f"{path}: no such file"
        item.image(frame)
    except (InputError, OSError, ValueError) as error:
        return str(error)
    return ""
