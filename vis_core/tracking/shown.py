"""Which tracks deserve to be shown: those that were once sure enough."""

from __future__ import annotations

import numpy as np

from vis_core.structures import Instances, TrackState


class ShownTracks:
    """Of a stream's tracks, those whose running score has reached a least one, from then on to their end.

    What a system doubts from beginning to end is left out; what it was once sure of does not flicker.

    Args:
        min_score: the least running score; 0: all are shown.

    Attributes:
        min_score: may be changed; tracks that are shown stay.
    """

    def __init__(self, min_score: float) -> None:
        self.min_score = min_score
        self._shown: set[int] = set()

    def __call__(self, instances: Instances) -> Instances:
        """Those of the next frame."""
        sure = instances.visible & (instances.track_scores >= np.float32(self.min_score))
        self._shown.update(instances.track_ids[sure].tolist())
        rows = np.array([int(i) in self._shown for i in instances.track_ids], np.bool_)
        if self.min_score <= 0:
            rows[:] = True
        self._shown.difference_update(instances.track_ids[instances.states == TrackState.ENDED].tolist())
        return instances if rows.all() else instances[rows]
