"""Identity scores of mask tracks (IDF1), as TrackEval computes them.

Source: E. Ristani et al., Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking, ECCV-W 2016.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from vis_core.evaluation.metrics.class_frames import ClassFrames

COUNTS = ("IDTP", "IDFN", "IDFP")
THRESHOLD = 0.5


def identity(frames: ClassFrames) -> dict[str, float]:
    """Scores of one class in one video.

    A track and a result that are taken for one another cost the frames in which they do not match, any that is left
    over its own frames; the cheapest choice is the one with most matching frames.
    """
    tracks, results = int(frames.track_seen.sum()), int(frames.result_seen.sum())
    near = frames.pairs.ious >= THRESHOLD
    right = 0
    if near.any():
        shape = (frames.track_seen.shape[1], frames.result_seen.shape[1])
        at_pair = frames.pairs.tracks[near] * shape[1] + frames.pairs.results[near]
        together = np.bincount(at_pair, minlength=shape[0] * shape[1]).reshape(shape)
        right = int(together[linear_sum_assignment(together, maximize=True)].sum())
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
