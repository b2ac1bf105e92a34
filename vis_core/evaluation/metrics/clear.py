"""CLEAR scores of mask tracks (MOTA and its kin), as TrackEval computes them.

Source: K. Bernardin and R. Stiefelhagen, Evaluating Multiple Object Tracking Performance, 2008; sMOTA: P. Voigtlaender
et al., MOTS: Multi-Object Tracking and Segmentation, CVPR 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vis_core.evaluation.metrics.video_frames import EPSILON, Pairs, VideoFrames, sums

COUNTS = ("CLR_TP", "CLR_FN", "CLR_FP", "IDSW", "MT", "PT", "ML", "Frag", "CLR_Frames")
_SUMS = (*COUNTS, "MOTP_sum")
_RATIOS = ("MTR", "PTR", "MLR", "CLR_Re", "CLR_Pr", "MODA", "MOTA", "MOTP", "sMOTA", "CLR_F1", "FP_per_frame", "MOTAL")
THRESHOLD = 0.5


def clear(frames: VideoFrames) -> list[dict[str, float]]:
    """Scores of each class in one video."""
    classes = len(frames.categories)
    present = frames.track_seen.sum(axis=0)
    pairs, goes_on = matches(frames)
    right = np.bincount(pairs.classes, minlength=classes).tolist()
    # The IoU is summed in the frames, then over them.
    steps = np.cumsum(np.diff(pairs.classes * len(frames.track_seen) + pairs.frames, prepend=-1) != 0) - 1
    of_step = np.zeros(int(steps[-1]) + 1 if steps.size else 0, np.int64)
    of_step[steps] = pairs.classes
    similarity = np.bincount(of_step, np.bincount(steps, pairs.ious), minlength=classes).tolist()
    order = np.argsort(pairs.tracks, kind="stable")
    other = (np.diff(pairs.results[order]) != 0) & (np.diff(pairs.tracks[order]) == 0)
    switches = np.bincount(pairs.classes[order][1:][other], minlength=classes).tolist()
    share = np.bincount(pairs.tracks, minlength=present.size) / np.maximum(present, 1)
    starts = np.bincount(pairs.tracks[~goes_on], minlength=present.size)
    of_class = [
        sums(of_track, frames.track_bounds)
        for of_track in (present > 0, share > 0.8, (share >= 0.2) & (present > 0), np.maximum(starts - 1, 0))
    ]
    scores = []
    for k, (tracks, results) in enumerate(zip(*frames.detections(), strict=True)):
        visible, mostly, partly, fragments = (values[k] for values in of_class)
        if not tracks or not results:
            scores.append(unmatched(tracks, results, visible))
            continue
        counts = {
            "CLR_TP": right[k],
            "CLR_FN": tracks - right[k],
            "CLR_FP": results - right[k],
            "IDSW": switches[k],
            "MT": mostly,
            "PT": partly - mostly,
            "ML": visible - partly,
            "Frag": fragments,
            "CLR_Frames": len(frames.track_seen),
            "MOTP_sum": similarity[k],
        }
        scores.append(_with_ratios({name: float(value) for name, value in counts.items()}))
    return scores


def unmatched(tracks: int, results: int, visible: int) -> dict[str, float]:
    """Scores of a class of which only tracks, or results, are seen in a video.

    Args:
        tracks: masks of tracks in all frames.
        results: likewise.
        visible: tracks with a mask.
    """
    counts = {"CLR_FN": float(tracks), "CLR_FP": float(results), "ML": float(visible), "MLR": 1.0}
    return {**dict.fromkeys((*_SUMS, *_RATIOS), 0.0), **counts}


def combine(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Scores of several videos of a class, or of several classes, counting every detection alike."""
    return _with_ratios({name: float(sum(item[name] for item in scores)) for name in _SUMS})


def matches(frames: VideoFrames) -> tuple[Pairs, npt.NDArray[np.bool_]]:
    """The pairs that are matched, sorted by class and frame.

    A match of the frame before, where that has masks on both sides, is kept before all others.

    Returns:
        The pairs, and bool ``[P]``, whether the track was matched in the frame before.
    """
    near = frames.pairs.select(frames.pairs.ious >= THRESHOLD - EPSILON)
    near = near.select(np.argsort(near.classes, kind="stable"))
    # Frames with one side empty are passed over; the others are numbered.
    number = np.zeros((len(frames.categories), len(frames.track_seen)), np.int64)
    for k in np.unique(near.classes).tolist():
        tracks, results = slice(*frames.track_bounds[k : k + 2]), slice(*frames.result_bounds[k : k + 2])
        np.cumsum(frames.track_seen[:, tracks].any(axis=1) & frames.result_seen[:, results].any(axis=1), out=number[k])
    numbers = number[near.classes, near.frames]
    held, hard = frames.plain_assignment(near, near.ious)
    kept = _follows(near.tracks * frames.result_seen.shape[1] + near.results, numbers, held)
    doubtful = hard | (kept & ~held)
    for k in np.unique(near.classes[doubtful]).tolist():
        at = slice(*np.searchsorted(near.classes, (k, k + 1)))
        _walk(frames, near.select(at), numbers[at], hard[at], doubtful[at], held[at])
    matched = near.select(held)
    return matched, _follows(matched.tracks, numbers[held], np.ones(matched.tracks.size, np.bool_))


def _follows(
    keys: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64], held: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Whether the same key is held one number before."""
    order = np.argsort(keys, kind="stable")
    follows = np.zeros(keys.size, np.bool_)
    follows[order[1:]] = (np.diff(keys[order]) == 0) & (np.diff(numbers[order]) == 1) & held[order[:-1]]
    return follows


def _walk(
    frames: VideoFrames,
    near: Pairs,
    numbers: npt.NDArray[np.int64],
    hard: npt.NDArray[np.bool_],
    doubtful: npt.NDArray[np.bool_],
    held: npt.NDArray[np.bool_],
) -> None:
    """Match one class frame after frame, where that changes what is held.

    Args:
        frames: of the video.
        near: pairs of the class, sorted by frame.
        numbers: of the pairs' frames.
        hard: the plain assignment of the frame does not tell what is best.
        doubtful: the plain assignment is wrong if that of the frame before is right.
        held: what the plain assignments hold; written.
    """
    tracks, results, number, plainly = near.tracks.tolist(), near.results.tolist(), numbers.tolist(), held.tolist()
    first = np.flatnonzero(np.diff(numbers, prepend=-1))
    look = np.logical_or.reduceat(doubtful, first).tolist()
    bounds = [*first.tolist(), len(tracks)]
    last, now, changed = 0, [], False
    for step, (begin, end) in enumerate(pairwise(bounds)):
        if not (changed or look[step]):
            continue
        if not changed and step:
            last = bounds[step - 1]
            now = [at for at in range(last, begin) if plainly[at]]
        before = {tracks[at]: results[at] for at in now} if number[begin] == number[last] + 1 else {}
        kept = [at for at in range(begin, end) if before.get(tracks[at]) == results[at]]
        taken, used = {tracks[at] for at in kept}, {results[at] for at in kept}
        free = [at for at in range(begin, end) if tracks[at] not in taken and results[at] not in used]
        plain = [at for at in range(begin, end) if plainly[at]]
        if not hard[begin] and all(plainly[at] for at in kept):
            now = plain
        elif len({tracks[at] for at in free}) == len(free) == len({results[at] for at in free}):
            now = sorted(kept + free)
        else:
            part = near.select(slice(begin, end))
            values = part.ious.copy()
            values[np.array(kept, np.intp) - begin] += 1000.0
            now = (np.flatnonzero(frames.assign(part, values)) + begin).tolist()
        changed = now != plain
        if changed:
            held[begin:end] = False
            held[now] = True
        last = begin


def _with_ratios(sums: dict[str, float]) -> dict[str, float]:
    right, missed, wrong, switches = (sums[name] for name in ("CLR_TP", "CLR_FN", "CLR_FP", "IDSW"))
    tracks = max(1.0, sums["MT"] + sums["PT"] + sums["ML"])
    found = max(1.0, right + missed)
    ratios = {
        "MTR": sums["MT"] / tracks,
        "PTR": sums["PT"] / tracks,
        "MLR": sums["ML"] / tracks,
        "CLR_Re": right / found,
        "CLR_Pr": right / max(1.0, right + wrong),
        "MODA": (right - wrong) / found,
        "MOTA": (right - wrong - switches) / found,
        "MOTP": sums["MOTP_sum"] / max(1.0, right),
        "sMOTA": (sums["MOTP_sum"] - wrong - switches) / found,
        "CLR_F1": right / max(1.0, right + 0.5 * missed + 0.5 * wrong),
        "FP_per_frame": wrong / max(1.0, sums["CLR_Frames"]),
        "MOTAL": (right - wrong - (math.log10(switches) if switches else 0.0)) / found,
    }
    return {**sums, **ratios}
