"""Ground truth and results in, all scores out."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from vis_core.data.class_matching import ClassMatching
from vis_core.errors import OptionError
from vis_core.evaluation.inputs.ground_truth import read_ground_truth
from vis_core.evaluation.inputs.results import read_results
from vis_core.evaluation.inputs.tracks import (
    ANY_CATEGORY,
    GroundTruth,
    Result,
    Results,
    Track,
    Video,
    group_by_category,
)
from vis_core.evaluation.metrics import hota, track_scores
from vis_core.evaluation.metrics.average_precision import Curves, Matches, accumulate, match_video, video_summary
from vis_core.evaluation.metrics.ignored_regions import without_ignored
from vis_core.evaluation.metrics.overlaps import overlap
from vis_core.evaluation.metrics.track_scores import Scores, TrackScores
from vis_core.evaluation.metrics.video_frames import video_frames
from vis_core.files.findings import InputWarning
from vis_core.files.json_files import without_collection

# Metrics by the names of the options, and the families of track scores that they stand for.
METRICS = ("ap", "hota", "clear", "identity")
_FAMILIES = {"hota": "HOTA", "clear": "CLEAR", "identity": "Identity"}


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The scores of a result file.

    The summaries are under the names of the tools, as fractions and counts. AP, AP50, AP75, APs, APm, APl, AR1, AR10,
    AR100, ARs, ARm, ARl (of OVIS files also AP_light, ...) are -1 where there is nothing to find. HOTA, DetA, ...,
    MOTA, IDSW, ..., IDF1, ... are means over all classes, as AP is, and counts are sums; of a video they count every
    detection of every class alike. GT_IDs and IDs are the numbers of tracks and of results.

    Attributes:
        videos: name by id.
        categories: name by id; the single one of a class-agnostic evaluation is -1.
        summary: over all categories and videos.
        per_category: by category id.
        per_video: by video id; of the precisions only AP and AP50 of that video alone.
        curves: the arrays behind AP and AR, or None if not asked for.
        matches: by video id and category id what was matched for AP.
        tracks: everything of HOTA, CLEAR and Identity, or None if not asked for.
        warnings: what is odd in the files.
        class_agnostic: whether the categories were ignored.
        classes: how the results' classes were matched with the categories by name; None where ids, or none, counted.
    """

    videos: Mapping[int, str]
    categories: Mapping[int, str]
    summary: Mapping[str, float]
    per_category: Mapping[int, Mapping[str, float]]
    per_video: Mapping[int, Mapping[str, float]]
    curves: Curves | None
    matches: Mapping[int, Mapping[int, Matches]]
    tracks: TrackScores | None
    warnings: tuple[str, ...] = ()
    class_agnostic: bool = False
    classes: ClassMatching | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    """One video to be scored, and how."""

    video: Video
    tracks: Sequence[Track]
    results: Sequence[Result]
    ap: bool
    families: tuple[str, ...]
    class_agnostic: bool
    occlusions: bool
    compat: bool
    ignored_regions: tuple[bytes | None, ...] = ()


@without_collection()
def evaluate(
    ground_truth: str | os.PathLike[str] | Mapping[str, Any] | GroundTruth,
    results: str | os.PathLike[str] | Sequence[Mapping[str, Any]] | Results,
    metrics: Collection[str] = ("ap",),
    *,
    class_agnostic: bool = False,
    compat: bool = False,
    jobs: int = 1,
    categories: Mapping[str, str] | None = None,
) -> Evaluation:
    """Score results against ground truth.

    Classes are matched with categories by name where the companion of the result file (``results.info.json`` beside
    ``results.json``) tells the names; without one, ids are taken as they stand.

    Args:
        ground_truth: path of a JSON file (YouTube-VIS, OVIS, COCO images), the object it holds, or one that was read.
        results: path of a JSON file, the list that it holds, or one that was read.
        metrics: which scores to compute, of ``METRICS``.
        class_agnostic: ignore the category labels, those of results that the ground truth does not have too.
        compat: reproduce what the official tools get wrong in silence.
        jobs: number of processes; the scores are the same bits. With more than one, a script that has threads keeps
            its main part under ``if __name__ == "__main__"``, as ``multiprocessing`` asks for.
        categories: for classes that are called differently: name in the results (without a companion: category id) to
            name in the ground truth; empty: the class stands for none, and its results are dropped.

    Raises:
        InputError: a file is not usable; the text names all its errors, up to 20. Or no class of the results has the
            name of a category, and the categories are not ignored.
        OptionError: a metric that does not exist, no job, or ``categories`` names what is not there.
    """
    families = _families(metrics)
    if jobs < 1:
        raise OptionError(f"jobs: {jobs}; give 1 or more")
    if categories and isinstance(results, Results):
        raise OptionError("categories: these results were read already; give them to read_results")
    if not isinstance(ground_truth, GroundTruth):
        ground_truth = read_ground_truth(ground_truth, compat=compat)
    if not isinstance(results, Results):
        results = read_results(results, ground_truth, compat=compat, categories=categories)
    results = results.counted(ground_truth.categories, class_agnostic=class_agnostic, compat=compat)
    told = ground_truth.warnings + results.warnings
    for text in told:
        warnings.warn(text, InputWarning, stacklevel=3)

    ap, occlusions = "ap" in metrics, ground_truth.has_occlusion
    todo = [
        _Job(
            video,
            ground_truth.tracks[number],
            results.tracks[number],
            ap,
            families,
            class_agnostic,
            occlusions,
            compat,
            ground_truth.ignored_regions.get(number, ()),
        )
        for number, video in ground_truth.videos.items()
    ]
    scored = {ANY_CATEGORY: "all"} if class_agnostic else dict(ground_truth.categories)
    matches: dict[int, dict[int, Matches]] = {}
    scores: dict[int, dict[int, Scores]] = {}
    for job, (of_ap, of_tracks) in zip(todo, _run(todo, jobs)):
        matches[job.video.id], scores[job.video.id] = of_ap, of_tracks
    names = {number: video.name for number, video in ground_truth.videos.items()}
    evaluation = _summarise(names, scored, matches, scores, ap, families, occlusions, _counts(todo), told)
    return replace(evaluation, class_agnostic=class_agnostic, classes=results.classes)


def _families(metrics: Collection[str]) -> tuple[str, ...]:
    if isinstance(metrics, str) or not metrics:
        raise OptionError(f"metrics: {metrics!r} is not a list of names; choose of {', '.join(METRICS)}")
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown:
        raise OptionError(f"metrics: {', '.join(unknown)} not known; choose of {', '.join(METRICS)}")
    return tuple(family for name, family in _FAMILIES.items() if name in metrics)


def _run(todo: Sequence[_Job], jobs: int) -> Iterable[tuple[dict[int, Matches], dict[int, Scores]]]:
    """Score all videos, in order."""
    jobs = min(jobs, len(todo))
    if jobs <= 1:
        return map(_score, todo)
    # A forked process has the videos without copying them, but a fork is not safe beside other threads.
    method = "fork" if sys.platform == "linux" and threading.active_count() == 1 else "spawn"
    chunk = max(1, len(todo) // (4 * jobs))
    with ProcessPoolExecutor(jobs, multiprocessing.get_context(method), _take_over, (todo,)) as pool:
        return list(pool.map(_score_at, range(len(todo)), chunksize=chunk))


def _take_over(todo: Sequence[_Job]) -> None:
    """Begin a process: keep what is to be done."""
    _in_this_process[:] = todo


def _score_at(position: int) -> tuple[dict[int, Matches], dict[int, Scores]]:
    return _score(_in_this_process[position])


# In a process of a pool: what ``_take_over`` was given.
_in_this_process: list[_Job] = []


def _score(job: _Job) -> tuple[dict[int, Matches], dict[int, Scores]]:
    """Score one video: what is matched for AP, and the track scores, both by category."""
    groups = group_by_category(job.results, job.tracks, class_agnostic=job.class_agnostic)
    results = job.results
    overlaps = overlap(results, job.tracks, job.video.size, groups)
    if job.ignored_regions:
        regions, size = job.ignored_regions, job.video.size
        results = without_ignored(results, job.tracks, overlaps, groups, regions, size)
        groups = group_by_category(results, job.tracks, class_agnostic=job.class_agnostic)
        overlaps = overlap(results, job.tracks, size, groups)
    matches: dict[int, Matches] = {}
    if job.ap:
        matches = match_video(results, job.tracks, overlaps, groups, occlusions=job.occlusions, compat=job.compat)
    scores: dict[int, Scores] = {}
    if job.families:
        scores = track_scores.score_video(video_frames(results, job.tracks, overlaps, groups), job.families)
    return matches, scores


def _counts(todo: Sequence[_Job]) -> Mapping[tuple[str, int | None], Counter[str]]:
    """Number of tracks (GT_IDs) and of results (IDs): in all, by category and by video."""
    counts: defaultdict[tuple[str, int | None], Counter[str]] = defaultdict(Counter)
    for job in todo:
        of_results = [("IDs", result.category) for result in job.results]
        for name, category in [*of_results, *(("GT_IDs", track.category) for track in job.tracks)]:
            at = ANY_CATEGORY if job.class_agnostic else category
            for key in (("all", None), ("category", at), ("video", job.video.id)):
                counts[key][name] += 1
    return counts


def _summarise(
    videos: Mapping[int, str],
    categories: Mapping[int, str],
    matches: Mapping[int, Mapping[int, Matches]],
    scores: Mapping[int, Mapping[int, Scores]],
    ap: bool,
    families: tuple[str, ...],
    occlusions: bool,
    counts: Mapping[tuple[str, int | None], Counter[str]],
    told: tuple[str, ...],
) -> Evaluation:
    summary: dict[str, float] = {}
    per_category: dict[int, dict[str, float]] = {number: {} for number in categories}
    per_video: dict[int, dict[str, float]] = {number: {} for number in videos}
    curves, tracks = None, None
    if ap:
        curves = accumulate(list(matches.values()), list(categories), occlusions=occlusions)
        summary |= curves.summary()
        for number in categories:
            per_category[number] |= curves.summary(number)
        for number in videos:
            per_video[number] |= video_summary(matches[number])
    if families:
        tracks = track_scores.summarise(scores, list(categories), families)
        summary |= flatten(tracks.class_average)
        for number in categories:
            per_category[number] |= flatten(tracks.by_class[number])
        for number in videos:
            per_video[number] |= flatten(tracks.by_video[number])
    for name in ("GT_IDs", "IDs"):
        summary[name] = counts["all", None][name]
        for number in categories:
            per_category[number][name] = counts["category", number][name]
        for number in videos:
            per_video[number][name] = counts["video", number][name]
    return Evaluation(
        videos=MappingProxyType(dict(videos)),
        categories=MappingProxyType(dict(categories)),
        summary=MappingProxyType(summary),
        per_category=MappingProxyType({key: MappingProxyType(value) for key, value in per_category.items()}),
        per_video=MappingProxyType({key: MappingProxyType(value) for key, value in per_video.items()}),
        curves=curves,
        matches=MappingProxyType({key: MappingProxyType(dict(value)) for key, value in matches.items()}),
        tracks=tracks,
        warnings=told,
    )


def flatten(scores: Scores) -> dict[str, float]:
    """Track scores as one number a name; those of HOTA as means over its thresholds."""
    out: dict[str, float] = {}
    for family, values in scores.items():
        out |= hota.headline(values) if family == "HOTA" else {name: float(value) for name, value in values.items()}
    return out
