"""Errors in space: tracks with a place against objects whose positions, sizes and velocities are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as coco_mask

from vis_core.data.spatial_truth import SpatialTruth
from vis_core.evaluation.inputs.tracks import Track
from vis_core.masks import to_coco
from vis_core.nn.matching import linear_sum_assignment
from vis_core.structures import Instances

if TYPE_CHECKING:
    from vis_core.spatial.tracks import SpatialTrack

_LEAST_IOU = 0.5
SETTLED = 10
"""Images in which a track was measured before its velocity counts."""


class SpatialScores:
    """Takes the answers to a video frame by frame.

    In each frame objects and tracks are matched one to one by their masks, of an IoU of 0.5 at least, whatever their
    classes; errors are those of the matched tracks that were measured there.

    Args:
        truth: of the objects in space, by annotation id.
        tracks: the ground truth of the video.
    """

    def __init__(self, truth: Mapping[int, SpatialTruth], tracks: Sequence[Track]) -> None:
        self._truth = truth
        self._objects = [track for track in tracks if track.id in truth and not track.crowd]
        self._matched_to: dict[int, int] = {}
        self._measured: Counter[int] = Counter()
        self._counts: Counter[str] = Counter()
        self._errors: dict[str, list[float]] = {"position_m": [], "velocity_m_s": [], "size_m": []}

    def add(self, frame: int, instances: Instances, tracks: Sequence[SpatialTrack]) -> None:
        """The answer to a frame, and its tracks in space in the camera's optical frame."""
        objects = [
            x for x in self._objects if x.masks[frame] and not np.isnan(self._truth[x.id].positions[frame]).any()
        ]
        seen = instances[instances.visible]
        placed = {track.track_id: track for track in tracks if track.measured}
        self._counts["objects"] += len(objects)
        for item, row in _matches([x.masks[frame] for x in objects], seen):
            number, known = int(seen.track_ids[row]), self._truth[objects[item].id]
            self._counts["matched"] += 1
            self._counts["id_switches"] += self._matched_to.setdefault(objects[item].id, number) != number
            self._matched_to[objects[item].id] = number
            if (track := placed.get(number)) is not None:
                self._counts["placed"] += 1
                self._compare("position_m", track.position, known.positions[frame])
                self._compare("size_m", track.size, known.sizes[frame])
                if self._measured[number] >= SETTLED:
                    self._compare("velocity_m_s", track.velocity, known.velocities[frame])
        self._measured.update(list(placed))

    def summary(self) -> dict[str, Any]:
        """Counts and errors, for ``metrics.json``."""
        counts = {name: self._counts[name] for name in ("objects", "matched", "placed", "id_switches")}
        return {**counts, **{name: _statistics(errors) for name, errors in self._errors.items()}}

    def _compare(self, name: str, found: Any, known: Any) -> None:
        if not np.isnan(known).any():
            self._errors[name].append(float(np.linalg.norm(found - known)))


def _matches(objects: Sequence[bytes | None], seen: Instances) -> list[tuple[int, int]]:
    """Pairs of object and row whose masks overlap, the sum of their IoU as large as may be."""
    if not objects or not len(seen):
        return []
    size = list(seen.size)
    wanted = [{"size": size, "counts": counts} for counts in objects]
    overlaps = coco_mask.iou([to_coco(mask) for mask in seen.masks], wanted, [0] * len(wanted))
    rows, items = linear_sum_assignment(np.where(overlaps >= _LEAST_IOU, -overlaps, 0.0))
    return [(int(item), int(row)) for row, item in zip(rows, items) if overlaps[row, item] >= _LEAST_IOU]


def _statistics(errors: Sequence[float]) -> dict[str, float] | None:
    if not errors:
        return None
    median, high = np.percentile(errors, [50, 95])
    return {"mean": float(np.mean(errors)), "median": float(median), "p95": float(high), "max": float(max(errors))}
