"""The slots of EfficientVIS: what a clip starts with from the clip before, and which track a query is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from vis_core.models.efficientvis.instances import EfficientVISInstances
from vis_core.system.clip import size_of
from vis_core.tracking.associator import Associator, Window
from vis_core.tracking.lifecycle import TrackLifecycle


class Slots(Associator[EfficientVISInstances]):
    """A slot is a query's place: the next clip starts there from the query of this one, so the slot is the track.

    A slot whose query is sure in a window is carried: its query, and its last box if asked, start the next one. One
    that is not sure is carried on as it was for some windows, then its track ends, and it starts from what was learned,
    as every slot does that is not carried.

    Carried is not numbered: an instance that is shown in none of a window's frames is carried all the same, and gets
    its number when it is first shown.

    Args:
        carry: ``confident``: as above; ``all``: every slot is carried from window to window, and nothing ends.
        proposals_carry: where boxes start: ``learned``, or ``last``: at a carried slot's of the last frame.
        max_lost_clips: windows in a row in which a carried slot may be not sure.
    """

    def __init__(self, carry: str, proposals_carry: str, max_lost_clips: int) -> None:
        super().__init__()
        self.carry, self.proposals_carry, self.max_lost_clips = carry, proposals_carry, max_lost_clips
        self.queries: dict[int, Tensor] = {}
        """Of the carried slots, ``[C]``."""
        self.boxes: dict[int, Tensor] = {}
        """Of the carried slots where they last were, ``[4]``, pixels of the network's image."""
        self.tracks: dict[int, int] = {}
        """Of the carried slots that were shown."""
        self.misses: dict[int, int] = {}
        """Of the carried slots: the last windows, in a row, in which they were not sure."""
        self._staying: Sequence[int] = ()

    def start(self, queries: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Queries ``[N, C]`` and boxes ``[N, 4]`` that a clip starts with.

        Args:
            queries: that were learned, ``[N, C]``.
            boxes: that were learned, ``[N, 4]``.
        """
        if self.queries:
            queries = torch.stack([self.queries.get(slot, x) for slot, x in enumerate(queries)])
            if self.proposals_carry == "last":
                boxes = torch.stack([self.boxes.get(slot, x) for slot, x in enumerate(boxes)])
        return queries, boxes

    def associate(
        self, found: EfficientVISInstances, window: Window, lifecycle: TrackLifecycle
    ) -> tuple[Sequence[int], Sequence[int | None]]:
        sure = found.sure.tolist()
        if self.carry == "all":
            self._staying = range(len(sure))
        else:
            self._staying = [slot for slot, is_sure in enumerate(sure) if is_sure]
            for slot in [slot for slot in sorted(self.queries) if not sure[slot]]:
                self.misses[slot] += 1
                if self.misses[slot] > self.max_lost_clips:
                    if slot in self.tracks:
                        lifecycle.end([self.tracks[slot]])
                    self._free(slot)
        return self._staying, [self.tracks.get(slot) for slot in self._staying]

    def remember(self, track_ids: Sequence[int | None], found: EfficientVISInstances, window: Window) -> None:
        for slot in self._staying:
            # Views would keep the whole window's.
            self.queries[slot], self.boxes[slot] = found.queries[slot].clone(), found.last_boxes[slot].clone()
            self.misses[slot] = 0
            if (track_id := track_ids[slot]) is not None:
                self.tracks[slot] = track_id

    def forget(self, track_ids: Iterable[int]) -> None:
        ended = set(track_ids)
        for slot in [slot for slot, track_id in self.tracks.items() if track_id in ended]:
            if self.carry == "all":
                del self.tracks[slot]
            else:
                self._free(slot)

    def _free(self, slot: int) -> None:
        for known in (self.queries, self.boxes, self.tracks, self.misses):
            known.pop(slot, None)  # type: ignore[attr-defined]

    def clear(self) -> None:
        for known in (self.queries, self.boxes, self.tracks, self.misses):
            known.clear()  # type: ignore[attr-defined]

    def nbytes(self) -> int:
        return size_of(*self.queries.values(), *self.boxes.values())
