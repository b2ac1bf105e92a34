"""The tracks and results of one class in one video, frame by frame, as the track scores need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from vis_core.evaluation.inputs.tracks import Groups, Result, Track
from vis_core.evaluation.metrics.overlaps import Overlaps

EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of a track and a result that share a pixel in a frame, sorted by frame.

    Attributes:
        frames, tracks, results: int64 ``[P]``, frame, and row and column of the class.
        ious: float64 ``[P]``, mask IoU, above 0.
    """

    frames: npt.NDArray[np.int64]
    tracks: npt.NDArray[np.int64]
    results: npt.NDArray[np.int64]
    ious: npt.NDArray[np.float64]

    def select(self, chosen: npt.NDArray[np.bool_]) -> Pairs:
        """The pairs at which ``chosen`` (bool ``[P]``) holds."""
        return Pairs(self.frames[chosen], self.tracks[chosen], self.results[chosen], self.ious[chosen])


@dataclass(frozen=True, slots=True)
class ClassFrames:
    """One class in one video: ``F`` frames, ``G`` tracks and ``D`` results, both in file order.

    Attributes:
        track_seen: bool ``[F, G]``, the track has a mask there.
        result_seen: bool ``[F, D]``.
        pairs: those that share a pixel.
    """

    track_seen: npt.NDArray[np.bool_]
    result_seen: npt.NDArray[np.bool_]
    pairs: Pairs

    def plain_assignment(
        self, pairs: Pairs, values: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """The best assignment of the frames in which it is plain to see.

        It is where each track, or else each result of it, has only one pair, so that the best pair of the other wins,
        and none is as good as another.

        Args:
            pairs: of any frames.
            values: float64 ``[P]``, above 0, what each contributes.

        Returns:
            bool ``[P]``, which pairs the assignment holds, and bool ``[F]``, in which frames it is not plain.
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
        hard = np.zeros(frames, np.bool_)
        hard[pairs.frames[~(alone & plain)]] = True
        return held, hard

    def assign(self, frame: int, pairs: Pairs, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """The assignment of the frame's tracks to its results with the largest sum: which pairs it holds, bool ``[P]``.

        Args:
            frame: the frame.
            pairs: pairs of this frame.
            values: float64 ``[P]``, what each contributes; all other pairs contribute 0.
        """
        rows, columns = np.flatnonzero(self.track_seen[frame]), np.flatnonzero(self.result_seen[frame])
        row_at, column_at = np.searchsorted(rows, pairs.tracks), np.searchsorted(columns, pairs.results)
        matrix = np.zeros((rows.size, columns.size))
        matrix[row_at, column_at] = values
        held = np.zeros(matrix.shape, np.bool_)
        held[linear_sum_assignment(-matrix)] = True
        return held[row_at, column_at]


def split_by_class(
    results: Sequence[Result], tracks: Sequence[Track], overlaps: Overlaps, groups: Groups
) -> dict[int, ClassFrames]:
    """One ``ClassFrames`` a category.

    Args:
        results: of a video.
        tracks: of a video.
        overlaps: of these.
        groups: by category the positions of its results and of its tracks.
    """
    frames = max((len(item.masks) for item in results), default=0)
    frames = max(frames, max((len(item.masks) for item in tracks), default=0))
    out = {}
    for category, (rows, columns) in groups.items():
        track_seen = _seen([tracks[j].areas for j in columns], frames)
        result_seen = _seen([results[i].areas for i in rows], frames)
        result_position = np.full(len(results), -1)
        result_position[rows] = np.arange(len(rows))
        track_position = np.full(len(tracks), -1)
        track_position[columns] = np.arange(len(columns))
        at_result, at_track = result_position[overlaps.results], track_position[overlaps.tracks]
        chosen = (at_result >= 0) & (at_track >= 0)
        pairs = Pairs(overlaps.frames, at_track, at_result, overlaps.ious).select(chosen)
        out[category] = ClassFrames(track_seen, result_seen, pairs)
    return out


def _seen(areas: Sequence[npt.NDArray[np.int64]], frames: int) -> npt.NDArray[np.bool_]:
    seen = np.zeros((frames, len(areas)), np.bool_)
    for position, of_one in enumerate(areas):
        seen[: of_one.size, position] = of_one >= 0
    return seen
