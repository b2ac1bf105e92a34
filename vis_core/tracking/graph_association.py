"""Which detection continues which track: the tracks and the detections of a frame as two graphs that are matched.

Nodes are instances, edges their pairs, as in GMP-VIS (CVPR 2023); costs, births and deaths are this project's. It links
what any system or detector finds frame by frame: boxes and class scores, and embeddings where there are any.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vis_core.errors import OptionError
from vis_core.tracking.associator import Associator, Window, shown_rows
from vis_core.tracking.graph_pairs import Graphs, matched_pairs, neighbour_edges
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.motion import box_iou

_Floats = npt.NDArray[np.float64]

_BARRED = -10.0
_SAME_CLASS = 0.25
_DISTANCE = 0.5
_LEAST_ALIKE = 0.1
_UNMATCHED = 0.15  # of a live track and of a detection; of a lost track 0
_LONG = 5  # frames without a track, beyond which its place says nothing, and its look must
_RETURN_SIMILARITY = 0.6
_PREDICTED = 3  # frames that a track moves on unseen
_MOMENTUM = 0.9


class EmbeddedBoxes(Protocol):
    """What is linked by graph matching: N instances of one frame."""

    @property
    def boxes(self) -> npt.NDArray[np.floating[Any]]:
        """``[N, 4]``, x1, y1, x2, y2, pixels of the frame."""

    @property
    def class_scores(self) -> npt.NDArray[np.floating[Any]]:
        """``[N, C]``, 0..1; the greatest is the instance's score and tells its class."""

    @property
    def embeddings(self) -> Tensor | None:
        """``[N, E]``, alike by their cosine; None: there are none."""


class LinkedInstances(EmbeddedBoxes, Protocol):
    """The same, with what is kept of them."""

    @property
    def features(self) -> Tensor | None:
        """``[N, F]``, only kept, for `GraphAssociator.stored_features`; None: there are none."""


@dataclass(frozen=True, eq=False)
class Detections:
    """Instances of one frame as plain arrays; see `LinkedInstances`."""

    boxes: npt.NDArray[np.floating[Any]]
    class_scores: npt.NDArray[np.floating[Any]]
    embeddings: Tensor | None = None
    features: Tensor | None = None

    @staticmethod
    def of(found: EmbeddedBoxes, window: Window) -> Detections:
        """What is linked of a system's instances that have no features to keep."""
        return Detections(found.boxes, found.class_scores, found.embeddings)


Found = TypeVar("Found", contravariant=True)


@dataclass(slots=True, eq=False)
class GraphTrack:
    """A track's memory.

    Attributes:
        box: of the last sight ``[4]``.
        velocity: of its centre ``[2]``, pixels a frame.
        embedding: running mean of unit vectors, float32 ``[E]``.
        last_frame: number of the frame of the last sight.
        score_sum: over all sights.
        sights: their number.
        features: of the last sights, with the numbers of their frames.
    """

    box: _Floats
    velocity: _Floats
    embedding: npt.NDArray[np.float32]
    last_frame: int
    score_sum: float
    features: deque[tuple[int, Tensor]]
    sights: int = 1

    @property
    def nbytes(self) -> int:
        """Size, bytes."""
        of_features = sum(x.nbytes for _, x in self.features)
        return self.box.nbytes + self.velocity.nbytes + self.embedding.nbytes + of_features

    def see(self, box: _Floats, embedding: npt.NDArray[np.float32], score: float, frame: int) -> None:
        """Take a new sight."""
        moved = (box[:2] - self.box[:2] + box[2:] - self.box[2:]) / (2 * max(frame - self.last_frame, 1))
        self.velocity = 0.5 * self.velocity + 0.5 * moved
        if self.embedding.shape == embedding.shape:
            self.embedding = np.float32(_MOMENTUM) * self.embedding + np.float32(1 - _MOMENTUM) * embedding
        elif embedding.size:
            self.embedding = embedding
        self.box, self.last_frame = box, frame
        self.score_sum, self.sights = self.score_sum + score, self.sights + 1


@dataclass(frozen=True, eq=False)
class _Sights:
    """The detections of a frame that can be linked.

    Attributes:
        rows: of each among all that was found.
        boxes: ``[N, 4]``.
        scores: ``[N]``.
        labels: ``[N]``.
        embeddings: of unit length, or 0, ``[N, E]``; E is 0 where there are none.
        features: ``[N, F]``, of all that was found.
    """

    rows: npt.NDArray[np.intp]
    boxes: _Floats
    scores: _Floats
    labels: npt.NDArray[np.intp]
    embeddings: npt.NDArray[np.float32]
    features: Tensor | None


class GraphAssociator(Associator[Found]):
    """Matches the graph of tracks, live and lost, with the graph of a frame's detections.

    A pair's affinity is the cosine of its embeddings, the IoU of the track's predicted box with the detection's, 0.25
    for one class, less half the distance of the centres in diagonals of the image. Pairs with hardly any of the first
    two may not be, nor those of a track lost for more than five frames with a cosine below 0.6: its place counts no
    more, so that without embeddings none returns after five frames. Edges are strong between neighbours, the more so if
    they look alike and could be taken for each other: what was side by side is expected side by side.

    In the first frame each detection that is sure enough begins a track, as each that is left over does later; an empty
    frame changes nothing but the tracks' age. A lost track that is matched keeps its id, until the life cycle
    ends it. A detection whose box or score is not finite does not stay; one whose embedding is not finite is linked
    without it. Graphs of more than 100 nodes are matched without edges, which a warning tells once.

    Args:
        edge_weight: what edges weigh beside the affinity; 0: none, plain assignment.
        class_aware: only what has the class of the track so far continues it. Harmful where classes flicker.
        prune: leave out of the graphs what can be matched with nothing, which would only take from its neighbours.
        birth_score: least score of a detection that begins a track.
        max_tracks: at a birth beyond it the track lost longest ends, else the one of the lowest mean score, if that is
            below the score of what would begin; else nothing begins.
        memory_features: of a track that are kept, the last ones.
        describe: what is linked, of what a system finds; None: it is `LinkedInstances` itself.

    Raises:
        OptionError: a weight that is negative, or no track at all.
    """

    def __init__(
        self,
        edge_weight: float = 1.0,
        class_aware: bool = False,
        prune: bool = True,
        birth_score: float = 0.5,
        max_tracks: int = 64,
        memory_features: int = 8,
        describe: Callable[[Found, Window], LinkedInstances] | None = None,
    ) -> None:
        super().__init__()
        if not edge_weight >= 0:
            raise OptionError(f"edge_weight is {edge_weight}, but must be at least 0")
        if max_tracks < 1 or memory_features < 0:
            raise OptionError(
                f"max_tracks is {max_tracks} and memory_features {memory_features}; at least 1 and 0 are needed"
            )
        self.edge_weight, self.class_aware, self.prune = edge_weight, class_aware, prune
        self.birth_score, self.max_tracks, self.memory_features = birth_score, max_tracks, memory_features
        self._describe = describe
        self._sights: _Sights | None = None
        """Of the frame that `associate` was asked about, for `remember`."""

    def associate(
        self, found: Found, window: Window, lifecycle: TrackLifecycle
    ) -> tuple[Sequence[int], Sequence[int | None]]:
        """As of every associator; a detection that neither continues a track nor begins one does not stay."""
        sights = self._sights = self._read(found, window)
        continues: list[int | None] = [None] * len(sights.rows)
        if self.remembered and continues:
            ids = list(self.remembered)
            graphs = self._graphs(sights, window, lifecycle)
            for track, detection in matched_pairs(graphs, self.edge_weight, self.prune):
                continues[detection] = ids[track]
        born = self._born(continues, sights.scores, lifecycle)
        stay = [k for k, track_id in enumerate(continues) if track_id is not None or k in born]
        return sights.rows[stay].tolist(), [continues[k] for k in stay]

    def remember(self, track_ids: Sequence[int | None], found: Found, window: Window) -> None:
        sights, frame = self._sights, window.first
        if sights is None:
            return
        place = {row: k for k, row in enumerate(sights.rows.tolist())}
        for row, track_id in shown_rows(track_ids):
            k = place[row]
            box, embedding, score = sights.boxes[k].copy(), sights.embeddings[k].copy(), float(sights.scores[k])
            track = self.remembered.get(track_id)
            if track is None:
                features: deque[tuple[int, Tensor]] = deque(maxlen=self.memory_features)
                track = GraphTrack(box, np.zeros(2), embedding, frame, score, features)
                self.remembered[track_id] = track
            else:
                track.see(box, embedding, score, frame)
            if self.memory_features and sights.features is not None and (embedding.any() or not embedding.size):
                track.features.append((frame, sights.features[row].clone()))  # a view would keep the whole frame's
        self._sights = None

    def clear(self) -> None:
        super().clear()
        self._sights = None

    def stored_features(self, frame: int) -> tuple[Tensor, Tensor]:
        """The features that are kept, of all tracks, each track's from its oldest to its newest.

        Args:
            frame: number of the frame to come.

        Returns:
            The features ``[M, F]``, and how many frames ago each was stored, int64 ``[M]``, on the features' device;
            both empty, with F = 0, where there are none.
        """
        kept = [pair for track in self.remembered.values() for pair in track.features]
        if not kept:
            return torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64)
        features = torch.stack([x for _, x in kept])
        return features, torch.tensor([frame - stored for stored, _ in kept], device=features.device)

    def _read(self, found: Found, window: Window) -> _Sights:
        """What of a frame can be linked."""
        described: Any = found if self._describe is None else self._describe(found, window)
        boxes, classes = (np.asarray(x, np.float64) for x in (described.boxes, described.class_scores))
        rows = np.flatnonzero(np.isfinite(boxes).all(1) & np.isfinite(classes).all(1))
        embeddings = np.zeros((len(boxes), 0), np.float32)
        if described.embeddings is not None:
            embeddings = described.embeddings.detach().float().cpu().numpy()
        boxes, classes, embeddings = boxes[rows], classes[rows], embeddings[rows]
        embeddings = np.where(np.isfinite(embeddings).all(1, keepdims=True), embeddings, np.float32(0))
        labels = classes.argmax(1) if classes.shape[1] else np.zeros(len(rows), np.intp)
        return _Sights(rows, boxes, classes.max(1, initial=0), labels, _unit(embeddings), described.features)

    def _graphs(self, sights: _Sights, window: Window, lifecycle: TrackLifecycle) -> Graphs:
        """Tracks, in order of their birth, and detections."""
        tracks: list[GraphTrack] = list(self.remembered.values())
        count, frame = len(tracks), window.first
        boxes = np.concatenate((predicted_boxes(tracks, frame), sights.boxes))
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        distances = np.linalg.norm(centres[:, None] - centres, axis=2) / np.hypot(*window.size)
        nothing = np.zeros(sights.embeddings.shape[1], np.float32)
        known = [track.embedding if track.embedding.shape == nothing.shape else nothing for track in tracks]
        embeddings = np.concatenate((_unit(np.stack(known)), sights.embeddings)).astype(np.float64)
        cosines = embeddings @ embeddings.T
        absences = np.array([frame - track.last_frame - 1 for track in tracks])[:, None]
        labels = np.array([lifecycle.class_scores(i).argmax() for i in self.remembered])
        same = labels[:, None] == sights.labels
        alike = cosines[:count, count:] + np.where(absences > _LONG, 0, box_iou(boxes[:count], sights.boxes))
        affinity = alike + _SAME_CLASS * same - _DISTANCE * distances[:count, count:]
        barred = (alike < _LEAST_ALIKE) | ((absences > _LONG) & (cosines[:count, count:] < _RETURN_SIMILARITY))
        affinity[barred | ~same if self.class_aware else barred] = _BARRED
        places = torch.from_numpy(centres / np.hypot(*window.size))
        edges = neighbour_edges(places, torch.from_numpy(embeddings) if nothing.size else None).numpy()
        return Graphs(
            affinity,
            np.where(absences[:, 0] == 0, _UNMATCHED, 0),
            np.full(len(sights.boxes), _UNMATCHED),
            edges[:count, :count],
            edges[count:, count:],
        )

    def _born(self, continues: list[int | None], scores: _Floats, lifecycle: TrackLifecycle) -> set[int]:
        """Which detections begin tracks; where there is no room, tracks end, and what continues them no longer does."""
        free = [k for k, track_id in enumerate(continues) if track_id is None and scores[k] >= self.birth_score]
        born: set[int] = set()
        for k in sorted(free, key=lambda k: -scores[k]):
            if len(self.remembered) + len(born) >= self.max_tracks:
                ended = self._least_needed(continues, scores[k])
                if ended is None:
                    break
                lifecycle.end([ended])
                self.forget([ended])
                continues[:] = [None if track_id == ended else track_id for track_id in continues]
            born.add(k)
        return born

    def _least_needed(self, continues: Sequence[int | None], score: float) -> int | None:
        """The track that makes room for a detection of that score, if one does."""
        lost = {i: track.last_frame for i, track in self.remembered.items() if i not in continues}
        if lost:
            return min(lost, key=lambda i: lost[i])
        means = {i: track.score_sum / track.sights for i, track in self.remembered.items()}
        weakest = min(means, key=lambda i: means[i], default=None)
        return weakest if weakest is not None and means[weakest] < score else None


def predicted_boxes(tracks: Sequence[GraphTrack], frame: int) -> _Floats:
    """Where tracks, at least one, are expected in a frame to come ``[n, 4]``."""
    gaps = np.array([min(frame - track.last_frame, _PREDICTED) for track in tracks])
    moved = np.stack([track.velocity for track in tracks]) * gaps[:, None]
    return np.stack([track.box for track in tracks]) + np.tile(moved, 2)


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Vectors ``[N, E]`` of length 1; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
