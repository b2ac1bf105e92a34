"""MinVIS on a stream: queries of one frame continue those of the frame before that resemble them most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vis_core.models.mask2former_vis import decoding
from vis_core.models.mask2former_vis.model import PixelEncoder
from vis_core.models.mask2former_vis.network import Mask2FormerVISNetwork
from vis_core.models.mask2former_vis.transformer_decoder import mask_logits
from vis_core.structures import Frame, Instances
from vis_core.system.driver import ClipInstances, ClipSegmenter
from vis_core.system.segmenter import Segmenter
from vis_core.tracking.lifecycle import TrackLifecycle


@dataclass(frozen=True, eq=False)
class FrameQueries:
    """What the network says of one frame.

    Attributes:
        logits: class logits ``[Q, K + 1]``.
        embeddings: ``[Q, 256]``, by which queries are matched.
        masks: mask logits ``[Q, h, w]``.
    """

    logits: Tensor
    embeddings: Tensor
    masks: Tensor

    def nbytes(self) -> int:
        """Size, bytes."""
        return sum(x.numel() * x.element_size() for x in (self.logits, self.embeddings, self.masks))


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


class SlotAssociator:
    """Which slot holds which track.

    Every slot holds some query in every frame; its track goes on as long as that query resembles the one by which the
    track was last seen. If it does not, another object has come into the slot: it continues the lost track that it
    resembles, if there is one, or none.

    Args:
        least_similarity: cosine of the queries of one object in one slot, -1..1.
        return_similarity: cosine of the query of an object and the lost track that it continues, -1..1.
    """

    def __init__(self, least_similarity: float, return_similarity: float) -> None:
        self.least_similarity, self.return_similarity = least_similarity, return_similarity
        self._queries: Tensor | None = None
        self._tracks: dict[int, int] = {}
        self._seen: dict[int, Tensor] = {}

    def align(self, embeddings: Tensor) -> Tensor:
        """Which query each slot takes, ``[Q]``; the first frame defines the slots.

        Args:
            embeddings: of this frame, ``[Q, 256]``.
        """
        current = normalised(embeddings)
        if self._queries is None:
            order = torch.arange(len(current), device=current.device)
        else:
            order = match_queries(self._queries, current)
        self._queries = current[order]
        return order

    def associate(self, slots: list[int]) -> list[int | None]:
        """Tracks that the instances in these slots continue, None for a new one."""
        assert self._queries is not None
        if not self._seen or not slots:
            return [None] * len(slots)
        row_of = {track_id: row for row, track_id in enumerate(self._seen)}
        similarity = (torch.stack(list(self._seen.values())) @ self._queries[slots].T).cpu().numpy()
        continues: list[int | None] = [None] * len(slots)
        for column, slot in enumerate(slots):
            held = self._tracks.get(slot)
            if held is not None and similarity[row_of[held], column] >= self.least_similarity:
                continues[column] = held
        lost = [i for i in self._seen if i not in continues]
        free = [column for column, track_id in enumerate(continues) if track_id is None]
        part = similarity[np.ix_([row_of[i] for i in lost], free)]
        # A pair under the least must not displace one above it: it is worth no more than none.
        allowed = part >= self.return_similarity
        for row, column in zip(*linear_sum_assignment(np.where(allowed, part + 1, 0), maximize=True)):
            if allowed[row, column]:
                continues[free[column]] = lost[row]
        return continues

    def remember(self, track_ids: list[int], slots: list[int]) -> None:
        """Store which tracks this frame shows in which slots."""
        assert self._queries is not None
        self._tracks = {slot: i for slot, i in self._tracks.items() if i not in track_ids}
        for slot, track_id in zip(slots, track_ids):
            self._tracks[slot] = track_id
            self._seen[track_id] = self._queries[slot].clone()  # a view would keep the whole frame's

    def forget(self, track_ids: tuple[int, ...]) -> None:
        """Drop tracks that have ended."""
        self._tracks = {slot: i for slot, i in self._tracks.items() if i not in track_ids}
        for track_id in track_ids:
            del self._seen[track_id]

    def clear(self) -> None:
        """Forget slots and tracks."""
        self._queries = None
        self._tracks.clear()
        self._seen.clear()

    def nbytes(self) -> int:
        """Size of what is remembered."""
        tensors = [*self._seen.values(), *([] if self._queries is None else [self._queries])]
        return sum(x.numel() * x.element_size() for x in tensors)


class MinVIS(Segmenter):
    """Online segmenter: every frame is answered at once, from itself and the embeddings of the frame before.

    An instance is a slot whose query has a class probability of at least the threshold in this frame. Label and score
    of a track are means over the frames that showed it.

    Args:
        network: in evaluation mode, on its device.
        class_names: name of each label.
        short_side: of the network's input, pixels; None: as frames come.
        longest_side: of it at most, pixels.
        score_threshold: least class probability of an instance.
        least_similarity: as in `SlotAssociator`.
        return_similarity: as in `SlotAssociator`.
        max_lost_frames: as in `TrackLifecycle`.
        max_lost_tracks: as in `TrackLifecycle`.
        max_instances: instances of a frame at most.
    """

    network: Mask2FormerVISNetwork

    def __init__(
        self,
        network: Mask2FormerVISNetwork,
        class_names: tuple[str, ...],
        short_side: int | None = 360,
        longest_side: int = 1333,
        score_threshold: float = 0.3,
        least_similarity: float = 0.5,
        return_similarity: float = 0.75,
        max_lost_frames: int | None = 30,
        max_lost_tracks: int | None = 100,
        max_instances: int = 50,
    ) -> None:
        self.network = network
        self.class_names = class_names
        self.score_threshold = score_threshold
        self.max_instances = max_instances
        self.encoder = PixelEncoder(network, short_side, longest_side)
        self.associator = SlotAssociator(least_similarity, return_similarity)
        self.lifecycle = TrackLifecycle(max_lost_frames, max_lost_tracks)
        self._size: tuple[int, int] | None = None

    @torch.inference_mode()
    def step(self, frame: Frame) -> list[Instances]:
        if self._size is not None and self._size != frame.size:
            self.reset()
        self._size = frame.size
        features = self.encoder.features(frame)
        out = self.network.decode(features, space_time=False)
        order = self.associator.align(out.queries[0])
        scores = decoding.class_scores(out.logits[0, order])
        best, slots = scores.amax(1).topk(min(self.max_instances, len(scores)))
        slots = slots[best >= self.score_threshold]
        logits = mask_logits(out.mask_embeddings[0, order[slots]], features.mask)[:, 0]
        there = (logits > 0).flatten(1).any(1)
        slots, logits = slots[there], logits[there]
        self.associator.forget(self.lifecycle.expire())
        continues = self.associator.associate(slots.tolist())
        masks = self.encoder.resize(features.mask.shape[2:], frame.size)(logits)
        shown = scores[slots].cpu().numpy()
        instances = self.lifecycle.update(frame, continues, shown.max(1, initial=0), shown, masks)
        self.associator.remember(instances.track_ids[: len(slots)].tolist(), slots.tolist())
        return [instances]

    def reset(self) -> None:
        self.associator.clear()
        self.lifecycle.reset()
        self._size = None

    def state_bytes(self) -> int:
        return self.associator.nbytes() + self.lifecycle.state_bytes()


class MinVISWholeVideo(ClipSegmenter[FrameQueries]):
    """MinVIS as published: the ten best pairs of slot and class of the whole video, answered at its end.

    Class logits are averaged over all frames. Memory grows with the video, by the mask logits of all queries.

    Args:
        network: in evaluation mode, on its device.
        class_names: name of each label.
        short_side: of the network's input, pixels; None: as frames come.
        longest_side: of it at most, pixels.
    """

    network: Mask2FormerVISNetwork

    def __init__(
        self,
        network: Mask2FormerVISNetwork,
        class_names: tuple[str, ...],
        short_side: int | None = 360,
        longest_side: int = 1333,
    ) -> None:
        super().__init__(clip_length=None)
        self.network = network
        self.class_names = class_names
        self.encoder = PixelEncoder(network, short_side, longest_side)

    def encode(self, frame: Frame) -> FrameQueries:
        features = self.encoder.features(frame)
        out = self.network.decode(features, space_time=False)
        return FrameQueries(out.logits[0], out.queries[0], mask_logits(out.mask_embeddings[0], features.mask)[:, 0])

    def feature_bytes(self, features: FrameQueries) -> int:
        return features.nbytes()

    def segment_clip(self, clip: Sequence[FrameQueries], size: tuple[int, int]) -> ClipInstances:
        slots = SlotAssociator(-1, -1)
        orders = [slots.align(frame.embeddings) for frame in clip]
        logits = torch.stack([frame.logits[order] for frame, order in zip(clip, orders)]).mean(0)
        return decoding.published_instances(
            decoding.class_scores(logits),
            lambda chosen: torch.stack([frame.masks[order[chosen]] for frame, order in zip(clip, orders)], 1),
            self.encoder.resize(clip[0].masks.shape[1:], size),
        )
