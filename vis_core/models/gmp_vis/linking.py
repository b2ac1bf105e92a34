"""Which slot of a clip continues which track: slots of the frames that both hold are matched as graphs."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.system.clip import size_of
from vis_core.tracking.associator import Associator, Window, shown_rows
from vis_core.tracking.graph_pairs import Graphs, matched_pairs, neighbour_edges
from vis_core.tracking.lifecycle import TrackLifecycle

SHARED_FRAMES = 4
"""That successive clips share at least, if they are longer."""

_UNMATCHED = 0.1
_SIMILARITY = 0.5


@dataclass(frozen=True, eq=False)
class Looks:
    """What N slots look like in the frames of a clip.

    Attributes:
        first: number of the first frame.
        masks: bool ``[N, T, h, w]``, at a resolution of the system's choice.
        centres: x and y in diagonals of the image ``[N, T, 2]``.
        embeddings: ``[N, T, E]``; None: they do not count.
    """

    first: int
    masks: Tensor
    centres: Tensor
    embeddings: Tensor | None

    @property
    def end(self) -> int:
        """Number of the frame after the last one."""
        return self.first + self.masks.shape[1]

    @property
    def nbytes(self) -> int:
        """Size, bytes."""
        return size_of(self.masks, self.centres, self.embeddings)

    def row(self, row: int) -> Looks:
        """One slot alone, in memory of its own."""
        parts = (self.masks, self.centres, self.embeddings)
        return Looks(self.first, *(None if x is None else x[row : row + 1].clone() for x in parts))  # type: ignore[arg-type]

    def between(self, first: int, end: int) -> Looks:
        """In some of the frames."""
        parts = (self.masks, self.centres, self.embeddings)
        part = slice(first - self.first, end - self.first)
        return Looks(first, *(None if x is None else x[:, part] for x in parts))  # type: ignore[arg-type]

    def mean(self) -> tuple[Tensor, Tensor | None]:
        """Mean centres ``[N, 2]`` and embeddings of unit length ``[N, E]``."""
        embeddings = None if self.embeddings is None else F.normalize(self.embeddings.double().mean(1), dim=1)
        return self.centres.double().mean(1), embeddings


def clip_starts(frames: int, length: int) -> list[int]:
    """First frames of the clips of a video, which share at least four frames with the next one if they are longer.

    Args:
        frames: of the video.
        length: of a clip.
    """
    if frames <= length:
        return [0]
    steps = -(-(frames - length) // (length - shared_frames(length)))
    return [int(i * (frames - length) / steps + 0.5) for i in range(steps + 1)]


def shared_frames(length: int) -> int:
    """Frames that successive clips of a length must share."""
    return min(SHARED_FRAMES, length - 1)


def link(tracks: Sequence[Looks], now: Looks, min_affinity: float) -> list[tuple[int, int]]:
    """Pairs of track and slot that belong together, by the frames that the clip shares with each track.

    A pair's affinity is the mean IoU of its masks and half the cosine of its embeddings, if they count. Edges are
    strong between neighbours, the more so if they look alike: what was side by side is expected side by side.

    Args:
        tracks: of one slot each, all of which share frames with the clip.
        now: the slots of the clip.
        min_affinity: of a pair.
    """
    count = len(now.masks)
    if not tracks or not count:
        return []
    affinity, places, looks = [], [], []
    for track in tracks:
        first, end = max(track.first, now.first), min(track.end, now.end)
        before, after = track.between(first, end), now.between(first, end)
        centre, embedding = before.mean()
        alike = _overlaps(before.masks, after.masks)
        if embedding is not None:
            alike += _SIMILARITY * (after.mean()[1] @ embedding[0]).cpu()  # type: ignore[operator]
        affinity.append(alike.numpy())
        places.append(centre)
        looks.append(embedding)
    centres, embeddings = now.between(now.first, min(max(track.end for track in tracks), now.end)).mean()
    worth = np.stack(affinity)
    of_tracks = neighbour_edges(torch.cat(places), None if embeddings is None else torch.cat(looks))  # type: ignore[arg-type]
    graphs = Graphs(
        np.where(worth >= min_affinity, worth, -1),
        np.full(len(worth), _UNMATCHED),
        np.full(count, _UNMATCHED),
        of_tracks.cpu().numpy(),
        neighbour_edges(centres, embeddings).cpu().numpy(),
    )
    return [(row, column) for row, column in matched_pairs(graphs) if worth[row, column] >= min_affinity]


class ClipAppearance(Protocol):
    """What is linked."""

    @property
    def looks(self) -> Looks:
        """Of all rows, in all frames of the window."""


class ClipAssociator(Associator[ClipAppearance]):
    """Links slots of a window to tracks that were seen in frames that it holds too.

    Args:
        min_affinity: of a pair: mean IoU of the masks, and half the cosine of the embeddings where they count.
        clip_length: frames of a window.
    """

    def __init__(self, min_affinity: float, clip_length: int) -> None:
        super().__init__()
        self.min_affinity, self.shared_frames = min_affinity, shared_frames(clip_length)

    def associate(
        self, found: ClipAppearance, window: Window, lifecycle: TrackLifecycle
    ) -> tuple[Sequence[int], Sequence[int | None]]:
        looks = found.looks
        continues: list[int | None] = [None] * len(looks.masks)
        self.forget([i for i, seen in self.remembered.items() if seen.end <= window.first])
        ids = list(self.remembered)
        for row, column in link(list(self.remembered.values()), looks, self.min_affinity):
            continues[column] = ids[row]
        return range(len(continues)), continues

    def remember(self, track_ids: Sequence[int | None], found: ClipAppearance, window: Window) -> None:
        for row, track_id in shown_rows(track_ids):
            self.remembered[track_id] = found.looks.row(row)


class VideoAssociator(Associator[Sized]):
    """A video is one clip, and each of its results a track."""

    def associate(
        self, found: Sized, window: Window, lifecycle: TrackLifecycle
    ) -> tuple[Sequence[int], Sequence[int | None]]:
        return range(len(found)), [None] * len(found)

    def remember(self, track_ids: Sequence[int | None], found: Sized, window: Window) -> None:
        """Nothing comes after it."""


def _overlaps(before: Tensor, after: Tensor) -> Tensor:
    """Mean over the frames of the IoU of a mask ``[1, T, h, w]`` with each of ``[N, T, h, w]``, float64 ``[N]``.

    0 in a frame where both are empty.
    """
    one, others = before[0].flatten(1).float(), after.flatten(2).float()
    common = torch.einsum("tp,ntp->nt", one, others)
    union = one.sum(1) + others.sum(2) - common
    return (common / union.clamp(min=1)).double().mean(1).cpu()
