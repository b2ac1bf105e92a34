"""Queries of one frame continue those of the frame before that resemble them most (MinVIS, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vis_core.nn.matching import linear_sum_assignment
from vis_core.tracking.assignment import assign
from vis_core.tracking.associator import Associator, Window, shown_rows
from vis_core.tracking.lifecycle import TrackLifecycle


def normalised(embeddings: Tensor) -> Tensor:
    """Embeddings ``[Q, 256]`` of unit length; one of length 0 stays, where the published code fails."""
    length = embeddings.norm(dim=1, keepdim=True)
    return embeddings / torch.where(length > 0, length, 1.0)


def match_queries(previous: Tensor, current: Tensor) -> Tensor:
    """Which query of this frame each slot takes: the best assignment by cosine, ``[Q]`` (paper, section 3.2).

    Args:
        previous: normalised embeddings of the frame before in slot order, ``[Q, 256]``.
        current: normalised embeddings of this frame, ``[Q, 256]``.
    """
    cost = 1 - previous @ current.T
    _, queries = linear_sum_assignment(cost.cpu().numpy())
    return torch.from_numpy(queries).to(current.device)


class SlotOrder:
    """Which query of each frame takes which slot, from frame to frame.

    Attributes:
        embeddings: of the last frame, normalised, in slot order ``[Q, 256]``; None before the first one.
    """

    def __init__(self) -> None:
        self.embeddings: Tensor | None = None

    def align(self, embeddings: Tensor) -> Tensor:
        """Which query each slot takes, ``[Q]``; the first frame defines the slots.

        Args:
            embeddings: of this frame, ``[Q, 256]``.
        """
        current = normalised(embeddings)
        if self.embeddings is None:
            order = torch.arange(len(current), device=current.device)
        else:
            order = match_queries(self.embeddings, current)
        self.embeddings = current[order]
        return order

    def clear(self) -> None:
        """Forget the frame before."""
        self.embeddings = None


class SlotInstances(Protocol):
    """What is linked by slots: N instances of one frame."""

    @property
    def slots(self) -> Sequence[int]:
        """Of each instance."""

    @property
    def embeddings(self) -> Tensor:
        """Normalised, ``[N, 256]``."""


class SlotAssociator(Associator[SlotInstances]):
    """Which slot holds which track.

    Every slot holds some query in every frame; its track goes on as long as that query resembles the one by which the
    track was last seen. If it does not, another object has come into the slot: it continues the lost track that it
    resembles, if there is one, or none.

    Args:
        min_similarity: cosine of the queries of one object in one slot, -1..1.
        return_similarity: cosine of the query of an object and the lost track that it continues, -1..1.
    """

    def __init__(self, min_similarity: float, return_similarity: float) -> None:
        super().__init__()
        self.min_similarity, self.return_similarity = min_similarity, return_similarity
        self._tracks: dict[int, int] = {}
        """The track of each slot that has one."""

    def associate(
        self, found: SlotInstances, window: Window, lifecycle: TrackLifecycle
    ) -> tuple[Sequence[int], Sequence[int | None]]:
        slots = found.slots
        continues: list[int | None] = [None] * len(slots)
        if not self.remembered or not slots:
            return range(len(slots)), continues
        row_of = {track_id: row for row, track_id in enumerate(self.remembered)}
        similarity = (torch.stack(list(self.remembered.values())) @ found.embeddings.T).cpu().numpy()
        for column, slot in enumerate(slots):
            held = self._tracks.get(slot)
            if held is not None and similarity[row_of[held], column] >= self.min_similarity:
                continues[column] = held
        lost = [i for i in self.remembered if i not in continues]
        free = [column for column, track_id in enumerate(continues) if track_id is None]
        part = similarity[np.ix_([row_of[i] for i in lost], free)]
        for row, column in assign(part + 1, part >= self.return_similarity):
            continues[free[column]] = lost[row]
        return range(len(slots)), continues

    def remember(self, track_ids: Sequence[int | None], found: SlotInstances, window: Window) -> None:
        self._tracks = {slot: i for slot, i in self._tracks.items() if i not in track_ids}
        for row, track_id in shown_rows(track_ids):
            self._tracks[found.slots[row]] = track_id
            self.remembered[track_id] = found.embeddings[row].clone()  # a view would keep the whole frame's

    def forget(self, track_ids: Iterable[int]) -> None:
        ended = set(track_ids)
        super().forget(ended)
        self._tracks = {slot: i for slot, i in self._tracks.items() if i not in ended}

    def clear(self) -> None:
        super().clear()
        self._tracks.clear()
