"""Reading annotation files of any origin: what is faulty is counted by name and left out, or the file is refused."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.data.annotations import AnnotatedSet, Annotation, Item
from vis_core.data.faults import Faults, summary
from vis_core.data.vocabularies import category_mapping
from vis_core.errors import InputError
from vis_core.files.findings import InputWarning, is_integer, shown
from vis_core.files.json_files import parse_json, read_text
from vis_core.files.segmentations import Masks, SegmentationReader
from vis_core.video.images import MAX_PIXELS

_ROLE = "annotations"
_FOLDERS = (
    *("", "frames", "JPEGImages", "images", "train2017", "val2017", "train", "valid", "val"),
    *("train/JPEGImages", "valid/JPEGImages", "val/JPEGImages", "images/train2017", "images/val2017"),
)
_FOLDER_TRIES = 20  # files that are looked for in each of them
_MAX_ANNOTATIONS = 65535  # of an item: their numbers fit in two bytes
_NOT_READ = "annotation skipped"

Key = int | str


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
    annotated = _AnnotationFile(Path(path), class_names, categories).load(images)
    if annotated.findings:
        text = f"{path}: {summary(annotated.findings)}; 'vis inspect' tells more"
        warnings.warn(text, InputWarning, stacklevel=2)
    return annotated


@dataclass
class _Entry:
    """An item while its annotations are gathered."""

    place: str
    name: str
    size: tuple[int, int]
    names: tuple[str, ...]
    content: Mapping[str, Any]
    annotations: list[Annotation] = field(default_factory=list)
    present: set[Key] = field(default_factory=set)
    incomplete: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Pending:
    """An annotation whose masks are checked together with others."""

    index: int
    entry: _Entry
    label: int
    crowd: bool
    masks: Masks
    areas: npt.NDArray[np.int64]


class _AnnotationFile:
    """One annotation file while it is read.

    Args:
        path: the JSON.
        class_names: the labels; None: the file's categories.
        categories: name in the file to name of a class, or the name of a mapping.

    Raises:
        InputError: the file is not of that form.
        OptionError: there is no mapping of that name.
    """

    def __init__(
        self, path: Path, class_names: Sequence[str] | None, categories: Mapping[str, str] | str | None
    ) -> None:
        self._path = path
        content = parse_json(read_text(path, _ROLE), str(path), _ROLE)
        if not isinstance(content, dict):
            hint = "; is it a result file?" if isinstance(content, list) else ""
            raise InputError(f"{path}: {shown(content)} instead of an object with images or videos{hint}")
        self._content = content
        self._videos = "videos" in content
        self._faults = Faults(frames=self._videos)
        self._list = "videos" if self._videos else "images"
        self._kind = "video" if self._videos else "image"
        for name in (self._list, "categories", "annotations"):
            if not isinstance(content.get(name), list):
                found = f"is {shown(content[name])} instead of a list" if name in content else "is missing"
                hint = "; is it a test split without labels?" if name == "annotations" else ""
                raise InputError(f"{path}: {name} {found}{hint}")
        names = self._read_categories()
        if isinstance(categories, str):  # a known mapping is whole: what it does not name is none of the classes
            known = category_mapping(categories, list(names.values()))
            renamed = {key: known[name] for key, name in names.items() if name in known}
        else:
            renamed = {key: (categories or {}).get(name, name) for key, name in names.items()}
        ordered = [renamed[key] for key in sorted(renamed, key=lambda key: (isinstance(key, str), key))]
        self._class_names = tuple(class_names) if class_names else tuple(dict.fromkeys(ordered))
        labels = {name: label for label, name in enumerate(self._class_names)}
        self._label_of = {key: labels.get(renamed.get(key, "")) for key in names}
        self._keys_of = [
            {key for key, label in self._label_of.items() if label == wanted}
            for wanted in range(len(self._class_names))
        ]
        licences = content.get("licenses")
        self._licences = {
            _key(entry.get("id")): str(entry.get("name") or entry.get("url") or "")[:200]
            for entry in (licences if isinstance(licences, list) else [])
            if isinstance(entry, dict) and _key(entry.get("id")) is not None
        }

    def load(self, images: str | Path | None) -> AnnotatedSet:
        """Its content; see `read_annotations`."""
        entries = self._read_entries()
        good = self._read_annotations(entries)
        kept = [entry for entry in entries.values() if entry is not None]
        findings = self._faults.findings()
        if (self._content[self._list] and not kept) or (self._content["annotations"] and not good):
            raise InputError(f"{self._path}: nothing in it can be used: {summary(findings)}")
        folder = self._image_folder(kept) if images is None else Path(images)
        items = tuple(self._item(entry, folder) for entry in kept)
        info = self._content.get("info")
        stated = [info[key] for key in ("licence", "license") if key in info] if isinstance(info, dict) else []
        licence = stated[0][:500] if stated and isinstance(stated[0], str) else ""
        return AnnotatedSet(self._path, self._videos, self._class_names, items, self._faults.findings(), licence)

    def _read_categories(self) -> dict[Key, str]:
        names: dict[Key, str] = {}
        for index, category in enumerate(self._content["categories"]):
            place = f"{self._path}: categories[{index}]"
            if not isinstance(category, dict):
                raise InputError(f"{place}: {shown(category)} instead of an object with id and name")
            key, name = _key(category.get("id")), category.get("name")
            if key is None:
                raise InputError(f"{place}: id {shown(category.get('id'))} is not an integer")
            if not isinstance(name, str) or not name:
                raise InputError(f"{place}: name {shown(name)} is not a text")
            if names.setdefault(key, name) != name:
                raise InputError(f"{place}: id {key} is {name!r} here, and {names[key]!r} before")
        return names

    def _read_entries(self) -> dict[Key, _Entry | None]:
        """The items by their id; None stands for one that is known and skipped."""
        entries: dict[Key, _Entry | None] = {}
        for index, content in enumerate(self._content[self._list]):
            place = f"{self._list}[{index}]"
            if not isinstance(content, dict):
                self._skip(place, f"{shown(content)} instead of an object")
                continue
            key = _key(content.get("id"))
            if key is None:
                self._skip(place, f"id {shown(content.get('id'))} is not an integer")
                continue
            entry = self._read_entry(content, place)
            if key not in entries:
                entries[key] = entry
                continue
            before = entries[key]
            if before is not None and entry is not None and (before.names, before.size) == (entry.names, entry.size):
                self._faults.note(f"{self._kind} stated twice", place, f"id {key} is {before.place} too")
            else:
                self._skip(place, f"id {key} is another {self._kind} before, whose annotations cannot be told apart")
                entries[key] = None
        return entries

    def _read_entry(self, content: Mapping[str, Any], place: str) -> _Entry | None:
        field_name = "file_names" if self._videos else "file_name"
        names = content.get("file_names") if self._videos else [content.get("file_name")]
        if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
            wanted = "a list of texts, one a frame" if self._videos else "a text"
            self._skip(place, f"{field_name} {shown(content.get(field_name))}; give {wanted}")
            return None
        length = content.get("length")
        if self._videos and length is not None and length != len(names):
            self._skip(place, f"length {shown(length)}, but file_names has {len(names)}")
            return None
        size = (_whole(content.get("height")), _whole(content.get("width")))
        height, width = size
        if height is None or width is None or height < 1 or width < 1 or height * width > MAX_PIXELS:
            text = f"height {shown(content.get('height'))}, width {shown(content.get('width'))}"
            self._skip(place, f"{text}; give pixels, at least 1 and {MAX_PIXELS} in all")
            return None
        name = content.get("name")
        return _Entry(
            place, name if isinstance(name, str) and name else names[0], (height, width), tuple(names), content
        )

    def _read_annotations(self, entries: Mapping[Key, _Entry | None]) -> int:
        """Give the annotations to their items; the number of those that can be used, of any category."""
        reader = SegmentationReader(self._faults, polygons=True)
        pending: list[_Pending] = []
        good = 0
        for index, content in enumerate(self._content["annotations"]):
            read = self._read_annotation(content, index, entries, reader)
            if isinstance(read, _Pending):
                pending.append(read)
            else:
                good += read
        reader.finish()
        return good + sum(self._finish_annotation(read) for read in pending)

    def _read_annotation(
        self, content: Any, index: int, entries: Mapping[Key, _Entry | None], reader: SegmentationReader
    ) -> _Pending | bool:
        """An annotation of one of the classes, else whether it is in order."""
        place = f"annotations[{index}]"
        if not isinstance(content, dict):
            self._faults.note(_NOT_READ, place, f"{shown(content)} instead of an object")
            return False
        wanted = f"{self._kind}_id"
        item = _key(content.get(wanted))
        if item is None or item not in entries:
            found = shown(content[wanted]) if wanted in content else "is missing"
            self._faults.note(_NOT_READ, place, f"{wanted} {found}; there is no such {self._kind}")
            return False
        entry = entries[item]
        if entry is None:
            self._faults.note(f"annotation of a skipped {self._kind}", place, f"{wanted} {item}")
            return False
        category = _key(content.get("category_id"))
        if category is None or category not in self._label_of:
            self._faults.note(_NOT_READ, place, f"category_id {shown(content.get('category_id'))} is not in categories")
            entry.incomplete.update(range(len(self._class_names)))
            return False
        entry.present.add(category)
        label = self._label_of[category]
        if label is None:
            return True
        fault = self._fault_of(content, entry)
        if fault:
            self._faults.note(fault[0], place, fault[1])
            entry.incomplete.add(label)
            return False
        segmentations = content["segmentations"] if self._videos else [content["segmentation"]]
        self._look_for_boxes_alone(content, segmentations, entry, label, place)
        masks, areas = reader.add_track(segmentations, entry.size, place, index)
        return _Pending(index, entry, label, bool(content.get("iscrowd")), masks, areas)

    def _fault_of(self, content: Mapping[str, Any], entry: _Entry) -> tuple[str, str] | None:
        crowd = content.get("iscrowd")
        if not (crowd is None or (isinstance(crowd, int) and crowd in (0, 1))):
            return _NOT_READ, f"iscrowd {shown(crowd)} is neither 0 nor 1"
        if not self._videos:
            if content.get("segmentation") in (None, [], {}):
                return "annotation without a mask skipped", "segmentation is missing or empty"
            return None
        segmentations = content.get("segmentations")
        if not isinstance(segmentations, list):
            found = shown(segmentations) if "segmentations" in content else "is missing"
            return _NOT_READ, f"segmentations {found}; give a list, one a frame"
        if len(segmentations) != len(entry.names):
            return _NOT_READ, f"{len(segmentations)} segmentations for the {len(entry.names)} frames of {entry.name}"
        return None

    def _look_for_boxes_alone(
        self, content: Mapping[str, Any], segmentations: Sequence[Any], entry: _Entry, label: int, place: str
    ) -> None:
        """In a video a box without a mask says that the object is visible where nothing marks its pixels."""
        boxes = content.get("bboxes") if self._videos else None
        if not isinstance(boxes, list) or len(boxes) != len(segmentations):
            return
        for frame, (box, segmentation) in enumerate(zip(boxes, segmentations)):
            if isinstance(box, list) and any(box) and not segmentation:
                self._faults.note("frame with a box and no mask", self._faults.place(place, frame), f"box {shown(box)}")
                entry.incomplete.add(label)

    def _finish_annotation(self, read: _Pending) -> bool:
        """Give an annotation whose masks are checked to its item; whether any of them can be used."""
        place, entry = f"annotations[{read.index}]", read.entry
        size = [*entry.size]
        segmentations: list[dict[str, Any] | None] = []
        told = False
        for frame, (counts, area) in enumerate(zip(read.masks, read.areas.tolist())):
            usable = counts is not None and area > 0
            if (read.index, frame) in self._faults.bad_masks:
                usable, told = False, True
                entry.incomplete.add(read.label)
            elif counts is not None and area == 0:
                self._faults.note(
                    "empty mask skipped", self._faults.place(place, frame), "it has no pixel in the image"
                )
            segmentations.append({"size": size, "counts": counts} if usable else None)
        if not any(segmentations):
            if not told and not any(read.masks):
                self._faults.note("annotation that is never visible", place, "no frame has a mask")
            return False
        if len(entry.annotations) == _MAX_ANNOTATIONS:
            self._faults.note(_NOT_READ, place, f"more than {_MAX_ANNOTATIONS} in {entry.place}")
            entry.incomplete.add(read.label)
            return True
        entry.annotations.append(Annotation(read.label, read.crowd, tuple(segmentations)))
        return True

    def _item(self, entry: _Entry, folder: Path) -> Item:
        known = self._labelled(entry)
        licence = entry.content.get("licence")
        if not isinstance(licence, str):
            licence = self._licences.get(_key(entry.content.get("license")), "")
        return Item(
            name=entry.name,
            size=entry.size,
            files=tuple(folder / name for name in entry.names),
            annotations=tuple(entry.annotations),
            exhaustive=tuple(
                bool(keys) and keys <= known and label not in entry.incomplete
                for label, keys in enumerate(self._keys_of)
            ),
            licence=licence[:200],
        )

    def _labelled(self, entry: _Entry) -> set[Key]:
        """The categories of which every visible object has a mask, as far as the file says."""
        content = entry.content
        if content.get("labelled_categories") is not None:
            return self._keys(entry, "labelled_categories")
        if "neg_category_ids" in content or "not_exhaustive_category_ids" in content:  # LVIS
            looked_for = self._keys(entry, "neg_category_ids") | entry.present
            return looked_for - self._keys(entry, "not_exhaustive_category_ids")
        return set() if content.get("partial") else set(self._label_of)

    def _keys(self, entry: _Entry, name: str) -> set[Key]:
        given = entry.content.get(name)
        if given is not None and not isinstance(given, list):
            self._faults.note(f"{name} taken as empty", entry.place, f"{shown(given)} instead of a list")
        return {key for key in map(_key, given if isinstance(given, list) else []) if key is not None}

    def _image_folder(self, entries: Sequence[_Entry]) -> Path:
        parent = self._path.parent
        folders = [base / name for base in (parent, parent.parent) for name in _FOLDERS]
        for entry in entries[:_FOLDER_TRIES]:
            for folder in folders:
                if _is_file(folder / entry.names[0]):
                    return folder
        return parent

    def _skip(self, place: str, text: str) -> None:
        self._faults.note(f"{self._kind} skipped", place, text)


def _key(value: Any) -> Key | None:
    """An id: an integer, written as such, as a whole float or in digits, or a text; None: no id."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdecimal() and len(value) < 19 else value or None
    return _whole(value)


def _whole(value: Any) -> int | None:
    if is_integer(value):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
