"""VISOLO on a stream: what is remembered from frame to frame, and who is who."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vis_core.models.visolo import detection
from vis_core.models.visolo.detection import Detections
from vis_core.models.visolo.memory import Entry, FrameMemory
from vis_core.models.visolo.network import VISOLONetwork, read_memory
from vis_core.nn.input_transform import IMAGENET_MEAN, IMAGENET_STD, InputTransform
from vis_core.structures import Frame, Instances
from vis_core.system.segmenter import Segmenter
from vis_core.tracking.lifecycle import TrackLifecycle

GridReading = tuple[Tensor, Tensor, Tensor | None, Tensor, Entry]


class GridAssociator:
    """Which detection continues which track, by grid similarity (section "identities" of the published inference).

    Tracks are asked in the order in which they were last seen, latest frame first; within a frame, each detection in
    turn takes the most similar track that is still free. A track is remembered by the query features of the cell in
    which it was last seen.

    Args:
        threshold: least similarity, 0..1.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._queries: dict[int, Tensor] = {}

    def associate(self, reference: Tensor, lifecycle: TrackLifecycle) -> list[int | None]:
        """Track ids that the detections continue, None for a new track.

        Args:
            reference: reference features of the N detections' cells, ``[128, N]``.
            lifecycle: knows which tracks are alive and when they were last seen.
        """
        count = reference.shape[1]
        continues: list[int | None] = [None] * count
        alive = lifecycle.alive
        if not alive or not count:
            return continues
        similarity = self.similarity(reference, lifecycle)
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
        return continues

    def similarity(self, reference: Tensor, lifecycle: TrackLifecycle) -> Tensor:
        """Similarity 0..1 of the T live tracks, in their order, and the N detections: ``[T, N]`` on the host."""
        if not lifecycle.alive:
            return torch.zeros((0, reference.shape[1]))
        return (torch.stack([self._queries[i] for i in lifecycle.alive]) @ reference).sigmoid().cpu()

    def remember(self, track_ids: list[int], query: Tensor) -> None:
        """Store the query features ``[128, N]`` of the cells in which these tracks are now."""
        for column, track_id in enumerate(track_ids):
            self._queries[track_id] = query[:, column].clone()  # a view would keep the whole frame's features

    def forget(self, track_ids: tuple[int, ...]) -> None:
        """Drop tracks that have ended."""
        for track_id in track_ids:
            del self._queries[track_id]

    def clear(self) -> None:
        """Forget every track."""
        self._queries.clear()

    def nbytes(self) -> int:
        """Size of what is remembered."""
        return sum(x.nelement() * x.element_size() for x in self._queries.values())


class VISOLO(Segmenter):
    """Online segmenter: every frame is answered at once, from itself and a bounded memory.

    Args:
        network: in evaluation mode, on its device.
        class_names: name of each label.
        dtype: type in which the backbone and the mask branch run; the grid's branches stay in float32.
        input_size: height and width of the network's input, multiples of 16.
        memory_frames: frames that are read at most; None: all (the published rule).
        memory_interval: every how many frames one is kept.
        max_lost_frames: a track ends when it was not seen for more frames; None: no track ever ends (the published
            rule), whatever `max_lost_tracks`.
        max_lost_tracks: at most this many tracks are lost at a time; None: no limit.
        score_threshold: of a cell.
        mask_threshold: of a pixel.
        update_threshold: of an instance, after matrix NMS.
        tracking_threshold: least similarity of a detection and the track that it continues.
        max_instances: instances a frame at most.
        mask_resize: ``published`` or ``logits``, see `detection.packed_masks`.
        published_quirks: reproduce what the published code does with empty masks and cell 0.
        reweighting: scale a cell's score by its greatest similarity with the frames before (an ablation of the paper
            leaves it out).
        mean: of each channel of the images, in 0..255.
        std: of each channel, in 0..255.
    """

    network: VISOLONetwork
    quick = False
    """Whether candidates are compared at the size of the mask features, not at the network's as published, and a
    processor resizes images by one level off Pillow's at most."""

    def __init__(
        self,
        network: VISOLONetwork,
        class_names: tuple[str, ...],
        dtype: torch.dtype = torch.float32,
        input_size: tuple[int, int] = (352, 624),
        memory_frames: int | None = 6,
        memory_interval: int = 5,
        max_lost_frames: int | None = 30,
        max_lost_tracks: int | None = 100,
        score_threshold: float = 0.1,
        mask_threshold: float = 0.5,
        update_threshold: float = 0.05,
        tracking_threshold: float = 0.1,
        max_instances: int = 100,
        mask_resize: str = "published",
        published_quirks: bool = False,
        reweighting: bool = True,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        self.network = network
        self.class_names = class_names
        self.dtype = dtype
        self.score_threshold = score_threshold
        self.mask_threshold = mask_threshold
        self.update_threshold = update_threshold
        self.max_instances = max_instances
        self.mask_resize = mask_resize
        self.published_quirks = published_quirks
        self.reweighting = reweighting
        self.device = next(network.parameters()).device
        self.transform = InputTransform(input_size, mean, std, exact=not self.quick).to(self.device)
        self.memory = FrameMemory(memory_interval, memory_frames)
        self.associator = GridAssociator(tracking_threshold)
        self.lifecycle = TrackLifecycle(max_lost_frames, None if max_lost_frames is None else max_lost_tracks)
        self._size: tuple[int, int] | None = None

    @torch.inference_mode()
    def step(self, frame: Frame) -> list[Instances]:
        if self._size is not None and self._size != frame.size:
            self.reset()
        self._size = frame.size
        image, maps, made = self.look(frame)
        (categories, kernels, weight, query, entry), features = self.read(maps, frame, made)
        found = self.detect(maps, categories, kernels, weight, features)
        found, continues = self.link(found, entry)
        instances = self.report(frame, self.finished(found, image), continues)
        self.remember(instances.track_ids[: len(found)].tolist(), found, query)
        self.memory.append(entry)
        return [instances]

    def look(self, frame: Frame) -> tuple[Tensor, list[Tensor], Any]:
        """The network's input ``[1, 3, h, w]``, the backbone's maps, and what else `read` takes, None here."""
        image = self.transform(frame.image)
        return image, self.extract(image), None

    def extract(self, image: Tensor) -> list[Tensor]:
        """Backbone maps at strides 4, 8 and 16 of a normalised image ``[1, 3, h, w]``."""
        maps: list[Tensor] = self.network.backbone(image.to(self.dtype, memory_format=torch.channels_last))
        return maps

    def read(self, maps: list[Tensor], frame: Frame, made: Any) -> tuple[GridReading, Tensor | None]:
        """What `read_grid` reads of the backbone's maps of a frame, and the mask features if they are made too."""
        return self.read_grid(maps[-1].float(), self.memory), None

    def read_grid(self, r4: Tensor, memory: FrameMemory) -> GridReading:
        """The grid's branches on a frame, helped by a memory.

        Args:
            r4: backbone map at stride 16, float32 ``[1, 1024, h/16, w/16]``.
            memory: of the frames before.

        Returns:
            Category scores ``[C, 252]``, kernels ``[256, 252]``, score weights ``[252]`` or None, query features
            ``[128, 252]``, and the frame's memory entry.
        """
        net = self.network
        track, category = net.category_pre(r4)
        kernel = net.kernel_pre(r4)
        (query,), (reference,) = net.tracking(track)
        converted = net.memory(torch.cat((category, kernel)))
        entry = Entry(self.lifecycle.step, reference, converted[0], converted[1])
        entries = memory.readable if self.lifecycle.step else [entry]
        similarity = query.T @ torch.cat([e.reference for e in entries], 1)
        grid = category.shape[2:]
        attention = similarity.softmax(1)
        category = read_memory(category[0].flatten(1), attention, torch.cat([e.category for e in entries], 1))
        kernel = read_memory(kernel[0].flatten(1), attention, torch.cat([e.kernel for e in entries], 1))
        categories = net.category_post(category.unflatten(1, grid)[None])[0].flatten(1).sigmoid()
        kernels = net.kernel_post(kernel.unflatten(1, grid)[None])[0].flatten(1)
        reweighted = self.reweighting and self.lifecycle.step
        weight = _reweighting(query, entries, similarity, memory) if reweighted else None
        return categories, kernels, weight, query, entry

    def detect(
        self,
        maps: list[Tensor],
        categories: Tensor,
        kernels: Tensor,
        weight: Tensor | None,
        features: Tensor | None = None,
    ) -> Detections:
        """The frame's instances; where no cell passes the threshold the mask branch is not run.

        Args:
            maps: of the backbone.
            categories: as `read_grid` gives them, as are kernels and weight.
            kernels: the same.
            weight: the same.
            features: of the masks, where `read` made them already.
        """
        kept = detection.kept_cells(categories, weight, self.score_threshold, self.published_quirks)
        if features is None and len(kept[0]):
            features = self.network.mask_features(maps)[0]
        elif features is None:
            features = kernels.new_zeros(()).expand(len(kernels), *maps[0].shape[2:])
        found = detection.candidates(
            features, kernels, categories, kept, self.mask_threshold, self.published_quirks, self.quick
        )
        found = detection.suppress(found, self.update_threshold, self.max_instances)
        return detection.refined(found, self.mask_threshold) if self.quick else found

    def link(self, found: Detections, entry: Entry) -> tuple[Detections, list[int | None]]:
        """The detections that stay, and ids of the tracks that they continue; tracks that are too old end first."""
        self.associator.forget(self.lifecycle.expire())
        return found, self.associator.associate(entry.reference[:, found.cells], self.lifecycle)

    def remember(self, track_ids: list[int], found: Detections, query: Tensor) -> None:
        """Keep of the detections what the next frames are asked about.

        Args:
            track_ids: of each detection.
            found: the frame's detections.
            query: query features of the frame ``[128, 252]``.
        """
        self.associator.remember(track_ids, query[:, found.cells])

    def finished(self, found: Detections, image: Tensor) -> Detections:
        """The detections as they are reported; as published, as they are.

        Args:
            found: those that stay.
            image: the network's input ``[1, 3, h, w]``.
        """
        return found

    def report(self, frame: Frame, found: Detections, continues: list[int | None]) -> Instances:
        """The frame's `Instances`, masks at its size."""
        packed = detection.packed_masks(found, frame.size, self.mask_resize, self.mask_threshold)
        return self.lifecycle.update(frame, continues, found.scores.cpu().numpy(), found.vectors.cpu().numpy(), packed)

    def reset(self) -> None:
        self.memory.clear()
        self.associator.clear()
        self.lifecycle.reset()
        self._size = None

    def state_bytes(self) -> int:
        return self.memory.nbytes() + self.associator.nbytes() + self.lifecycle.state_bytes()


def _reweighting(query: Tensor, entries: list[Entry], similarity: Tensor, memory: FrameMemory) -> Tensor:
    by_frame = {entry.frame: part for entry, part in zip(entries, similarity.split(query.shape[1], 1))}
    best = by_frame[memory.previous.frame].amax(1).sigmoid()
    kept = memory.newest_kept
    if kept is None:
        return best
    other = by_frame[kept.frame] if kept.frame in by_frame else query.T @ kept.reference
    return (best + other.amax(1).sigmoid()) / 2
