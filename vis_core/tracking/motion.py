"""Which detection continues which track: predicted boxes and appearance, the sure detections first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from vis_core.tracking.lifecycle import TrackLifecycle

_Boxes = npt.NDArray[np.float64]
_FORBIDDEN = -1.0
_ESTABLISHED = 3  # frames that a track was surely seen in, from which on it comes first; as in DeepSORT
_LONG = 5  # frames without a track, beyond which its velocity is a guess and it must be established anew
_OLD = 10  # frames that a track was surely seen in, from which on it is as old as any


@dataclass(slots=True)
class _Motion:
    box: _Boxes
    velocity: _Boxes
    """Of the centre, pixels a second."""
    size_seen: float
    """Square root of the box's area, smoothed."""
    time: float
    """At which it was seen there, seconds."""
    sure_frames: int
    """In which it was a sure detection since it began, or last came back after long."""
    confirmed: bool
    """Whether it ever was a sure detection."""


class MotionAssociator:
    """Associates in rounds by overlap, nearness and appearance.

    First the detections whose score is at least that of a birth may continue the tracks that the frame before showed
    and that were surely seen three times since they began or came back after more than five frames; then those that are
    left, the other tracks, so that neither one that comes back nor one that has just begun moves an established one to
    its second best (a cascade: Wojke et al., ICIP 2017); then the detections with lower scores, what is left of the
    tracks that the frame before showed, if they overlap well (Zhang et al., ECCV 2022).
    Sure detections that continue nothing begin a track; the others are dropped. In the first frame of a stream
    everything is new, so that less is asked of what begins a track there; but only a sure detection, and in the frame
    that follows, continues a track that never was one.

    A track's box is expected where its centre's velocity carries it. The affinity of a pair is
    ``0.5 IoU + 0.25 nearness + 0.25 similarity - 0.25 disagreement``. Nearness falls from 1 as a Gaussian of the
    distance between centres in units of the object's size, and is wider the longer a track was not seen.
    Disagreement, 1 minus the cosine of the class scores, keeps a horse from going on as its rider; the third round
    takes it from the IoU. Among the pairs that may be, an older track and a surer detection are preferred: when a mask
    breaks in two for some frames, the object's own track goes on, not the piece's.

    Args:
        birth_threshold: least score of a detection that begins a track.
        first_birth_threshold: the same in the first frame of a stream, if it is less; None: as in the others.
        least_affinity: of a pair in the second round, 0..1; half of it is enough in the first.
        least_overlap: IoU of a pair in the third round, less its disagreement.
    """

    def __init__(
        self,
        birth_threshold: float,
        first_birth_threshold: float | None = None,
        least_affinity: float = 0.2,
        least_overlap: float = 0.3,
    ) -> None:
        self.birth_threshold = birth_threshold
        self._first = birth_threshold if first_birth_threshold is None else min(first_birth_threshold, birth_threshold)
        self._least_affinity, self._least_overlap = least_affinity, least_overlap
        self._motions: dict[int, _Motion] = {}

    def associate(
        self,
        boxes: npt.ArrayLike,
        scores: npt.ArrayLike,
        similarity: npt.ArrayLike,
        classes: npt.ArrayLike,
        lifecycle: TrackLifecycle,
        time: float,
    ) -> tuple[list[int | None], npt.NDArray[np.bool_]]:
        """What each of N detections continues, and which of them stay.

        Args:
            boxes: ``[N, 4]``, x1, y1, x2, y2.
            scores: ``[N]``.
            similarity: ``[T, N]``, 0..1, of the live tracks in the order of ``lifecycle.alive``.
            classes: ``[N, C]``, class scores 0..1.
            lifecycle: knows which tracks are alive, when they were last seen and as what.
            time: of the frame, seconds, later than that of the frame before: where frames are left out, objects move
                further from one to the next.

        Returns:
            For each detection a track id or None, and bool ``[N]``: False where it neither continues nor begins one.
        """
        boxes, scores = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(scores, np.float64)
        alive = lifecycle.alive
        continues: list[int | None] = [None] * len(boxes)
        sure = scores >= (self.birth_threshold if lifecycle.step else self._first)
        if alive and len(boxes):
            absent = np.array([lifecycle.step - lifecycle.last_step(i) - 1 for i in alive], np.float64)
            expected = np.stack([self._expected(i, absence + 1, time) for i, absence in zip(alive, absent)])
            overlap = box_iou(expected, boxes)
            sizes = np.array([self._motions[i].size_seen for i in alive])
            distance = np.linalg.norm(_centers(expected)[:, None] - _centers(boxes)[None], axis=2)
            nearness = np.exp(-((distance / (sizes * (1 + 0.1 * np.minimum(absent, 20)))[:, None]) ** 2))
            known = np.stack([lifecycle.class_scores(i) for i in alive])
            disagreement = 0.25 * (1 - _cosines(known, np.asarray(classes, np.float64)))
            affinity = 0.5 * overlap + 0.25 * nearness + 0.25 * np.asarray(similarity, np.float64) - disagreement
            affinity[(overlap == 0) & (nearness < 0.02)] = _FORBIDDEN
            for i in np.flatnonzero(absent > _LONG):
                self._motions[alive[i]].sure_frames = 0
            seen = np.array([min(self._motions[i].sure_frames, _OLD) for i in alive])
            preference = 0.2 * seen[:, None] / _OLD + 0.1 * scores[None]
            confirmed = np.array([self._motions[i].confirmed for i in alive])
            present = absent == 0
            first = present & (seen >= _ESTABLISHED)
            rounds = (
                (affinity, first, sure, self._least_affinity / 2),
                (affinity, (confirmed | present) & ~first, sure, self._least_affinity),
                (overlap - disagreement, confirmed & present, ~sure, self._least_overlap),
            )
            free = np.ones(len(alive), np.bool_)
            for worth, rows, columns, least in rounds:
                left = np.array([continued is None for continued in continues])
                for row, column in _assign(worth, preference, rows & free, columns & left, least):
                    continues[column], free[row] = alive[row], False
        return continues, sure | np.array([continued is not None for continued in continues], np.bool_)

    def remember(self, track_ids: list[int], boxes: npt.ArrayLike, scores: npt.ArrayLike, time: float) -> None:
        """Take the boxes ``[M, 4]`` and scores ``[M]`` of the M tracks that a frame shows, and its time, seconds."""
        sure = np.asarray(scores, np.float64) >= self.birth_threshold
        for track_id, box, confirmed in zip(track_ids, np.asarray(boxes, np.float64).reshape(-1, 4), sure.tolist()):
            size = float(np.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 1.0)))
            known = self._motions.get(track_id)
            if known is None:
                self._motions[track_id] = _Motion(box, np.zeros(2), size, time, int(confirmed), confirmed)
                continue
            moved = (_centers(box[None])[0] - _centers(known.box[None])[0]) / (time - known.time)
            known.sure_frames += confirmed
            known.velocity = 0.7 * known.velocity + 0.3 * moved
            known.size_seen = 0.8 * known.size_seen + 0.2 * size
            known.box, known.time, known.confirmed = box, time, known.confirmed or confirmed

    def forget(self, track_ids: tuple[int, ...]) -> None:
        """Drop tracks that have ended."""
        for track_id in track_ids:
            del self._motions[track_id]

    def clear(self) -> None:
        """Forget every track."""
        self._motions.clear()

    def nbytes(self) -> int:
        """Size of what is remembered."""
        return sum(motion.box.nbytes + motion.velocity.nbytes + 16 for motion in self._motions.values())

    def _expected(self, track_id: int, steps: float, time: float) -> _Boxes:
        motion = self._motions[track_id]
        # Beyond some frames, or a second, a constant velocity is a guess.
        shift = motion.velocity * min((time - motion.time) * min(1.0, _LONG / steps), 1.0)
        return motion.box + np.concatenate((shift, shift))


def box_iou(first: _Boxes, second: _Boxes) -> _Boxes:
    """IoU of each pair of boxes ``[N, 4]`` and ``[M, 4]``, x1, y1, x2, y2: ``[N, M]``."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _cosines(first: _Boxes, second: _Boxes) -> _Boxes:
    """Cosine of the angle of each pair of vectors ``[N, C]`` and ``[M, C]`` that are not negative: ``[N, M]``, 0..1."""
    first, second = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (first, second))
    cosines: _Boxes = np.clip(first @ second.T, 0, 1)
    return cosines


def _centers(boxes: _Boxes) -> _Boxes:
    centers: _Boxes = (boxes[:, :2] + boxes[:, 2:]) / 2
    return centers


def _assign(
    affinity: _Boxes, preference: _Boxes, rows: npt.NDArray[np.bool_], columns: npt.NDArray[np.bool_], least: float
) -> list[tuple[int, int]]:
    """Pairs of the best assignment, by affinity and preference, between chosen rows and columns.

    A pair under the least affinity is none, however preferred.
    """
    r, c = np.flatnonzero(rows), np.flatnonzero(columns)
    if not len(r) or not len(c):
        return []
    chosen = np.ix_(r, c)
    fits = affinity[chosen] >= least
    # A pair that does not fit must not displace one that does: it is worth no more than none.
    pairs = linear_sum_assignment(np.where(fits, affinity[chosen] + preference[chosen], 0.0), maximize=True)
    return [(int(r[i]), int(c[j])) for i, j in zip(*pairs) if fits[i, j]]
