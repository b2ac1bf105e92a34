"""Tracks in space: position and velocity of each object, filtered over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.spatial.camera import Array
from vis_core.spatial.measurement import Measurement
from vis_core.structures import TrackState

_SURE_OF_NOTHING = 3.0
"""Standard deviation of a velocity before it is known, metres a second."""
_GATE = 16.3
"""Squared Mahalanobis distance that one of a thousand true positions exceeds (chi-square, 3 degrees of freedom)."""
_PATIENCE = 3
"""Positions outside the gate, one after the other, after which a track begins anew where they are."""
_SIZE_GAIN = 0.2
"""Weight of a new size against the one known."""
_DIRECTIONS = np.array([[1, 0], [0.7071, 0.7071], [0, 1], [-0.7071, 0.7071]], np.float32)
"""In which, and in whose opposites, a footprint has its corners."""


@dataclass(frozen=True)
class Pose:
    """A rigid motion: where a camera is in a frame of reference.

    Attributes:
        rotation: float64 ``[3, 3]``.
        translation: float64 ``[3]``, metres.
    """

    rotation: Array
    translation: Array

    @classmethod
    def none(cls) -> Pose:
        """The frame of reference is the camera's own."""
        return cls(np.eye(3), np.zeros(3))

    @classmethod
    def from_quaternion(cls, translation: Sequence[float], quaternion: Sequence[float]) -> Pose:
        """Of a translation and a quaternion x, y, z, w, of any length but 0, as of ``geometry_msgs/Transform``."""
        x, y, z, w = np.asarray(quaternion, np.float64) / np.linalg.norm(quaternion)
        rotation = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        return cls(np.array(rotation), np.asarray(translation, np.float64))


@dataclass(frozen=True)
class SpatialTrack:
    """A track in space at one time, in the frame of reference; metres and seconds.

    Attributes:
        track_id: its identity, that of the track in the image.
        state: of the track in the image.
        position, velocity: float64 ``[3]``.
        covariance: float64 ``[6, 6]`` of both, position first.
        size: float64 ``[3]``, extents along the axes of the frame of reference.
        size_deviation: float64 ``[3]``, standard deviation of the size.
        footprint: float64 ``[K, 2]``, corners of its convex outline seen along the frame's upright axis, in order.
        measured: whether it was seen with enough depth in this image; otherwise it is where it was going.
    """

    track_id: int
    state: TrackState
    position: Array
    velocity: Array
    covariance: Array
    size: Array
    size_deviation: Array
    footprint: Array
    measured: bool


class SpatialTracks:
    """The tracks of one stream in space: a constant-velocity Kalman filter each.

    A track begins with its first measurement, coasts with growing covariance while none comes, and ends with its track
    in the image.

    Args:
        acceleration: standard deviation of an object's acceleration, metres a second squared: how fast a velocity may
            change.
        upright: axis of the frame of reference that a footprint is seen along: 2 (z) of a map, 1 (y) of a camera's
            optical frame.
    """

    def __init__(self, acceleration: float = 2.0, upright: int = 2) -> None:
        self._acceleration = acceleration
        self._ground = [axis for axis in range(3) if axis != upright]
        self._tracks: dict[int, _Track] = {}

    def __len__(self) -> int:
        return len(self._tracks)

    def clear(self) -> None:
        """Forget all tracks: a new stream begins, or the frame of reference is another."""
        self._tracks.clear()

    def step(
        self, stamp: int, states: Mapping[int, TrackState], measurements: Mapping[int, Measurement], pose: Pose
    ) -> list[SpatialTrack]:
        """The tracks at the time of an image.

        Args:
            stamp: of the image, nanoseconds; not before the last one.
            states: of the tracks of the image, by id; a track that is not among them, or ENDED, is forgotten.
            measurements: of those that were seen, by id.
            pose: of the camera in the frame of reference at that time.

        Returns:
            Those that have ever been measured, in the order of `states`; one that ends is among them once.
        """
        out = []
        for track_id, state in states.items():
            measurement = measurements.get(track_id)
            track = self._tracks.get(track_id)
            if track is not None:
                track.predict(stamp, self._acceleration)
            if measurement is not None:
                if track is None:
                    track = self._tracks[track_id] = _Track(stamp)
                track.correct(measurement, pose, self._ground)
            if track is not None:
                out.append(track.at(track_id, state, measurement is not None))
        alive = {track_id for track_id, state in states.items() if state is not TrackState.ENDED}
        self._tracks = {track_id: track for track_id, track in self._tracks.items() if track_id in alive}
        return out


class _Track:
    """One object's filter: position and velocity of the middle, size and outline beside it."""

    def __init__(self, stamp: int) -> None:
        self._stamp = stamp
        self._filter: cv2.KalmanFilter | None = None
        self._outside = 0
        self._size = np.zeros(3)
        self._size_deviation = np.zeros(3)
        self._outline = np.zeros((0, 2))  # around the middle
        self._ground = [0, 1]

    def predict(self, stamp: int, acceleration: float) -> None:
        """Move on to a time, nanoseconds; the acceleration is as of `SpatialTracks`."""
        seconds = max(stamp - self._stamp, 0) / 1e9
        self._stamp = max(stamp, self._stamp)
        assert self._filter is not None
        self._filter.transitionMatrix, self._filter.processNoiseCov = _motion(seconds, acceleration)
        self._filter.predict()

    def correct(self, measurement: Measurement, pose: Pose, ground: list[int]) -> None:
        """Take a measurement, seen by a camera at a pose."""
        position = pose.rotation @ measurement.position + pose.translation
        covariance = pose.rotation @ measurement.covariance @ pose.rotation.T
        self._ground = ground
        if self._filter is None:
            self._begin(position, covariance)
        elif self._surprise(position, covariance) > _GATE:
            self._outside += 1
            if self._outside < _PATIENCE:
                return
            self._begin(position, covariance)
        else:
            self._filter.measurementNoiseCov = covariance
            self._filter.correct(position[:, None])
        self._outside = 0
        self._reshape(measurement, pose, position)

    def at(self, track_id: int, state: TrackState, measured: bool) -> SpatialTrack:
        """The track as it is now."""
        assert self._filter is not None
        values = self._filter.statePost[:, 0].copy()
        footprint = self._outline + values[self._ground]
        return SpatialTrack(
            track_id,
            state,
            values[:3],
            values[3:],
            self._filter.errorCovPost.copy(),
            self._size.copy(),
            self._size_deviation.copy(),
            footprint,
            measured and not self._outside,
        )

    def _begin(self, position: Array, covariance: Array) -> None:
        self._filter = cv2.KalmanFilter(6, 3, 0, cv2.CV_64F)
        self._filter.measurementMatrix = np.eye(3, 6)
        self._filter.statePost = np.append(position, np.zeros(3))[:, None]
        known = np.diag(np.full(6, _SURE_OF_NOTHING**2))
        known[:3, :3] = covariance
        self._filter.errorCovPost = known

    def _surprise(self, position: Array, covariance: Array) -> float:
        assert self._filter is not None
        away = position - self._filter.statePre[:3, 0]
        return float(away @ np.linalg.solve(self._filter.errorCovPre[:3, :3] + covariance, away))

    def _reshape(self, measurement: Measurement, pose: Pose, position: Array) -> None:
        """Size and outline of what was seen, and of as much on the far side of the middle."""
        if not measurement.whole and self._outline.size:
            return  # what is hidden is as it was
        seen = pose.rotation.astype(np.float32) @ measurement.points.T
        seen += (pose.translation - position).astype(np.float32)[:, None]
        size = 2 * np.maximum(seen.max(axis=1), -seen.min(axis=1)).astype(np.float64)
        self._outline = _convex(seen[self._ground])
        if not self._size.any():
            self._size, self._size_deviation = size, 0.2 * size
            return
        off = size - self._size
        self._size = self._size + _SIZE_GAIN * off
        self._size_deviation = np.sqrt((1 - _SIZE_GAIN) * self._size_deviation**2 + _SIZE_GAIN * off**2)


@lru_cache(maxsize=4)
def _motion(seconds: float, acceleration: float) -> tuple[Array, Array]:
    """Transition and noise of a constant velocity, ``[6, 6]`` each.

    Of an acceleration that is white noise between two images (Bar-Shalom et al., 2001, equation 6.3.2-4).
    """
    transition = np.eye(6)
    transition[:3, 3:] = seconds * np.eye(3)
    push = np.array([[seconds**2 / 2], [seconds]]) * acceleration
    return transition, np.kron(push @ push.T, np.eye(3))


def _convex(points: npt.NDArray[np.float32]) -> Array:
    """The convex outline of points ``[2, N]`` and their mirror images, counter-clockwise in a right-handed plane.

    Its corners are those points that lie farthest out in eight directions.
    """
    corners = points[:, np.abs(_DIRECTIONS @ points).argmax(axis=1)].T
    hull = cv2.convexHull(np.concatenate([corners, -corners]))
    return hull[:, 0].astype(np.float64)
