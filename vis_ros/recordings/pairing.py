"""Which frame of a ground truth each image of a recording is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vis_core.data.file_time import recorded_from
from vis_core.errors import InputError
from vis_core.evaluation import Video


@dataclass(frozen=True, slots=True, eq=False)
class Pairing:
    """Which frame of a ground truth each image of a recording is.

    Attributes:
        by: ``stamps`` or ``order``.
        positions: int64 ``[images]``, position in the video; -1 for an image that is no frame of it.
        stamps: int64 ``[images]``, nanoseconds; of several images one stamp may be the same, see `timed`.
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


def pair(stamps: npt.NDArray[np.int64], video: Video, by: str = "auto") -> Pairing:
    """Pair images with the frames of a video.

    By stamps, a frame is the image with the nearest stamp, at most half a frame interval away; no image is
    two frames. A recording that was made of the file is known by its stamps, see `file_time`. By order, image k is
    frame k.

    Args:
        stamps: int64 ``[images]``, nanoseconds.
        video: of the ground truth.
        by: ``stamps``, ``order``, or ``auto``: by stamps where the video has them.

    Raises:
        InputError: by stamps, but the video has none, none fits, or all images have the same.
    """
    stamps = np.asarray(stamps, np.int64)
    if by == "order" or (by == "auto" and video.stamps is None):
        order = np.arange(len(stamps), dtype=np.int64)
        return Pairing("order", np.where(order < video.length, order, -1), stamps, video.length)
    if video.stamps is None:
        raise InputError(f"ground truth video {video.id} has no 'stamps' to pair by; pair by order")
    if len(stamps) > 1 and (stamps == stamps[0]).all():
        raise InputError(
            f"ground truth video {video.id}: cannot be paired by stamps, all {len(stamps)} images have the stamp "
            f"{stamps[0] / 1e9:.3f} s (a driver that stamps nothing?); --pair order pairs one after the other"
        )
    positions = _nearest(_in_file_time(stamps, video.stamps), video.stamps)
    if not (positions >= 0).any():
        raise InputError(
            f"ground truth video {video.id}: its stamps {_span(video.stamps)} and those of the images {_span(stamps)} "
            "have nothing in common; is it another recording? --pair order pairs one after the other"
        )
    return Pairing("stamps", positions, stamps, video.length)


def timed(pairing: Pairing, recorded: Callable[[], npt.NDArray[np.int64]], source: str | Path) -> Pairing:
    """A pairing whose stamps tell when each image was: those of the recording if the images' own cannot.

    Paired by stamps, they can. Paired by order they must grow from image to image; a driver that stamps nothing, or
    several images alike, and a clock that is set back leave only the time of recording, which then stands for them.

    Args:
        pairing: of images with the stamps that they have.
        recorded: gives int64 ``[images]``, nanoseconds at which each was recorded; asked only if needed.
        source: of the images, for warnings: that the times of recording are taken, or that of images with one stamp
            it cannot be told which is the frame.
    """
    stamps = pairing.stamps
    if pairing.by == "stamps":
        if again := len(stamps) - len(np.unique(stamps)):
            text = f"{source}: {again} of {len(stamps)} images have the stamp of another; a frame is one of those alike"
            warnings.warn(f"{text}; --pair order pairs one after the other", stacklevel=2)
        return pairing
    before = np.concatenate([[-1], stamps[:-1]])
    odd = np.flatnonzero((stamps <= before) | (stamps < 0))
    if not len(odd):
        return pairing
    image = int(odd[0])
    after = f" after {before[image] / 1e9:.3f} s" if image else ""
    warnings.warn(
        f"{source}: stamps do not grow, image {image} (from 0) has {stamps[image] / 1e9:.3f} s{after}; "
        "the times of recording stand for them",
        stacklevel=2,
    )
    times, ranks = recorded(), np.arange(len(stamps))
    return replace(pairing, stamps=np.maximum.accumulate(times - ranks) + ranks)  # grows, by a nanosecond at least


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


def _in_file_time(stamps: npt.NDArray[np.int64], frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Stamps of images as the file had them, of which the recording was made; else as they are."""
    begin = recorded_from(frames)
    return stamps - begin if stamps.min(initial=begin) >= begin else stamps


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
