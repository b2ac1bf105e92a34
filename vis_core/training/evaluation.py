"""Measuring weights while training: the segmenter runs over annotated videos, as a user would run it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.data.annotation_files import read_annotations
from vis_core.data.annotations import AnnotatedSet, Item
from vis_core.errors import InputError
from vis_core.evaluation.evaluator import evaluate
from vis_core.evaluation.inputs.ground_truth import read_ground_truth
from vis_core.evaluation.inputs.results import read_results
from vis_core.evaluation.inputs.tracks import GroundTruth, Results, group_by_category
from vis_core.evaluation.metrics.overlaps import overlap, video_ious
from vis_core.files.results_info import UNKNOWN, Origin, ResultsInfo, SegmentedVideo
from vis_core.files.results_writer import ResultsWriter
from vis_core.structures import Frame
from vis_core.system.segmenter import Segmenter
from vis_core.training.config import EvaluationSet
from vis_core.video.overlay import draw_overlay
from vis_core.video.sources import ImageSequence

_MIN_OVERLAP = 0.1
_PRECISIONS = ("AP", "AP50", "AP75", "AR1", "AR10")
_TRACKING = ("HOTA", "MOTA", "IDF1")


@dataclass(frozen=True)
class OpenSet:
    """An evaluation set that was read.

    Attributes:
        name: for people and files.
        items: that are measured.
        truth: their ground truth; the id of an item is its place, from 1, that of a category its label + 1.
    """

    name: str
    items: tuple[Item, ...]
    truth: GroundTruth


@dataclass
class Scores:
    """What an evaluation found.

    Attributes:
        value: of the metric that decides, mean over the sets; -1 if there was nothing to find.
        rows: of the log, one a set, and their mean if there are several.
        pictures: some frames with their predictions, by name.
    """

    value: float = -1.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    pictures: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)


def open_set(entry: EvaluationSet, class_names: Sequence[str]) -> OpenSet:
    """Read an evaluation set.

    Raises:
        InputError: the file is no annotation file, or nothing of it is left to measure on.
    """
    annotated = read_annotations(entry.annotations, entry.images, class_names, entry.categories, entry.orientation)
    items = [item for item in annotated.items if all(item.exhaustive) or not entry.complete_only]
    if not items:
        raise InputError(f"{entry.annotations}: holds nothing to evaluate on")
    if entry.limit is not None and entry.limit < len(items):
        items = [items[i] for i in np.linspace(0, len(items) - 1, entry.limit).round().astype(int)]
    name = entry.name or f"{entry.annotations.parent.name}/{entry.annotations.stem}"
    return OpenSet(name, tuple(items), _ground_truth(annotated, items))


def run_evaluation(
    segmenter: Segmenter,
    sets: Sequence[OpenSet],
    metric: str,
    folder: Path,
    pictures: int,
    stop_asked: Callable[[], bool],
    warn: Callable[[str], None],
    origin: Origin = UNKNOWN,
) -> Scores | None:
    """Run a segmenter over the sets and score what it finds; None if it was stopped.

    In items of which not every visible object of a class is labelled, results of that class that overlap no labelled
    instance (video IoU under 0.1) are left out before anything is scored.

    Args:
        segmenter: with the sets' class names.
        sets: to measure on.
        metric: that decides.
        folder: for the result files, each with its companion.
        pictures: frames that are drawn.
        stop_asked: asked after each frame.
        warn: is told of frames that cannot be read.
        origin: of the weights, for the companions.
    """
    scores = Scores()
    shown = _shown_frames(sets, pictures)
    columns = _PRECISIONS + (_TRACKING if metric in _TRACKING else ())
    folder.mkdir(parents=True, exist_ok=True)
    for number, opened in enumerate(sets):
        path = folder / f"{number}_{opened.name.replace('/', '_')}.json"
        began, frames = time.monotonic(), 0
        with ResultsWriter(path, info=_info(opened, origin)) as results:
            for place, item in enumerate(opened.items):
                wanted = {t: f"{opened.name}/{item.name}" for n, i, t in shown if (n, i) == (number, place)}
                done = _segment(segmenter, item, place + 1, results, wanted, scores.pictures, stop_asked, warn)
                if done is None:
                    return None
                frames += done
        rate = frames / (time.monotonic() - began)
        found = _without_unlabelled(opened, read_results(path, opened.truth))
        evaluation = evaluate(
            opened.truth, found, ("ap", "hota", "clear", "identity")[: 4 if metric in _TRACKING else 1]
        )
        row = {"set": opened.name} | {name: float(evaluation.summary[name]) for name in columns}
        of_classes = {f"AP_{name}": evaluation.per_category[i]["AP"] for i, name in opened.truth.categories.items()}
        scores.rows.append(row | of_classes | {"frames_per_second": rate})
    if len(scores.rows) > 1:
        means = {name: _mean([row[name] for row in scores.rows]) for name in scores.rows[0] if name != "set"}
        scores.rows.append({"set": "mean", **means})
    scores.value = scores.rows[-1][metric]
    return scores


def _info(opened: OpenSet, origin: Origin) -> ResultsInfo:
    """The companion of a set's results: class names, and which items they are of."""
    names = {number - 1: name for number, name in opened.truth.categories.items()}
    videos = [
        SegmentedVideo(place, item.name, item.size, file_names=tuple(map(str, item.files)))
        for place, item in enumerate(opened.items, 1)
    ]
    return ResultsInfo.of_classes(names, None, origin).of_videos(*videos)


def _segment(
    segmenter: Segmenter,
    item: Item,
    video_id: int,
    results: ResultsWriter,
    wanted: Mapping[int, str],
    pictures: dict[str, npt.NDArray[np.uint8]],
    stop_asked: Callable[[], bool],
    warn: Callable[[str], None],
) -> int | None:
    """Run over one video; the number of frames, or None if it was stopped."""
    kept: dict[int, Frame] = {}
    frames, stopped = 0, False

    def until_stopped(source: ImageSequence) -> Iterator[Frame]:
        nonlocal frames, stopped
        for frame in source:
            if frame.index in wanted:
                kept[frame.index] = frame
            frames += 1
            yield frame
            if stop_asked():
                stopped = True
                return

    with closing(ImageSequence(item.name, item.files, item.size, video_id=video_id, turned=item.turned)) as source:
        source.on_skip = lambda skipped: warn(f"left out of the evaluation: {skipped.name}: {skipped.reason}")
        for instances in segmenter.run(until_stopped(source)):
            results.add(video_id, instances.index, instances)
            if (frame := kept.pop(instances.index, None)) is not None:
                pictures[wanted[instances.index]] = draw_overlay(frame.image, instances, segmenter.class_names)
    if stopped:
        return None
    results.finish_video(video_id, len(item.files))
    return frames


def _shown_frames(sets: Sequence[OpenSet], count: int) -> list[tuple[int, int, int]]:
    """Set, item and frame of the pictures, evenly taken over all items: always the same."""
    places = [(n, i, len(item.files) // 2) for n, opened in enumerate(sets) for i, item in enumerate(opened.items)]
    chosen = np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int)
    return [places[i] for i in chosen]


def _ground_truth(annotated: AnnotatedSet, items: Sequence[Item]) -> GroundTruth:
    """The ground truth of items, under the class names of the training."""
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for video_id, item in enumerate(items, 1):
        size = {"height": item.size[0], "width": item.size[1]}
        names = [str(file) for file in item.files]
        videos.append({"id": video_id, **size, "length": len(names), "file_names": names})
        for annotation in item.annotations:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "video_id": video_id,
                    "category_id": annotation.label + 1,
                    "iscrowd": int(annotation.crowd),
                    "segmentations": list(annotation.segmentations),
                }
            )
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(annotated.class_names)]
    try:
        return read_ground_truth({"videos": videos, "categories": categories, "annotations": annotations})
    except InputError as error:
        raise InputError(f"{annotated.path}: {error}") from error


def _without_unlabelled(opened: OpenSet, results: Results) -> Results:
    """The results without those of which the labels do not say whether they are right."""
    kept = dict(results.tracks)
    for video_id, item in enumerate(opened.items, 1):
        unknown = {label + 1 for label, known in enumerate(item.exhaustive) if not known}
        found, tracks = kept[video_id], opened.truth.tracks[video_id]
        if not unknown or not found:
            continue
        best = np.zeros(len(found))
        if tracks:
            everything = group_by_category(found, tracks, class_agnostic=True)
            best = video_ious(overlap(found, tracks, item.size, everything), found, tracks).max(1)
        kept[video_id] = tuple(r for r, iou in zip(found, best) if r.category not in unknown or iou >= _MIN_OVERLAP)
    return replace(results, tracks=kept)


def _mean(values: Sequence[float]) -> float:
    """Mean of what is known; -1 stands for nothing to find."""
    known = [value for value in values if value != -1]
    return sum(known) / len(known) if known else -1.0
