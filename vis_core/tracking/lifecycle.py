"""The life of tracks: who is NEW, TRACKED, LOST or ENDED. The one place where identities are numbered."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import numpy.typing as npt

from vis_core.masks import RunLengths
from vis_core.structures import Frame, Instances, TrackState
from vis_core.tracking.expected import SIGHTS, Box, expected_box


@dataclass(slots=True)
class _Track:
    first_seen: int
    first_step: int
    last_seen: int
    last_step: int
    class_sum: npt.NDArray[np.float64]
    times_seen: int = 0
    sights: deque[tuple[int, Box]] = field(default_factory=lambda: deque(maxlen=SIGHTS))

    def mean(self) -> npt.NDArray[np.float64]:
        return self.class_sum / max(self.times_seen, 1)


class TrackLifecycle:
    """Numbers tracks and follows their life; a system says which detection continues which track.

    One frame is one `expire`, then (after the system's look-up) one `update`. Ids start at 1, grow, are never
    reused, and go on after `reset`.

    Args:
        max_lost_frames: a track last seen in frame g ends before frame t if t - g exceeds this; None: never.
        max_lost_tracks: at most this many lost tracks; the ones lost longest end first, all that were last seen in
            the same frame together; None: no limit.
        max_lost_seconds: a track ends before a frame whose stamp is later than its last one by more; None: never.
    """

    def __init__(
        self,
        max_lost_frames: int | None = 30,
        max_lost_tracks: int | None = 100,
        max_lost_seconds: float | None = None,
    ) -> None:
        self.max_lost_frames = max_lost_frames
        self.max_lost_tracks = max_lost_tracks
        self.max_lost_seconds = max_lost_seconds
        self._ids = count(1)
        self._step = 0
        self._alive: dict[int, _Track] = {}
        self._ended: dict[int, _Track] = {}

    def another(self) -> TrackLifecycle:
        """One of the same limits, without a track; neither gives an id that the other gave."""
        other = TrackLifecycle(self.max_lost_frames, self.max_lost_tracks, self.max_lost_seconds)
        other._ids = self._ids
        return other

    @property
    def step(self) -> int:
        """Number of the frame to come, counted from the last reset."""
        return self._step

    @property
    def alive(self) -> tuple[int, ...]:
        """Ids of the tracks that may still be continued."""
        return tuple(self._alive)

    def last_step(self, track_id: int) -> int:
        """Number of the frame in which a live track was last seen."""
        return self._alive[track_id].last_step

    def class_scores(self, track_id: int) -> npt.NDArray[np.float64]:
        """Mean class scores ``[C]`` of a live track over the frames where it was seen."""
        return self._alive[track_id].mean()

    def expire(self, stamp: int | None = None) -> tuple[int, ...]:
        """End the tracks that are too old for the frame to come; returns their ids, so that a system forgets them.

        Args:
            stamp: of the frame to come, nanoseconds; None: unknown, and no track is too old by it.
        """
        old: list[int] = []
        if self.max_lost_frames is not None:
            old = [i for i, track in self._alive.items() if self._step - track.last_step > self.max_lost_frames]
        if self.max_lost_seconds is not None and stamp is not None:
            first = stamp - round(self.max_lost_seconds * 1e9)
            gone = set(old)
            old += [i for i, track in self._alive.items() if track.last_seen < first and i not in gone]
        if self.max_lost_tracks is not None:
            gone = set(old)
            lost = [i for i, t in self._alive.items() if t.last_step < self._step - 1 and i not in gone]
            while len(lost) > self.max_lost_tracks:
                oldest = min(self._alive[i].last_step for i in lost)
                old += [i for i in lost if self._alive[i].last_step == oldest]
                lost = [i for i in lost if self._alive[i].last_step > oldest]
        self.end(old)
        return tuple(old)

    def end(self, track_ids: Iterable[int]) -> None:
        """End live tracks by a rule of the system's own; the next `update` reports them ENDED.

        Raises:
            ValueError: one is not alive.
        """
        for track_id in track_ids:
            if track_id not in self._alive:
                raise ValueError(f"track {track_id} cannot end: it is none of the live tracks {self.alive}")
            self._ended[track_id] = self._alive.pop(track_id)

    def update(
        self,
        frame: Frame,
        continues: Sequence[int | None],
        scores: npt.NDArray[np.floating],
        class_scores: npt.NDArray[np.floating],
        masks: Sequence[RunLengths],
    ) -> Instances:
        """Take a frame's detections; return its instances, detections first in the order given.

        Args:
            frame: the frame; its stamp and size are kept, its image is not.
            continues: for each of the N detections the id of the live track that it continues; None: a new one.
            scores: ``[N]``, of this frame.
            class_scores: ``[N, C]``; the running mean over the frames where a track was seen gives its label and score.
            masks: N masks at the frame's size.

        Raises:
            ValueError: a track is not alive, or is continued twice.
        """
        named = [i for i in continues if i is not None]
        if len(set(named)) != len(named) or any(i not in self._alive for i in named):
            raise ValueError(f"frame {frame.index}: continued tracks {named} are not distinct live tracks {self.alive}")
        seen: list[int] = []
        states: list[TrackState] = []
        for row, continued in enumerate(continues):
            if continued is None:
                track_id, state = next(self._ids), TrackState.NEW
                classes = np.zeros(class_scores.shape[1])
                self._alive[track_id] = _Track(frame.stamp, self._step, frame.stamp, self._step, classes)
            else:
                track_id, state = continued, TrackState.TRACKED
            track = self._alive[track_id]
            track.last_seen, track.last_step = frame.stamp, self._step
            track.class_sum += class_scores[row]
            track.times_seen += 1
            if masks[row].area:
                track.sights.append((self._step, masks[row].box))
            seen.append(track_id)
            states.append(state)
        lost = [i for i, track in self._alive.items() if track.last_step != self._step]
        rows = [(i, self._alive[i]) for i in seen + lost] + list(self._ended.items())
        states += [TrackState.LOST] * len(lost) + [TrackState.ENDED] * len(self._ended)
        unseen = len(rows) - len(seen)
        means = [track.mean() for _, track in rows]
        expected = [expected_box(self._alive[i].sights, self._step, frame.size) for i in lost]
        instances = Instances(
            stamp=frame.stamp,
            index=frame.index,
            size=frame.size,
            track_ids=np.array([i for i, _ in rows], np.int64),
            labels=np.array([mean.argmax() for mean in means], np.int64),
            scores=np.concatenate((np.asarray(scores, np.float32), np.zeros(unseen, np.float32))),
            track_scores=np.array([mean.max() for mean in means], np.float32),
            boxes=_corners([mask.box for mask in masks] + expected + [(0, 0, 0, 0)] * len(self._ended)),
            masks=(*masks, *[RunLengths(frame.size)] * unseen),
            states=np.array(states, np.uint8),
            ages=np.array([self._step - track.first_step for _, track in rows], np.int64),
            first_seen=np.array([track.first_seen for _, track in rows], np.int64),
            last_seen=np.array([track.last_seen for _, track in rows], np.int64),
        )
        self._ended.clear()
        self._step += 1
        return instances

    def reset(self) -> None:
        """End every track; they are reported by the next `update`, and ids go on."""
        for track in self._alive.values():
            track.first_step -= self._step  # its age stays what it was
        self._ended.update(self._alive)
        self._alive.clear()
        self._step = 0

    def state_bytes(self) -> int:
        """Size of the running class scores, bytes."""
        return sum(track.class_sum.nbytes for track in (*self._alive.values(), *self._ended.values()))


def _corners(found: Sequence[Box]) -> npt.NDArray[np.float32]:
    boxes = np.array(found, np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes
