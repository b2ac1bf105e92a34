"""Regions of frames in which results that match nothing are neither right nor wrong (KITTI-MOTS)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from vis_core.evaluation.inputs.tracks import Groups, Result, Track
from vis_core.evaluation.metrics.overlaps import Overlaps
from vis_core.evaluation.metrics.video_frames import EPSILON, video_frames

_MATCHED = 0.5
_INSIDE = 0.5


def without_ignored(
    results: Sequence[Result],
    tracks: Sequence[Track],
    overlaps: Overlaps,
    groups: Groups,
    regions: Sequence[bytes | None],
    size: tuple[int, int],
) -> list[Result]:
    """The results without the masks that match no track and lie more than half in the region of their frame.

    A result that has no mask left goes.

    Args:
        results: of a video.
        tracks: of the video.
        overlaps: of these.
        groups: by category the positions of its results and of its tracks.
        regions: compressed run lengths of each frame, or None.
        size: height and width of the video.
    """
    matched = np.zeros((len(results), len(regions)), np.bool_)
    frames = video_frames(results, tracks, overlaps, groups)
    near = frames.pairs.select(frames.pairs.ious >= _MATCHED - EPSILON)
    pairs = near.select(frames.assigned(near, near.ious))
    rows = np.array([row for of_category, _ in groups.values() for row in of_category], np.intp)
    matched[rows[pairs.results], pairs.frames] = True
    removed: dict[int, list[int]] = {}
    for frame, region in enumerate(regions):
        loose = [i for i, result in enumerate(results) if result.masks[frame] is not None and not matched[i, frame]]
        if region is None or not loose:
            continue
        # As the overlap with a crowd: the part of the result that lies inside.
        inside = coco_mask.iou(
            [{"size": size, "counts": results[i].masks[frame]} for i in loose], [{"size": size, "counts": region}], [1]
        )
        for i in np.array(loose)[inside[:, 0] > _INSIDE + EPSILON].tolist():
            removed.setdefault(i, []).append(frame)
    kept = []
    for i, result in enumerate(results):
        if i in removed:
            result = _without(result, removed[i])
            if not (result.areas >= 0).any():
                continue
        kept.append(result)
    return kept


def _without(result: Result, frames: list[int]) -> Result:
    masks = list(result.masks)
    areas: npt.NDArray[np.int64] = result.areas.copy()
    for frame in frames:
        masks[frame] = None
    areas[frames] = -1
    return replace(result, masks=tuple(masks), areas=areas)
