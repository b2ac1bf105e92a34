"""A picture of an annotated set, by which people judge masks, identities and classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.data.annotations import AnnotatedSet, Item
from vis_core.errors import InputError
from vis_core.masks import encode
from vis_core.structures import Instances, TrackState
from vis_core.video.overlay import contact_sheet, draw_overlay

Image = npt.NDArray[np.uint8]

_CELL = (300, 400)  # height and width that a picture is fitted into
_COLUMNS = 6
_ROWS = 5
_MAX_ROWS = 12  # if it takes as many to show every class
_STRIP = 20
_AMBER = (255, 190, 60)
_LETTERS = (cv2.FONT_HERSHEY_DUPLEX, 0.42)


@dataclass(frozen=True)
class Sheet:
    """A contact sheet.

    Attributes:
        image: uint8 ``[H, W, 3]`` RGB.
        shown: videos or images on it.
        missing: names of classes that have annotations, but no place on it.
        faults: of the images that could not be shown.
    """

    image: Image
    shown: int
    missing: tuple[str, ...]
    faults: tuple[str, ...]


def draw_sheet(annotated: AnnotatedSet) -> Sheet:
    """Frames with masks, identities and class names: images in a grid, each video in a row of its own.

    Items are chosen so that every class is seen, then crowds, incomplete labels and empty items, then evenly. Crowds
    are hatched; a strip below a picture names the classes of which not every object is labelled.

    Raises:
        InputError: no image can be read.
    """
    longest = max((len(item.files) for item in annotated.items), default=1)
    columns = min(_COLUMNS, longest) if annotated.videos else _COLUMNS
    per_row = 1 if annotated.videos else columns
    pictures: list[Image] = []
    titles: list[str] = []
    faults: list[str] = []
    unseen = {annotation.label for item in annotated.items for annotation in item.annotations}
    shown = 0
    for item in _chosen(annotated.items):
        if shown >= _MAX_ROWS * per_row or (shown >= _ROWS * per_row and not unseen):
            break
        labels = {annotation.label for annotation in item.annotations}
        if shown >= _ROWS * per_row and not labels & unseen:
            continue
        frames = np.linspace(0, len(item.files) - 1, columns if annotated.videos else 1).round().astype(int)
        try:
            row = [_picture(item, frame, annotated.class_names) for frame in frames.tolist()]
        except InputError as error:
            faults.append(str(error))
            if len(faults) > 100:
                break
            continue
        shown += 1
        unseen -= labels
        pictures += row
        titles += [_title(item, frame) for frame in frames.tolist()]
    if not pictures:
        raise InputError(f"{annotated.path}: no image can be read; the first: {faults[0] if faults else 'none'}")
    missing = tuple(annotated.class_names[label] for label in sorted(unseen))
    return Sheet(contact_sheet(pictures, columns, titles), shown, missing, tuple(faults))


def _chosen(items: Sequence[Item]) -> Iterator[Item]:
    """All items: first some that show every class, then by turns of each class and of each special kind."""
    kinds: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        for label in sorted({annotation.label for annotation in item.annotations}):
            kinds.setdefault(f"class {label}", []).append(place)
        special = {
            "crowd": any(annotation.crowd for annotation in item.annotations),
            "incomplete": not all(item.exhaustive),
            "empty": not item.annotations,
        }
        for kind, holds in special.items():
            if holds:
                kinds.setdefault(kind, []).append(place)
    queues = [_spread(places) for _, places in sorted(kinds.items(), key=lambda entry: len(entry[1]))]
    taken: set[int] = set()
    covered: set[int] = set()
    for queue in queues:  # the rarest first: what it shows besides need not be looked for
        labels = {annotation.label for annotation in items[queue[0]].annotations}
        if not labels <= covered:
            covered |= labels
            if queue[0] not in taken:
                taken.add(queue[0])
                yield items[queue[0]]
    for turn in range(max(map(len, queues), default=0)):
        for queue in queues:
            if turn < len(queue) and queue[turn] not in taken:
                taken.add(queue[turn])
                yield items[queue[turn]]
    yield from (item for place, item in enumerate(items) if place not in taken)


def _spread(places: list[int]) -> list[int]:
    """The same in an order whose beginnings are spread evenly."""
    golden = 0.6180339887498949
    return [place for _, place in sorted(((1 + i) * golden % 1, place) for i, place in enumerate(places))]


def _title(item: Item, frame: int) -> str:
    if len(item.files) == 1:
        return item.files[0].name
    return f"{item.name}  {frame + 1} / {len(item.files)}"


def _picture(item: Item, frame: int, class_names: Sequence[str]) -> Image:
    image = item.image(frame)
    scale = min(_CELL[0] / item.size[0], _CELL[1] / item.size[1])
    height, width = (max(24, round(scale * length)) for length in item.size)
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = np.asarray(cv2.resize(image, (width, height), interpolation=smooth), np.uint8)
    objects, crowds = (
        cv2.resize(numbers, (width, height), interpolation=cv2.INTER_NEAREST) for numbers in item.object_images(frame)
    )
    groups = [n for n in np.unique(crowds).tolist() if n]
    for number in groups:
        _hatch(small, crowds == number)
    numbers = [n for n in np.unique(objects).tolist() if n]
    count = len(numbers)
    instances = Instances(
        stamp=0,
        index=frame,
        size=(height, width),
        track_ids=np.array(numbers, np.int64),
        labels=np.array([item.annotations[n - 1].label for n in numbers], np.int64),
        scores=np.ones(count, np.float32),
        track_scores=np.ones(count, np.float32),
        boxes=np.zeros((count, 4), np.float32),
        masks=tuple(encode(objects == n) for n in numbers),
        states=np.full(count, TrackState.TRACKED, np.uint8),
        ages=np.zeros(count, np.int64),
        first_seen=np.zeros(count, np.int64),
        last_seen=np.zeros(count, np.int64),
    )
    drawn = draw_overlay(small, instances, class_names, scores=False)
    for number in groups:  # after the labels, which would hide it, and beside the instances in front
        region = crowds == number
        beside = region & (objects == 0)
        label = item.annotations[number - 1].label
        _write_inside(drawn, beside if beside.any() else region, f"crowd: {class_names[label]}")
    return _with_strip(drawn, item, class_names)


def _hatch(image: Image, region: npt.NDArray[np.bool_]) -> None:
    """Mark a region by stripes and an outline."""
    rows, columns = np.indices(region.shape)
    image[region & ((rows + columns) % 10 < 2)] = _AMBER
    outline, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(image, outline, -1, _AMBER, 1, cv2.LINE_AA)


def _write_inside(image: Image, region: npt.NDArray[np.bool_], text: str) -> None:
    """Write on a dark plate where a region is widest, as far as the picture's edges let."""
    depth = cv2.distanceTransform(np.pad(region, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = (int(v) for v in np.unravel_index(int(depth.argmax()), region.shape))
    (width, height), base = cv2.getTextSize(text, *_LETTERS, 1)
    left = min(max(x - width // 2, 3), max(image.shape[1] - width - 3, 3))
    bottom = min(max(y + height // 2, height + 3), image.shape[0] - base)
    cv2.rectangle(image, (left - 3, bottom - height - 3), (left + width + 2, bottom + base - 1), (0, 0, 0), -1)
    _write(image, text, (left, bottom))


def _with_strip(image: Image, item: Item, class_names: Sequence[str]) -> Image:
    """The picture on a strip that names the classes which are not labelled completely."""
    missing = [name for name, complete in zip(class_names, item.exhaustive) if not complete]
    if not missing:
        return image
    strip = np.zeros((_STRIP, image.shape[1], 3), np.uint8)
    names = ", ".join(missing) if len(missing) <= 4 else f"{len(missing)} of {len(class_names)} classes"
    _write(strip, f"not all labelled: {names}", (4, _STRIP - 6))
    return np.concatenate((image, strip))


def _write(image: Image, text: str, place: tuple[int, int]) -> None:
    cv2.putText(image, text, place, *_LETTERS, _AMBER, 1, cv2.LINE_AA)
