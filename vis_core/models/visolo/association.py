"""Who is who by grid similarity: the similarity that the network learns between cells of two frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vis_core.models.visolo.instances import VISOLOInstances
from vis_core.nn.arrays import product, sigmoid
from vis_core.tracking.associator import Window, shown_rows
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.motion import Appearance

if TYPE_CHECKING:
    from vis_core.tracking.graph_association import Detections, GraphAssociator


class GridAssociator(Appearance[VISOLOInstances]):
    """Which detection continues which track, by grid similarity (the published inference).

    Tracks are asked in the order in which they were last seen, latest frame first; within a frame, each detection in
    turn takes the most similar track that is still free. A track is remembered by the query features of the cell in
    which it was last seen.

    Args:
        threshold: least similarity, 0..1.
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def associate(
        self, found: VISOLOInstances, window: Window, lifecycle: TrackLifecycle
    ) -> tuple[Sequence[int], Sequence[int | None]]:
        count = len(found)
        continues: list[int | None] = [None] * count
        alive = lifecycle.alive
        if not alive or not count:
            return range(count), continues
        similarity = self.similarity(found, lifecycle)
        groups: dict[int, list[int]] = {}
        for row, track_id in enumerate(alive):
            groups.setdefault(lifecycle.last_step(track_id), []).append(row)
        for step in sorted(groups, reverse=True):
            free = groups[step]
            for column in range(count):
                if continues[column] is None and free:
                    values = similarity[free, column]
                    best = int(values.argmax())
                    if float(values[best]) >= self.threshold:
                        continues[column] = alive[free.pop(best)]
            if None not in continues:
                break
        return range(count), continues

    def similarity(self, found: VISOLOInstances, lifecycle: TrackLifecycle) -> npt.NDArray[np.float32]:
        if not lifecycle.alive:
            return np.zeros((0, len(found)), np.float32)
        return sigmoid(product(np.stack([self.remembered[i] for i in lifecycle.alive]), found.reference))

    def remember(self, track_ids: Sequence[int | None], found: VISOLOInstances, window: Window) -> None:
        for row, track_id in shown_rows(track_ids):
            self.remembered[track_id] = found.query[:, row].copy()  # a view would keep the whole frame's features


def graph_associator(edge_weight: float, birth_score: float) -> GraphAssociator[VISOLOInstances]:
    """Matching of graphs, by the reference features of cells, and with the scores that VISOLO shows."""
    from vis_core.tracking.graph_association import GraphAssociator

    return GraphAssociator(edge_weight, birth_score=birth_score, memory_features=0, describe=_embedded)


def _embedded(found: VISOLOInstances, window: Window) -> Detections:
    import torch

    from vis_core.tracking.graph_association import Detections

    height, width = found.detections.masks.shape[1:]
    scale = np.tile((window.size[1] / width, window.size[0] / height), 2)
    classes = found.class_scores * (found.scores / found.class_scores.max(1, initial=1e-12))[:, None]
    return Detections(found.boxes * scale, classes, torch.from_numpy(found.reference.T.copy()))
