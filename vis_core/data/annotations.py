"""Annotated images and videos: COCO and YouTube-VIS files as one list of items with object images on demand.

An image is a video of one frame. Labels follow the class names that the caller asks for, not the file's ids.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from vis_core.data.faults import Finding, summary
from vis_core.files.findings import InputWarning

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
    """

    name: str
    size: tuple[int, int]
    files: tuple[Path, ...]
    annotations: tuple[Annotation, ...]
    exhaustive: tuple[bool, ...]
    licence: str = ""

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
    """

    path: Path
    videos: bool
    class_names: tuple[str, ...]
    items: tuple[Item, ...]
    findings: tuple[Finding, ...] = ()
    licence: str = ""


def read_annotations(
    path: str | Path,
    images: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    categories: Mapping[str, str] | str | None = None,
) -> AnnotatedSet:
    """Read a COCO (images) or YouTube-VIS (videos) annotation file; no image is opened.

    Every mask is checked. A faulty entry is left out, and counted in `AnnotatedSet.findings`; an `InputWarning` says
    so. Where an object is left out, its class counts as not labelled exhaustively in that item.

    Args:
        path: the JSON.
        images: folder to which its file names are relative; None: beside the JSON, in the first usual folder that has
            one of the first files.
        class_names: the labels; None: the file's categories in the order of their ids. Annotations of other categories
            are left away.
        categories: name in the file to name in `class_names`, for those that differ; or the name of a mapping in
            `vis_core.data.vocabularies`, such as ``coarse``, which leaves away what it does not name.

    Raises:
        InputError: the file is not of that form, or nothing in it can be used; the text names the entry.
        OptionError: there is no mapping of that name.
    """
    from vis_core.data.annotation_files import AnnotationFile  # it imports this module

    annotated = AnnotationFile(Path(path), class_names, categories).read(images)
    if annotated.findings:
        text = f"{path}: {summary(annotated.findings)}; 'vis inspect' tells more"
        warnings.warn(text, InputWarning, stacklevel=2)
    return annotated
