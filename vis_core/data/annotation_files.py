"""Reading annotation files of any origin: what is faulty is counted by name and left out, or the file is refused."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.data.annotations import AnnotatedSet, Annotation, Item
from vis_core.data.class_matching import match_classes
from vis_core.data.faults import Faults, summary
from vis_core.data.vocabularies import category_mapping, plain_name
from vis_core.errors import InputError
from vis_core.files.annotation_content import Entry, read_content
from vis_core.files.annotation_ids import Ids
from vis_core.files.findings import Findings, InputWarning, shown
from vis_core.files.image_folders import find_images, given_folder
from vis_core.files.json_files import parse_json, read_text
from vis_core.files.redundancy import Redundancy
from vis_core.files.segmentations import Masks, SegmentationReader
from vis_core.video.images import MAX_PIXELS
from vis_core.video.orientation import reading_of

_ROLE = "annotations"
_MAX_ANNOTATIONS = 65535  # of an item: their numbers fit in two bytes
_NOT_READ = "annotation skipped"


def read_annotations(
    path: str | Path,
    images: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    categories: Mapping[str, str] | str | None = None,
    orientation: str = "auto",
) -> AnnotatedSet:
    """Read a COCO (images) or YouTube-VIS (videos) annotation file, or what is turned into one; of images, headers.

    Every mask is checked. A faulty annotation is left out, and counted in `AnnotatedSet.findings`; an `InputWarning`
    says so. Where an object is left out, its class counts as not labelled exhaustively in that item.

    Args:
        path: the JSON.
        images: folder to which its file names are relative; None: beside the JSON, in the first usual folder that has
            one of the first files.
        class_names: the labels; None: the file's categories in the order of their ids. Annotations of other categories
            are left away.
        categories: name in the file to name in `class_names`, for those that differ; or the name of a mapping in
            `vis_core.data.vocabularies`, such as ``coarse``, which leaves away what it does not name.
        orientation: whether masks follow the images as they are ``stored``, or ``turned`` by EXIF; ``auto``: as the
            sizes tell. See `reading_of`.

    Raises:
        InputError: the file is not of that form, nothing in it can be used, or its boxes say that its masks were read
            otherwise; the text names the entry.
        OptionError: there is no mapping of that name, or no such orientation.
    """
    folder = None if images is None else Path(images)
    annotated = _AnnotationFile(Path(path), folder, class_names, categories).load(orientation)
    if annotated.findings:
        text = f"{path}: {summary(annotated.findings)}; 'vis inspect' tells more"
        warnings.warn(text, InputWarning, stacklevel=2)
    if annotated.orientation:
        warnings.warn(f"{path}: {annotated.orientation}", InputWarning, stacklevel=2)
    return annotated


@dataclass
class _Gathered:
    """The annotations of an item while they are gathered."""

    entry: Entry
    annotations: list[Annotation] = field(default_factory=list)
    present: set[int] = field(default_factory=set)
    incomplete: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.entry.name or self.entry.file_names[0]


@dataclass(frozen=True)
class _Pending:
    """An annotation whose masks are checked together with others."""

    index: int
    item: _Gathered
    label: int
    crowd: bool
    masks: Masks
    areas: npt.NDArray[np.int64]


class _AnnotationFile:
    """One annotation file while it is read.

    Args:
        path: the JSON.
        images: folder of its images; None: to be looked for.
        class_names: the labels; None: the file's categories.
        categories: name in the file to name of a class, or the name of a mapping.

    Raises:
        InputError: the file is not of that form.
        OptionError: there is no mapping of that name.
    """

    def __init__(
        self,
        path: Path,
        images: Path | None,
        class_names: Sequence[str] | None,
        categories: Mapping[str, str] | str | None,
    ) -> None:
        self._path = path
        raw = parse_json(read_text(path, _ROLE), str(path), _ROLE)
        self._images = images
        self._faults = Faults()
        findings = Findings(str(path), "")
        content = read_content(
            raw, findings, self._faults.note, folder=path.parent, images=images, max_pixels=MAX_PIXELS
        )
        findings.raise_errors()
        assert content is not None
        self._content = content
        self._videos = self._faults.frames = content.kind == "video"
        names = content.categories
        if isinstance(categories, str):  # a known mapping is whole: what it does not name is none of the classes
            known = category_mapping(categories, list(names.values()))
            renamed = {key: known[name] for key, name in names.items() if name in known}
        else:
            given = categories or {}
            plain = {plain_name(name): wanted for name, wanted in given.items()}
            renamed = {key: given.get(name, plain.get(plain_name(name), name)) for key, name in names.items()}
        ordered = [renamed[key] for key in sorted(renamed)]
        self._class_names = tuple(class_names) if class_names else tuple(dict.fromkeys(ordered))
        matching = match_classes(renamed, dict(enumerate(self._class_names)))
        found = {key: label for key, label in matching.ids.items() if label < len(self._class_names)}
        self._label_of = {key: found.get(key) for key in names}
        self._keys_of = [
            {key for key, label in self._label_of.items() if label == wanted}
            for wanted in range(len(self._class_names))
        ]
        licences = content.content.get("licenses")
        licences = [entry for entry in (licences if isinstance(licences, list) else []) if isinstance(entry, dict)]
        self._licence_ids = Ids(entry.get("id") for entry in licences)
        self._licences = {
            self._licence_ids.find(entry.get("id")): str(entry.get("name") or entry.get("url") or "")[:200]
            for entry in licences
            if "id" in entry
        }

    def load(self, orientation: str) -> AnnotatedSet:
        """Its content; see `read_annotations`."""
        entries = list(self._content.entries.values())
        names = [entry.file_names for entry in entries]
        if self._images is None:
            folder = find_images(self._path, names)[0] or self._path.parent
        else:
            folder = given_folder(self._images, names)
        files = [tuple(folder / name for name in its) for its in names]
        reading = reading_of([(entry.size, its) for entry, its in zip(entries, files)], orientation)
        gathered = {
            number: _Gathered(replace(entry, size=size))
            for (number, entry), size in zip(self._content.entries.items(), reading.sizes)
        }
        good = self._read_annotations(gathered)
        if self._content.annotations and not good:
            raise InputError(f"{self._path}: nothing in it can be used: {summary(self._faults.findings())}")
        items = tuple(map(self._item, gathered.values(), files, reading.turned))
        info = self._content.content.get("info")
        stated = [info[key] for key in ("licence", "license") if key in info] if isinstance(info, dict) else []
        licence = stated[0][:500] if stated and isinstance(stated[0], str) else ""
        findings = self._faults.findings()
        return AnnotatedSet(self._path, self._videos, self._class_names, items, findings, licence, reading.note)

    def _read_annotations(self, gathered: Mapping[int, _Gathered]) -> int:
        """Give the annotations to their items; the number of those that can be used, of any category."""
        reader, self._redundancy = SegmentationReader(self._faults, polygons=True), Redundancy(self._faults)
        pending: list[_Pending] = []
        good = 0
        for index, content in enumerate(self._content.annotations):
            read = self._read_annotation(content, index, gathered, reader)
            if isinstance(read, _Pending):
                pending.append(read)
            else:
                good += read
        reader.finish()
        if refusal := self._redundancy.finish():
            raise InputError(f"{self._path}: {refusal}")
        return good + sum(self._finish_annotation(read) for read in pending)

    def _read_annotation(
        self, content: Any, index: int, gathered: Mapping[int, _Gathered], reader: SegmentationReader
    ) -> _Pending | bool:
        """An annotation of one of the classes, else whether it is in order."""
        place, kind = self._content.place(index), self._content.kind
        if not isinstance(content, dict):
            self._faults.note(_NOT_READ, place, f"{shown(content)} instead of an object")
            return False
        wanted = f"{kind}_id"
        number = self._content.entry_ids.find(content.get(wanted))
        item = None if number is None else gathered.get(number)
        if item is None:
            found = shown(content[wanted]) if wanted in content else "is missing"
            self._faults.note(_NOT_READ, place, f"{wanted} {found}; there is no such {kind}")
            return False
        category = self._content.category_ids.find(content.get("category_id"))
        if category is None or category not in self._label_of:
            self._faults.note(_NOT_READ, place, f"category_id {shown(content.get('category_id'))} is not in categories")
            item.incomplete.update(range(len(self._class_names)))
            return False
        item.present.add(category)
        label = self._label_of[category]
        if label is None:
            return True
        fault = self._fault_of(content, item)
        if fault:
            self._faults.note(fault[0], place, fault[1])
            item.incomplete.add(label)
            return False
        segmentations = content["segmentations"] if self._videos else [content["segmentation"]]
        self._look_for_boxes_alone(content, segmentations, item, label, place)
        masks, areas = reader.add_track(segmentations, item.entry.size, place, index)
        self._redundancy.add(content, segmentations, masks, areas, item.entry.size, place)
        return _Pending(index, item, label, bool(content.get("iscrowd")), masks, areas)

    def _fault_of(self, content: Mapping[str, Any], item: _Gathered) -> tuple[str, str] | None:
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
        if len(segmentations) != item.entry.length:
            return _NOT_READ, f"{len(segmentations)} segmentations for the {item.entry.length} frames of {item.name}"
        return None

    def _look_for_boxes_alone(
        self, content: Mapping[str, Any], segmentations: Sequence[Any], item: _Gathered, label: int, place: str
    ) -> None:
        """In a video a box without a mask says that the object is visible where nothing marks its pixels."""
        boxes = content.get("bboxes") if self._videos else None
        if not isinstance(boxes, list) or len(boxes) != len(segmentations):
            return
        for frame, (box, segmentation) in enumerate(zip(boxes, segmentations)):
            if isinstance(box, list) and any(box) and not segmentation:
                self._faults.note("frame with a box and no mask", self._faults.place(place, frame), f"box {shown(box)}")
                item.incomplete.add(label)

    def _finish_annotation(self, read: _Pending) -> bool:
        """Give an annotation whose masks are checked to its item; whether any of them can be used."""
        place, item = self._content.place(read.index), read.item
        size = [*item.entry.size]
        segmentations: list[dict[str, Any] | None] = []
        told = False
        for frame, (counts, area) in enumerate(zip(read.masks, read.areas.tolist())):
            usable = counts is not None and area > 0
            if (read.index, frame) in self._faults.bad_masks:
                usable, told = False, True
                item.incomplete.add(read.label)
            elif counts is not None and area == 0:
                self._faults.note(
                    "empty mask skipped", self._faults.place(place, frame), "it has no pixel in the image"
                )
            segmentations.append({"size": size, "counts": counts} if usable else None)
        if not any(segmentations):
            if not told and not any(read.masks):
                self._faults.note("annotation that is never visible", place, "no frame has a mask")
            return False
        if len(item.annotations) == _MAX_ANNOTATIONS:
            self._faults.note(_NOT_READ, place, f"more than {_MAX_ANNOTATIONS} in {item.entry.place}")
            item.incomplete.add(read.label)
            return True
        item.annotations.append(Annotation(read.label, read.crowd, tuple(segmentations)))
        return True

    def _item(self, item: _Gathered, files: tuple[Path, ...], turned: bool) -> Item:
        known, entry = self._labelled(item), item.entry
        licence = entry.content.get("licence")
        if not isinstance(licence, str):
            licence = self._licences.get(self._licence_ids.find(entry.content.get("license")), "")
        return Item(
            name=item.name,
            size=entry.size,
            files=files,
            annotations=tuple(item.annotations),
            exhaustive=tuple(
                bool(keys) and keys <= known and label not in item.incomplete
                for label, keys in enumerate(self._keys_of)
            ),
            licence=licence[:200],
            turned=turned,
        )

    def _labelled(self, item: _Gathered) -> set[int]:
        """The categories of which every visible object has a mask, as far as the file says."""
        content = item.entry.content
        if content.get("labelled_categories") is not None:
            return self._keys(item.entry, "labelled_categories")
        if "neg_category_ids" in content or "not_exhaustive_category_ids" in content:  # LVIS
            looked_for = self._keys(item.entry, "neg_category_ids") | item.present
            return looked_for - self._keys(item.entry, "not_exhaustive_category_ids")
        return set() if content.get("partial") else set(self._label_of)

    def _keys(self, entry: Entry, name: str) -> set[int]:
        given = entry.content.get(name)
        if given is not None and not isinstance(given, list):
            self._faults.note(f"{name} taken as empty", entry.place, f"{shown(given)} instead of a list")
        found = map(self._content.category_ids.find, given if isinstance(given, list) else [])
        return {number for number in found if number is not None}
