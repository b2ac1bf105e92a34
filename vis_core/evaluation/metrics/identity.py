"""Identity scores of mask tracks (IDF1), as TrackEval computes them.

Source: E. Ristani et al., Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking, ECCV-W 2016.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from vis_core.evaluation.metrics.video_frames import VideoFrames
from vis_core.nn.matching import linear_sum_assignment

COUNTS = ("IDTP", "IDFN", "IDFP")
THRESHOLD = 0.5


def identity(frames: VideoFrames) -> list[dict[str, float]]:
    """Scores of each class in one video.

    A track and a result that are taken for one another cost the frames in which they do not match, any that is left
    over its own frames; the cheapest choice is the one with most matching frames.
    """
    near = frames.pairs.select(frames.pairs.ious >= THRESHOLD)
    right = dict.fromkeys(range(len(frames.categories)), 0)
    for k in np.unique(near.classes).tolist():
        tracks, results = frames.track_bounds[k : k + 2], frames.result_bounds[k : k + 2]
        together = np.zeros((tracks[1] - tracks[0], results[1] - results[0]), np.int64)
        here = near.classes == k
        np.add.at(together, (near.tracks[here] - tracks[0], near.results[here] - results[0]), 1)
        right[k] = _most(together)
    return [
        _scores(right[k], tracks, results) for k, (tracks, results) in enumerate(zip(*frames.detections(), strict=True))
    ]


def _most(together: npt.NDArray[np.int64]) -> int:
    """The greatest sum of an assignment of rows to columns."""
    for axis in (0, 1):
        if (np.count_nonzero(together, axis) <= 1).all():  # nobody else wants what the others' best is
            return int(together.max(1 - axis).sum())
    return int(together[linear_sum_assignment(together, maximize=True)].sum())


def unmatched(tracks: int, results: int) -> dict[str, float]:
    """Scores of a class of which only tracks, or results, are seen in a video, so many in all frames."""
    return _scores(0, tracks, results)


def _scores(right: int, tracks: int, results: int) -> dict[str, float]:
    return _with_ratios({"IDTP": float(right), "IDFN": float(tracks - right), "IDFP": float(results - right)})


def combine(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Scores of several videos of a class, or of several classes, counting every detection alike."""
    return _with_ratios({name: float(sum(item[name] for item in scores)) for name in COUNTS})


def _with_ratios(counts: dict[str, float]) -> dict[str, float]:
    right, missed, wrong = (counts[name] for name in COUNTS)
    ratios = {
        "IDR": right / max(1.0, right + missed),
        "IDP": right / max(1.0, right + wrong),
        "IDF1": right / max(1.0, right + 0.5 * wrong + 0.5 * missed),
    }
    return {**counts, **ratios}
