"""Higher order tracking accuracy of mask tracks, as TrackEval computes it.

Source: J. Luiten et al., HOTA: A Higher Order Metric for Evaluating Multi-object Tracking, IJCV 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from vis_core.evaluation.metrics.class_frames import EPSILON, ClassFrames, Pairs

Values = dict[str, npt.NDArray[np.float64]]

ALPHAS = np.arange(0.05, 0.99, 0.05)
COUNTS = ("HOTA_TP", "HOTA_FN", "HOTA_FP")


def hota(frames: ClassFrames) -> Values:
    """Scores of one class in one video; arrays are over the 19 localisation thresholds ``ALPHAS``."""
    tracks, results = int(frames.track_seen.sum()), int(frames.result_seen.sum())
    if not tracks or not results:
        # Most classes of a video are such ones: they share their arrays.
        values = {**_EMPTY, "HOTA_FN": _ZEROS + tracks if tracks else _ZEROS}
        return {**values, "HOTA_FP": _ZEROS + results if results else _ZEROS}
    track_counts, result_counts = frames.track_seen.sum(axis=0), frames.result_seen.sum(axis=0)
    pairs = frames.pairs
    matched = pairs.select(_assign(frames, pairs, _alignment(frames, track_counts, result_counts)))

    close = matched.ious[:, None] >= ALPHAS - EPSILON
    right = close.sum(axis=0).astype(np.float64)
    # Frames in which each pair of a track and a result is matched, [pairs, alphas].
    order = np.argsort(matched.tracks * result_counts.size + matched.results, kind="stable")
    track_at, result_at = matched.tracks[order], matched.results[order]
    together = np.zeros((0, ALPHAS.size))
    if order.size:
        first = np.flatnonzero(np.diff(track_at, prepend=-1) | np.diff(result_at, prepend=-1))
        together = np.add.reduceat(close[order].astype(np.float64), first, axis=0)
        track_at, result_at = track_at[first], result_at[first]
    of_track, of_result = track_counts[track_at][:, None], result_counts[result_at][:, None]
    matches = np.maximum(1, right)
    association = {
        "AssA": (together * together / np.maximum(1, of_track + of_result - together)).sum(axis=0) / matches,
        "AssRe": (together * together / np.maximum(1, of_track)).sum(axis=0) / matches,
        "AssPr": (together * together / np.maximum(1, of_result)).sum(axis=0) / matches,
        "LocA": np.maximum(1e-10, matched.ious @ close) / np.maximum(1e-10, right),
    }
    return _with_ratios({"HOTA_TP": right, "HOTA_FN": tracks - right, "HOTA_FP": results - right}, association)


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
    frames: ClassFrames, track_counts: npt.NDArray[np.int64], result_counts: npt.NDArray[np.int64]
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


def _assign(frames: ClassFrames, pairs: Pairs, alignment: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which pairs the best assignment of each frame holds: bool ``[P]``."""
    values = alignment * pairs.ious
    held, hard = frames.plain_assignment(pairs, values)
    for frame in np.flatnonzero(hard).tolist():
        here = slice(*np.searchsorted(pairs.frames, (frame, frame + 1)))
        part = Pairs(pairs.frames[here], pairs.tracks[here], pairs.results[here], pairs.ious[here])
        held[here] = frames.assign(frame, part, values[here])
    return held


def _with_ratios(counts: Values, association: Values) -> Values:
    right, missed, wrong = (counts[name] for name in COUNTS)
    out = {**counts, **association}
    out["DetRe"] = right / np.maximum(1, right + missed)
    out["DetPr"] = right / np.maximum(1, right + wrong)
    out["DetA"] = right / np.maximum(1, right + missed + wrong)
    out["HOTA"] = np.sqrt(out["DetA"] * out["AssA"])
    out["OWTA"] = np.sqrt(out["DetRe"] * out["AssA"])
    out["HOTA(0)"] = out["HOTA"][0]
    out["LocA(0)"] = out["LocA"][0]
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
