"""Reading ground truth: YouTube-VIS 2019 and 2021, OVIS, COCO images, and what is turned into these forms."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.evaluation.inputs.tracks import GroundTruth, Track, Video
from vis_core.files.annotation_content import AnnotationContent, Entry, read_content
from vis_core.files.annotation_ids import Ids
from vis_core.files.findings import Findings, is_number, shown
from vis_core.files.json_files import parse_json, read_text, without_collection
from vis_core.files.redundancy import Redundancy
from vis_core.files.segmentations import SegmentationReader

_Read = tuple[int, int, list[bytes | None], npt.NDArray[np.int64]]  # id of the video, of the category; masks, areas

OCCLUSION_LEVELS = {"no_occlusion": 0.0, "slight_occlusion": 0.25, "severe_occlusion": 0.75}


@without_collection()
def read_ground_truth(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    compat: bool = False,
    images: str | os.PathLike[str] | None = None,
    masks: bool = True,
) -> GroundTruth:
    """Read and check a ground truth file.

    Args:
        source: path of a JSON file, or the object that it holds.
        compat: accept tracks with fewer or more frames than their video, as the official tool does.
        images: folder of the images, if it is known: names of images that leave it are told.
        masks: whether masks are read, and checked; tracks are never visible without.

    Raises:
        InputError: the file is not usable; the text names all errors, up to 20.
    """
    if isinstance(source, (str, os.PathLike)):
        path: str | None = os.fspath(source)
        content = parse_json(read_text(source, "ground truth"), os.fspath(source), "ground truth")
    else:
        path, content = None, source
    findings = Findings(path, "ground truth")
    read = read_content(
        content,
        findings,
        findings.warn,
        folder=None if path is None else Path(path).parent,
        images=None if images is None else Path(images),
        opens_images=False,
    )
    tracks, occlusion = ({}, False) if read is None else _Reader(findings, compat, masks, read).read()
    findings.raise_errors()
    assert read is not None
    return GroundTruth(
        {number: _video(entry) for number, entry in sorted(read.entries.items())},
        dict(sorted(read.categories.items())),
        tracks,
        occlusion,
        findings.warnings(),
        video_texts=read.entry_ids.texts,
        category_texts=read.category_ids.texts,
    )


def _video(entry: Entry) -> Video:
    folder = PurePosixPath(entry.file_names[0]).parent.as_posix() if entry.file_names else "."
    name = str(entry.id) if folder in (".", "") else folder
    stamps = None if entry.stamps is None else np.array(entry.stamps, np.int64)
    return Video(entry.id, name, entry.size, entry.length, entry.file_names, stamps)


class _Reader:
    """Reads the annotations of a ground truth file."""

    def __init__(self, findings: Findings, compat: bool, masks: bool, content: AnnotationContent) -> None:
        self._findings = findings
        self._compat = compat
        self._masks = masks
        self._content = content
        # Nothing is said of what may depend on a faulty entry.
        self._lists_faulty = findings.has_errors
        self._segmentations = SegmentationReader(findings, polygons=True)
        self._redundancy = Redundancy(findings, areas_decide=True)

    def read(self) -> tuple[dict[int, tuple[Track, ...]], bool]:
        """The tracks of each video, and whether it is an OVIS file; nothing if there is an error."""
        findings, content = self._findings, self._content
        annotations = content.annotations
        if content.kind == "image":
            annotations = [_as_track(annotation) for annotation in annotations]
        if not annotations:
            findings.warn("none", "annotations", "the list is empty: there is nothing to find, every AP is -1")
        self._ids = Ids(annotation.get("id") for annotation in annotations if isinstance(annotation, dict))
        pending = []
        seen: dict[int, int] = {}
        for index, annotation in enumerate(annotations):
            pending.append(self._read_annotation(annotation, index, seen))
        self._segmentations.finish()
        if not findings.has_errors and (refusal := self._redundancy.finish()):
            findings.error("", refusal)
        if findings.has_errors:
            return {}, False
        tracks: dict[int, list[Track]] = {video: [] for video in sorted(content.entries)}
        occlusion = any("occlusion" in annotation for annotation in annotations)
        for index, (annotation, read) in enumerate(zip(annotations, pending, strict=True)):
            if read is not None:
                video, category, masks, areas = read
                track = self._track(annotation, category, index, tuple(masks), areas, occlusion)
                tracks[video].append(track)
        return {video: tuple(items) for video, items in tracks.items()}, occlusion

    def _read_annotation(self, annotation: Any, index: int, seen: dict[int, int]) -> _Read | None:
        place = self._content.place(index)
        findings, content = self._findings, self._content
        if not isinstance(annotation, dict):
            findings.error(place, f"{shown(annotation)} instead of an object", index=index)
            return None
        number = self._ids.find(annotation.get("id"))
        if number is None:
            found = f"id {shown(annotation['id'])} is not an integer" if "id" in annotation else "id is missing"
            findings.error(place, found, index=index)
        elif seen.setdefault(number, index) != index:
            findings.error(place, f"id {number} stands in {content.place(seen[number])} too", index=index)
        if number == 0:
            text = "id 0: counted as any other; the official tool never counts it as matched"
            if self._compat:
                text = "id 0: never counted as matched, as the official tool has it"
            findings.warn("id 0", place, text)
        category = content.category_ids.find(annotation.get("category_id"))
        if category is None or (category not in content.categories and not self._lists_faulty):
            given = annotation.get("category_id")
            text = "no category_id" if given is None else f"category_id {shown(given)} is not in categories"
            findings.error(place, text, index=index)
        if annotation.get("iscrowd") not in (None, 0, 1):
            findings.error(place, f"iscrowd {shown(annotation['iscrowd'])} is neither 0 nor 1", index=index)
        video_id = content.entry_ids.find(annotation.get("video_id"))
        if video_id is None or (video_id not in content.entries and not self._lists_faulty):
            found = shown(annotation["video_id"]) if "video_id" in annotation else "missing"
            findings.error(place, f"{content.kind}_id {found} is not in {content.kind}s", index=index)
            return None
        video = content.entries.get(video_id)
        if video is None or category is None:
            return None
        for key in ("areas", "occlusion"):
            self._check_list(annotation, key, place, index, video)
        segmentations = annotation.get("segmentations")
        if not isinstance(segmentations, list):
            found = shown(segmentations) if "segmentations" in annotation else "missing"
            findings.error(place, f"segmentations {found}; give a list, one a frame", index=index)
            return None
        if len(segmentations) != video.length and not self._compat:
            text = f"segmentations has {len(segmentations)} entries, but video {video.id} has {video.length} frames"
            findings.error(place, text, index=index)
        if not self._masks:
            return video_id, category, [None] * video.length, np.full(video.length, -1, np.int64)
        masks, areas = self._segmentations.add_track(segmentations, video.size, place, index)
        self._redundancy.add(annotation, segmentations, masks, areas, video.size, place)
        return video_id, category, masks, areas

    def _check_list(self, annotation: dict[str, Any], key: str, place: str, index: int, video: Entry) -> None:
        values = annotation.get(key)
        if values is None:
            return
        if not isinstance(values, list):
            self._findings.error(place, f"{key} {shown(values)}; give a list, one a frame", index=index)
            return
        if len(values) != video.length and not self._compat:
            text = f"{key} has {len(values)} entries, but video {video.id} has {video.length} frames"
            self._findings.error(place, text, index=index)
        for frame, value in enumerate(values):
            if key == "occlusion":
                good = value is None or (isinstance(value, str) and value in OCCLUSION_LEVELS)
            else:
                good = value is None or (is_number(value) and value >= 0)
            if not good:
                wanted = f"one of {', '.join(OCCLUSION_LEVELS)}" if key == "occlusion" else "pixels, 0 or more"
                text = f"{key} {shown(value)}; give {wanted}, or null"
                self._findings.error(place, text, index=index, frame=frame)

    def _track(
        self,
        annotation: dict[str, Any],
        category: int,
        index: int,
        masks: tuple[bytes | None, ...],
        areas: npt.NDArray[np.int64],
        has_occlusion: bool,
    ) -> Track:
        given = annotation.get("areas")
        if given is None:
            given = areas[areas > 0].tolist()
        filled = [area for area in given if area]
        average = float(np.array(filled).mean()) if filled else 0.0
        if not (areas >= 0).any():
            self._findings.warn("never visible", self._content.place(index), "no frame has a mask; it can't be found")
        occlusion = None
        if has_occlusion:
            levels = [OCCLUSION_LEVELS[level] for level in annotation.get("occlusion") or [] if level is not None]
            occlusion = _mean_of_highest_half(levels)
        number = self._ids.find(annotation["id"])
        assert number is not None
        return Track(number, category, bool(annotation.get("iscrowd")), masks, areas, average, occlusion)


def _mean_of_highest_half(levels: list[float]) -> float:
    """Mean of the highest half of the levels, rounded up; 0 if there are none."""
    if not levels:
        return 0.0
    return float(np.mean(sorted(levels, reverse=True)[: math.ceil(len(levels) / 2)]))


def _as_track(annotation: Any) -> Any:
    """An annotation of an image as one of a video of one frame."""
    if not isinstance(annotation, dict):
        return annotation
    track = {key: value for key, value in annotation.items() if key not in ("image_id", "segmentation", "area")}
    for old, new in (("image_id", "video_id"), ("segmentation", "segmentations"), ("area", "areas")):
        if old in annotation:
            track[new] = annotation[old] if old == "image_id" else [annotation[old]]
    return track
