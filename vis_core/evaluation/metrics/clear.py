"""CLEAR scores of mask tracks (MOTA and its kin), as TrackEval computes them.

Source: K. Bernardin and R. Stiefelhagen, Evaluating Multiple Object Tracking Performance, 2008; sMOTA: P. Voigtlaender
et al., MOTS: Multi-Object Tracking and Segmentation, CVPR 2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vis_core.evaluation.metrics.class_frames import EPSILON, ClassFrames, Pairs

COUNTS = ("CLR_TP", "CLR_FN", "CLR_FP", "IDSW", "MT", "PT", "ML", "Frag", "CLR_Frames")
_SUMS = (*COUNTS, "MOTP_sum")
_RATIOS = ("MTR", "PTR", "MLR", "CLR_Re", "CLR_Pr", "MODA", "MOTA", "MOTP", "sMOTA", "CLR_F1", "FP_per_frame", "MOTAL")
THRESHOLD = 0.5


def clear(frames: ClassFrames) -> dict[str, float]:
    """Scores of one class in one video."""
    tracks, results = int(frames.track_seen.sum()), int(frames.result_seen.sum())
    present = frames.track_seen.sum(axis=0)
    if not tracks or not results:
        nothing = dict.fromkeys((*_SUMS, *_RATIOS), 0.0)
        lost = float((present > 0).sum())
        return {**nothing, "CLR_FN": float(tracks), "CLR_FP": float(results), "ML": lost, "MLR": 1.0}
    right, similarity, switches = 0, 0.0, 0
    followed, starts = np.zeros(present.size, np.int64), np.zeros(present.size, np.int64)
    ever: dict[int, int] = {}
    for step in follow(frames):
        for track, result in step.now.items():
            switches += ever.get(track, result) != result
            followed[track] += 1
            starts[track] += track not in step.before
        ever.update(step.now)
        right += len(step.now)
        similarity += step.similarity
    share = followed[present > 0] / present[present > 0]
    mostly, partly = int((share > 0.8).sum()), int((share >= 0.2).sum())
    sums = {
        "CLR_TP": right,
        "CLR_FN": tracks - right,
        "CLR_FP": results - right,
        "IDSW": switches,
        "MT": mostly,
        "PT": partly - mostly,
        "ML": share.size - partly,
        "Frag": int((starts[starts > 0] - 1).sum()),
        "CLR_Frames": len(frames.track_seen),
        "MOTP_sum": similarity,
    }
    return _with_ratios({name: float(value) for name, value in sums.items()})


def combine(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Scores of several videos of a class, or of several classes, counting every detection alike."""
    return _with_ratios({name: float(sum(item[name] for item in scores)) for name in _SUMS})


@dataclass(frozen=True, slots=True)
class Step:
    """A frame in which tracks are matched.

    Attributes:
        frame: its position.
        now: by track the result that it is matched to.
        before: the same in the frame before in which both sides have masks.
        similarity: sum of the IoU of the matches.
    """

    frame: int
    now: Mapping[int, int]
    before: Mapping[int, int]
    similarity: float


def follow(frames: ClassFrames) -> Iterator[Step]:
    """Walk through a video: the frames in which a track is matched to a result."""
    near = frames.pairs.select(frames.pairs.ious >= THRESHOLD - EPSILON)
    held, hard = frames.plain_assignment(near, near.ious)
    # Frames with one side empty are passed over; the others are numbered.
    number = np.cumsum(frames.track_seen.any(axis=1) & frames.result_seen.any(axis=1)).tolist()
    before: dict[int, int] = {}
    before_number = -1
    tracks, results, ious, held_in_all = near.tracks.tolist(), near.results.tolist(), near.ious.tolist(), held.tolist()
    occurring, first = np.unique(near.frames, return_index=True)
    bounds = [*first.tolist(), len(tracks)]
    for frame, begin, end in zip(occurring.tolist(), bounds, bounds[1:]):
        if number[frame] != before_number + 1:
            before = {}
        chosen = [at for at in range(begin, end) if held_in_all[at]]
        kept = [at for at in range(begin, end) if before.get(tracks[at]) == results[at]]
        # A match of the previous frame is kept before all others.
        if hard[frame] or not all(held_in_all[at] for at in kept):
            part = Pairs(near.frames[begin:end], near.tracks[begin:end], near.results[begin:end], near.ious[begin:end])
            values = part.ious.copy()
            values[np.array(kept, np.intp) - begin] += 1000.0
            chosen = (np.flatnonzero(frames.assign(frame, part, values)) + begin).tolist()
        now = {tracks[at]: results[at] for at in chosen}
        yield Step(frame, now, before, sum(ious[at] for at in chosen))
        before, before_number = now, number[frame]


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
