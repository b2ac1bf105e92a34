"""What went most wrong: tracks that changed their identity, and tracks that were not found for long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vis_core.evaluation.inputs.tracks import GroundTruth, Result, Results, Track, Video, group_by_category
from vis_core.evaluation.metrics.clear import matches
from vis_core.evaluation.metrics.overlaps import overlap
from vis_core.evaluation.metrics.video_frames import VideoFrames, video_frames


@dataclass(frozen=True, slots=True)
class Incident:
    """A moment that went wrong, in CLEAR's matching.

    Attributes:
        kind: ``switch`` or ``miss``.
        video: in which it happened.
        track: of the ground truth.
        category: of the track; -1 of a class-agnostic evaluation.
        frames: a few frames that show it, ascending.
        frame: of a switch the one in which the new identity appears, of a miss the first.
        count: of a miss, for how many visible frames in a row.
        results: of a switch the results matched before and after.
        pixels: area of the track in what went wrong: at the switch, or over all missed frames.
    """

    kind: str
    video: Video
    track: Track
    category: int
    frames: tuple[int, ...]
    frame: int
    count: int
    results: tuple[Result, ...]
    pixels: int


def worst_incidents(
    ground_truth: GroundTruth, results: Results, *, class_agnostic: bool = False, max_count: int = 6
) -> list[Incident]:
    """The identity switches and the misses with the most pixels, the switches first.

    Args:
        ground_truth: what was to be found.
        results: what was found.
        class_agnostic: ignore the category labels.
        max_count: of each kind.
    """
    found: list[Incident] = []
    for number, video in ground_truth.videos.items():
        tracks, answers = ground_truth.tracks[number], results.tracks[number]
        groups = group_by_category(answers, tracks, class_agnostic=class_agnostic)
        overlaps = overlap(answers, tracks, video.size, groups)
        of_classes = video_frames(answers, tracks, overlaps, groups).each()
        for (category, (rows, columns)), frames in zip(groups.items(), of_classes, strict=True):
            mine = [tracks[j] for j in columns]
            theirs = [answers[i] for i in rows]
            found += _of_class(video, category, mine, theirs, frames)
    worst = sorted(found, key=lambda item: -item.pixels)
    return [item for kind in ("switch", "miss") for item in [i for i in worst if i.kind == kind][:max_count]]


def _of_class(
    video: Video, category: int, tracks: list[Track], results: list[Result], frames: VideoFrames
) -> Iterator[Incident]:
    matched = np.zeros(frames.track_seen.shape, np.bool_)
    ever: dict[int, tuple[int, int]] = {}
    pairs, _ = matches(frames)
    for frame, position, result in zip(pairs.frames.tolist(), pairs.tracks.tolist(), pairs.results.tolist()):
        matched[frame, position] = True
        before, at = ever.get(position, (result, frame))
        if before != result:
            shown = _around(at, frame, len(matched))
            pixels = int(tracks[position].areas[frame])
            both = (results[before], results[result])
            yield Incident("switch", video, tracks[position], category, shown, frame, 1, both, pixels)
        ever[position] = (result, frame)
    for position, track in enumerate(tracks):
        visible = np.flatnonzero(frames.track_seen[:, position])
        missed = ~matched[visible, position]
        edges = np.flatnonzero(np.diff(missed, prepend=False, append=False))
        runs = [visible[begin:end] for begin, end in zip(edges[::2], edges[1::2])]
        if runs:
            run = max(runs, key=lambda part: int(track.areas[part].sum()))
            chosen = sorted({int(run[round(i * (len(run) - 1) / 3)]) for i in range(4)})
            pixels = int(track.areas[run].sum())
            yield Incident("miss", video, track, category, tuple(chosen), int(run[0]), len(run), (), pixels)


def _around(before: int, after: int, length: int) -> tuple[int, ...]:
    """The last frame of the old identity, the first of the new one, one before and one after."""
    return tuple(sorted({max(before - 1, 0), before, after, min(after + 1, length - 1)}))
