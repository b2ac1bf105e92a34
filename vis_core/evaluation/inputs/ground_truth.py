"""Reading ground truth: YouTube-VIS 2019 and 2021, OVIS, and COCO images."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.evaluation.inputs.tracks import GroundTruth, Track, Video
from vis_core.files.findings import Findings, is_integer, is_number, shown
from vis_core.files.json_files import parse_json, read_text
from vis_core.files.run_lengths import MAX_PIXELS
from vis_core.files.segmentations import SegmentationReader

OCCLUSION_LEVELS = {"no_occlusion": 0.0, "slight_occlusion": 0.25, "severe_occlusion": 0.75}
_NAMES = ("videos", "categories", "annotations")


def read_ground_truth(source: str | os.PathLike[str] | Mapping[str, Any], *, compat: bool = False) -> GroundTruth:
    """Read and check a ground truth file.

    Args:
        source: path of a JSON file, or the object that it holds.
        compat: accept tracks with fewer or more frames than their video, as the official tool does.

    Raises:
        InputError: the file is not usable; the text names all errors, up to 20.
    """
    if isinstance(source, (str, os.PathLike)):
        path: str | None = os.fspath(source)
        content = parse_json(read_text(source, "ground truth"), os.fspath(source), "ground truth")
    else:
        path, content = None, source
    findings = Findings(path, "ground truth")
    reader = _Reader(findings, compat)
    ground_truth = reader.parse(content)
    findings.raise_errors()
    return GroundTruth(*ground_truth, findings.warnings())


class _Reader:
    def __init__(self, findings: Findings, compat: bool) -> None:
        self._findings = findings
        self._compat = compat
        # None stands for a video that is named as faulty: nothing is said of what depends on it.
        self._videos: dict[int, Video | None] = {}
        self._categories: dict[int, str] = {}
        self._lists_faulty = False
        self._segmentations = SegmentationReader(findings, polygons=True)

    def parse(self, content: Any) -> tuple[dict[int, Video], dict[int, str], dict[int, tuple[Track, ...]], bool]:
        findings = self._findings
        nothing: tuple[dict[int, Video], dict[int, str], dict[int, tuple[Track, ...]], bool] = ({}, {}, {}, False)
        if not isinstance(content, Mapping):
            hint = ""
            if isinstance(content, list) and content and isinstance(content[0], dict) and "score" in content[0]:
                hint = "; this looks like a result file: were the two swapped?"
            findings.error("", f"{shown(content)} instead of an object with {', '.join(_NAMES)}{hint}")
            return nothing
        if "videos" not in content and "images" in content:
            content = _images_as_videos(content)
        for name in _NAMES:
            if not isinstance(content.get(name), list):
                found = f"is {shown(content[name])} instead of a list" if content.get(name) is not None else "missing"
                hint = "; is it a test split without labels?" if name == "annotations" else ""
                findings.error("", f"{name} {found}{hint}")
        if findings.has_errors:
            return nothing
        for index, video in enumerate(content["videos"]):
            self._read_video(video, index)
        for index, category in enumerate(content["categories"]):
            self._read_category(category, index)
        self._lists_faulty = findings.has_errors
        if not content["annotations"]:
            findings.warn("none", "annotations", "the list is empty: there is nothing to find, every AP is -1")

        pending = []
        seen: dict[int, int] = {}
        for index, annotation in enumerate(content["annotations"]):
            pending.append(self._read_annotation(annotation, index, seen))
        self._segmentations.finish()
        if findings.has_errors:
            return nothing
        tracks: dict[int, list[Track]] = {video: [] for video in sorted(self._videos)}
        occlusion = any("occlusion" in annotation for annotation in content["annotations"])
        for index, (annotation, read) in enumerate(zip(content["annotations"], pending, strict=True)):
            if read is not None:
                masks, areas = read
                track = self._track(annotation, index, tuple(masks), areas, occlusion)
                tracks[annotation["video_id"]].append(track)
        videos = {number: video for number, video in sorted(self._videos.items()) if video is not None}
        categories = dict(sorted(self._categories.items()))
        return videos, categories, {video: tuple(items) for video, items in tracks.items()}, occlusion

    def _read_video(self, video: Any, index: int) -> None:
        place = f"videos[{index}]"
        if not isinstance(video, dict):
            self._findings.error(place, f"{shown(video)} instead of an object", index=index)
            return
        number = self._id(video, place, index)
        errors = self._findings.count
        names = video.get("file_names")
        names = [] if names is None else names
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self._findings.error(place, f"file_names {shown(names)} instead of a list of texts", index=index)
            names = []
        length = video.get("length", len(names))
        if not is_integer(length) or length < 0:
            self._findings.error(place, f"length {shown(length)} is not a number of frames", index=index)
        elif names and len(names) != length:
            self._findings.error(place, f"length {shown(length)}, but file_names has {len(names)}", index=index)
        if number in self._videos:
            self._findings.error(place, f"id {number} stands twice", index=index)
        size = self._read_size(video, place, index)
        stamps = self._read_stamps(video, place, index, length)
        if number is None:
            return
        if size is None or self._findings.count > errors:
            self._videos[number] = None
            return
        if length == 0:
            self._findings.warn("no frames", place, f"the video {number} has no frames (list 'videos')")
        folder = PurePosixPath(names[0]).parent.as_posix() if names else "."
        name = str(number) if folder in (".", "") else folder
        self._videos[number] = Video(number, name, size, length, tuple(names), stamps)

    def _read_size(self, video: dict[str, Any], place: str, index: int) -> tuple[int, int] | None:
        wrong = [key for key in ("height", "width") if not is_integer(video.get(key)) or video[key] < 1]
        for key in wrong:
            found = f"{key} {shown(video[key])}" if key in video else f"{key} is missing"
            self._findings.error(place, f"{found}; give pixels, 1 or more", index=index)
        if wrong:
            return None
        if video["height"] * video["width"] > MAX_PIXELS:
            size = f"height {shown(video['height'])} x width {shown(video['width'])}"
            self._findings.error(place, f"{size} is 2**31 pixels or more", index=index)
            return None
        return video["height"], video["width"]

    def _read_stamps(self, video: dict[str, Any], place: str, index: int, length: int) -> npt.NDArray[np.int64] | None:
        stamps = video.get("stamps")
        if stamps is None:
            return None
        if not isinstance(stamps, list) or not all(is_integer(stamp) and 0 <= stamp < 2**63 for stamp in stamps):
            self._findings.error(place, f"stamps {shown(stamps)} instead of a list of nanoseconds", index=index)
            return None
        if len(stamps) != length:
            text = f"stamps has {len(stamps)} entries for {shown(length)} frames"
        elif any(a >= b for a, b in pairwise(stamps)):
            text = "stamps do not grow"
        else:
            return np.array(stamps, np.int64)
        self._findings.error(place, f"{text}; give one a frame, ascending", index=index)
        return None

    def _read_category(self, category: Any, index: int) -> None:
        place = f"categories[{index}]"
        if not isinstance(category, dict):
            self._findings.error(place, f"{shown(category)} instead of an object", index=index)
            return
        number = self._id(category, place, index)
        if number in self._categories:
            self._findings.error(place, f"id {number} stands twice", index=index)
        elif number is not None:
            name = category.get("name")
            self._categories[number] = name if isinstance(name, str) and name else str(number)

    def _read_annotation(
        self, annotation: Any, index: int, seen: dict[int, int]
    ) -> tuple[list[bytes | None], npt.NDArray[np.int64]] | None:
        place = f"annotations[{index}]"
        findings = self._findings
        if not isinstance(annotation, dict):
            findings.error(place, f"{shown(annotation)} instead of an object", index=index)
            return None
        number = self._id(annotation, place, index)
        if number is not None and seen.setdefault(number, index) != index:
            findings.error(place, f"id {number} stands in annotations[{seen[number]}] too", index=index)
        if number == 0:
            text = "id 0: counted as any other; the official tool never counts it as matched"
            if self._compat:
                text = "id 0: never counted as matched, as the official tool has it"
            findings.warn("id 0", place, text)
        category = annotation.get("category_id")
        if not is_integer(category) or (category not in self._categories and not self._lists_faulty):
            text = f"category_id {shown(category)} is not in categories" if category is not None else "no category_id"
            findings.error(place, text, index=index)
        if annotation.get("iscrowd", 0) not in (0, 1):
            findings.error(place, f"iscrowd {shown(annotation['iscrowd'])} is neither 0 nor 1", index=index)
        video_id = annotation.get("video_id")
        if not is_integer(video_id) or (video_id not in self._videos and not self._lists_faulty):
            found = shown(video_id) if "video_id" in annotation else "missing"
            findings.error(place, f"video_id {found} is not in videos", index=index)
            return None
        video = self._videos.get(video_id)
        if video is None:
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
        return self._segmentations.add_track(segmentations, video.size, place, index)

    def _check_list(self, annotation: dict[str, Any], key: str, place: str, index: int, video: Video) -> None:
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
        index: int,
        masks: tuple[bytes | None, ...],
        areas: npt.NDArray[np.int64],
        has_occlusion: bool,
    ) -> Track:
        given = annotation.get("areas")
        if given is None:
            given = areas[areas > 0].tolist()
        else:
            self._compare_areas(annotation, index, areas)
        filled = [area for area in given if area]
        average = float(np.array(filled).mean()) if filled else 0.0
        if not (areas >= 0).any():
            self._findings.warn("never visible", f"annotations[{index}]", "no frame has a mask; it can't be found")
        occlusion = None
        if has_occlusion:
            levels = [OCCLUSION_LEVELS[level] for level in annotation.get("occlusion") or [] if level is not None]
            occlusion = _mean_of_highest_half(levels)
        crowd = bool(annotation.get("iscrowd", 0))
        return Track(annotation["id"], annotation["category_id"], crowd, masks, areas, average, occlusion)

    def _compare_areas(self, annotation: dict[str, Any], index: int, areas: npt.NDArray[np.int64]) -> None:
        common = min(len(annotation["areas"]), areas.size)
        given = np.array([area or 0 for area in annotation["areas"][:common]], np.float64)
        measured = np.maximum(areas[:common], 0)
        # The area of a polygon and the pixels that it covers are not the same number.
        polygons = any(isinstance(item, list) and item for item in annotation["segmentations"])
        allowed = np.maximum(0.1 * measured, 10.0) if polygons else np.full(common, 0.5)
        wrong = np.flatnonzero(np.abs(given - measured) > allowed)
        if wrong.size:
            frame = int(wrong[0])
            text = f"areas says {given[frame]:g}, the mask has {measured[frame]} pixels; areas decides the size range"
            self._findings.warn("areas", f"annotations[{index}]", text, frame=frame)

    def _id(self, entry: dict[str, Any], place: str, index: int) -> int | None:
        number = entry.get("id")
        if is_integer(number) and abs(number) < 2**63:
            return int(number)
        found = f"id {shown(number)} is not an integer" if "id" in entry else "id is missing"
        self._findings.error(place, found, index=index)
        return None


def _mean_of_highest_half(levels: list[float]) -> float:
    """Mean of the highest half of the levels, rounded up; 0 if there are none."""
    if not levels:
        return 0.0
    return float(np.mean(sorted(levels, reverse=True)[: math.ceil(len(levels) / 2)]))


def _images_as_videos(content: Mapping[str, Any]) -> dict[str, Any]:
    """A COCO image file with each image as a video of one frame."""

    def as_video(image: Any) -> Any:
        if not isinstance(image, dict):
            return image
        names = [image["file_name"]] if isinstance(image.get("file_name"), str) else []
        return {**image, "length": 1, "file_names": names}

    def as_track(annotation: Any) -> Any:
        if not isinstance(annotation, dict):
            return annotation
        track = {key: value for key, value in annotation.items() if key not in ("image_id", "segmentation", "area")}
        for old, new in (("image_id", "video_id"), ("segmentation", "segmentations"), ("area", "areas")):
            if old in annotation:
                track[new] = annotation[old] if old == "image_id" else [annotation[old]]
        return track

    images, annotations = content["images"], content.get("annotations")
    return {
        **content,
        "videos": [as_video(image) for image in images] if isinstance(images, list) else images,
        "annotations": [as_track(item) for item in annotations] if isinstance(annotations, list) else annotations,
    }
