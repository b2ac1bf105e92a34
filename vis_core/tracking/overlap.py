"""Which instance of a window is which track of the windows before: by their masks in the shared frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vis_core.tracking.assignment import assign
from vis_core.tracking.associator import Associator, Window, shown_rows
from vis_core.tracking.lifecycle import TrackLifecycle


class ClipMasks(Protocol):
    """What is linked by overlap."""

    @property
    def class_scores(self) -> npt.NDArray[np.float32]:
        """``[N, C]`` or ``[N, T, C]``."""

    @property
    def coarse_masks(self) -> Tensor:
        """Bool ``[N, T, h, w]``, at a resolution of the system's choice."""


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    first: int
    masks: Tensor
    label: int

    @property
    def nbytes(self) -> int:
        return self.masks.numel()


class OverlapAssociator(Associator[ClipMasks]):
    """Links by the IoU of mask volumes over the frames that a window shares with the last one that held the track.

    Pairs are assigned for the greatest sum of IoU; those under the least one are not linked. A track that shares no
    frame with the window cannot be continued any more.

    Args:
        min_overlap: IoU of a pair, 0..1.
        same_label: link only what has the same label in both windows.
        consecutive: link only what the window before held.
    """

    shared_frames = 1

    def __init__(self, min_overlap: float, same_label: bool = False, consecutive: bool = False) -> None:
        super().__init__()
        self.min_overlap = min_overlap
        self.same_label = same_label
        self.consecutive = consecutive

    def associate(
        self, found: ClipMasks, window: Window, lifecycle: TrackLifecycle
    ) -> tuple[Sequence[int], Sequence[int | None]]:
        masks = found.coarse_masks
        continues: list[int | None] = [None] * len(masks)
        gone = [i for i, seen in self.remembered.items() if seen.first + len(seen.masks) <= window.first]
        self.forget(gone)
        if self.remembered and len(masks):
            tracks = list(self.remembered.values())
            overlaps = torch.stack([_overlaps(seen, masks, window.first) for seen in tracks]).cpu().numpy()
            allowed = overlaps >= self.min_overlap
            if self.same_label:
                allowed &= np.array([seen.label for seen in tracks])[:, None] == clip_labels(found.class_scores)
            ids = list(self.remembered)
            for row, column in assign(overlaps, allowed & (overlaps > 0)):
                continues[column] = ids[row]
        return range(len(masks)), continues

    def remember(self, track_ids: Sequence[int | None], found: ClipMasks, window: Window) -> None:
        if self.consecutive:
            self.clear()
        labels = clip_labels(found.class_scores)
        for row, track_id in shown_rows(track_ids):
            # A view would keep the masks of all instances.
            self.remembered[track_id] = _Seen(window.first, found.coarse_masks[row].clone(), int(labels[row]))


def clip_labels(class_scores: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Best class of each instance of a clip ``[N]``, from its class scores ``[N, C]`` or ``[N, T, C]``."""
    of_clip = class_scores.mean(1) if class_scores.ndim == 3 else class_scores
    labels: npt.NDArray[np.intp] = of_clip.argmax(1) if len(of_clip) else np.zeros(0, np.intp)
    return labels


def _overlaps(seen: _Seen, masks: Tensor, first: int) -> Tensor:
    """IoU of a track and each of N instances over the frames that they share, ``[N]``; 0 where both are empty."""
    end = min(seen.first + len(seen.masks), first + masks.shape[1])
    start = max(seen.first, first)
    before = seen.masks[start - seen.first : end - seen.first].flatten().float()
    now = masks[:, start - first : end - first].flatten(1).float()
    common = now @ before
    return common / (before.sum() + now.sum(1) - common).clamp(min=1)
