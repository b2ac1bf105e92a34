"""Which detection continues which track: embeddings, each compared with all that are remembered (QDTrack, CVPR 2021).

Pang et al., Quasi-Dense Similarity Learning for Multiple Object Tracking, as Video K-Net (CVPR 2022) uses it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.nn.boxes import box_iou
from vis_core.tracking.associator import Associator, Window
from vis_core.tracking.lifecycle import TrackLifecycle


class EmbeddedInstances(Protocol):
    """What is linked by embeddings: N instances of one frame."""

    @property
    def boxes(self) -> npt.NDArray[np.floating]:
        """``[N, 4]``, x1, y1, x2, y2."""

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """``[N]``."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """``[N]``."""

    @property
    def embeddings(self) -> Tensor:
        """float32 ``[N, C]``."""


@dataclass(slots=True, eq=False)
class Remembered:
    """A track's memory.

    Attributes:
        embedding: ``[C]``, renewed with every sight.
        label: of the last sight.
        box: of the last sight ``[5]``: x1, y1, x2, y2, score.
        last_frame: number of the frame of the last sight.
        velocity: mean change of the box a frame ``[5]``; nothing is associated by it.
        sights: after the first one.
    """

    embedding: Tensor
    label: int
    box: npt.NDArray[np.float32]
    last_frame: int
    velocity: npt.NDArray[np.float32]
    sights: int = 0

    @property
    def nbytes(self) -> int:
        """Size, bytes."""
        return self.embedding.nbytes + self.box.nbytes + self.velocity.nbytes

    def see(self, embedding: Tensor, label: int, box: npt.NDArray[np.float32], frame: int, momentum: float) -> None:
        """Take a new sight; momentum is the share of the new embedding."""
        self.embedding = (1 - momentum) * self.embedding + momentum * embedding
        change = (box - self.box) / max(frame - self.last_frame, 1)
        self.velocity = ((self.velocity * self.sights + change) / (self.sights + 1)).astype(np.float32)
        self.label, self.box, self.last_frame, self.sights = label, box, frame, self.sights + 1


@dataclass(frozen=True, eq=False)
class Backdrops:
    """Detections of a frame that became no track: what resembles one of them most continues nothing."""

    embeddings: Tensor
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Kept:
    """What of a frame `associate` leaves for `remember`: the detections that were not left out, best first.

    Attributes:
        places: for each the row that stands for it: its own or, as published, its position among the kept ones.
        embeddings: ``[K, C]``.
        labels: ``[K]``.
        boxes: ``[K, 5]``, with scores.
        backdrops: bool ``[K]``.
    """

    places: Sequence[int]
    embeddings: Tensor
    labels: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    backdrops: npt.NDArray[np.bool_]


class QuasiDenseAssociator(Associator[EmbeddedInstances]):
    """Best first, each detection continues the track that it resembles most, if that is more than half of it.

    Of detections that overlap, the weaker ones are left out. Those that continue nothing begin a track if they are sure
    enough; else they are remembered for a while as backdrops, which draw what resembles them away from the tracks.
    A frame without detections changes nothing.

    Args:
        birth_score: a detection above it begins a track.
        object_score: a detection above it continues a track; a weaker one that resembles one is left out.
        min_similarity: a detection continues a track above it, 0..1.
        memory_frames: a track not seen for as many frames ends.
        backdrop_frames: frames whose backdrops are remembered.
        momentum: share of the new embedding in what is remembered.
        same_label: only what has the label of the track continues it.
        metric: ``bisoftmax``, the mean of the softmax over what is remembered and that over the detections;
            ``softmax``, the first one alone; or ``cosine``.
        backdrop_overlap: IoU with a better detection above which a weak detection is left out, and none is a backdrop.
        duplicate_overlap: the same above which any detection is left out.
        suppression_similarity: above it a weak detection that resembles a track is left out.
        published_alignment: as the published code paints identities: the i-th one on the i-th detection of the frame,
            not on the i-th of those that were not left out.
    """

    def __init__(
        self,
        birth_score: float = 0.35,
        object_score: float = 0.3,
        min_similarity: float = 0.5,
        memory_frames: int = 5,
        backdrop_frames: int = 1,
        momentum: float = 0.8,
        same_label: bool = True,
        metric: str = "bisoftmax",
        backdrop_overlap: float = 0.3,
        duplicate_overlap: float = 0.7,
        suppression_similarity: float = 0.5,
        published_alignment: bool = False,
    ) -> None:
        super().__init__()
        self.birth_score, self.object_score = birth_score, object_score
        self.min_similarity, self.suppression_similarity = min_similarity, suppression_similarity
        self.memory_frames, self.momentum = memory_frames, momentum
        self.same_label, self.metric = same_label, metric
        self.backdrop_overlap, self.duplicate_overlap = backdrop_overlap, duplicate_overlap
        self.published_alignment = published_alignment
        self.backdrops: deque[Backdrops] = deque(maxlen=backdrop_frames)
        """Of the last frames, the newest first."""
        self._kept: _Kept | None = None
        self._over: list[int] = []
        """Tracks that are too old, and were not ended yet."""

    def associate(
        self, found: EmbeddedInstances, window: Window, lifecycle: TrackLifecycle
    ) -> tuple[Sequence[int], Sequence[int | None]]:
        """As of every associator; a detection that neither continues a track nor begins one does not stay."""
        lifecycle.end([i for i in self._over if i in lifecycle.alive])
        self._over.clear()
        self._kept = None
        if not len(found.scores):
            return [], []
        rows, overlaps = self._without_duplicates(found)
        embeddings, labels, scores = found.embeddings[rows], found.labels[rows], found.scores[rows]
        continues, suppressed = self._continued(embeddings, labels, scores)
        free = np.array([track_id is None for track_id in continues]) & ~suppressed
        born = free & (scores > self.birth_score)
        overlapped = (np.tril(overlaps, -1) > self.backdrop_overlap).any(1)
        places = list(range(len(rows))) if self.published_alignment else rows.tolist()
        boxes = np.concatenate((found.boxes[rows], scores[:, None]), 1, dtype=np.float32)
        self._kept = _Kept(places, embeddings, labels, boxes, free & ~born & ~overlapped)
        stay = [k for k, track_id in enumerate(continues) if born[k] or track_id is not None]
        return [places[k] for k in stay], [continues[k] for k in stay]

    def remember(self, track_ids: Sequence[int | None], found: EmbeddedInstances, window: Window) -> None:
        kept, frame = self._kept, window.first
        if kept is None:
            return
        for k, place in enumerate(kept.places):
            track_id = track_ids[place]
            if track_id is None:
                continue
            sight = (kept.embeddings[k].clone(), int(kept.labels[k]), kept.boxes[k])  # a view would keep all
            if track_id in self.remembered:
                self.remembered[track_id].see(*sight, frame, self.momentum)
            else:
                self.remembered[track_id] = Remembered(*sight, frame, np.zeros(5, np.float32))
        self.backdrops.appendleft(Backdrops(kept.embeddings[kept.backdrops], kept.labels[kept.backdrops]))
        self._over = [i for i, seen in self.remembered.items() if frame - seen.last_frame >= self.memory_frames]
        super().forget(self._over)
        self._kept = None

    def forget(self, track_ids: Iterable[int]) -> None:
        ended = set(track_ids)
        super().forget(ended)
        self._over = [i for i in self._over if i not in ended]

    def clear(self) -> None:
        super().clear()
        self.backdrops.clear()
        self._over.clear()
        self._kept = None

    def nbytes(self) -> int:
        return super().nbytes() + sum(x.embeddings.nbytes + x.labels.nbytes for x in self.backdrops)

    def _without_duplicates(self, found: EmbeddedInstances) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Rows that stay, best first, and the IoU of their boxes ``[K, K]``."""
        order = np.argsort(-found.scores, kind="stable")
        boxes = torch.from_numpy(np.asarray(found.boxes, np.float32)[order])
        overlaps = box_iou(boxes[:, None], boxes).numpy()
        limits = np.where(found.scores[order] < self.object_score, self.backdrop_overlap, self.duplicate_overlap)
        stays = ~(np.tril(overlaps, -1) > limits[:, None]).any(1)
        return order[stays], overlaps[np.ix_(stays, stays)]

    def _continued(
        self, embeddings: Tensor, labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]
    ) -> tuple[list[int | None], npt.NDArray[np.bool_]]:
        """The track that each detection continues, and which detections are left out as weak sights of one."""
        continues: list[int | None] = [None] * len(scores)
        suppressed = np.zeros(len(scores), np.bool_)
        if not self.remembered:
            return continues, suppressed
        ids, tracks = list(self.remembered), list(self.remembered.values())
        known = torch.cat([torch.stack([x.embedding for x in tracks]), *(x.embeddings for x in self.backdrops)])
        similarity = self._similarity(embeddings, known).cpu().numpy()
        if self.same_label:
            known_labels = np.concatenate([[x.label for x in tracks], *(x.labels for x in self.backdrops)])
            similarity = similarity * (labels[:, None] == known_labels)
        for k, score in enumerate(scores):
            best = int(similarity[k].argmax())
            if similarity[k, best] <= self.min_similarity or best >= len(ids):
                continue
            if score > self.object_score:
                continues[k] = ids[best]
                others = np.arange(len(scores)) != k
                similarity[others, best] = 0
            elif similarity[k, best] > self.suppression_similarity:
                suppressed[k] = True
        return continues, suppressed

    def _similarity(self, embeddings: Tensor, known: Tensor) -> Tensor:
        """Of detections and what is remembered ``[K, M]``."""
        if self.metric == "cosine":
            return F.normalize(embeddings, dim=1) @ F.normalize(known, dim=1).T
        products = embeddings @ known.T
        over_known = products.softmax(1)
        return over_known if self.metric == "softmax" else (over_known + products.softmax(0)) / 2
