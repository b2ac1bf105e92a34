"""Panoptic scores of videos: STQ, which follows each track through its whole video, and VPQ, which looks at windows."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from vis_core.data.panoptic_classes import PanopticClasses, read_classes
from vis_core.errors import OptionError
from vis_core.evaluation.inputs.panoptic import Folder, PanopticVideo, Remarks, find_videos, read_overlaps
from vis_core.evaluation.metrics.panoptic import (
    Association,
    Overlaps,
    TubeMatches,
    association,
    class_areas,
    class_ious,
    match_tubes,
    total,
)
from vis_core.files.findings import MAX_TOLD, Findings, InputWarning

WINDOWS = (1, 2, 3, 4)
"""Frames of a window, of Cityscapes-VPS, whose frames are five apart; VIPSeg has 1, 2, 4, 6."""


@dataclass(frozen=True, slots=True, eq=False)
class PanopticEvaluation:
    """The panoptic scores of a folder of results, as fractions; -1 where there is nothing to find.

    The summary and each video have ``STQ``, ``AQ``, ``SQ``, ``VPQ``, ``VPQ_things``, ``VPQ_stuff``, for each window of
    n frames ``VPQ_n``, ``VPQ_n_things`` and ``VPQ_n_stuff``, and the counts ``frames``, ``GT_IDs`` and ``IDs``, tracks
    of the ground truth and of the results. Each category has ``IoU``, ``VPQ`` and ``VPQ_n``.

    Attributes:
        classes: of the images.
        windows: frames of a window.
        spacing: every which frame of the ground truth VPQ looks at.
        summary: over all videos.
        per_category: by class id.
        per_video: by name.
        class_areas: pixels of each true and each answered class, int64 ``[C + 1, C + 1]``, void last.
        warnings: what is odd in the files.
    """

    classes: PanopticClasses
    windows: tuple[int, ...]
    spacing: int
    summary: Mapping[str, float]
    per_category: Mapping[int, Mapping[str, float]]
    per_video: Mapping[str, Mapping[str, float]]
    class_areas: npt.NDArray[np.int64]
    warnings: tuple[str, ...] = ()


def evaluate_panoptic(
    ground_truth: Folder,
    results: Folder,
    classes: str | os.PathLike[str] | PanopticClasses,
    *,
    windows: Sequence[int] = WINDOWS,
    spacing: int = 1,
    jobs: int = 1,
) -> PanopticEvaluation:
    """Score panoptic images of videos against those of the ground truth, one frame at a time.

    Args:
        ground_truth: folder of a folder a video of PNGs, in KITTI-STEP's form, named by the frame's number; or one such
            folder of PNGs.
        results: likewise, with every frame of the ground truth.
        classes: ``kitti-step``, ``vipseg``, path of a JSON list of ``{"id": 0, "name": "road", "isthing": 0}``, or such
            classes that were read.
        windows: frames of the windows of VPQ, which is the mean over them.
        spacing: VPQ looks at every so-manieth frame of the ground truth, from the first on.
        jobs: number of threads, for one video each; the scores are the same bits.

    Raises:
        InputError: a file is not usable; the text names its errors, up to 20.
        OptionError: unknown classes, or no window, spacing or job.
    """
    if not isinstance(classes, PanopticClasses):
        classes = read_classes(classes)
    windows = tuple(windows)
    if not windows or min(windows) < 1 or len(set(windows)) < len(windows):
        raise OptionError(f"windows: {', '.join(map(str, windows))}; give numbers of frames, 1 or more, each once")
    for name, value in (("spacing", spacing), ("jobs", jobs)):
        if value < 1:
            raise OptionError(f"{name}: {value}; give 1 or more")
    truth_findings, result_findings = Findings(str(ground_truth), "ground truth"), Findings(str(results), "results")
    videos = find_videos(ground_truth, results, truth_findings, result_findings)
    score = partial(_score, classes=classes, windows=windows, spacing=spacing)
    found = _told(_scored(videos, score, jobs), truth_findings, result_findings)
    for name, scores in zip((video.name for video in videos), found):
        short = [str(n) for n in windows if n > scores.looked_at]
        if short:
            frames = f"{scores.looked_at} frame{'s' if scores.looked_at > 1 else ''}"
            truth_findings.warn("short", name, f"its {frames} hold no window of {', '.join(short)}; VPQ goes without")
    told = (*truth_findings.warnings(), *result_findings.warnings())
    for text in told:
        warnings.warn(text, InputWarning, stacklevel=2)
    overall = reduce(add, found)
    return PanopticEvaluation(
        classes,
        windows,
        spacing,
        MappingProxyType(_summary(overall, classes)),
        MappingProxyType(_per_category(overall, classes)),
        MappingProxyType({video.name: MappingProxyType(_summary(one, classes)) for video, one in zip(videos, found)}),
        overall.areas,
        told,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Scores:
    """What of some videos the scores are made of.

    Attributes:
        areas: as of `class_areas`.
        association: of things.
        tubes: by frames of a window.
        frames: number of them.
        looked_at: for VPQ.
    """

    areas: npt.NDArray[np.int64]
    association: Association
    tubes: Mapping[int, TubeMatches]
    frames: int
    looked_at: int

    def __add__(self, other: _Scores) -> _Scores:
        first, second = self.association, other.association
        return _Scores(
            self.areas + other.areas,
            Association(first.quality + second.quality, first.tracks + second.tracks, first.answered + second.answered),
            {n: tubes + other.tubes[n] for n, tubes in self.tubes.items()},
            self.frames + other.frames,
            self.looked_at + other.looked_at,
        )


def _score(
    video: PanopticVideo, *, classes: PanopticClasses, windows: tuple[int, ...], spacing: int
) -> tuple[_Scores | None, Remarks]:
    """Score a video; None if no frame is sound."""
    remarks = Remarks()
    whole: Overlaps | None = None
    recent: deque[Overlaps] = deque(maxlen=max(windows))
    tubes = {n: TubeMatches.none(classes) for n in windows}
    looked_at = 0
    for index, frame in enumerate(read_overlaps(video, classes, remarks)):
        whole = frame if whole is None else total((whole, frame))
        if index % spacing:
            continue
        recent.append(frame)
        looked_at += 1
        for n in windows:
            if looked_at >= n:
                tubes[n] += match_tubes(total([*recent][-n:]), classes)
    if whole is None or remarks.errors:
        return None, remarks
    areas, tracks = class_areas(whole, classes), association(whole, classes)
    return _Scores(areas, tracks, tubes, len(video.truth), looked_at), remarks


def _scored(
    videos: Sequence[PanopticVideo], score: partial[tuple[_Scores | None, Remarks]], jobs: int
) -> Iterable[tuple[_Scores | None, Remarks]]:
    """Score all videos, in order."""
    if min(jobs, len(videos)) == 1:
        yield from map(score, videos)
        return
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(score, videos)


def _told(
    outcomes: Iterable[tuple[_Scores | None, Remarks]], truth_findings: Findings, result_findings: Findings
) -> list[_Scores]:
    """The scores, once what is wrong or odd was told; reading ends when there are as many errors as are told."""
    found: list[_Scores] = []
    text = "things without an instance number; those of a class are taken as one instance"
    for scores, remarks in outcomes:
        for of_results, place, fault in remarks.errors:
            (result_findings if of_results else truth_findings).error(place, fault)
        for place in remarks.unnumbered:
            result_findings.warn("number", place, text)
        if scores is not None:
            found.append(scores)
        if max(truth_findings.count, result_findings.count) >= MAX_TOLD:
            break
    truth_findings.raise_errors()
    result_findings.raise_errors()
    return found


def _summary(scores: _Scores, classes: PanopticClasses) -> dict[str, float]:
    kept = scores.association
    quality = kept.quality / kept.tracks if kept.tracks else -1.0
    semantic = _mean(class_ious(scores.areas))
    out = {"STQ": -1.0 if -1 in (quality, semantic) else float(np.sqrt(quality * semantic))}
    out |= {"AQ": quality, "SQ": semantic}
    things = np.array([number in classes.things for number in classes.names])
    kinds = {"": np.ones(len(things), np.bool_), "_things": things, "_stuff": ~things}
    by_window = {n: tubes.quality() for n, tubes in scores.tubes.items()}
    for kind, chosen in kinds.items():
        out[f"VPQ{kind}"] = _mean(np.array([_mean(values[chosen]) for values in by_window.values()]))
    for n, values in by_window.items():
        for kind, chosen in kinds.items():
            out[f"VPQ_{n}{kind}"] = _mean(values[chosen])
    return out | {"frames": scores.frames, "GT_IDs": kept.tracks, "IDs": kept.answered}


def _per_category(scores: _Scores, classes: PanopticClasses) -> dict[int, Mapping[str, float]]:
    ious = class_ious(scores.areas)
    by_window = {n: tubes.quality() for n, tubes in scores.tubes.items()}
    out: dict[int, Mapping[str, float]] = {}
    for i, number in enumerate(classes.names):
        of_windows = {f"VPQ_{n}": float(values[i]) for n, values in by_window.items()}
        mean = _mean(np.array(list(of_windows.values())))
        out[number] = MappingProxyType({"IoU": float(ious[i]), "VPQ": mean, **of_windows})
    return out


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[values >= 0]
    return float(known.mean()) if known.size else -1.0
