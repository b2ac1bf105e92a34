"""Which way the images of a set are read: as stored, or turned by EXIF as viewers show them. Labels follow one of them.

Sizes tell: an image that is turned by a quarter is labelled with one of its two sizes. Where that says nothing (a
square, half a turn), the others of the set decide. Headers alone are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vis_core.errors import InputError, OptionError
from vis_core.video.headers import ImageHeader
from vis_core.video.images import header_of

ORIENTATIONS = ("auto", "stored", "turned")

Size = tuple[int, int]


@dataclass(frozen=True)
class Reading:
    """How the videos of a set are read.

    Attributes:
        turned: of each, whether EXIF turns its images.
        sizes: of each, height and width as read.
        note: one sentence, with counts; empty where EXIF turns none.
    """

    turned: tuple[bool, ...]
    sizes: tuple[Size, ...]
    note: str


def reading_of(videos: Iterable[tuple[Size, Sequence[Path]]], wanted: str = "auto") -> Reading:
    """Find how the images of annotated videos are to be read.

    Args:
        videos: of each the size that is annotated, height and width, and its images; what cannot be read is passed
            over.
        wanted: ``stored`` or ``turned``: so all of them, and a size that is annotated the other way round is set right.

    Raises:
        OptionError: ``wanted`` is none of `ORIENTATIONS`.
    """
    if wanted not in ORIENTATIONS:
        raise OptionError(f"orientation {wanted!r} is none of {', '.join(ORIENTATIONS)}")
    sizes, ways, found = [], list[bool | None](), list[list[ImageHeader]]()
    for size, files in videos:
        headers = _turned_ones(files)
        found.append(headers)
        sizes.append(size)
        ways.append(_way_of(size, headers))
    told = Counter(way for way, headers in zip(ways, found) if headers)
    rest = told[True] >= told[False]  # where nothing tells, as viewers do
    turned = [rest if way is None else way for way in ways] if wanted == "auto" else [wanted == "turned"] * len(ways)
    if wanted != "auto":
        sizes = [_set_right(*entry) for entry in zip(sizes, ways, turned)]
    count = sum(map(len, found))
    note = _note(count, told, rest, wanted) if count else ""
    return Reading(tuple(turned), tuple(sizes), note)


def exif_cause(path: Path, wanted: Size) -> str:
    """What to add to a message on an image of another size than wanted; empty where EXIF is not the cause."""
    try:
        header = header_of(path)
    except InputError:
        return ""
    stored, turned = header.size(turned=False), header.size(turned=True)
    if stored == turned:
        return ""
    by_exif = f"EXIF (orientation {header.orientation}) turns it to {turned[1]}x{turned[0]}"
    told = f"; it is stored as {stored[1]}x{stored[0]}, {by_exif}"
    fits = {stored: "stored", turned: "turned"}.get(wanted)
    return f"{told}: orientation {fits} reads it so" if fits else told


def _turned_ones(files: Iterable[Path]) -> list[ImageHeader]:
    """The headers of the images that EXIF turns."""
    headers = []
    for file in files:
        try:
            header = header_of(file)
        except InputError:
            continue
        if header.orientation != 1:
            headers.append(header)
    return headers


def _way_of(size: Size, headers: Iterable[ImageHeader]) -> bool | None:
    """Whether labels of this size follow the turned pixels; None: nothing tells."""
    for header in headers:
        stored, turned = header.size(turned=False), header.size(turned=True)
        if stored != turned and size in (stored, turned):
            return size == turned
    return None


def _set_right(size: Size, way: bool | None, turned: bool) -> Size:
    return size if way in (None, turned) else (size[1], size[0])


def _note(count: int, told: Counter[bool | None], rest: bool, wanted: str) -> str:
    text = f"EXIF turns {count} of the images"
    if wanted != "auto":
        return f"{text}; they are read as {'shown' if wanted == 'turned' else wanted} (orientation {wanted})"
    parts = [f"{told[way]} {name}" for way, name in ((False, "as stored"), (True, "as turned")) if told[way]]
    if told[None]:
        way = "turned" if rest else "stored"
        why = "as the others of the set" if told[True] != told[False] else "as viewers show them"
        parts.append(f"{told[None]} as {way}, which no size tells, {why}")
    return f"{text}; by their sizes the labels follow {', '.join(parts)}"
