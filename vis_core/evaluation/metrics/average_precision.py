"""Average precision and recall of tracks, as the official YouTube-VIS and OVIS evaluators compute them.

Source: L. Yang et al., Video Instance Segmentation, ICCV 2019 (the measure); COCO's matching and accumulation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vis_core.evaluation.inputs.tracks import Groups, Result, Track
from vis_core.evaluation.metrics.overlaps import Overlaps, video_ious
from vis_core.evaluation.metrics.video_frames import sums

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
LIMITS = (1, 10, 100)
_FEW = 32
SIZES = {"all": (0.0, 1e10), "small": (0.0, 128.0**2), "medium": (128.0**2, 256.0**2), "large": (256.0**2, 1e10)}
OCCLUSIONS = {"all": (0.0, 1.0), "light": (0.0, 0.25), "medium": (0.25, 0.5), "heavy": (0.5, 1.0)}


@dataclass(frozen=True, slots=True)
class Matches:
    """The results of one category in one video, matched to its tracks; at most 100, the surest first.

    The second axis, ``R``, runs over the ranges: 4 sizes, or 4 sizes x 4 occlusions.

    Attributes:
        scores: float64 ``[D]``.
        matched: bool ``[R, 10, D]``, whether the result holds a track.
        ignored: bool ``[R, 10, D]``, whether the result counts neither as right nor as wrong.
        tracks: int64 ``[R]``, number of tracks that are not ignored.
        ious: float64 ``[D, G]``, video IoU.
    """

    scores: npt.NDArray[np.float64]
    matched: npt.NDArray[np.bool_]
    ignored: npt.NDArray[np.bool_]
    tracks: npt.NDArray[np.int64]
    ious: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Precision and recall of all categories.

    ``K`` categories; ``S...`` is 4 sizes, or 4 sizes, 4 occlusions. -1 where there is no track to find.

    Attributes:
        categories: ids, ascending.
        precision: float64 ``[10 IoU thresholds, 101 recall thresholds, K, S..., 3 limits]``.
        recall: float64 ``[10, K, S..., 3]``.
        scores: float64, as precision: the score at which each recall is reached.
    """

    categories: tuple[int, ...]
    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]

    def summary(self, category: int | None = None) -> dict[str, float]:
        """The headline numbers, of all categories or of one: AP, AP50, AR1, ...; -1 where there is nothing to find."""
        chosen = slice(None) if category is None else [self.categories.index(category)]
        precision, recall = self.precision[:, :, chosen], self.recall[:, chosen]
        occlusions = precision.ndim == 6

        def ap(size: int = 0, threshold: int | None = None, occlusion: int = 0) -> float:
            at = precision[..., 2] if threshold is None else precision[threshold, ..., 2]
            return _mean(at[..., size, occlusion] if occlusions else at[..., size])

        def ar(limit: int = 2, size: int = 0, occlusion: int = 0) -> float:
            at = recall[..., limit]
            return _mean(at[..., size, occlusion] if occlusions else at[..., size])

        values = {"AP": ap(), "AP50": ap(threshold=0), "AP75": ap(threshold=5)}
        values |= {"APs": ap(1), "APm": ap(2), "APl": ap(3)}
        if occlusions:
            values |= {"AP_light": ap(occlusion=1), "AP_medium": ap(occlusion=2), "AP_heavy": ap(occlusion=3)}
        values |= {"AR1": ar(0), "AR10": ar(1), "AR100": ar(2), "ARs": ar(size=1), "ARm": ar(size=2), "ARl": ar(size=3)}
        if occlusions:
            values |= {"AR_light": ar(occlusion=1), "AR_medium": ar(occlusion=2), "AR_heavy": ar(occlusion=3)}
        return values


def match_video(
    results: Sequence[Result],
    tracks: Sequence[Track],
    overlaps: Overlaps,
    groups: Groups,
    *,
    occlusions: bool = False,
    compat: bool = False,
) -> dict[int, Matches]:
    """Match the results of a video to its tracks, category by category.

    Args:
        results: of the video, in file order.
        tracks: of the video, in file order.
        overlaps: of these.
        groups: by category the positions of its results and of its tracks.
        occlusions: split the size ranges by occlusion.
        compat: a track of id 0 never counts as matched.

    Returns:
        Matches by category.
    """
    ious = video_ious(overlaps, results, tracks)
    areas = _average_areas(results)
    matches = {}
    for category, (rows, columns) in groups.items():
        scores = np.array([results[i].score for i in rows], np.float64)
        order = np.argsort(-scores, kind="stable")[: LIMITS[-1]]
        best = np.array(rows, np.intp)[order]
        matches[category] = _match(
            scores[order],
            areas[best],
            [tracks[j] for j in columns],
            ious[best][:, columns],
            occlusions,
            compat,
        )
    return matches


def _average_areas(results: Sequence[Result]) -> npt.NDArray[np.float64]:
    """Mean area of the masks of each result that are not empty, pixels; 0 if there is none."""
    bounds = np.cumsum([0, *(result.areas.size for result in results)])
    areas = np.concatenate([bounds[:0], *(result.areas for result in results)])
    filled = np.array(sums(areas > 0, bounds), np.float64)
    return np.array(sums(np.maximum(areas, 0), bounds), np.float64) / np.maximum(filled, 1)


def accumulate(
    matches: Sequence[Mapping[int, Matches]], categories: Sequence[int], *, occlusions: bool = False
) -> Curves:
    """Precision and recall over videos.

    Args:
        matches: of each video, in ascending order of video id.
        categories: ids, ascending.
        occlusions: as given to ``match_video``.
    """
    ranges = len(SIZES) * (len(OCCLUSIONS) if occlusions else 1)
    shape = (len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS), len(categories), ranges, len(LIMITS))
    precision, scores = np.full(shape, -1.0), np.full(shape, -1.0)
    recall = np.full((shape[0], *shape[2:]), -1.0)
    for k, category in enumerate(categories):
        found = [video[category] for video in matches if category in video]
        if not found:
            continue
        tracks = np.sum([item.tracks for item in found], axis=0)
        if not tracks.any():
            continue
        for m, limit in enumerate(LIMITS):
            right, wrong, ordered = _sorted_counts(found, limit, slice(None))
            for r in np.flatnonzero(tracks).tolist():
                part = _curve(right[r], wrong[r], ordered, int(tracks[r]))
                precision[:, :, k, r, m], recall[:, k, r, m], scores[:, :, k, r, m] = part
    if occlusions:
        split = (len(SIZES), len(OCCLUSIONS))
        precision = precision.reshape(*shape[:3], *split, len(LIMITS))
        scores = scores.reshape(precision.shape)
        recall = recall.reshape(shape[0], shape[2], *split, len(LIMITS))
    return Curves(tuple(categories), precision, recall, scores)


def video_summary(matches: Mapping[int, Matches]) -> dict[str, float]:
    """AP and AP50 of one video alone; -1 where there is nothing to find.

    Args:
        matches: of the video, by category.
    """
    precisions = [
        _curve(right[0], wrong[0], scores, int(item.tracks[0]))[0]
        for item in matches.values()
        if item.tracks[0]
        for right, wrong, scores in [_sorted_counts([item], LIMITS[-1], slice(0, 1))]
    ]
    if not precisions:
        return {"AP": -1.0, "AP50": -1.0}
    return {"AP": float(np.mean(precisions)), "AP50": float(np.mean([precision[0] for precision in precisions]))}


def _sorted_counts(
    found: Sequence[Matches], limit: int, ranges: slice
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Running numbers of right and of wrong results ``[ranges, 10, D]``, the surest first, and their scores ``[D]``."""
    scores = np.concatenate([item.scores[:limit] for item in found])
    order = np.argsort(-scores, kind="stable")
    matched = np.concatenate([item.matched[ranges, :, :limit] for item in found], axis=2)[:, :, order]
    counted = ~np.concatenate([item.ignored[ranges, :, :limit] for item in found], axis=2)[:, :, order]
    right = np.cumsum(matched & counted, axis=2, dtype=np.float64)
    wrong = np.cumsum(~matched & counted, axis=2, dtype=np.float64)
    return right, wrong, scores[order]


def _match(
    scores: npt.NDArray[np.float64],
    areas: npt.NDArray[np.float64],
    tracks: Sequence[Track],
    ious: npt.NDArray[np.float64],
    occlusions: bool,
    compat: bool,
) -> Matches:
    """Match results, surest first, in all ranges and at all IoU thresholds at once."""
    out_of_range = np.array([(areas < low) | (areas > high) for low, high in SIZES.values()]).reshape(len(SIZES), -1)
    ignored_tracks = _ignored_tracks(tracks, occlusions)
    if occlusions:
        out_of_range = np.repeat(out_of_range, len(OCCLUSIONS), axis=0)
    ranges, thresholds, results = len(ignored_tracks), len(IOU_THRESHOLDS), len(scores)
    matched = np.zeros((ranges, thresholds, results), np.bool_)
    ignored = np.zeros_like(matched)
    if not tracks:
        ignored[:] = out_of_range[:, None, :]
        return Matches(scores, matched, ignored, np.zeros(ranges, np.int64), ious)
    min_ious = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
    crowd = np.array([track.crowd for track in tracks], np.bool_)
    silent = np.array([compat and track.id == 0 for track in tracks], np.bool_)
    free = np.ones((ranges, thresholds, len(tracks)), np.bool_)
    range_at, threshold_at = np.indices((ranges, thresholds))
    for d in np.flatnonzero((ious >= min_ious[0]).any(axis=1)):
        candidates = (free | crowd) & (ious[d] >= min_ious[:, None])
        # Tracks that count come first; the others are looked at only where none of those is left.
        counted = candidates & ~ignored_tracks[:, None, :]
        use = np.where(counted.any(axis=2)[:, :, None], counted, candidates)
        hit = use.any(axis=2)
        # Of equal overlaps the last one is taken.
        value = np.where(use, ious[d], -1.0)[:, :, ::-1]
        track = len(tracks) - 1 - value.argmax(axis=2)
        matched[:, :, d] = hit & ~silent[track]
        ignored[:, :, d] = hit & ignored_tracks[range_at, track]
        free[range_at[hit], threshold_at[hit], track[hit]] = False
    ignored |= ~matched & out_of_range[:, None, :]
    return Matches(scores, matched, ignored, (~ignored_tracks).sum(axis=1), ious)


def _ignored_tracks(tracks: Sequence[Track], occlusions: bool) -> npt.NDArray[np.bool_]:
    """Which tracks a range ignores: bool ``[ranges, tracks]``."""
    areas = np.array([track.average_area for track in tracks])
    crowd = np.array([track.crowd for track in tracks], np.bool_)
    by_size = np.array([crowd | (areas < low) | (areas > high) for low, high in SIZES.values()])
    if not occlusions:
        return by_size
    levels = np.array([track.occlusion or 0.0 for track in tracks])
    by_level = np.array([(levels < low) | (levels > high) for low, high in OCCLUSIONS.values()])
    ignored: npt.NDArray[np.bool_] = by_size[:, None] | by_level[None]
    return ignored.reshape(len(SIZES) * len(OCCLUSIONS), len(tracks))


def _curve(
    right: npt.NDArray[np.float64], wrong: npt.NDArray[np.float64], scores: npt.NDArray[np.float64], tracks: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Precision ``[10, 101]``, final recall ``[10]`` and scores ``[10, 101]`` from cumulative counts ``[10, D]``."""
    precision = np.zeros((len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS)))
    reached = np.zeros_like(precision)
    if not scores.size:
        return precision, np.zeros(len(IOU_THRESHOLDS)), reached
    recalls = right / tracks
    precisions = right / (wrong + right + np.spacing(1))
    precisions = np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
    # The first result at which each recall is reached.
    if scores.size <= _FEW:
        first = (recalls[:, None, :] < RECALL_THRESHOLDS[:, None]).sum(axis=2)
    else:
        first = np.stack([row.searchsorted(RECALL_THRESHOLDS, side="left") for row in recalls])
    within = first < scores.size
    at = np.minimum(first, scores.size - 1)
    precision[within] = np.take_along_axis(precisions, at, axis=1)[within]
    reached[within] = scores[at][within]
    return precision, recalls[:, -1], reached


def _mean(values: npt.NDArray[np.float64]) -> float:
    """Mean of the values that are known, -1 if there is none."""
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0
