"""HOTA, CLEAR and Identity over videos and classes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vis_core.evaluation.metrics import clear, hota, identity
from vis_core.evaluation.metrics.class_frames import ClassFrames, Pairs

Family = dict[str, Any]
# Scores by family: "HOTA", "CLEAR", "Identity".
Scores = dict[str, Family]

_SCORE: dict[str, Callable[[ClassFrames], Family]] = {
    "HOTA": hota.hota,
    "CLEAR": clear.clear,
    "Identity": identity.identity,
}
_COMBINE: dict[str, Callable[[Sequence[Family]], Family]] = {
    "HOTA": hota.combine,
    "CLEAR": clear.combine,
    "Identity": identity.combine,
}
_COUNTS = {"HOTA": hota.COUNTS, "CLEAR": clear.COUNTS, "Identity": identity.COUNTS}
FAMILIES = tuple(_SCORE)


@dataclass(frozen=True, slots=True, eq=False)
class TrackScores:
    """Track scores of a result file, under TrackEval's names; HOTA's are arrays over its 19 thresholds.

    Attributes:
        by_video_and_class: by video id and category id, of those that occur.
        by_class: by category id, over all videos.
        by_video: by video id, over all classes, counting every detection alike.
        class_average: mean over all classes, those without track or result included; counts are summed.
        occurring_class_average: mean over the classes with a track or a result.
        detection_average: over all classes, counting every detection alike.
    """

    by_video_and_class: Mapping[int, Mapping[int, Scores]]
    by_class: Mapping[int, Scores]
    by_video: Mapping[int, Scores]
    class_average: Scores
    occurring_class_average: Scores
    detection_average: Scores

    def of(self, video: int, category: int) -> Scores:
        """Scores of a class in a video; also where neither track nor result occurs."""
        found = self.by_video_and_class[video].get(category)
        return found if found is not None else score_class(_NOTHING, tuple(self.detection_average))


def score_class(frames: ClassFrames, families: Iterable[str]) -> Scores:
    """Scores of one class in one video."""
    return {family: _SCORE[family](frames) for family in families}


def summarise(
    by_video: Mapping[int, Mapping[int, Scores]], categories: Collection[int], families: Sequence[str]
) -> TrackScores:
    """Combine the scores of all videos and classes.

    Args:
        by_video: by video id and category id.
        categories: all ids, ascending.
        families: which scores there are.
    """

    def combined(parts: Sequence[Scores]) -> Scores:
        return {family: _COMBINE[family]([part[family] for part in parts]) for family in families}

    by_class = {
        category: combined([scores[category] for scores in by_video.values() if category in scores])
        for category in categories
    }
    occurring = {category for scores in by_video.values() for category in scores}
    return TrackScores(
        by_video_and_class=by_video,
        by_class=by_class,
        by_video={video: combined(list(scores.values())) for video, scores in by_video.items()},
        class_average=_average(list(by_class.values()), families),
        occurring_class_average=_average([by_class[c] for c in by_class if c in occurring], families),
        detection_average=combined(list(by_class.values())),
    )


def _average(classes: Sequence[Scores], families: Sequence[str]) -> Scores:
    """Mean over classes; counts are summed."""
    out: Scores = {}
    for family in families:
        of_classes = [scores[family] for scores in classes] or [_SCORE[family](_NOTHING)]
        out[family] = {
            name: (np.sum if name in _COUNTS[family] else np.mean)([scores[name] for scores in of_classes], axis=0)
            for name in of_classes[0]
        }
    return out


_NO_INDEX = np.zeros(0, np.int64)
_NOTHING = ClassFrames(
    np.zeros((0, 0), np.bool_), np.zeros((0, 0), np.bool_), Pairs(_NO_INDEX, _NO_INDEX, _NO_INDEX, np.zeros(0))
)
