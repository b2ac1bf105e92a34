"""The content of an annotation file in one form: what every command reads, with one verdict and the same words.

COCO (images), YouTube-VIS and OVIS (videos), LVIS (images that are named by their address alone), CocoVID and BURST.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from vis_core.files.annotation_forms import lists_of
from vis_core.files.annotation_ids import Ids, whole
from vis_core.files.findings import Findings, is_integer, is_number, shown
from vis_core.files.image_folders import inner_name, is_plain, name_under
from vis_core.files.run_lengths import MAX_PIXELS

Notice = Callable[[str, str, str], None]
"""Takes what is odd and read all the same: its kind, its place, and what it is."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A video, or an image: a video of one frame.

    Attributes:
        place: in the file, for messages.
        id: an integer, also where the file has a text.
        name: as the file states it; None if it does not.
        size: height and width, pixels.
        length: frames.
        file_names: one a frame, relative and written with ``/``; empty if the file has none.
        fps: as the file states it; None if it does not.
        stamps: of each frame, nanoseconds, ascending; None if the file has none.
        content: as the file has it.
    """

    place: str
    id: int
    name: str | None
    size: tuple[int, int]
    length: int
    file_names: tuple[str, ...]
    fps: float | None
    stamps: tuple[int, ...] | None
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AnnotationContent:
    """What an annotation file holds; of the annotations only the list is checked.

    Attributes:
        kind: whether its entries are images or videos.
        entries: by id, in the order of the file.
        categories: name by id, in the order of the file.
        annotations: as the file has them, or gathered from its frames.
        entry_ids: finds the id that an annotation, or a result, names.
        category_ids: likewise.
        content: the whole, as the file has it.
        places: of the annotations, where they do not stand in a list of that name.
    """

    kind: Literal["image", "video"]
    entries: Mapping[int, Entry]
    categories: Mapping[int, str]
    annotations: Sequence[Any]
    entry_ids: Ids
    category_ids: Ids
    content: Mapping[str, Any]
    places: Sequence[str] | None

    def place(self, index: int) -> str:
        """The place of an annotation, for messages."""
        return f"annotations[{index}]" if self.places is None else self.places[index]


def read_content(
    content: Any,
    findings: Findings,
    notice: Notice,
    *,
    folder: Path | None = None,
    images: Path | None = None,
    labelled: bool = True,
    opens_images: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> AnnotationContent | None:
    """Read the form of an annotation file: its lists, its entries, its categories.

    Args:
        content: the object that the file holds.
        findings: where errors go; whoever reads the file raises them.
        notice: is told what is odd and taken all the same.
        folder: of the file; None: there is no file, and the names of images are left as they are.
        images: the folder of images, if one was given.
        labelled: whether there must be categories and annotations.
        opens_images: whether there must be file names, in the folder of the images.
        max_pixels: of an image.

    Returns:
        What is sound of it; None if the lists are not there.
    """
    lists = lists_of(content, findings, labelled=labelled)
    if lists is None:
        return None
    entry_ids = Ids(entry.get("id") for entry in lists.entries if isinstance(entry, dict))
    reader = _EntryReader(findings, notice, lists.kind, folder, images, opens_images, max_pixels, entry_ids)
    for index, entry in enumerate(lists.entries):
        reader.add(entry, f"{lists.name}[{index}]", index)
    if opens_images and not reader.entries and not findings.has_errors:
        findings.error("", f"{lists.name} hold no frame")
    category_ids, categories = _read_categories(content.get("categories") or [], findings, notice)
    return AnnotationContent(
        lists.kind,
        reader.entries,
        categories,
        lists.annotations or [],
        entry_ids,
        category_ids,
        content,
        lists.places,
    )


def _read_categories(categories: list[Any], findings: Findings, notice: Notice) -> tuple[Ids, dict[int, str]]:
    ids = Ids(category.get("id") for category in categories if isinstance(category, dict))
    names: dict[int, str] = {}
    first_of: dict[str, int] = {}
    for index, category in enumerate(categories):
        place = f"categories[{index}]"
        if not isinstance(category, dict):
            findings.error(place, f"{shown(category)} instead of an object with id and name", index=index)
            continue
        number, name = _id(category, ids, place, index, findings), category.get("name")
        if not isinstance(name, str) or not name.strip():
            found = f"name {shown(name)}" if "name" in category else "name is missing"
            findings.error(place, f"{found}; give a text", index=index)
        elif number is None:
            continue
        elif number in names:
            if names[number] != name:
                findings.error(place, f"id {number} is {name!r} here, and {names[number]!r} before", index=index)
            else:
                notice("category stated twice", place, f"id {number} is {name!r} before, too")
        else:
            names[number] = name
            if first_of.setdefault(name, number) != number:
                text = f"{name!r} is category {first_of[name]}, too: one class where classes go by name"
                notice("name of two categories", place, text)
    return ids, names


def _id(entry: Mapping[str, Any], ids: Ids, place: str, index: int, findings: Findings) -> int | None:
    number = ids.find(entry.get("id"))
    if number is None:
        found = f"id {shown(entry['id'])} is neither an integer nor a text" if "id" in entry else "id is missing"
        findings.error(place, found, index=index)
    return number


class _EntryReader:
    """Reads the entries of one list, in order; see `read_content`."""

    def __init__(
        self,
        findings: Findings,
        notice: Notice,
        kind: Literal["image", "video"],
        folder: Path | None,
        images: Path | None,
        opens_images: bool,
        max_pixels: int,
        ids: Ids,
    ) -> None:
        self._findings = findings
        self._notice = notice
        self._kind = kind
        self._folder = folder
        self._images = images
        self._opens_images = opens_images
        self._max_pixels = max_pixels
        self._ids = ids
        self._field = "file_names" if kind == "video" else "file_name"
        self.entries: dict[int, Entry] = {}

    def add(self, content: Any, place: str, index: int) -> None:
        """Take an entry of the list."""
        findings, errors = self._findings, self._findings.count
        if not isinstance(content, dict):
            findings.error(place, f"{shown(content)} instead of an object", index=index)
            return
        number = _id(content, self._ids, place, index, findings)
        names = self._names(content, place, index)
        length = self._length(content, names, place, index) if self._kind == "video" else 1
        size = self._size(content, place, index)
        name, fps = content.get("name"), content.get("fps")
        if not (name is None or isinstance(name, str)):
            findings.error(place, f"name {shown(name)} is not a text", index=index)
        if not (fps is None or (is_number(fps) and 0.01 <= fps <= 1e4)):
            findings.error(place, f"fps {shown(fps)} is not a number from 0.01 to 10000", index=index)
        stamps = self._stamps(content, length, place, index)
        if number is None or size is None or findings.count > errors:
            return
        entry = Entry(place, number, name or None, size, length, names, fps, stamps, content)
        before = self.entries.get(number)
        if before is None:
            if length == 0:
                self._notice("video without frames", place, f"the video {number} has no frames")
                if self._opens_images:
                    return
            self.entries[number] = entry
        elif (before.file_names, before.size, before.length) == (names, size, length) and names:
            self._notice(f"{self._kind} stated twice", place, f"id {number} is {before.place} too")
        else:
            findings.error(place, f"id {number} stands twice, for another {self._kind} in {before.place}", index=index)

    def _names(self, content: Mapping[str, Any], place: str, index: int) -> tuple[str, ...]:
        given = content.get(self._field)
        if self._kind == "image":
            if given is None:
                given = _name_of_address(content.get("coco_url"))
            given = given if given is None else [given]
        empty = given is None or (self._kind == "video" and given == [])
        if (empty and not self._opens_images) or (given == [] and content.get("length") in (0, None)):
            return ()
        wanted = "a list of texts, one a frame" if self._kind == "video" else "a text"
        if not isinstance(given, list) or not given or not all(isinstance(name, str) for name in given):
            found = f"{self._field} {shown(content[self._field])}" if self._field in content else f"no {self._field}"
            self._findings.error(place, f"{found}; give {wanted}", index=index)
            return ()
        if all(map(is_plain, given)) and not any("\0" in name or not name for name in given):
            return tuple(given)
        return tuple(self._name(name, frame, place, index) for frame, name in enumerate(given))

    def _name(self, name: str, frame: int, place: str, index: int) -> str:
        """The name of a frame, inside the folder of the images."""
        what = f"file_names[{frame}] {shown(name)}" if self._kind == "video" else f"file_name {shown(name)}"
        if not name or "\0" in name:
            self._findings.error(place, f"{what} is not a file name", index=index)
            return name
        if is_plain(name) or self._folder is None:
            return name
        inner = inner_name(name)
        if inner is None and self._images is not None:
            inner = name_under(name, self._images, self._folder)
            if inner is not None:
                self._notice("file name that is not relative to the images", place, f"{what} is read as {inner}")
        elif inner is not None and inner != name:
            self._notice("file name with '\\' or '..'", place, f"{what} is read as {inner}")
        if inner is not None:
            return inner
        text = f"{what} leaves the folder of the images; name a folder that holds it by --images"
        if self._opens_images:
            self._findings.error(place, text, index=index)
        else:
            self._notice("file name that leaves the images", place, text)
        return name

    def _length(self, content: Mapping[str, Any], names: Sequence[str], place: str, index: int) -> int:
        given = content.get("length")
        length = len(names) if given is None else whole(given)
        if length is None or length < 0:
            self._findings.error(place, f"length {shown(given)} is not a number of frames", index=index)
            return len(names)
        if names and len(names) != length:
            self._findings.error(place, f"length {shown(given)}, but file_names has {len(names)}", index=index)
        return length

    def _size(self, content: Mapping[str, Any], place: str, index: int) -> tuple[int, int] | None:
        height, width = whole(content.get("height")), whole(content.get("width"))
        small = height is None or width is None or height < 1 or width < 1
        if height is None or width is None or small or height * width > self._max_pixels:
            found = ", ".join(
                f"{key} {shown(content[key])}" if key in content else f"{key} is missing" for key in ("height", "width")
            )
            wanted = "pixels, 1 or more" if small else f"at most {self._max_pixels} pixels"
            self._findings.error(place, f"{found}; give {wanted}", index=index)
            return None
        return height, width

    def _stamps(self, content: Mapping[str, Any], length: int, place: str, index: int) -> tuple[int, ...] | None:
        stamps = content.get("stamps")
        if stamps is None:
            return None
        if not isinstance(stamps, list) or not all(is_integer(stamp) and 0 <= stamp < 2**63 for stamp in stamps):
            self._findings.error(place, f"stamps {shown(stamps)} instead of a list of nanoseconds", index=index)
        elif len(stamps) != length:
            text = f"stamps has {len(stamps)} entries for {length} frames; give one a frame, ascending"
            self._findings.error(place, text, index=index)
        elif any(a >= b for a, b in pairwise(stamps)):
            self._findings.error(place, "stamps do not grow; give one a frame, ascending", index=index)
        return tuple(stamps) if isinstance(stamps, list) else None


def _name_of_address(address: Any) -> str | None:
    """LVIS names an image by its address at COCO alone: its folder there, and its name."""
    if not isinstance(address, str) or not address.startswith(("http://", "https://")):
        return None
    parts = [part for part in urlsplit(address).path.split("/") if part]
    return "/".join(parts[-2:]) or None
