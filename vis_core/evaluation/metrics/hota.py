"""Higher order tracking accuracy of mask tracks, as TrackEval computes it.

Source: J. Luiten et al., HOTA: A Higher Order Metric for Evaluating Multi-object Tracking, IJCV 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from vis_core.evaluation.metrics.video_frames import EPSILON, VideoFrames

Values = dict[str, npt.NDArray[np.float64]]

ALPHAS = np.arange(0.05, 0.99, 0.05)
COUNTS = ("HOTA_TP", "HOTA_FN", "HOTA_FP")


def hota(frames: VideoFrames) -> list[Values]:
    """Scores of each class in one video; arrays are over the 19 localisation thresholds ``ALPHAS``."""
    track_counts, result_counts = frames.track_seen.sum(axis=0), frames.result_seen.sum(axis=0)
    pairs = frames.pairs
    matched = pairs.select(frames.assigned(pairs, _alignment(frames, track_counts, result_counts) * pairs.ious))
    matched = matched.select(np.argsort(matched.classes, kind="stable"))
    close = (matched.ious[:, None] >= ALPHAS - EPSILON).astype(np.float64)
    # Frames in which each pair of a track and a result is matched, [pairs, alphas].
    order = np.lexsort((matched.results, matched.tracks))
    track_at, result_at = matched.tracks[order], matched.results[order]
    together = np.zeros((0, ALPHAS.size))
    if order.size:
        first = np.flatnonzero(np.diff(track_at, prepend=-1) | np.diff(result_at, prepend=-1))
        together = np.add.reduceat(close[order], first, axis=0)
        track_at, result_at = track_at[first], result_at[first]
    of_track, of_result = track_counts[track_at][:, None], result_counts[result_at][:, None]
    shares = np.concatenate(
        [together * together / np.maximum(1, of) for of in (of_track + of_result - together, of_track, of_result)],
        axis=1,
    )
    match_bounds = np.searchsorted(matched.classes, np.arange(len(frames.categories) + 1)).tolist()
    share_bounds = np.searchsorted(track_at, frames.track_bounds).tolist()
    tracks, results = frames.detections()
    both = [k for k, found in enumerate(zip(tracks, results, strict=True)) if all(found)]
    right, located = np.zeros((len(both), ALPHAS.size)), np.zeros((len(both), ALPHAS.size))
    associated = np.zeros((len(both), 3 * ALPHAS.size))
    for row, k in enumerate(both):
        here = slice(*match_bounds[k : k + 2])
        right[row] = close[here].sum(axis=0)
        located[row] = matched.ious[here] @ close[here]
        associated[row] = shares[slice(*share_bounds[k : k + 2])].sum(axis=0)
    matches = np.maximum(1, right)
    names = ("AssA", "AssRe", "AssPr")
    association = {name: part / matches for name, part in zip(names, np.split(associated, 3, axis=1), strict=True)}
    association["LocA"] = np.maximum(1e-10, located) / np.maximum(1e-10, right)
    counts = {"HOTA_TP": right}
    for name, found in (("HOTA_FN", tracks), ("HOTA_FP", results)):
        counts[name] = np.array([found[k] for k in both], np.float64)[:, None] - right
    values = _with_ratios(counts, association)
    scored = {k: {name: value[row] for name, value in values.items()} for row, k in enumerate(both)}
    return [scored[k] if k in scored else unmatched(tracks[k], results[k]) for k in range(len(tracks))]


def unmatched(tracks: int, results: int) -> Values:
    """Scores of a class of which only tracks, or results, are seen in a video, so many in all frames."""
    # Most classes of a video are such ones: they share their arrays.
    values = {**_EMPTY, "HOTA_FN": _ZEROS + tracks if tracks else _ZEROS}
    return {**values, "HOTA_FP": _ZEROS + results if results else _ZEROS}


def combine(scores: Sequence[Mapping[str, npt.NDArray[np.float64]]]) -> Values:
    """Scores of several videos of a class, or of several classes, counting every detection alike."""
    counts = {name: np.sum([item[name] for item in scores], axis=0) + np.zeros(ALPHAS.size) for name in COUNTS}
    right = counts["HOTA_TP"]

    def weighted(name: str) -> npt.NDArray[np.float64]:
        return np.sum([item[name] * item["HOTA_TP"] for item in scores], axis=0) + np.zeros(ALPHAS.size)

    association = {name: weighted(name) / np.maximum(1, right) for name in ("AssA", "AssRe", "AssPr")}
    association["LocA"] = np.maximum(1e-10, weighted("LocA")) / np.maximum(1e-10, right)
    return _with_ratios(counts, association)


def headline(scores: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, float]:
    """One number a score: the mean over the thresholds."""
    return {name: float(np.mean(value)) for name, value in scores.items()}


def _alignment(
    frames: VideoFrames, track_counts: npt.NDArray[np.int64], result_counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """How well each pair's track and result fit over the whole video: float64 ``[P]``."""
    pairs = frames.pairs
    rows, columns = track_counts.size, result_counts.size
    at_track, at_result = pairs.frames * rows + pairs.tracks, pairs.frames * columns + pairs.results
    total = np.bincount(at_result, pairs.ious)[at_result] + np.bincount(at_track, pairs.ious)[at_track] - pairs.ious
    share = np.divide(pairs.ious, total, out=np.zeros(total.shape), where=total > EPSILON)
    at_pair = pairs.tracks * columns + pairs.results
    potential = np.bincount(at_pair, share, minlength=1)[at_pair] if at_pair.size else share
    return potential / (track_counts[pairs.tracks] + result_counts[pairs.results] - potential)


def _with_ratios(counts: Values, association: Values) -> Values:
    right, missed, wrong = (counts[name] for name in COUNTS)
    out = {**counts, **association}
    out["DetRe"] = right / np.maximum(1, right + missed)
    out["DetPr"] = right / np.maximum(1, right + wrong)
    out["DetA"] = right / np.maximum(1, right + missed + wrong)
    out["HOTA"] = np.sqrt(out["DetA"] * out["AssA"])
    out["OWTA"] = np.sqrt(out["DetRe"] * out["AssA"])
    out["HOTA(0)"] = out["HOTA"].T[0]
    out["LocA(0)"] = out["LocA"].T[0]
    out["HOTALocA(0)"] = out["HOTA(0)"] * out["LocA(0)"]
    return out


def _constant(value: float) -> npt.NDArray[np.float64]:
    array = np.full(ALPHAS.size, value)
    array.flags.writeable = False
    return array


_ZEROS = _constant(0.0)
_EMPTY = _with_ratios(
    dict.fromkeys(COUNTS, _ZEROS), {**dict.fromkeys(("AssA", "AssRe", "AssPr"), _ZEROS), "LocA": _constant(1.0)}
)
