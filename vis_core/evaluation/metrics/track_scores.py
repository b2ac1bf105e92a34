"""HOTA, CLEAR and Identity over videos and classes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vis_core.evaluation.metrics import clear, hota, identity
from vis_core.evaluation.metrics.video_frames import VideoFrames

Family = dict[str, Any]
# Scores by family: "HOTA", "CLEAR", "Identity".
Scores = dict[str, Family]

_SCORE: dict[str, Callable[[VideoFrames], Sequence[Family]]] = {
    "HOTA": hota.hota,
    "CLEAR": clear.clear,
    "Identity": identity.identity,
}
_NOTHING: dict[str, Family] = {
    "HOTA": hota.unmatched(0, 0),
    "CLEAR": clear.unmatched(0, 0, 0),
    "Identity": identity.unmatched(0, 0),
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
        return found if found is not None else {family: _NOTHING[family] for family in self.detection_average}


def score_video(frames: VideoFrames, families: Iterable[str]) -> dict[int, Scores]:
    """Scores of each class in one video, by category id; not of those of which nothing is seen."""
    of_family = {family: _SCORE[family](frames) for family in families}
    return {
        category: {family: scores[k] for family, scores in of_family.items()}
        for k, (category, tracks, results) in enumerate(zip(frames.categories, *frames.detections(), strict=True))
        if tracks or results
    }


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
        of_classes = [scores[family] for scores in classes] or [_NOTHING[family]]
        out[family] = {
            name: (np.sum if name in _COUNTS[family] else np.mean)([scores[name] for scores in of_classes], axis=0)
            for name in of_classes[0]
        }
    return out
