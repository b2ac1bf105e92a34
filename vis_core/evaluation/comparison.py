"""Two result files side by side, with intervals that say how much of a difference is chance.

The intervals are bootstraps over videos: videos are drawn with replacement as often as there are videos, both files are
scored on the same draw, and the middle 95 % of the differences are told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.data.class_matching import ClassMatching
from vis_core.errors import OptionError
from vis_core.evaluation.evaluator import Evaluation
from vis_core.evaluation.metrics import hota, identity
from vis_core.evaluation.metrics.average_precision import LIMITS, RECALL_THRESHOLDS, Matches
from vis_core.evaluation.metrics.track_scores import Scores

Array = npt.NDArray[np.float64]

COMPARED = ("AP", "AP50", "AP75", "HOTA", "DetA", "AssA", "MOTA", "sMOTA", "IDF1")
DRAWS = 500
_MIDDLE = (2.5, 97.5)
_SUMMED = {
    "CLEAR": ("CLR_TP", "CLR_FN", "CLR_FP", "IDSW", "MOTP_sum"),
    "Identity": identity.COUNTS,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A score of two result files.

    Attributes:
        first, second: the score of each; -1 of a precision where there is nothing to find.
        low, high: the middle 95 % of ``second - first`` over bootstrap draws of videos; None if there is no interval.
    """

    first: float
    second: float
    low: float | None = None
    high: float | None = None

    @property
    def difference(self) -> float:
        """The second score less the first."""
        return self.second - self.first

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two evaluations side by side.

    Attributes:
        overall: by score; precisions are means over categories, track scores count every detection alike.
        per_category: by category id and score, without intervals.
        categories: name by id.
        draws: number of bootstrap draws.
        classes: of each file how its classes were matched, as of ``Evaluation``.
        class_agnostic: whether the categories were ignored.
    """

    overall: Mapping[str, Difference]
    per_category: Mapping[int, Mapping[str, Difference]]
    categories: Mapping[int, str]
    draws: int
    classes: tuple[ClassMatching | None, ClassMatching | None] = (None, None)
    class_agnostic: bool = False


def compare(first: Evaluation, second: Evaluation, *, draws: int = DRAWS, seed: int = 0) -> Comparison:
    """Put two evaluations on the same ground truth side by side.

    Args:
        first, second: what to compare.
        draws: bootstrap draws of videos; 0 for none. Of one video there is no interval: every draw is the same.
        seed: of the draws.

    Raises:
        OptionError: the evaluations are not of the same videos and categories, or one alone ignores the categories.
    """
    if first.class_agnostic != second.class_agnostic:
        raise OptionError("compare: one evaluation ignores the categories (class_agnostic), the other does not")
    if _ground_truth(first) != _ground_truth(second):
        raise OptionError("compare: the two evaluations are of different ground truths")
    count = len(first.videos)
    draws = draws if count > 1 else 0
    random = np.random.default_rng(seed)
    weights = random.multinomial(count, np.full(count, 1 / count), size=draws) if draws else None
    scores = [_overall(evaluation) for evaluation in (first, second)]
    drawn = [_resampled(evaluation, weights) if weights is not None else {} for evaluation in (first, second)]
    overall = {}
    for name in COMPARED:
        if name in scores[0] and name in scores[1]:
            low, high = None, None
            if name in drawn[0]:
                differences = drawn[1][name] - drawn[0][name]
                known = differences[np.isfinite(differences)]
                if known.size:
                    low, high = (float(value) for value in np.percentile(known, _MIDDLE))
            overall[name] = Difference(scores[0][name], scores[1][name], low, high)
    per_category = {
        number: MappingProxyType(
            {
                name: Difference(first.per_category[number][name], second.per_category[number][name])
                for name in COMPARED
                if name in first.per_category[number] and name in second.per_category[number]
            }
        )
        for number in first.categories
        if first.per_category[number]["GT_IDs"]
    }
    return Comparison(
        MappingProxyType(overall),
        MappingProxyType(per_category),
        first.categories,
        draws,
        (first.classes, second.classes),
        first.class_agnostic,
    )


def _ground_truth(evaluation: Evaluation) -> tuple[Any, ...]:
    """What tells ground truths apart: names of videos and categories, number of tracks of each."""
    return tuple(
        {number: (name, scores[number]["GT_IDs"]) for number, name in names.items()}
        for names, scores in (
            (evaluation.videos, evaluation.per_video),
            (evaluation.categories, evaluation.per_category),
        )
    )


def _overall(evaluation: Evaluation) -> dict[str, float]:
    """The scores that are compared, of all videos."""
    scores = {name: evaluation.summary[name] for name in COMPARED if name in evaluation.summary}
    if evaluation.tracks is not None:
        families = evaluation.tracks.detection_average
        for family, values in families.items():
            flat = hota.headline(values) if family == "HOTA" else values
            scores |= {name: float(flat[name]) for name in COMPARED if name in flat}
    return scores


def _resampled(evaluation: Evaluation, weights: npt.NDArray[np.int64]) -> dict[str, Array]:
    """The scores on each draw, ``[draws]``; NaN where there is nothing to find.

    Args:
        evaluation: of ``V`` videos.
        weights: int64 ``[draws, V]``, how often each video is drawn.
    """
    out: dict[str, Array] = {}
    if evaluation.curves is not None:
        at_threshold = _drawn_precision(list(evaluation.matches.values()), list(evaluation.categories), weights)
        for name, chosen in (("AP", slice(None)), ("AP50", slice(0, 1)), ("AP75", slice(5, 6))):
            part = at_threshold[:, :, chosen].reshape(len(weights), -1)
            known = np.isfinite(part)
            with np.errstate(invalid="ignore"):
                out[name] = np.where(known, part, 0.0).sum(axis=1) / known.sum(axis=1)
    if evaluation.tracks is not None:
        by_video = list(evaluation.tracks.by_video.values())
        for family, ratios in _RATIOS.items():
            if by_video and family in by_video[0]:
                out |= ratios(by_video, weights)
    return out


def _drawn_precision(
    videos: list[Mapping[int, Matches]], categories: list[int], weights: npt.NDArray[np.int64]
) -> Array:
    """AP at each IoU threshold by draw and category: float64 ``[draws, K, 10]``, NaN where there is nothing to find."""
    out = np.full((len(weights), len(categories), 10), np.nan)
    for k, category in enumerate(categories):
        found = [(v, video[category]) for v, video in enumerate(videos) if category in video]
        tracks = np.array([item.tracks[0] for _, item in found], np.float64)
        if not tracks.any():
            continue
        columns = np.array([v for v, _ in found])
        scores = np.concatenate([item.scores[: LIMITS[-1]] for _, item in found])
        order = np.argsort(-scores, kind="stable")
        owner = np.repeat(columns, [item.scores.size for _, item in found])[order]
        matched = np.concatenate([item.matched[0] for _, item in found], axis=1)[:, order]
        counted = ~np.concatenate([item.ignored[0] for _, item in found], axis=1)[:, order]
        right, wrong = matched & counted, ~matched & counted
        for draw, weight in enumerate(weights):
            total = float(weight[columns] @ tracks)
            if total:
                of_result = weight[owner]
                out[draw, k] = _precision(np.cumsum(right * of_result, 1), np.cumsum(wrong * of_result, 1), total)
    return out


def _precision(right: npt.NDArray[np.int64], wrong: npt.NDArray[np.int64], tracks: float) -> Array:
    """AP ``[10]`` from running counts ``[10, D]``."""
    if not right.shape[1]:
        return np.zeros(len(right))
    precision = right / (right + wrong + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate((precision, np.zeros((len(precision), 1))), axis=1)
    recall = right / tracks
    return np.array([row[at.searchsorted(RECALL_THRESHOLDS)].mean() for row, at in zip(padded, recall)])


def _drawn_hota(videos: list[Scores], weights: npt.NDArray[np.int64]) -> dict[str, Array]:
    def total(name: str, by: str | None = None) -> Array:
        of_videos = np.stack([video["HOTA"][name] * (video["HOTA"][by] if by else 1.0) for video in videos])
        summed: Array = weights @ of_videos
        return summed

    right, missed, wrong = (total(name) for name in hota.COUNTS)
    detection = right / np.maximum(1, right + missed + wrong)
    association = total("AssA", "HOTA_TP") / np.maximum(1, right)
    both = np.sqrt(detection * association)
    return {"DetA": detection.mean(axis=1), "AssA": association.mean(axis=1), "HOTA": both.mean(axis=1)}


def _drawn_clear(videos: list[Scores], weights: npt.NDArray[np.int64]) -> dict[str, Array]:
    right, missed, wrong, switches, similarity = _drawn_sums("CLEAR", videos, weights)
    found = np.maximum(1, right + missed)
    return {"MOTA": (right - wrong - switches) / found, "sMOTA": (similarity - wrong - switches) / found}


def _drawn_identity(videos: list[Scores], weights: npt.NDArray[np.int64]) -> dict[str, Array]:
    right, missed, wrong = _drawn_sums("Identity", videos, weights)
    return {"IDF1": right / np.maximum(1, right + 0.5 * missed + 0.5 * wrong)}


def _drawn_sums(family: str, videos: list[Scores], weights: npt.NDArray[np.int64]) -> Array:
    """The sums behind a family's ratios on each draw: float64 ``[sums, draws]``."""
    summed: Array = (weights @ np.array([[video[family][name] for name in _SUMMED[family]] for video in videos])).T
    return summed


_RATIOS: dict[str, Callable[[list[Scores], npt.NDArray[np.int64]], dict[str, Array]]] = {
    "HOTA": _drawn_hota,
    "CLEAR": _drawn_clear,
    "Identity": _drawn_identity,
}
