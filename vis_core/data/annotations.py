"""Annotated images and videos: COCO and YouTube-VIS files as one list of items with object images on demand.

An image is a video of one frame. Labels follow the class names that the caller asks for, not the file's ids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from vis_core.errors import InputError

_IMAGE_FOLDERS = ("", "frames", "JPEGImages", "images", "train2017", "val2017")


@dataclass(frozen=True)
class Annotation:
    """One identity of an item.

    Attributes:
        label: from 0.
        crowd: the masks cover a group that was not told apart.
        segmentations: COCO segmentation of each frame, None where the object is not visible.
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
    """

    name: str
    size: tuple[int, int]
    files: tuple[Path, ...]
    annotations: tuple[Annotation, ...]
    exhaustive: tuple[bool, ...]

    def object_images(self, frame: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Which annotation each pixel of a frame shows, as its number from 1 in uint8 ``[H, W]``; 0: none.

        Where masks overlap the smaller one is in front. The second image holds the crowds.

        Raises:
            InputError: a segmentation that does not decode, or is of another size.
        """
        decoded = []
        for number, annotation in enumerate(self.annotations, 1):
            segmentation = annotation.segmentations[frame]
            if segmentation is not None:
                mask = self._decode(segmentation, number)
                decoded.append((int(np.count_nonzero(mask)), number, annotation.crowd, mask))
        objects, crowds = np.zeros(self.size, np.uint8), np.zeros(self.size, np.uint8)
        for _, number, crowd, mask in sorted(decoded, key=lambda entry: -entry[0]):
            (crowds if crowd else objects)[mask] = number
        return objects, crowds

    def _decode(self, segmentation: Any, number: int) -> npt.NDArray[np.bool_]:
        height, width = self.size
        try:
            if isinstance(segmentation, list):
                encoded = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
            elif isinstance(segmentation["counts"], list):
                encoded = coco_mask.frPyObjects(segmentation, height, width)
            else:
                encoded = segmentation
            mask = coco_mask.decode(encoded)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"{self.name}: segmentation of annotation {number} does not decode: {error}") from error
        if mask.shape != self.size:
            raise InputError(f"{self.name}: annotation {number} is of size {mask.shape}, the item of {self.size}")
        return mask != 0


@dataclass(frozen=True)
class AnnotatedSet:
    """The content of one annotation file.

    Attributes:
        path: the file.
        videos: whether it holds videos, not images.
        class_names: of the labels.
        items: in the order of the file.
    """

    path: Path
    videos: bool
    class_names: tuple[str, ...]
    items: tuple[Item, ...]


def read_annotations(
    path: str | Path,
    images: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    categories: Mapping[str, str] | None = None,
) -> AnnotatedSet:
    """Read a COCO (images) or YouTube-VIS (videos) annotation file; no image is opened.

    Args:
        path: the JSON.
        images: folder to which its file names are relative; None: beside the JSON, in the first usual folder that has
            the first file.
        class_names: the labels; None: the file's categories in the order of their ids. Annotations of other categories
            are left away.
        categories: name in the file to name in `class_names`, for those that differ.

    Raises:
        InputError: the file is not of that form; the text names the entry.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error
    try:
        videos = "videos" in content
        named = {int(entry["id"]): str(entry["name"]) for entry in content["categories"]}
        names = tuple(class_names) if class_names else tuple(named[i] for i in sorted(named))
        rename = dict(categories or {})
        label_of = {i: names.index(rename.get(n, n)) for i, n in named.items() if rename.get(n, n) in names}
        by_item: dict[int, list[Annotation]] = {}
        for entry in content.get("annotations") or []:
            if (label := label_of.get(int(entry["category_id"]))) is not None:
                segmentations = tuple(entry["segmentations"]) if videos else (entry["segmentation"],)
                annotation = Annotation(label, bool(entry.get("iscrowd", 0)), segmentations)
                by_item.setdefault(int(entry["video_id" if videos else "image_id"]), []).append(annotation)
        entries = content["videos" if videos else "images"]
        first = (entries[0]["file_names"][0] if videos else entries[0]["file_name"]) if entries else ""
        folder = _image_folder(path, images, first)
        items = tuple(_item(e, folder, by_item.get(int(e["id"]), []), label_of, len(names)) for e in entries)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not a COCO or YouTube-VIS annotation file: {error!r}") from error
    return AnnotatedSet(path, videos, names, items)


def _image_folder(path: Path, images: str | Path | None, first: str) -> Path:
    if images is not None:
        return Path(images)
    folders = [path.parent / name for name in _IMAGE_FOLDERS]
    return next((folder for folder in folders if (folder / first).is_file()), path.parent)


def _item(
    entry: Mapping[str, Any], folder: Path, annotations: list[Annotation], label_of: Mapping[int, int], classes: int
) -> Item:
    files = entry["file_names"] if "file_names" in entry else [entry["file_name"]]
    labelled = entry.get("labelled_categories")
    if labelled is not None:
        known = {label_of[i] for i in labelled if i in label_of}
        exhaustive = tuple(label in known for label in range(classes))
    else:
        exhaustive = (not entry.get("partial", False),) * classes
    return Item(
        name=str(entry.get("name") or files[0]),
        size=(int(entry["height"]), int(entry["width"])),
        files=tuple(folder / file for file in files),
        annotations=tuple(annotations[:255]),
        exhaustive=exhaustive,
    )
