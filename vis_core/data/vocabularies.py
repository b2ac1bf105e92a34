"""Class names of the data sets that published checkpoints were trained on, in the order of their category ids."""

from __future__ import annotations

import json

from vis_core.errors import CheckpointError

YOUTUBE_VIS_2019 = (
    "person", "giant_panda", "lizard", "parrot", "skateboard", "sedan", "ape", "dog", "snake", "monkey",
    "hand", "rabbit", "duck", "cat", "cow", "fish", "train", "horse", "turtle", "bear",
    "motorbike", "giraffe", "leopard", "fox", "deer", "owl", "surfboard", "airplane", "truck", "zebra",
    "tiger", "elephant", "snowboard", "boat", "shark", "mouse", "frog", "eagle", "earless_seal", "tennis_racket",
)  # fmt: skip

COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
)  # fmt: skip

_BY_COUNT = {len(names): names for names in (YOUTUBE_VIS_2019, COCO)}


def names_of(classes: int) -> tuple[str, ...]:
    """Names for a checkpoint that states none: by its class count, else ``class 1``, ``class 2``...

    YouTube-VIS 2021 has 40 classes too; a checkpoint of it must state its names.
    """
    return _BY_COUNT.get(classes) or tuple(f"class {i + 1}" for i in range(classes))


def class_names(text: str, classes: int) -> tuple[str, ...]:
    """Names that a weight file states in its metadata, a JSON list.

    Raises:
        CheckpointError: not a list of as many different names as there are classes.
    """
    try:
        names = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"metadata class_names: not JSON: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"metadata class_names: expected a list of names, got {text[:80]!r}")
    if len(names) != classes or len(set(names)) != classes:
        raise CheckpointError(f"metadata class_names: expected {classes} different names, got {names[:10]}")
    return tuple(names)
