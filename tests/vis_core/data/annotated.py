"""Small annotated sets with real image files: plain colours, so that a picture tells what its masks must be."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from vis_core.data.annotation_files import read_annotations
from vis_core.files.findings import InputWarning

Box = tuple[int, int, int, int]

GROUND = (40, 40, 40)
COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}
CATEGORIES = [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}, {"id": 3, "name": "blue"}]
SIZE = (60, 80)
BOXES = [("red", (5, 5, 20, 20)), ("blue", (50, 30, 20, 20))]
FRAMES = [[("red", (t, 5, 20, 20)), ("green", (50, 30, 20, 20) if t % 2 else (0, 0, 0, 0))] for t in range(4)]


def rectangle(size: tuple[int, int], box: Box) -> npt.NDArray[np.bool_]:
    """bool ``[H, W]`` of a box x, y, width, height."""
    mask = np.zeros(size, np.bool_)
    x, y, width, height = box
    mask[y : y + height, x : x + width] = True
    return mask


def run_lengths(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """A mask as COCO's JSON has it."""
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def write_image(path: Path, image: npt.NDArray[np.uint8]) -> Path:
    """Write an RGB image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


def scene(size: tuple[int, int], boxes: list[tuple[str, Box]], ground: tuple[int, int, int] = GROUND) -> npt.NDArray:
    """A picture of coloured boxes; later ones in front."""
    image = np.full((*size, 3), ground, np.uint8)
    for colour, box in boxes:
        image[rectangle(size, box)] = COLOURS[colour]
    return image


def visible(size: tuple[int, int], boxes: list[tuple[str, Box]]) -> list[npt.NDArray[np.bool_]]:
    """What is seen of each box."""
    numbers = np.zeros(size, np.int64)
    for number, (_, box) in enumerate(boxes, 1):
        numbers[rectangle(size, box)] = number
    return [numbers == number for number in range(1, len(boxes) + 1)]


def coco(folder: Path, *images: dict[str, Any], **more: Any) -> Path:
    """Write a COCO file and its images.

    Args:
        folder: for both.
        images: each with ``boxes`` ((colour, box)...), and any other field; `size`, `ground` and `crowds` (positions of
            boxes that are crowds) have defaults.
        more: fields of the file.
    """
    content: dict[str, Any] = {"images": [], "categories": CATEGORIES, "annotations": []}
    for number, given in enumerate(images, 1):
        entry = dict(given)
        size, boxes, crowds = entry.pop("size", (60, 80)), entry.pop("boxes", []), entry.pop("crowds", ())
        entry = {"id": number, "file_name": f"{number}.png", "height": size[0], "width": size[1], **entry}
        write_image(folder / entry["file_name"], scene(size, boxes, entry.pop("ground", GROUND)))
        content["images"].append(entry)
        for place, ((colour, _), mask) in enumerate(zip(boxes, visible(size, boxes))):
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": [*COLOURS].index(colour) + 1,
                    "iscrowd": int(place in crowds),
                    "segmentation": run_lengths(mask),
                }
            )
    return write_json(folder / "coco.json", {**content, **more})


def youtube_vis(folder: Path, *videos: list[list[tuple[str, Box]]], **more: Any) -> Path:
    """Write a YouTube-VIS file and its frames.

    Args:
        folder: for both; the frames lie in ``frames/``.
        videos: of each frame the boxes of the video's objects in one order; a box without width is not there.
        more: fields of the file.
    """
    size = (60, 80)
    content: dict[str, Any] = {"videos": [], "categories": CATEGORIES, "annotations": []}
    for number, frames in enumerate(videos, 1):
        names = [f"v{number}/{t:05d}.png" for t in range(len(frames))]
        entry = {"id": number, "height": size[0], "width": size[1], "length": len(frames), "file_names": names}
        content["videos"].append(entry)
        for name, boxes in zip(names, frames):
            write_image(folder / "frames" / name, scene(size, boxes))
        masks = [visible(size, boxes) for boxes in frames]
        for place, (colour, _) in enumerate(frames[0]):
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "video_id": number,
                    "category_id": [*COLOURS].index(colour) + 1,
                    "segmentations": [run_lengths(m[place]) if m[place].any() else None for m in masks],
                }
            )
    return write_json(folder / "videos.json", {**content, **more})


def write_json(path: Path, content: Any) -> Path:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")
    return path


def findings_of(path, **options):
    """The set, and its findings by kind; there is a warning if and only if there is a finding."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        annotated = read_annotations(path, **options)
    told = [str(w.message) for w in told if w.category is InputWarning]
    assert bool(told) == bool(annotated.findings)
    if told:
        assert len(told) == 1 and told[0].startswith(f"{path}: ") and annotated.findings[0].examples[0] in told[0]
    return annotated, {found.kind: found for found in annotated.findings}


def changed(path, change):
    """The file after a change of its content."""
    content = json.loads(path.read_text())
    change(content)
    return write_json(path, content)


def masks_of(item, frame=0):
    """Dense masks of the annotations of a frame."""
    return [a.segmentations[frame] is not None and coco_mask.decode(a.segmentations[frame]) for a in item.annotations]
