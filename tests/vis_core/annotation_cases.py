"""Annotation files that are sound, odd or malformed, around three small images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.vis_core.data.annotated import rectangle, run_lengths

SIZE = (48, 64)
NAMES = [f"0a1/0000{t}.jpg" for t in range(3)]
MASKS = [run_lengths(rectangle(SIZE, (4 + 5 * t, 8, 14, 14))) for t in range(3)]
TRACK = {"id": 1, "video_id": 1, "category_id": 1, "iscrowd": 0, "segmentations": MASKS}
VIDEO = {"id": 1, "width": 64, "height": 48, "length": 3, "file_names": NAMES}
VIDEOS = {"videos": [VIDEO], "categories": [{"id": 1, "name": "c1"}], "annotations": [TRACK]}
OBJECT = {"id": 1, "image_id": 9, "category_id": 1, "iscrowd": 0, "segmentation": MASKS[0]}
IMAGE = {"id": 9, "width": 64, "height": 48, "file_name": "0a1/00000.jpg"}
IMAGES = {"images": [IMAGE], "categories": [{"id": 1, "name": "c1"}], "annotations": [OBJECT]}


def changed(content: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content = copy.deepcopy(content)
    change(content)
    return content


def of_video(**fields: Any) -> dict[str, Any]:
    return changed(VIDEOS, lambda c: c["videos"][0].update(fields))


def of_image(**fields: Any) -> dict[str, Any]:
    return changed(IMAGES, lambda c: c["images"][0].update(fields))


def of_categories(*categories: Any) -> dict[str, Any]:
    return {**VIDEOS, "categories": list(categories)}


def without(content: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in keys}


TEXT_IDS = {
    "videos": [{**VIDEO, "id": "1", "width": 64.0, "height": 48.0}],
    "categories": [{"id": "1", "name": "c1"}],
    "annotations": [{**TRACK, "id": "a7", "video_id": "1", "category_id": "1", "iscrowd": None}],
}
WORD_IDS = {
    "videos": [{**VIDEO, "id": "clip-a"}],
    "categories": [{"id": "c", "name": "c1"}],
    "annotations": [{**TRACK, "video_id": "clip-a", "category_id": "c"}],
}
COCO_VID = {
    "videos": [{"id": 1, "name": "0a1"}],
    "images": [
        {"id": 10 + t, "video_id": 1, "frame_id": t, "file_name": name, "width": 64, "height": 48}
        for t, name in enumerate(NAMES)
    ],
    "categories": [{"id": 1, "name": "c1"}],
    "annotations": [
        {"id": t + 1, "image_id": 10 + t, "video_id": 1, "category_id": 1, "instance_id": 4, "segmentation": mask}
        for t, mask in enumerate(MASKS)
    ],
}
BURST = {
    "split": "val",
    "categories": [{"id": 1, "name": "c1"}],
    "sequences": [
        {
            "id": 0,
            "seq_name": "0a1",
            "dataset": "",
            "width": 64,
            "height": 48,
            "fps": 30,
            "annotated_image_paths": [Path(name).name for name in NAMES],
            "track_category_ids": {"3": 1},
            "segmentations": [{"3": {"rle": mask["counts"], "is_gt": True}} for mask in MASKS],
        }
    ],
}

SOUND = {
    "videos": VIDEOS,
    "images": IMAGES,
    "texts of digits as ids": TEXT_IDS,
    "words as ids": WORD_IDS,
    "length null": of_video(length=None),
    "no length": {**VIDEOS, "videos": [without(VIDEO, "length")]},
    "fps and name null": of_video(fps=None, name=None, stamps=None),
    "iscrowd null": {**VIDEOS, "annotations": [{**TRACK, "iscrowd": None, "areas": None, "bboxes": None}]},
    "empty videos beside images": {**IMAGES, "videos": []},
    "no annotation of an image": {**IMAGES, "images": [IMAGE, {**IMAGE, "id": 10}]},
    "LVIS v1": {
        **IMAGES,
        "images": [{**without(IMAGE, "file_name"), "coco_url": "http://images.cocodataset.org/0a1/00000.jpg"}],
    },
    "CocoVID": COCO_VID,
    "CocoVID with track_id and frames out of order": changed(
        COCO_VID,
        lambda c: (c["images"].reverse(), [a.update(track_id=a.pop("instance_id")) for a in c["annotations"]]),
    ),
    "BURST": BURST,
}
TOLD = {
    "backslashes": of_video(file_names=[name.replace("/", "\\") for name in NAMES]),
    "dots within the folder": of_video(file_names=[f"0a1/../{name}" for name in NAMES]),
    "a category stated twice": of_categories({"id": 1, "name": "c1"}, {"id": 1, "name": "c1"}),
    "a name of two categories": of_categories({"id": 1, "name": "c1"}, {"id": 2, "name": "c1"}),
    "a video stated twice": {**VIDEOS, "videos": [VIDEO, VIDEO]},
    "a video without frames": {**VIDEOS, "videos": [VIDEO, {**VIDEO, "id": 2, "length": 0, "file_names": []}]},
}
REFUSED = {
    "a number": (3, "3 instead of an object with images or videos"),
    "results": ([{"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": MASKS}], "were the two swapped?"),
    "an empty list": ([], "is it a result file?"),
    "another object": ({"info": {}}, "images is missing, as COCO's form has it"),
    "Labelme": ({"version": "5", "shapes": [], "imagePath": "a.jpg", "imageData": None}, "is Labelme's file of one"),
    "VIA": ({"_via_settings": {}, "_via_img_metadata": {}}, "VGG Image Annotator"),
    "VIA's export": ({"a.jpg12": {"filename": "a.jpg", "regions": []}}, "VGG Image Annotator"),
    "SA-1B": ({"image": {"image_id": 1}, "annotations": []}, "the SA-1B form of one image"),
    "Label Studio": ([{"id": 1, "data": {}, "annotations": []}], "Label Studio's own form"),
    "BDD100K": ([{"name": "a.jpg", "labels": []}], "BDD100K"),
    "YouTube-VOS": ({"videos": {"0a1": {"objects": {}}}}, "meta.json of YouTube-VOS"),
    "panoptic": ({**IMAGES, "annotations": [{"image_id": 9, "segments_info": []}]}, "is a panoptic file"),
    "videos is null": ({"videos": None}, "images is missing, as COCO's form has it"),
    "videos is a number": ({**VIDEOS, "videos": 7}, "videos is 7 instead of a list"),
    "videos is empty": ({**VIDEOS, "videos": [], "annotations": []}, "holds no video: videos is an empty list"),
    "images is empty": ({**IMAGES, "images": [], "annotations": []}, "holds no image: images is an empty list"),
    "categories is an object": ({**VIDEOS, "categories": {}}, "categories is an object of 0 keys instead of a list"),
    "annotations is a text": ({**VIDEOS, "annotations": "none"}, 'annotations is "none" instead of a list'),
    "a video that is a number": ({**VIDEOS, "videos": [VIDEO, 3]}, "videos[1]: 3 instead of an object"),
    "no id": ({**VIDEOS, "videos": [VIDEO, without(VIDEO, "id")]}, "videos[1]: id is missing"),
    "id null": (of_video(id=None), "videos[0]: id null is neither an integer nor a text"),
    "id true": (of_image(id=True), "images[0]: id true is neither an integer nor a text"),
    "one id of two videos": (
        {**VIDEOS, "videos": [VIDEO, {**VIDEO, "width": 65}]},
        "videos[1]: id 1 stands twice, for another video in videos[0]",
    ),
    "no width": (
        {**IMAGES, "images": [without(IMAGE, "width")]},
        "images[0]: height 48, width is missing; give pixels",
    ),
    "height 0": (of_video(height=0), "videos[0]: height 0, width 64; give pixels"),
    "length 4": (of_video(length=4), "videos[0]: length 4, but file_names has 3"),
    "length is a text": (of_video(length="3"), 'videos[0]: length "3" is not a number of frames'),
    "file_names with null": (of_video(file_names=["a.jpg", None, "b.jpg"]), "give a list of texts, one a frame"),
    "file_name 7": (of_image(file_name=7), "images[0]: file_name 7; give a text"),
    "an empty name": (of_video(file_names=["", "b", "c"]), 'videos[0]: file_names[0] "" is not a file name'),
    "name 5": (of_video(name=5), "videos[0]: name 5 is not a text"),
    "fps is a text": (of_video(fps="25"), 'videos[0]: fps "25" is not a number'),
    "stamps do not grow": (of_video(stamps=[1, 5, 5]), "videos[0]: stamps do not grow"),
    "two stamps": (of_video(stamps=[1, 5]), "videos[0]: stamps has 2 entries for 3 frames"),
    "a category that is a text": (of_categories("c1"), 'categories[0]: "c1" instead of an object'),
    "a category without name": (of_categories({"id": 1}), "categories[0]: name is missing; give a text"),
    "a category with an empty name": (of_categories({"id": 1, "name": " "}), 'categories[0]: name " "; give a text'),
    "a category with name null": (of_categories({"id": 1, "name": None}), "categories[0]: name null; give a text"),
    "a category without id": (of_categories({"name": "c1"}), "categories[0]: id is missing"),
    "one id of two categories": (
        of_categories({"id": 1, "name": "c1"}, {"id": 1, "name": "c2"}),
        "categories[1]: id 1 is 'c2' here, and 'c1' before",
    ),
    "a CocoVID image of no video": (
        changed(COCO_VID, lambda c: c["images"][1].update(video_id=7)),
        "images[1]: video_id 7 is not in videos",
    ),
    "a CocoVID object without identity": (
        changed(COCO_VID, lambda c: c["annotations"][2].pop("instance_id")),
        "annotations[2]: instance_id null",
    ),
    "a CocoVID object twice in a frame": (
        changed(COCO_VID, lambda c: c["annotations"][2].update(image_id=11)),
        "annotations[2]: instance 4 stands twice in frame 1",
    ),
}
