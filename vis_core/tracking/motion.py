"""Which detection continues which track: predicted boxes and appearance, the sure detections first."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from vis_core.tracking.assignment import assign
from vis_core.tracking.associator import Associator, Window, shown_rows
from vis_core.tracking.lifecycle import TrackLifecycle

_Boxes = npt.NDArray[np.float64]
_FORBIDDEN = -1.0
_ESTABLISHED = 3  # frames that a track was surely seen in, from which on it comes first; as in DeepSORT
_LONG = 5  # frames without a track, beyond which its velocity is a guess and it must be established anew
_OLD = 10  # frames that a track was surely seen in, from which on it is as old as any


class MovingInstances(Protocol):
    """What is linked by motion: N instances of one frame."""

    @property
    def stamp(self) -> int:
        """Of the frame, nanoseconds."""

    @property
    def boxes(self) -> npt.NDArray[np.float64]:
        """``[N, 4]``, x1, y1, x2, y2."""

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """``[N]``."""

    @property
    def class_scores(self) -> npt.NDArray[np.float32]:
        """``[N, C]``, 0..1."""


Found = TypeVar("Found", bound=MovingInstances, contravariant=True)


class Appearance(Associator[Found]):
    """An associator that can also be asked how alike tracks and instances are."""

    @abstractmethod
    def similarity(self, found: Found, lifecycle: TrackLifecycle) -> npt.NDArray[np.float32]:
        """Of the T live tracks, in the order of ``lifecycle.alive``, and the N instances: ``[T, N]``, 0..1."""


class StreamClock:
    """Time of the frames of a stream, seconds from anywhere; it always goes forward.

    Where frames are left out, objects move further from one to the next; where stamps stand still, or a clock was set
    back, a frame is as long as the one before it was.
    """

    def __init__(self) -> None:
        self._stamp: int | None = None
        self._interval = 0.1
        self.now = 0.0

    def tick(self, stamp: int) -> float:
        """Take the stamp of the next frame, nanoseconds; returns its time."""
        elapsed = 0.0 if self._stamp is None else (stamp - self._stamp) / 1e9
        if elapsed > 0:
            self._interval = elapsed
        self.now += self._interval
        self._stamp = stamp
        return self.now

    def begin_anew(self) -> None:
        """The next stamp is the first of a stream."""
        self._stamp = None


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

    @property
    def nbytes(self) -> int:
        return self.box.nbytes + self.velocity.nbytes + 16


class MotionAssociator(Associator[Found], Generic[Found]):
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
        appearance: says how alike tracks and detections are; it remembers and forgets along.
        birth_threshold: least score of a detection that begins a track.
        first_birth_threshold: the same in the first frame of a stream, if it is less; None: as in the others.
        min_affinity: of a pair in the second round, 0..1; half of it is enough in the first.
        min_overlap: IoU of a pair in the third round, less its disagreement.
    """

    def __init__(
        self,
        appearance: Appearance[Found],
        birth_threshold: float,
        first_birth_threshold: float | None = None,
        min_affinity: float = 0.2,
        min_overlap: float = 0.3,
    ) -> None:
        super().__init__()
        self.appearance = appearance
        self.birth_threshold = birth_threshold
        self._first = birth_threshold if first_birth_threshold is None else min(first_birth_threshold, birth_threshold)
        self._min_affinity, self._min_overlap = min_affinity, min_overlap
        self._clock = StreamClock()

    def associate(
        self, found: Found, window: Window, lifecycle: TrackLifecycle
    ) -> tuple[Sequence[int], Sequence[int | None]]:
        """As of every associator; a detection that neither continues a track nor begins one does not stay."""
        time = self._clock.tick(found.stamp)
        sure = found.scores.astype(np.float64) >= (self.birth_threshold if lifecycle.step else self._first)
        continues = self._continued(found, sure, lifecycle, time)
        rows = [row for row, track_id in enumerate(continues) if sure[row] or track_id is not None]
        return rows, [continues[row] for row in rows]

    def _continued(
        self, found: Found, sure: npt.NDArray[np.bool_], lifecycle: TrackLifecycle, time: float
    ) -> list[int | None]:
        """The track that each detection continues, given which detections are sure."""
        boxes, alive = found.boxes, lifecycle.alive
        similarity = self.appearance.similarity(found, lifecycle)
        continues: list[int | None] = [None] * len(boxes)
        if alive and len(boxes):
            absent = np.array([lifecycle.step - lifecycle.last_step(i) - 1 for i in alive], np.float64)
            expected = np.stack([self._expected(i, absence + 1, time) for i, absence in zip(alive, absent)])
            overlap = box_iou(expected, boxes)
            sizes = np.array([self.remembered[i].size_seen for i in alive])
            distance = np.linalg.norm(_centers(expected)[:, None] - _centers(boxes)[None], axis=2)
            nearness = np.exp(-((distance / (sizes * (1 + 0.1 * np.minimum(absent, 20)))[:, None]) ** 2))
            known = np.stack([lifecycle.class_scores(i) for i in alive])
            disagreement = 0.25 * (1 - _cosines(known, found.class_scores.astype(np.float64)))
            affinity = 0.5 * overlap + 0.25 * nearness + 0.25 * similarity.astype(np.float64) - disagreement
            affinity[(overlap == 0) & (nearness < 0.02)] = _FORBIDDEN
            for i in np.flatnonzero(absent > _LONG):
                self.remembered[alive[i]].sure_frames = 0
            seen = np.array([min(self.remembered[i].sure_frames, _OLD) for i in alive])
            preference = 0.2 * seen[:, None] / _OLD + 0.1 * found.scores.astype(np.float64)[None]
            confirmed = np.array([self.remembered[i].confirmed for i in alive])
            present = absent == 0
            first = present & (seen >= _ESTABLISHED)
            rounds = (
                (affinity, first, sure, self._min_affinity / 2),
                (affinity, (confirmed | present) & ~first, sure, self._min_affinity),
                (overlap - disagreement, confirmed & present, ~sure, self._min_overlap),
            )
            free = np.ones(len(alive), np.bool_)
            for worth, rows, columns, minimum in rounds:
                left = np.array([continued is None for continued in continues])
                for row, column in _assign(worth, preference, rows & free, columns & left, minimum):
                    continues[column], free[row] = alive[row], False
        return continues

    def remember(self, track_ids: Sequence[int | None], found: Found, window: Window) -> None:
        self.appearance.remember(track_ids, found, window)
        time = self._clock.now
        sure = found.scores.astype(np.float64) >= self.birth_threshold
        for row, track_id in shown_rows(track_ids):
            box, confirmed = found.boxes[row], bool(sure[row])
            size = float(np.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 1.0)))
            known = self.remembered.get(track_id)
            if known is None:
                self.remembered[track_id] = _Motion(box, np.zeros(2), size, time, int(confirmed), confirmed)
                continue
            moved = (_centers(box[None])[0] - _centers(known.box[None])[0]) / (time - known.time)
            known.sure_frames += confirmed
            known.velocity = 0.7 * known.velocity + 0.3 * moved
            known.size_seen = 0.8 * known.size_seen + 0.2 * size
            known.box, known.time, known.confirmed = box, time, known.confirmed or confirmed

    def forget(self, track_ids: Iterable[int]) -> None:
        track_ids = tuple(track_ids)
        super().forget(track_ids)
        self.appearance.forget(track_ids)

    def clear(self) -> None:
        super().clear()
        self.appearance.clear()
        self._clock.begin_anew()

    def nbytes(self) -> int:
        return super().nbytes() + self.appearance.nbytes()

    def _expected(self, track_id: int, steps: float, time: float) -> _Boxes:
        motion = self.remembered[track_id]
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
    affinity: _Boxes, preference: _Boxes, rows: npt.NDArray[np.bool_], columns: npt.NDArray[np.bool_], minimum: float
) -> list[tuple[int, int]]:
    """Pairs of the best assignment, by affinity and preference, between chosen rows and columns.

    A pair under the least affinity is none, however preferred.
    """
    r, c = np.flatnonzero(rows), np.flatnonzero(columns)
    if not len(r) or not len(c):
        return []
    chosen = np.ix_(r, c)
    pairs = assign(affinity[chosen] + preference[chosen], affinity[chosen] >= minimum)
    return [(int(r[i]), int(c[j])) for i, j in pairs]
