"""The tracks and results of one video, frame by frame and class by class, as the track scores need them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
import numpy.typing as npt

from vis_core.evaluation.inputs.tracks import Groups, Result, Track
from vis_core.evaluation.metrics.overlaps import Overlaps
from vis_core.nn.matching import linear_sum_assignment

EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of a track and a result of one class that share a pixel in a frame, sorted by frame.

    Attributes:
        classes: int64 ``[P]``, position of the class.
        frames, tracks, results: int64 ``[P]``, frame, and columns of the video's tracks and results.
        ious: float64 ``[P]``, mask IoU, above 0.
    """

    classes: npt.NDArray[np.int64]
    frames: npt.NDArray[np.int64]
    tracks: npt.NDArray[np.int64]
    results: npt.NDArray[np.int64]
    ious: npt.NDArray[np.float64]

    def select(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64] | slice) -> Pairs:
        """Some of them, by flags or by positions."""
        return Pairs(
            self.classes[chosen], self.frames[chosen], self.tracks[chosen], self.results[chosen], self.ious[chosen]
        )


@dataclass(frozen=True, slots=True)
class VideoFrames:
    """A video of ``F`` frames, ``K`` classes, ``G`` tracks and ``D`` results, class after class, each in file order.

    Attributes:
        categories: ids of the classes.
        track_bounds, result_bounds: int64 ``[K + 1]``, where the columns of each class begin, and the last ones end.
        track_seen: bool ``[F, G]``, the track has a mask there.
        result_seen: bool ``[F, D]``.
        pairs: those that share a pixel.
    """

    categories: tuple[int, ...]
    track_bounds: npt.NDArray[np.int64]
    result_bounds: npt.NDArray[np.int64]
    track_seen: npt.NDArray[np.bool_]
    result_seen: npt.NDArray[np.bool_]
    pairs: Pairs

    def detections(self) -> tuple[list[int], list[int]]:
        """Masks of the tracks, and of the results, of each class."""
        tracks = sums(self.track_seen.sum(axis=0), self.track_bounds)
        return tracks, sums(self.result_seen.sum(axis=0), self.result_bounds)

    def each(self) -> Iterator[VideoFrames]:
        """The classes one by one."""
        pairs = self.pairs.select(np.argsort(self.pairs.classes, kind="stable"))
        pair_bounds = np.searchsorted(pairs.classes, np.arange(len(self.categories) + 1)).tolist()
        for k, category in enumerate(self.categories):
            track, track_end = self.track_bounds[k : k + 2].tolist()
            result, result_end = self.result_bounds[k : k + 2].tolist()
            here = slice(*pair_bounds[k : k + 2])
            yield VideoFrames(
                (category,),
                np.array([0, track_end - track]),
                np.array([0, result_end - result]),
                self.track_seen[:, track:track_end],
                self.result_seen[:, result:result_end],
                Pairs(
                    np.zeros_like(pairs.classes[here]),
                    pairs.frames[here],
                    pairs.tracks[here] - track,
                    pairs.results[here] - result,
                    pairs.ious[here],
                ),
            )

    def assigned(self, pairs: Pairs, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which pairs the best assignment of each frame and class holds: bool ``[P]``.

        Args:
            pairs: of any frames.
            values: float64 ``[P]``, above 0, what each contributes.
        """
        held, hard = self.plain_assignment(pairs, values)
        if hard.any():
            at = np.flatnonzero(hard)
            cells = pairs.classes[at] * len(self.track_seen) + pairs.frames[at]
            at = at[np.argsort(cells, kind="stable")]
            bounds = [0, *(np.flatnonzero(np.diff(np.sort(cells))) + 1).tolist(), at.size]
            for begin, end in pairwise(bounds):
                here = at[begin:end]
                held[here] = self.assign(pairs.select(here), values[here])
        return held

    def plain_assignment(
        self, pairs: Pairs, values: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """The best assignments of the frames in which they are plain to see.

        It is where each track, or else each result of it, has only one pair, so that the best pair of the other wins,
        and none is as good as another.

        Args:
            pairs: of any frames.
            values: float64 ``[P]``, above 0, what each contributes.

        Returns:
            bool ``[P]``, which pairs the assignments hold, and bool ``[P]``, of which the assignment of their frame and
            class is not plain.
        """
        frames, tracks = self.track_seen.shape
        at_track = pairs.frames * tracks + pairs.tracks
        at_result = pairs.frames * self.result_seen.shape[1] + pairs.results
        held = np.ones(values.size, np.bool_)
        alone = np.ones(values.size, np.bool_)
        plain = np.zeros(values.size, np.bool_)
        for at in (at_track, at_result):
            count = np.bincount(at)[at]
            best = np.zeros(int(at.max()) + 1 if at.size else 0)
            np.maximum.at(best, at, values)
            is_best = values == best[at]
            alone &= np.bincount(at, is_best)[at] == 1
            plain |= count == 1
            held &= is_best
        cells = pairs.classes * frames + pairs.frames
        hard = np.zeros(len(self.categories) * frames, np.bool_)
        hard[cells[~(alone & plain)]] = True
        return held, hard[cells]

    def assign(self, pairs: Pairs, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """The assignment of tracks to results with the largest sum: which pairs it holds, bool ``[P]``.

        Args:
            pairs: all of one frame and class, at least one.
            values: float64 ``[P]``, what each contributes; all other pairs contribute 0.
        """
        frame, k = int(pairs.frames[0]), int(pairs.classes[0])
        (track, track_end), (result, result_end) = self.track_bounds[k : k + 2], self.result_bounds[k : k + 2]
        rows = np.flatnonzero(self.track_seen[frame, track:track_end])
        columns = np.flatnonzero(self.result_seen[frame, result:result_end])
        row_at = np.searchsorted(rows, pairs.tracks - track)
        column_at = np.searchsorted(columns, pairs.results - result)
        matrix = np.zeros((rows.size, columns.size))
        matrix[row_at, column_at] = values
        held = np.zeros(matrix.shape, np.bool_)
        held[linear_sum_assignment(-matrix)] = True
        return held[row_at, column_at]


def sums(values: npt.NDArray[np.int64] | npt.NDArray[np.bool_], bounds: npt.NDArray[np.int64]) -> list[int]:
    """Sums of numbers between bounds."""
    total = np.zeros(values.size + 1, np.int64)
    np.cumsum(values, out=total[1:])
    found: list[int] = np.diff(total[bounds]).tolist()
    return found


def video_frames(results: Sequence[Result], tracks: Sequence[Track], overlaps: Overlaps, groups: Groups) -> VideoFrames:
    """All classes of a video.

    Args:
        results: of a video.
        tracks: of a video.
        overlaps: of these.
        groups: by category the positions of its results and of its tracks.
    """
    items: list[Result | Track] = [*results, *tracks]
    frames = max((len(item.masks) for item in items), default=0)
    result_classes, result_columns, result_seen = _columns(results, [rows for rows, _ in groups.values()], frames)
    track_classes, track_columns, track_seen = _columns(tracks, [columns for _, columns in groups.values()], frames)
    of_result, of_track = result_classes[overlaps.results], track_classes[overlaps.tracks]
    chosen = np.flatnonzero((of_result == of_track) & (of_result >= 0))
    pairs = Pairs(
        of_result[chosen],
        overlaps.frames[chosen],
        track_columns[overlaps.tracks[chosen]],
        result_columns[overlaps.results[chosen]],
        overlaps.ious[chosen],
    )
    result_bounds, track_bounds = (np.cumsum([0, *(len(group[side]) for group in groups.values())]) for side in (0, 1))
    return VideoFrames(tuple(groups), track_bounds, result_bounds, track_seen, result_seen, pairs)


def _columns(
    items: Sequence[Result] | Sequence[Track], groups: Sequence[Sequence[int]], frames: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Class and column of each item (class -1: none), and in which frames those of each column are seen."""
    order = list(chain.from_iterable(groups))
    classes, columns = np.full(len(items), -1), np.full(len(items), -1)
    classes[order] = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    columns[order] = np.arange(len(order))
    seen = np.zeros((len(order), frames), np.bool_)
    for row, position in zip(seen, order, strict=True):
        areas = items[position].areas
        np.greater_equal(areas, 0, out=row[: areas.size])
    return classes, columns, np.ascontiguousarray(seen.T)
