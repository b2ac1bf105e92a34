"""Ground truth and results in, all scores out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from vis_core.errors import OptionError
from vis_core.evaluation.average_precision import ANY_CATEGORY, Curves, Matches, accumulate, match_video
from vis_core.evaluation.findings import InputWarning
from vis_core.evaluation.ground_truth import read_ground_truth
from vis_core.evaluation.overlaps import overlap
from vis_core.evaluation.results import read_results
from vis_core.evaluation.tracks import GroundTruth, Result, Results, Track, Video

METRICS = ("ap",)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The scores of a result file; fractions, -1 where there is nothing to find.

    Attributes:
        videos: name by id.
        categories: name by id; the single one of a class-agnostic evaluation is -1.
        summary: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl; of OVIS files also AP_light, ...
        per_category: the same, by category id.
        per_video: AP and AP50 of each video alone, by video id.
        curves: the arrays behind these.
        matches: by video id and category id: what was matched.
        warnings: what is odd in the files.
    """

    videos: Mapping[int, str]
    categories: Mapping[int, str]
    summary: Mapping[str, float]
    per_category: Mapping[int, Mapping[str, float]]
    per_video: Mapping[int, Mapping[str, float]]
    curves: Curves
    matches: Mapping[int, Mapping[int, Matches]]
    warnings: tuple[str, ...] = ()


def evaluate(
    ground_truth: str | os.PathLike[str] | Mapping[str, Any] | GroundTruth,
    results: str | os.PathLike[str] | Sequence[Mapping[str, Any]] | Results,
    metrics: Collection[str] = METRICS,
    *,
    class_agnostic: bool = False,
    compat: bool = False,
) -> Evaluation:
    """Score results against ground truth.

    Args:
        ground_truth: path of a JSON file (YouTube-VIS, OVIS, COCO images), the object it holds, or one that was read.
        results: path of a JSON file, the list that it holds, or one that was read.
        metrics: which scores to compute, of ``METRICS``.
        class_agnostic: ignore the category labels.
        compat: reproduce what the official tools get wrong in silence.

    Raises:
        InputError: a file is not usable; the text names all its errors, up to 20.
        OptionError: a metric that does not exist.
    """
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown:
        raise OptionError(f"metrics: {', '.join(unknown)} not known; choose of {', '.join(METRICS)}")
    if not isinstance(ground_truth, GroundTruth):
        ground_truth = read_ground_truth(ground_truth, compat=compat)
    if not isinstance(results, Results):
        results = read_results(results, ground_truth, compat=compat)
    told = ground_truth.warnings + results.warnings
    for text in told:
        warnings.warn(text, InputWarning, stacklevel=2)

    occlusions = ground_truth.has_occlusion
    matches = {}
    for number, video in ground_truth.videos.items():
        matches[number] = _match(
            video, ground_truth.tracks[number], results.tracks[number], class_agnostic, occlusions, compat
        )
    categories = {ANY_CATEGORY: "all"} if class_agnostic else dict(ground_truth.categories)
    curves = accumulate(list(matches.values()), list(categories), occlusions=occlusions)
    per_video = {}
    for number, match in matches.items():
        alone = accumulate([match], sorted(match), occlusions=occlusions).summary()
        per_video[number] = MappingProxyType({key: alone[key] for key in ("AP", "AP50")})
    return Evaluation(
        videos=MappingProxyType({number: video.name for number, video in ground_truth.videos.items()}),
        categories=MappingProxyType(categories),
        summary=MappingProxyType(curves.summary()),
        per_category=MappingProxyType({number: MappingProxyType(curves.summary(number)) for number in categories}),
        per_video=MappingProxyType(per_video),
        curves=curves,
        matches=MappingProxyType({number: MappingProxyType(match) for number, match in matches.items()}),
        warnings=told,
    )


def _match(
    video: Video,
    tracks: Sequence[Track],
    results: Sequence[Result],
    class_agnostic: bool,
    occlusions: bool,
    compat: bool,
) -> dict[int, Matches]:
    categories = None if class_agnostic else {track.category for track in tracks}
    overlaps = overlap(results, tracks, video.size, categories)
    return match_video(results, tracks, overlaps, class_agnostic=class_agnostic, occlusions=occlusions, compat=compat)
