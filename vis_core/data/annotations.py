"""Annotated images and videos: one list of items, whatever file they came from, with object images on demand.

An image is a video of one frame. Labels follow the class names that the caller asks for, not the file's ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from vis_core.data.faults import Finding
from vis_core.errors import InputError
from vis_core.video.images import read_image
from vis_core.video.orientation import exif_cause

Numbers = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class Annotation:
    """One identity of an item.

    Attributes:
        label: from 0.
        crowd: the masks cover a group that was not told apart.
        segmentations: COCO run lengths of each frame, checked; None where the object is not visible.
    """

    label: int
    crowd: bool
    segmentations: tuple[Any, ...]


@dataclass(frozen=True)
class Item:
    """One video, or one image.

    Attributes:
        name: for messages.
        size: height and width, pixels.
        files: image of each frame.
        annotations: those whose category is among the classes.
        exhaustive: of each class, whether every visible object has a mask.
        licence: as the file states it; empty if it does not.
        turned: images are turned by their EXIF orientation, as the annotations are; else they are taken as stored.
    """

    name: str
    size: tuple[int, int]
    files: tuple[Path, ...]
    annotations: tuple[Annotation, ...]
    exhaustive: tuple[bool, ...]
    licence: str = ""
    turned: bool = True

    def image(self, frame: int) -> npt.NDArray[np.uint8]:
        """The image of a frame, uint8 ``[H, W, 3]`` RGB.

        Raises:
            InputError: it cannot be read, or is of another size than annotated; the text names it.
        """
        path = self.files[frame]
        image = read_image(path, self.turned)
        if image.shape[:2] != self.size:
            (height, width), (annotated_height, annotated_width) = image.shape[:2], self.size
            text = f"{width}x{height} pixels, annotated as {annotated_width}x{annotated_height}"
            raise InputError(f"{path}: {text}{exif_cause(path, self.size)}")
        return image

    def object_images(self, frame: int) -> tuple[Numbers, Numbers]:
        """Which annotation each pixel of a frame shows, as its number from 1 in ``[H, W]``; 0: none.

        Where masks overlap the smaller one is in front. The second image holds the crowds. They are uint8, or uint16
        if the item has more than 255 annotations.
        """
        decoded = []
        for number, annotation in enumerate(self.annotations, 1):
            segmentation = annotation.segmentations[frame]
            if segmentation is not None:
                mask = coco_mask.decode(segmentation) != 0
                decoded.append((int(np.count_nonzero(mask)), number, annotation.crowd, mask))
        dtype: type[np.unsignedinteger[Any]] = np.uint8 if len(self.annotations) < 256 else np.uint16
        objects, crowds = np.zeros(self.size, dtype), np.zeros(self.size, dtype)
        for _, number, crowd, mask in sorted(decoded, key=lambda entry: -entry[0]):
            (crowds if crowd else objects)[mask] = number
        return objects, crowds


@dataclass(frozen=True)
class AnnotatedSet:
    """The content of one annotation file.

    Attributes:
        path: the file.
        videos: whether it holds videos, not images.
        class_names: of the labels.
        items: in the order of the file.
        findings: what was left out, or is odd.
        licence: of the whole, as the file states it; empty if it does not.
        orientation: a sentence on the images that EXIF turns; empty if it turns none.
    """

    path: Path
    videos: bool
    class_names: tuple[str, ...]
    items: tuple[Item, ...]
    findings: tuple[Finding, ...] = ()
    licence: str = ""
    orientation: str = ""
