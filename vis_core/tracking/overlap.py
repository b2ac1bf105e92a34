"""Which instance of a window continues which track of the windows before: by their masks in the shared frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    first: int
    masks: Tensor


class OverlapLinker:
    """Links by the IoU of mask volumes over the frames that a window shares with the last one that held the track.

    Pairs are assigned for the greatest sum of IoU; those under the least one are not linked. A track that shares no
    frame with the window cannot be continued any more.

    Args:
        least_overlap: IoU of a pair, 0..1.
    """

    def __init__(self, least_overlap: float) -> None:
        self.least_overlap = least_overlap
        self._seen: dict[int, _Seen] = {}

    def associate(self, masks: Tensor, first: int) -> list[int | None]:
        """Track ids that the instances of a window continue, None for a new track.

        Args:
            masks: bool ``[N, T, h, w]``.
            first: number of the window's first frame in the stream.
        """
        self._seen = {i: seen for i, seen in self._seen.items() if seen.first + len(seen.masks) > first}
        continues: list[int | None] = [None] * len(masks)
        if not self._seen or not len(masks):
            return continues
        overlaps = torch.stack([self._overlaps(seen, masks, first) for seen in self._seen.values()]).cpu().numpy()
        # A pair under the least must not displace one above it: it is worth no more than none.
        worth = overlaps * (overlaps >= self.least_overlap)
        ids = list(self._seen)
        for row, column in zip(*linear_sum_assignment(worth, maximize=True)):
            if worth[row, column] > 0:
                continues[column] = ids[row]
        return continues

    def remember(self, track_ids: list[int], masks: Tensor, first: int) -> None:
        """Store the masks bool ``[N, T, h, w]`` of tracks in a window whose first frame has that number."""
        for track_id, volume in zip(track_ids, masks):
            self._seen[track_id] = _Seen(first, volume.clone())  # a view would keep those of all instances

    def forget(self, track_ids: tuple[int, ...]) -> None:
        """Drop tracks that have ended."""
        for track_id in track_ids:
            self._seen.pop(track_id, None)

    def clear(self) -> None:
        """Forget every track."""
        self._seen.clear()

    def nbytes(self) -> int:
        """Size of what is remembered."""
        return sum(seen.masks.numel() for seen in self._seen.values())

    @staticmethod
    def _overlaps(seen: _Seen, masks: Tensor, first: int) -> Tensor:
        """IoU of a track and each of N instances over the frames that they share, ``[N]``; 0 where both are empty."""
        end = min(seen.first + len(seen.masks), first + masks.shape[1])
        start = max(seen.first, first)
        before = seen.masks[start - seen.first : end - seen.first].flatten().float()
        now = masks[:, start - first : end - first].flatten(1).float()
        common = now @ before
        return common / (before.sum() + now.sum(1) - common).clamp(min=1)
