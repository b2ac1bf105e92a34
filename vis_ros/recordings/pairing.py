"""Which frame of a ground truth each image of a recording is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError
from vis_core.evaluation import Video


@dataclass(frozen=True, slots=True, eq=False)
class Pairing:
    """Which frame of a ground truth each image of a recording is.

    Attributes:
        by: ``stamps`` or ``order``.
        positions: int64 ``[images]``, position in the video; -1 for an image that is no frame of it.
        stamps: int64 ``[images]``, nanoseconds.
        frames: length of the video.
    """

    by: str
    positions: npt.NDArray[np.int64]
    stamps: npt.NDArray[np.int64]
    frames: int

    @property
    def paired(self) -> int:
        """Number of frames that are an image."""
        return int((self.positions >= 0).sum())

    def __str__(self) -> str:
        return (
            f"{self.paired} of {self.frames} frames paired with {len(self.positions)} images by {self.by}, "
            f"{self.frames - self.paired} frames without an image, {len(self.positions) - self.paired} images unscored"
        )

    def position_of(self, stamp: int) -> int | None:
        """The frame of the image with a stamp; None if it is none."""
        found = np.flatnonzero((self.stamps == stamp) & (self.positions >= 0))
        return int(self.positions[found[0]]) if len(found) else None


def pair(stamps: npt.NDArray[np.int64], video: Video, by: str = "auto") -> Pairing:
    """Pair images with the frames of a video.

    By stamps, a frame is the image with the nearest stamp, at most half a frame interval away; no image is
    two frames. By order, image k is frame k.

    Args:
        stamps: int64 ``[images]``, nanoseconds.
        video: of the ground truth.
        by: ``stamps``, ``order``, or ``auto``: by stamps where the video has them.

    Raises:
        InputError: by stamps, but the video has none, or none fits.
    """
    stamps = np.asarray(stamps, np.int64)
    if by == "order" or (by == "auto" and video.stamps is None):
        order = np.arange(len(stamps), dtype=np.int64)
        return Pairing("order", np.where(order < video.length, order, -1), stamps, video.length)
    if video.stamps is None:
        raise InputError(f"ground truth video {video.id} has no 'stamps' to pair by; pair by order")
    positions = _nearest(stamps, video.stamps)
    if not (positions >= 0).any():
        raise InputError(
            f"ground truth video {video.id}: its stamps {_span(video.stamps)} and those of the images {_span(stamps)} "
            "have nothing in common; is it another recording? --pair order pairs one after the other"
        )
    return Pairing("stamps", positions, stamps, video.length)


def frame_stamps(video: Video, pairing: Pairing) -> npt.NDArray[np.int64]:
    """Nanoseconds of each frame: those of its image; between and beyond images, evenly spaced."""
    paired = pairing.positions >= 0
    positions, stamps = pairing.positions[paired], pairing.stamps[paired]
    order = np.argsort(positions)
    positions, stamps = positions[order], stamps[order]
    step = int(np.median(np.diff(stamps) / np.diff(positions))) if len(positions) > 1 else 1
    frames = np.arange(video.length)
    out = np.interp(frames, positions, stamps - stamps[0]).astype(np.int64) + stamps[0]
    out[positions] = stamps  # exactly, which floating point does not promise
    out[frames < positions[0]] = stamps[0] + (frames[frames < positions[0]] - positions[0]) * step
    out[frames > positions[-1]] = stamps[-1] + (frames[frames > positions[-1]] - positions[-1]) * step
    return out


def _nearest(stamps: npt.NDArray[np.int64], frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Position of the frame of each image, -1 for none; each frame and each image at most once."""
    positions = np.full(len(stamps), -1, np.int64)
    if not len(stamps) or not len(frames):
        return positions
    several = frames if len(frames) > 1 else np.unique(stamps)
    tolerance = float(np.median(np.diff(several))) / 2 if len(several) > 1 else 0.0
    order = np.argsort(stamps, kind="stable")
    sorted_stamps = stamps[order]
    after = np.searchsorted(sorted_stamps, frames).clip(0, len(stamps) - 1)
    before = (after - 1).clip(0)
    closer = np.abs(sorted_stamps[before] - frames) < np.abs(sorted_stamps[after] - frames)
    nearest = np.where(closer, before, after)
    distances = np.abs(sorted_stamps[nearest] - frames)
    for position in np.argsort(distances, kind="stable").tolist():
        image = order[nearest[position]]
        if distances[position] <= tolerance and positions[image] < 0:
            positions[image] = position
    return positions


def _span(stamps: npt.NDArray[np.int64]) -> str:
    return f"{stamps.min() / 1e9:.3f} to {stamps.max() / 1e9:.3f} s" if len(stamps) else "(none)"
