"""How much the results of a video overlap its tracks, frame by frame and over the video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from vis_core.evaluation.inputs.tracks import Groups, Result, Track

_MOST_PAIRS = 1500  # that one call looks at; nearly all are of different frames or groups


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


def overlap(results: Sequence[Result], tracks: Sequence[Track], size: tuple[int, int], groups: Groups) -> Overlaps:
    """Compare the masks of a video, those of each group with each other.

    Args:
        results: of the video.
        tracks: of the video.
        size: height and width of the video.
        groups: by category the positions of its results and of its tracks; of other categories nothing is compared.
    """
    both = [group for group in groups.values() if all(group)]
    result_masks = [(k, i, results[i].masks) for k, (rows, _) in enumerate(both) for i in rows]
    track_masks = [(k, j, tracks[j].masks) for k, (_, columns) in enumerate(both) for j in columns]
    length = min(max((len(masks) for _, _, masks in items), default=0) for items in (result_masks, track_masks))
    # One call takes several frames: masks of different sizes are never compared, so each frame and group has its own.
    step = max(1, math.isqrt(_MOST_PAIRS // max(1, len(result_masks) * len(track_masks))))
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    for begin in range(0, length, step):
        end = min(begin + step, length)
        sizes = [[(size[0], size[1] + k * step + at) for at in range(end - begin)] for k in range(len(both))]
        result_ids, result_frames, of_results = _given(result_masks, begin, end, sizes)
        track_ids, _, of_tracks = _given(track_masks, begin, end, sizes)
        if of_results and of_tracks:
            ious = coco_mask.iou(of_results, of_tracks, [0] * len(of_tracks))
            columns, rows = np.nonzero(ious.T > 0)
            parts.append((result_frames[rows], result_ids[rows], track_ids[columns], ious[rows, columns]))
    if not parts:
        empty = np.zeros(0, np.int64)
        return Overlaps(empty, empty, empty, np.zeros(0), empty)
    found = [np.concatenate(part) for part in zip(*parts, strict=True)]
    frames, result_ids, track_ids, values = (part[np.lexsort(found[2::-1])] for part in found)
    result_areas = np.stack([_padded(result.areas, length) for result in results])
    track_areas = np.stack([_padded(track.areas, length) for track in tracks])
    # The IoU is i / (a + b - i), so i = iou (a + b) / (1 + iou), exact once rounded.
    total = result_areas[result_ids, frames] + track_areas[track_ids, frames]
    intersections = np.rint(values * total / (1.0 + values)).astype(np.int64)
    return Overlaps(frames, result_ids, track_ids, values, intersections)


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


def _given(
    items: Sequence[tuple[int, int, Sequence[bytes | None]]],
    begin: int,
    end: int,
    sizes: Sequence[Sequence[tuple[int, int]]],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[dict[str, Any]]]:
    """The masks from one frame to another: their items, their frames, and themselves as pycocotools wants them.

    Args:
        items: group, number and masks of each.
        begin, end: frames.
        sizes: of each group and frame.
    """
    numbers: list[int] = []
    frames: list[int] = []
    given: list[dict[str, Any]] = []
    for group, number, masks in items:
        there = [frame for frame, mask in enumerate(masks[begin:end], begin) if mask is not None]
        of_group = sizes[group]
        given += [{"size": of_group[frame - begin], "counts": masks[frame]} for frame in there]
        frames += there
        numbers += [number] * len(there)
    return np.array(numbers, np.int64), np.array(frames, np.int64), given


def _padded(areas: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    if areas.size >= length:
        return areas[:length]
    return np.concatenate((areas, np.full(length - areas.size, -1, np.int64)))
