"""The companion of a result file: whose classes its category ids are, of which videos, made by what.

``results.info.json`` lies beside ``results.json``, ``stream.info.json`` beside ``stream.jsonl``; its keys are described
in ``docs/metrics_schema.md``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import vis_core
from vis_core.data.class_matching import ClassMatching
from vis_core.errors import InputError
from vis_core.files.atomic import atomic_write
from vis_core.files.findings import Findings, is_integer, shown
from vis_core.files.json_files import parse_json, read_text

FORMAT = "vis_core.results"
VERSION = 1
_ROLE = "companion of the results"
_MAX_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Origin:
    """What made results: a system, its weight file (None: random weights, or not known), options as they were given."""

    system: str = ""
    weights: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


UNKNOWN = Origin()


@dataclass(frozen=True, slots=True)
class SegmentedVideo:
    """A video that results are of.

    Attributes:
        id: its number in the results.
        name: for people.
        size: height and width, pixels; None if not known.
        length: frames; None if not known.
        fps: frames a second, if known.
        file_names: one a frame, if it is made of images.
        stamps: nanoseconds, one a frame, if its source states them.
    """

    id: int
    name: str
    size: tuple[int, int] | None = None
    length: int | None = None
    fps: float | None = None
    file_names: tuple[str, ...] = ()
    stamps: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ResultsInfo:
    """What a companion tells.

    Attributes:
        categories: name of each category id that the results may have.
        class_names: of the system, by label.
        category_ids: of each label.
        videos: that were segmented.
        origin: what made the results.
        results_bytes: size of the result file when it was written; None if not known.
        complete: whether these are all classes of the system, not only those that happened to be found.
    """

    categories: Mapping[int, str]
    class_names: Mapping[int, str] = field(default_factory=dict)
    category_ids: Mapping[int, int] = field(default_factory=dict)
    videos: tuple[SegmentedVideo, ...] = ()
    origin: Origin = UNKNOWN
    results_bytes: int | None = None
    complete: bool = True

    @classmethod
    def of_classes(
        cls,
        class_names: Mapping[int, str],
        matching: ClassMatching | None,
        origin: Origin = UNKNOWN,
        complete: bool = True,
    ) -> ResultsInfo:
        """The companion of results whose category ids are those of a matching, or label + 1."""
        if matching is None:
            categories = {label + 1: name for label, name in class_names.items()}
            ids = {label: label + 1 for label in class_names}
            return cls(categories, class_names, ids, (), origin, complete=complete)
        return cls(matching.names, class_names, matching.ids, (), origin, complete=matching.complete)

    def of_videos(self, *videos: SegmentedVideo) -> ResultsInfo:
        """The same, of these videos."""
        return replace(self, videos=videos)


def info_path(results: Path) -> Path:
    """Where the companion of a result file lies."""
    return results.with_suffix(".info.json")


def write_info(results: Path, info: ResultsInfo) -> None:
    """Write the companion of a result file that stands, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    weights = info.origin.weights
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "tool": f"vis_core {vis_core.__version__}",
        "results": {"name": results.name, "bytes": results.stat().st_size},
        "system": info.origin.system or None,
        "weights": None if weights is None else {"name": weights.name, "sha256": _digest(weights)},
        "options": dict(info.origin.options),
        "categories": [{"id": number, "name": name} for number, name in sorted(info.categories.items())],
        "class_names": [
            {"label": label, "name": name, "category_id": info.category_ids[label]}
            for label, name in sorted(info.class_names.items())
        ],
        "complete": info.complete,
        "videos": [_video_entry(video) for video in info.videos],
    }
    text = json.dumps(content, indent=1, default=str)
    if len(text) > _MAX_BYTES // 4:  # hours of images: their names would be more than is read
        content["videos"] = [_video_entry(replace(video, file_names=(), stamps=())) for video in info.videos]
        text = json.dumps(content, indent=1, default=str)
    with atomic_write(info_path(results)) as partial:
        partial.write_text(text + "\n", "utf-8")


def read_info(results: str | os.PathLike[str]) -> ResultsInfo | None:
    """What the companion of a result file tells; None if there is none. Of file names the first of each video is read.

    Raises:
        InputError: it cannot be used; the text says why.
    """
    path = info_path(Path(results))
    if not path.exists():
        return None
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{path}: {_ROLE}: over {_MAX_BYTES >> 20} MB; remove it to go by category ids")
    content = parse_json(read_text(path, _ROLE), str(path), _ROLE)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f'{path}: {_ROLE}: is none (no "format": "{FORMAT}"); give it another name, or remove it')
    if content.get("version") != VERSION:
        found = shown(content.get("version"))
        raise InputError(f"{path}: {_ROLE}: version {found}, but {VERSION} is read; remove it to go by category ids")
    findings = Findings(str(path), _ROLE)
    categories = _named_numbers(content, "categories", findings)
    videos = _named_numbers(content, "videos", findings)
    findings.raise_errors()
    written = content.get("results")
    size = written.get("bytes") if isinstance(written, dict) else None
    first = {number: _first_file(entry) for number, entry in zip(videos, content["videos"])}
    read = tuple(SegmentedVideo(number, name, file_names=first[number]) for number, name in videos.items())
    size = size if is_integer(size) else None
    return ResultsInfo(categories, videos=read, results_bytes=size, complete=content.get("complete") is not False)


def _first_file(entry: Mapping[str, Any]) -> tuple[str, ...]:
    names = entry.get("file_names")
    return (names[0],) if isinstance(names, list) and names and isinstance(names[0], str) else ()


def _video_entry(video: SegmentedVideo) -> dict[str, Any]:
    height, width = video.size or (None, None)
    entry = {
        "id": video.id,
        "name": video.name,
        "height": height,
        "width": width,
        "length": video.length,
        "fps": video.fps,
        "file_names": list(video.file_names),
        "stamps": list(video.stamps),
    }
    return {key: value for key, value in entry.items() if value is not None and value != []}


def _named_numbers(content: Mapping[str, Any], key: str, findings: Findings) -> dict[int, str]:
    """Names by id, of a list of objects."""
    entries = content.get(key)
    if not isinstance(entries, list):
        findings.error(key, f"{shown(entries) if key in content else 'missing'}; give a list of objects with id, name")
        return {}
    names: dict[int, str] = {}
    for index, entry in enumerate(entries):
        place = f"{key}[{index}]"
        number, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if not is_integer(number) or abs(number) >= 2**63:
            findings.error(place, f"id {shown(number)} is not an integer", index=index)
        elif not isinstance(name, str) or not name:
            findings.error(place, f"name {shown(name)} is not a text", index=index)
        elif number in names:
            findings.error(place, f"id {number} stands twice", index=index)
        else:
            names[number] = name
    return names


def _digest(path: Path) -> str | None:
    """SHA-256 of a file; None if it is gone."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
