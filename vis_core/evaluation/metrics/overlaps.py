"""How much the results of a video overlap its tracks, frame by frame and over the video."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from vis_core.evaluation.inputs.tracks import Result, Track


@dataclass(frozen=True, slots=True)
class Overlaps:
    """The pairs of masks of one video that share a pixel, sorted by frame, then result, then track.

    Attributes:
        frames, results, tracks: int64 ``[P]``, frame, and position in the lists of results and of tracks.
        ious: float64 ``[P]``, mask IoU, bit for bit that of pycocotools.
        intersections: int64 ``[P]``, pixels that both have.
    """

    frames: npt.NDArray[np.int64]
    results: npt.NDArray[np.int64]
    tracks: npt.NDArray[np.int64]
    ious: npt.NDArray[np.float64]
    intersections: npt.NDArray[np.int64]


def overlap(
    results: Sequence[Result], tracks: Sequence[Track], size: tuple[int, int], categories: Collection[int] | None
) -> Overlaps:
    """Compare all masks of a video, one call a frame.

    Args:
        results: of the video.
        tracks: of the video.
        size: height and width of the video.
        categories: only results of these are compared (with all tracks); None for all.
    """
    chosen = [i for i, result in enumerate(results) if categories is None or result.category in categories]
    length = min(
        max((len(results[i].masks) for i in chosen), default=0), max((len(track.masks) for track in tracks), default=0)
    )
    result_frames = _by_frame([(i, results[i].masks) for i in chosen], length)
    track_frames = _by_frame([(i, track.masks) for i, track in enumerate(tracks)], length)
    parts: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]] = []
    counts = np.zeros(length, np.int64)
    for frame in range(length):
        result_ids, result_masks = result_frames[frame]
        track_ids, track_masks = track_frames[frame]
        if not result_ids or not track_ids:
            continue
        ious = coco_mask.iou(
            [{"size": size, "counts": mask} for mask in result_masks],
            [{"size": size, "counts": mask} for mask in track_masks],
            [0] * len(track_masks),
        )
        rows, columns = np.nonzero(ious)
        if rows.size:
            parts.append((np.array(result_ids)[rows], np.array(track_ids)[columns], ious[rows, columns]))
            counts[frame] = rows.size
    frames = np.repeat(np.arange(length), counts)
    if not parts:
        empty = np.zeros(0, np.int64)
        return Overlaps(frames, empty, empty, np.zeros(0), empty)
    result_ids_, track_ids_, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    result_areas = np.stack([_padded(result.areas, length) for result in results])
    track_areas = np.stack([_padded(track.areas, length) for track in tracks])
    # The IoU is i / (a + b - i), so i = iou (a + b) / (1 + iou), exact once rounded.
    total = result_areas[result_ids_, frames] + track_areas[track_ids_, frames]
    intersections = np.rint(values * total / (1.0 + values)).astype(np.int64)
    return Overlaps(frames, result_ids_, track_ids_, values, intersections)


def video_ious(overlaps: Overlaps, results: Sequence[Result], tracks: Sequence[Track]) -> npt.NDArray[np.float64]:
    """Video IoU of all pairs: sum of intersections over sum of unions, 0 where the union is 0.

    Of a pair with different numbers of frames (``compat``) the common part counts.

    Returns:
        float64 ``[results, tracks]``.
    """
    shape = (len(results), len(tracks))
    flat = overlaps.results * shape[1] + overlaps.tracks
    shared = np.bincount(flat, overlaps.intersections, minlength=shape[0] * shape[1]).reshape(shape)
    lengths = {len(result.masks) for result in results} | {len(track.masks) for track in tracks}
    if len(lengths) <= 1:
        result_areas = np.array([np.maximum(result.areas, 0).sum() for result in results], np.float64)
        track_areas = np.array([np.maximum(track.areas, 0).sum() for track in tracks], np.float64)
        union = result_areas[:, None] + track_areas[None, :] - shared
    else:
        union = np.zeros(shape)
        for i, result in enumerate(results):
            for j, track in enumerate(tracks):
                common = min(len(result.masks), len(track.masks))
                areas = np.maximum(result.areas[:common], 0).sum() + np.maximum(track.areas[:common], 0).sum()
                union[i, j] = float(areas) - shared[i, j]
    return np.divide(shared, union, out=np.zeros(shape), where=union > 0)


def _by_frame(items: Sequence[tuple[int, Sequence[bytes | None]]], length: int) -> list[tuple[list[int], list[bytes]]]:
    """For each frame the items that have a mask there, and the masks."""
    frames: list[tuple[list[int], list[bytes]]] = [([], []) for _ in range(length)]
    for number, masks in items:
        for (numbers, there), mask in zip(frames, masks, strict=False):
            if mask is not None:
                numbers.append(number)
                there.append(mask)
    return frames


def _padded(areas: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    if areas.size >= length:
        return areas[:length]
    return np.concatenate((areas, np.full(length - areas.size, -1, np.int64)))
