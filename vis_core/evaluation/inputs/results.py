"""Reading results: a list of tracks, each with a mask or null for every frame of its video."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from vis_core.evaluation.inputs.classes import ResultClasses
from vis_core.evaluation.inputs.result_videos import other_video
from vis_core.evaluation.inputs.tracks import GroundTruth, Result, Results
from vis_core.files.findings import Findings, is_integer, is_number, shown
from vis_core.files.json_files import parse_json, read_text, without_collection
from vis_core.files.redundancy import Redundancy
from vis_core.files.results_info import ResultsInfo, read_info
from vis_core.files.segmentations import Areas, Masks, SegmentationReader


@without_collection()
def read_results(
    source: str | os.PathLike[str] | Sequence[Mapping[str, Any]],
    ground_truth: GroundTruth,
    *,
    compat: bool = False,
    known_categories_only: bool = False,
    path: str | None = None,
    categories: Mapping[str, str] | None = None,
    info: ResultsInfo | None = None,
) -> Results:
    """Read and check a result file against its ground truth.

    Where a companion lies beside the file (``results.info.json``), its classes are matched with the categories of the
    ground truth by name; else the ids are taken as they stand.

    Args:
        source: path of a JSON file, or the list that it holds.
        ground_truth: what the results are of.
        compat: accept scores that are not finite, and tracks with fewer or more frames than their video, as the
            official tool does.
        known_categories_only: refuse an unknown category, where else the evaluation drops it with a warning, unless it
            ignores the categories.
        path: of the file that a list was read from, for messages.
        categories: name of a class (without a companion: its id) to name of the category that it stands for, where
            these differ; empty: it stands for none.
        info: the companion of a list.

    Raises:
        InputError: the file or its companion is not usable; the text names all errors, up to 20.
        OptionError: ``categories`` names what is not there.
    """
    content: Any = source
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        content = parse_json(read_text(source, "results"), path, "results")
        info = read_info(source)
    findings = Findings(path, "results")
    used = (entry.get("category_id") for entry in content if isinstance(entry, Mapping)) if _is_list(content) else ()
    classes = ResultClasses(path, info, used, ground_truth.categories, categories)
    if info is not None and (wrong := other_video(info, ground_truth.videos)):
        findings.error("", wrong)
    reader = _Reader(findings, path, ground_truth, compat, known_categories_only, classes)
    if _is_list(content):
        for index, entry in enumerate(content):
            reader.add_entry(entry, index)
    else:
        hint = "give the list of tracks itself"
        if isinstance(content, Mapping) and ("videos" in content or "images" in content):
            hint = "this looks like a ground truth file: were the two swapped?"
        findings.error("", f"{shown(content)} instead of a list; {hint}")
    return reader.finish()


def _is_list(content: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(content, (list, tuple))


# Unknown categories that are told one by one.
_MAX_UNKNOWN = 10


class _Reader:
    def __init__(
        self,
        findings: Findings,
        path: str | None,
        ground_truth: GroundTruth,
        compat: bool,
        known_categories_only: bool,
        classes: ResultClasses,
    ) -> None:
        self._findings = findings
        self._path = path
        self._category_findings = Findings(path, "results")
        self._ground_truth = ground_truth
        self._compat = compat
        self._known_categories_only = known_categories_only
        self._classes = classes
        self._segmentations = SegmentationReader(findings, polygons=False)
        self._redundancy = Redundancy(findings, predicted=True)
        self._read: list[tuple[int, int, int, float, Masks, Areas, int | None]] = []
        self._unknown: dict[int, list[int]] = {}

    def add_entry(self, entry: Any, index: int) -> None:
        """Take one entry of the list."""
        place = f"[{index}]"
        findings = self._findings
        if not isinstance(entry, Mapping):
            findings.error(place, f"{shown(entry)} instead of an object with video_id, category_id, ...", index=index)
            return
        category = self._integer(entry, "category_id", place, index)
        number = self._integer(
            entry, "image_id" if "video_id" not in entry and "image_id" in entry else "video_id", place, index
        )
        if problem := self._classes.problem(category, number):
            findings.error(place, problem, index=index)
            return
        known = self._ground_truth.categories
        if self._known_categories_only and self._classes.matching is None and category not in (None, *known):
            text = f"category_id {category} is not one of the split, {min(known)} to {max(known)}"
            findings.error(place, text, index=index)
        if category is not None:
            category = self._classes.category(category)
        score = self._score(entry, place, index)
        video = self._ground_truth.videos.get(number) if number is not None else None
        if number is not None and video is None:
            findings.error(place, f"video_id {number} is not in the ground truth", index=index)
        segmentations = entry.get("segmentations")
        if "segmentations" not in entry and "segmentation" in entry:
            segmentations = [entry["segmentation"]]
        if not isinstance(segmentations, list):
            found = shown(segmentations) if segmentations is not None else "missing"
            findings.error(place, f"segmentations {found}; give a list, one a frame", index=index)
            return
        if video is None:
            return
        if len(segmentations) != video.length and not self._compat:
            text = f"segmentations has {len(segmentations)} entries, but video {video.id} has {video.length} frames"
            findings.error(place, text, index=index)
            return
        masks, areas = self._segmentations.add_track(segmentations, video.size, place, index)
        self._redundancy.add(entry, segmentations, masks, areas, video.size, place)
        if category is None or score is None:
            return
        track_id = entry.get("track_id")
        if category not in known:
            self._unknown.setdefault(category, []).append(index)
        self._read.append((index, video.id, category, score, masks, areas, track_id if is_integer(track_id) else None))

    def finish(self) -> Results:
        """The results by video.

        Raises:
            InputError: an error was found.
        """
        self._segmentations.finish()
        if not self._findings.has_errors and (refusal := self._redundancy.finish()):
            self._findings.error("", refusal)
        self._findings.raise_errors()
        self._warn_of_categories()
        tracks: dict[int, list[Result]] = {video: [] for video in self._ground_truth.videos}
        seen: dict[tuple[int, int, float, int], list[Result]] = {}
        for index, video, category, score, masks, areas, track_id in self._read:
            result = Result(index, category, score, tuple(masks), areas, track_id)
            if not (areas >= 0).any():
                self._findings.warn("no mask", f"[{index}]", "no frame has a mask; it counts as a false positive")
            else:
                same = seen.setdefault((video, category, score, hash(result.masks)), [])
                for other in same:
                    if other.masks == result.masks:
                        text = f"is the same as its duplicate [{index}]; both are scored"
                        self._findings.warn("duplicate", f"[{other.entry}]", text)
                        break
                same.append(result)
            tracks[video].append(result)
        self._read.clear()
        kept = {video: tuple(items) for video, items in tracks.items()}
        told, of_categories = self._findings.warnings(), self._category_findings.warnings()
        return Results(kept, told, of_categories, self._classes.matching)

    def _warn_of_categories(self) -> None:
        """Tell of entries that are dropped, if categories count, because the ground truth has no such category."""
        known = set(self._ground_truth.categories)
        used = {category for _, _, category, *_ in self._read}
        hint = ""
        if self._classes.matching is None and 0 in self._unknown and all(category + 1 in known for category in used):
            hint = "; the file seems to count categories from 0: add 1 to every category_id"
        for position, (category, entries) in enumerate(self._unknown.items()):
            more = f" ({len(entries)} entries)" if len(entries) > 1 else ""
            if not (why := self._classes.dropped(category)):
                continue
            text = f"{why}; dropped{more}{hint}"
            kind = f"category {category}" if position < _MAX_UNKNOWN else "more categories"
            self._category_findings.warn(kind, f"[{entries[0]}]", text)
        if text := self._classes.without_class():
            self._category_findings.warn("classes", "", text)
        if text := self._classes.stale(self._path):
            self._findings.warn("stale", "", text)

    def _integer(self, entry: Mapping[str, Any], key: str, place: str, index: int) -> int | None:
        value = entry.get(key)
        if isinstance(value, np.integer):  # of a list that never was a file
            value = int(value)
        if isinstance(value, str):
            texts = self._ground_truth.category_texts if key == "category_id" else self._ground_truth.video_texts
            value = texts.get(value, value)
        if is_integer(value):
            return value
        found = f"{key} {shown(value)} is not an integer" if key in entry else f"{key} is missing"
        self._findings.error(place, found, index=index)
        return None

    def _score(self, entry: Mapping[str, Any], place: str, index: int) -> float | None:
        score = entry.get("score")
        if isinstance(score, np.floating):  # of a list that never was a file
            score = float(score)
        if is_number(score):
            if not 0 <= score <= 1:
                self._findings.warn("score", place, f"score {shown(score)} is not between 0 and 1; only order counts")
            return float(score)
        if self._compat and isinstance(score, float):
            self._findings.warn("score", place, f"score {shown(score)} is not finite; what it gives means nothing")
            return score
        found = f"score {shown(score)} is not a finite number" if "score" in entry else "score is missing"
        self._findings.error(place, found, index=index)
        return None
