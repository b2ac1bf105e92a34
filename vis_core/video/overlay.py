"""Pictures for people: the tracks drawn over their frame, and sheets of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError
from vis_core.structures import Instances

Image = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]
Point = tuple[int, int]

_FONT = cv2.FONT_HERSHEY_DUPLEX
_TINT = 0.42
_GOLDEN_ANGLE = 137.50776405003785


class _Label(NamedTuple):
    text: str
    color: tuple[int, int, int]
    place: Box
    scale: float
    origin: tuple[int, int]


@lru_cache(maxsize=1024)
def track_color(track_id: int) -> tuple[int, int, int]:
    """The colour of a track, RGB: the same for an id in every frame and run, far from those of the ids around it.

    Hues go by the golden angle, lightness in three steps, in the OKLCH space, where equal steps look equally far.
    """
    lightness = (0.72, 0.84, 0.62)[track_id % 3]
    hue = np.deg2rad(30.0 + track_id * _GOLDEN_ANGLE)
    for chroma in np.linspace(0.21, 0.08, 14):  # the strongest colour of this hue that a screen has
        linear = _linear_rgb(lightness, chroma * np.cos(hue), chroma * np.sin(hue))
        if linear.min() >= 0 and linear.max() <= 1:
            break
    linear = linear.clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(v) for v in np.rint(255 * encoded))
    return red, green, blue


def draw_overlay(
    image: Image,
    instances: Instances,
    class_names: Sequence[str],
    scores: bool = True,
    *,
    min_score: float = 0.0,
    parts: Sequence[str] = ("masks", "labels"),
    trails: Mapping[int, Sequence[Point]] = MappingProxyType({}),
) -> Image:
    """A copy of the frame with its visible tracks drawn: tinted mask, contour, and a label "person 7 0.93".

    Args:
        image: uint8 ``[H, W, 3]`` RGB, the frame.
        instances: of that frame; rows that are not seen in it are not drawn.
        class_names: name of each label.
        scores: whether labels end with the score.
        min_score: least running score of a track that is drawn.
        parts: what is drawn, of ``masks``, ``boxes``, ``labels``, ``trails``.
        trails: for each track the points that it was at, x and y, the oldest first.

    Raises:
        InputError: the image is not of the instances' size.
    """
    if image.shape != (*instances.size, 3) or image.dtype != np.uint8:
        raise InputError(f"overlay: image is {image.dtype} {image.shape}, the instances are of size {instances.size}")
    out = image.copy()
    drawn = instances.visible & (instances.track_scores >= np.float32(min_score))
    rows = [int(row) for row in np.flatnonzero(drawn) if instances.masks[row].box[2]]
    colors = [track_color(int(instances.track_ids[row])) for row in rows]
    width = _line_width(instances.size)
    for row, color in zip(reversed(rows), reversed(colors), strict=True):  # the best last, over the others
        if "trails" in parts:
            trail = np.array(trails.get(int(instances.track_ids[row]), ()), np.int32).reshape(-1, 1, 2)
            cv2.polylines(out, [trail], False, color, width + 1, cv2.LINE_AA)
        if "masks" in parts:
            _draw_mask(out, instances.masks[row].box, instances.masks[row].crop(), color, width)
        if "boxes" in parts:
            _draw_box(out, instances.masks[row].box, color, width)
    if "labels" not in parts:
        return out
    labels: list[_Label] = []
    for row, color in zip(rows, colors, strict=True):
        label = int(instances.labels[row])
        name = class_names[label] if 0 <= label < len(class_names) else f"class {label}"
        score = f"  {float(instances.scores[row]):.2f}" if scores else ""
        text = f"{name} {int(instances.track_ids[row])}{score}"
        labels.append(_place_label(text, color, instances.masks[row].box, instances.size, labels))
    for placed in reversed(labels):
        _draw_label(out, placed)
    return out


def contact_sheet(images: Sequence[Image], columns: int, titles: Sequence[str] | None = None, gap: int = 8) -> Image:
    """Pictures side by side in rows, on a dark ground, each under its title; smaller ones are centred.

    Args:
        images: uint8 ``[H, W, 3]`` RGB each, at least one.
        columns: pictures in a row.
        titles: one for each picture.
        gap: pixels between pictures.

    Raises:
        InputError: no picture, no column, or another number of titles.
    """
    if not images or columns < 1 or (titles is not None and len(titles) != len(images)):
        count = "no" if titles is None else len(titles)
        raise InputError(f"contact sheet: {len(images)} images, {columns} columns, {count} titles do not fit together")
    columns = min(columns, len(images))
    height, width = max(image.shape[0] for image in images), max(image.shape[1] for image in images)
    scale = max(0.4, width / 900)
    head = 0 if titles is None else round(34 * scale)
    rows = -(-len(images) // columns)
    sheet = np.full((gap + rows * (head + height + gap), gap + columns * (width + gap), 3), 24, np.uint8)
    for i, image in enumerate(images):
        y, x = gap + i // columns * (head + height + gap), gap + i % columns * (width + gap)
        if titles is not None:
            place = (x + 2, y + round(23 * scale))
            strip = sheet[:, : x + width]  # a view: a long title ends with its picture
            cv2.putText(strip, titles[i], place, _FONT, scale, (225, 225, 225), max(1, round(scale)), cv2.LINE_AA)
        y, x = y + head + (height - image.shape[0]) // 2, x + (width - image.shape[1]) // 2
        sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    return sheet


def _draw_mask(out: Image, box: Box, mask: Image, color: tuple[int, int, int], line_width: int) -> None:
    x, y, width, height = box
    region = out[y : y + height, x : x + width]
    tinted = cv2.LUT(region, _tints(color))
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
    # A dark rim, so that a contour shows on a ground of its own colour; the tint then covers its inner half.
    cv2.drawContours(out, contours, -1, (color[0] // 6, color[1] // 6, color[2] // 6), line_width + 2)
    cv2.copyTo(tinted, mask, region)
    cv2.drawContours(out, contours, -1, color, line_width, cv2.LINE_AA)


def _draw_box(out: Image, box: Box, color: tuple[int, int, int], line_width: int) -> None:
    x, y, width, height = box
    cv2.rectangle(out, (x, y), (x + width - 1, y + height - 1), color, line_width)


@lru_cache(maxsize=1024)
def _tints(color: tuple[int, int, int]) -> Image:
    """uint8 ``[1, 256, 3]``: what becomes of each value of each channel under a colour."""
    ramp = np.arange(256, dtype=np.float32)[:, None] * (1 - _TINT) + np.array(color, np.float32) * _TINT
    return np.rint(ramp).astype(np.uint8)[None]


def _place_label(
    text: str, color: tuple[int, int, int], box: Box, size: tuple[int, int], others: Sequence[_Label]
) -> _Label:
    """A label above the mask, else inside its upper edge, else below: the first place that no other label has."""
    height, width = size
    scale = max(0.36, min(size) / 1100)
    (w, h), base = cv2.getTextSize(text, _FONT, scale, 1)
    pad = max(2, round(5 * scale))
    w, h = min(w + 2 * pad, width), min(h + base + pad, height)
    x, y, _, box_height = box
    x = min(max(x, 0), width - w)
    tops = [min(max(top, 0), height - h) for top in (y - h - 1, y, y + h, y + box_height + 1, y - 2 * h - 1)]
    places = [(x, top, w, h) for top in tops]
    free = (place for place in places if not any(_overlap(place, other.place) for other in others))
    return _Label(text, color, next(free, places[0]), scale, (pad, h - base - pad // 2 + 1))


def _draw_label(out: Image, label: _Label) -> None:
    x, y, width, height = label.place
    plate = out[y : y + height, x : x + width]
    plate[:] = label.color
    luminance = 0.2126 * label.color[0] + 0.7152 * label.color[1] + 0.0722 * label.color[2]
    ink = (0, 0, 0) if luminance > 110 else (255, 255, 255)
    cv2.putText(plate, label.text, label.origin, _FONT, label.scale, ink, max(1, round(label.scale)), cv2.LINE_AA)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def _line_width(size: tuple[int, int]) -> int:
    return max(1, round(min(size) / 400))


def _linear_rgb(lightness: float, a: float, b: float) -> npt.NDArray[Any]:
    """Linear sRGB of an OKLab colour (B. Ottosson, "A perceptual color space for image processing", 2020)."""
    cone = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.291485548]]
    )
    rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    mixed: npt.NDArray[Any] = rgb @ (cone @ np.array([lightness, a, b])) ** 3
    return mixed
