"""Class names of known data sets in the order of their category ids, and which of one stand for which of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vis_core.errors import CheckpointError, InputError, OptionError, printable
from vis_core.files.json_files import parse_json

YOUTUBE_VIS_2019 = (
    "person", "giant_panda", "lizard", "parrot", "skateboard", "sedan", "ape", "dog", "snake", "monkey",
    "hand", "rabbit", "duck", "cat", "cow", "fish", "train", "horse", "turtle", "bear",
    "motorbike", "giraffe", "leopard", "fox", "deer", "owl", "surfboard", "airplane", "truck", "zebra",
    "tiger", "elephant", "snowboard", "boat", "shark", "mouse", "frog", "eagle", "earless_seal", "tennis_racket",
)  # fmt: skip

YOUTUBE_VIS_2021 = (
    "airplane", "bear", "bird", "boat", "car", "cat", "cow", "deer", "dog", "duck",
    "earless_seal", "elephant", "fish", "flying_disc", "fox", "frog", "giant_panda", "giraffe", "horse", "leopard",
    "lizard", "monkey", "motorbike", "mouse", "parrot", "person", "rabbit", "shark", "skateboard", "snake",
    "snowboard", "squirrel", "surfboard", "tennis_racket", "tiger", "train", "truck", "turtle", "whale", "zebra",
)  # fmt: skip

# "Vehical" is what its files say.
OVIS = (
    "Person", "Bird", "Cat", "Dog", "Horse", "Sheep", "Cow", "Elephant", "Bear", "Zebra",
    "Giraffe", "Poultry", "Giant_panda", "Lizard", "Parrot", "Monkey", "Rabbit", "Tiger", "Fish", "Turtle",
    "Bicycle", "Motorcycle", "Airplane", "Boat", "Vehical",
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

COCO_TO_YOUTUBE_VIS_2019 = {
    "person": "person", "bicycle": "motorbike", "car": "sedan", "motorcycle": "motorbike", "airplane": "airplane",
    "train": "train", "truck": "truck", "boat": "boat", "cat": "cat", "dog": "dog", "horse": "horse", "cow": "cow",
    "elephant": "elephant", "bear": "bear", "zebra": "zebra", "giraffe": "giraffe", "skis": "snowboard",
    "snowboard": "snowboard", "skateboard": "skateboard", "surfboard": "surfboard", "tennis racket": "tennis_racket",
}  # fmt: skip
"""The COCO categories that stand in for some of YouTube-VIS 2019 when both are trained on together."""

_COARSE = {
    "person": ("person",),
    "vehicle": (
        "airplane", "bicycle", "boat", "bus", "car", "motorbike", "motorcycle", "sedan", "train", "truck", "vehical",
        "vehicle",
    ),
    "animal": (
        "animal", "ape", "bear", "bird", "cat", "cow", "deer", "dog", "duck", "eagle", "earless seal", "elephant",
        "fish", "fox", "frog", "giant panda", "giraffe", "horse", "leopard", "lizard", "monkey", "mouse", "owl",
        "parrot", "poultry", "rabbit", "shark", "sheep", "snake", "squirrel", "tiger", "turtle", "whale", "zebra",
    ),
}  # fmt: skip
COARSE_CLASSES = tuple(_COARSE)
MAPPINGS = ("coarse", "coco-to-youtube-vis-2019")
"""Names that `category_mapping` knows."""

VOCABULARIES = {
    "youtube-vis-2019": YOUTUBE_VIS_2019,
    "youtube-vis-2021": YOUTUBE_VIS_2021,
    "ovis": OVIS,
    "coco": COCO,
}
_BY_COUNT = {len(names): names for names in (YOUTUBE_VIS_2019, COCO, OVIS)}


def category_mapping(mapping: str, names: Sequence[str]) -> dict[str, str]:
    """For the categories of a file, the name of the class that each stands for; those that stand for none are missing.

    Args:
        mapping: ``coarse`` (COCO, YouTube-VIS and OVIS names to person, vehicle, animal), or
            ``coco-to-youtube-vis-2019``.
        names: of the file's categories, compared as `plain_name` has them.

    Raises:
        OptionError: there is no such mapping.
    """
    if mapping == "coarse":
        known = {name: coarse for coarse, members in _COARSE.items() for name in members}
        # A mouse is an animal in YouTube-VIS, beside the seal; in COCO it is a device.
        if "earless seal" not in map(plain_name, names):
            del known["mouse"]
    elif mapping == "coco-to-youtube-vis-2019":
        known = COCO_TO_YOUTUBE_VIS_2019
    else:
        raise OptionError(f"categories: there is no mapping {mapping!r}; known are {', '.join(MAPPINGS)}")
    return {name: known[plain_name(name)] for name in names if plain_name(name) in known}


def plain_name(name: str) -> str:
    """What two names of one class have in common: case, and blank, underscore or hyphen, make no difference."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def class_names_of(metadata: Mapping[str, str], classes: int, vocabulary: str = "auto") -> tuple[str, ...]:
    """Names of the classes of a weight file: those that it states, or else those of a vocabulary.

    Args:
        metadata: of the file; ``class_names`` is a JSON list.
        classes: their number.
        vocabulary: one of `VOCABULARIES`, or ``auto``: see `names_by_count`.

    Raises:
        CheckpointError: what is stated is not a list of as many different names as there are classes.
        OptionError: the vocabulary has another number of classes.
    """
    if "class_names" in metadata:
        return stated_names(metadata["class_names"], classes)
    if vocabulary == "auto":
        return names_by_count(classes)
    names = VOCABULARIES[vocabulary]
    if len(names) != classes:
        raise OptionError(f"option vocabulary: {vocabulary} has {len(names)} classes, the weights have {classes}")
    return names


def names_by_count(classes: int) -> tuple[str, ...]:
    """Names for a checkpoint that states none: by its class count, else ``class 1``, ``class 2``...

    YouTube-VIS 2021 has 40 classes too; a checkpoint of it must state its names, or whoever loads it the vocabulary.
    """
    return _BY_COUNT.get(classes) or numbered(classes)


def numbered(classes: int) -> tuple[str, ...]:
    """``class 1``, ``class 2``..."""
    return tuple(f"class {i + 1}" for i in range(classes))


def stated_names(text: str, classes: int) -> tuple[str, ...]:
    """Names that a weight file states in its metadata, a JSON list.

    Raises:
        CheckpointError: not a list of as many different names as there are classes.
    """
    try:
        names = parse_json(text, "metadata", "class_names")
    except InputError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"metadata class_names: expected a list of names, got {printable(repr(text), 100)}")
    if len(names) != classes or len(set(names)) != classes:
        found = f"{len(names)}: {printable(names[:10])}"
        raise CheckpointError(f"metadata class_names: expected {classes} different names, got {found}")
    return tuple(names)
