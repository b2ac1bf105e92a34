"""VisTR on a stream: windows of as many frames as the network has queries for, or the results of a whole video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vis_core.models.gmp_vis.clip_graphs import graphs
from vis_core.models.gmp_vis.clip_instances import SlotInstances, VideoResults
from vis_core.models.gmp_vis.clip_network import ClipNetwork, ClipStates
from vis_core.models.gmp_vis.linking import Looks, clip_starts, link
from vis_core.nn.graphs import Graph
from vis_core.nn.input_transform import ShortSideTransform
from vis_core.nn.mask_resize import MaskResize
from vis_core.structures import Frame
from vis_core.system.clip import ClipModel, Found, size_of
from vis_core.tracking.associator import Window


class WholePixels(ShortSideTransform):
    """`ShortSideTransform` without padding, whose longer side is cut to whole pixels, as published."""

    def __init__(self, short_side: int, longest_side: int | None = None) -> None:
        super().__init__(short_side, multiple_of=1)
        self._shortest, self._longest = short_side, longest_side

    def size(self, height: int, width: int) -> tuple[int, int]:
        short, long = sorted((height, width))
        target = self._shortest
        if self._longest is not None:
            target = min(target, max(self._longest * short // long, 1))
        other = int(target * long / short)
        return (target, other) if height <= width else (other, target)


@dataclass(frozen=True, eq=False)
class FrameTokens:
    """What of a frame depends on it alone.

    Attributes:
        tokens: ``[1, d, h, w]``.
        adapted: what the mask head adds at strides 16, 8 and 4.
    """

    tokens: Tensor
    adapted: tuple[Tensor, ...]

    def nbytes(self) -> int:
        """Size, bytes."""
        return size_of(self.tokens, *self.adapted)


@dataclass(frozen=True, eq=False)
class Clip:
    """What the network says of n frames, row i of everything is slot i.

    Attributes:
        first: number of the first frame.
        logits: ``[N, n, C + 2]``.
        centres: of the boxes, x and y in diagonals of the image ``[N, n, 2]``.
        embeddings: ``[N, n, E]``; None: they do not count.
        mask_logits: ``mask_logits(slots)`` gives those of some slots ``[k, n, h, w]``.
    """

    first: int
    logits: Tensor
    centres: Tensor
    embeddings: Tensor | None
    mask_logits: Callable[[Sequence[int]], Tensor]

    def looks(self, slots: Sequence[int], masks: Tensor) -> Looks:
        """What some of the slots look like, with their masks."""
        rows = list(slots)
        embeddings = None if self.embeddings is None else self.embeddings[rows]
        return Looks(self.first, masks, self.centres[rows], embeddings)


class _ClipModel(ClipModel[FrameTokens, Found]):
    """One slot is one instance in all frames of a clip.

    Args:
        network: in evaluation mode, on its device.
        class_names: name of each label.
        transform: of frames.
        link_threshold: least affinity of slots that are linked.
        link_embeddings: whether they are linked by their embeddings too.

    Attributes:
        score_threshold: of a window, least mean score of an instance over the frames that show it.
        presence_threshold: of a window, least score in a frame that shows an instance.
    """

    network: ClipNetwork
    score_threshold = 0.3
    presence_threshold = 0.05

    def __init__(
        self,
        network: ClipNetwork,
        class_names: tuple[str, ...],
        transform: ShortSideTransform,
        link_threshold: float,
        link_embeddings: bool,
    ) -> None:
        self.network, self.class_names = network, class_names
        self.link_threshold, self.link_embeddings = link_threshold, link_embeddings
        self.device = next(network.parameters()).device
        self.transform = transform.to(self.device)

    def encode(self, frame: Frame) -> FrameTokens:
        image = self.transform(frame.image)
        if self.exported:
            tokens, *adapted = self.exported["frame"](image)
            return FrameTokens(tokens, tuple(adapted))
        maps = self.network.maps(image.to(next(self.network.backbone.parameters()).dtype))
        return FrameTokens(self.network.tokens(maps[3]), self.network.adapted(maps))

    def _looked_at(self, frames: Sequence[FrameTokens], first: int, size: tuple[int, int]) -> Clip:
        """What the network says of at most as many frames as it has queries for; fewer are repeated in turn."""
        network, count = self.network, len(frames)
        turns = [t % count for t in range(network.clip_length)]
        tokens = torch.cat([x.tokens for x in frames])[turns]
        aspect = torch.tensor(size[::-1], device=self.device) / float(np.hypot(*size))
        embeddings: Tensor | None
        if self.exported:
            last, memory, logits, boxes, *embedded = self.exported["window"](tokens)
            states = ClipStates(last[None], memory, None)
            embeddings = embedded[0] if self.link_embeddings else None
            logits, boxes = logits[:count].transpose(0, 1), boxes[:count].transpose(0, 1)
        else:
            states = network.states(tokens)
            last = states.queries[-1, :count].transpose(0, 1)
            logits, boxes = network.logits(last), network.boxes(last)
            embeddings = network.embeddings(states) if self.link_embeddings else None
        return Clip(
            first,
            logits,
            boxes[..., :2] * aspect,
            None if embeddings is None else embeddings[:count].transpose(0, 1),
            lambda slots: self._mask_logits(states, frames, turns, slots),
        )

    def _mask_logits(
        self, states: ClipStates, frames: Sequence[FrameTokens], turns: Sequence[int], slots: Sequence[int]
    ) -> Tensor:
        adapted = [torch.cat(of_level)[list(turns)] for of_level in zip(*(x.adapted for x in frames))]
        if not self.exported:
            return self.network.masks(states, adapted, slots)[:, : len(frames)]
        masks = [
            self.exported["masks"](states.queries[-1][:, slot : slot + 1], states.memory, *adapted)[0] for slot in slots
        ]
        return torch.cat(
            [adapted[2].new_empty((0, len(frames), *adapted[2].shape[2:])), *(x[:, : len(frames)] for x in masks)]
        )

    def graphs(self) -> Mapping[str, Graph]:
        return graphs(self.network)

    def _resize(self, clip: Sequence[FrameTokens], size: tuple[int, int]) -> MaskResize:
        height, width = clip[0].adapted[-1].shape[2:]
        return MaskResize((height, width), size, size, size, self.device)


class VisTRModel(_ClipModel[SlotInstances]):
    """Windows of a stream, of at most as many frames as the network has queries for."""

    def segment(self, clip: Sequence[FrameTokens], window: Window) -> SlotInstances:
        found = self._looked_at(clip, window.first, window.size)
        scores = found.logits.softmax(2)[..., 1:-1]
        best = scores.amax(2)
        there = best >= self.presence_threshold
        means = (best * there).sum(1) / there.sum(1).clamp(min=1)
        slots = (there.any(1) & (means >= self.score_threshold)).nonzero()[:, 0].tolist()
        logits = found.mask_logits(slots)
        looks, resize = found.looks(slots, logits > 0), self._resize(clip, window.size)
        return SlotInstances(scores[slots].cpu().numpy(), self.presence_threshold, logits, resize, looks)


class VisTRVideoModel(_ClipModel[VideoResults]):
    """A clip is a whole video of any length, answered as published: all slots, whatever their scores."""

    def segment(self, clip: Sequence[FrameTokens], window: Window) -> VideoResults:
        length, resize = self.network.clip_length, self._resize(clip, window.size)
        if len(clip) > length:
            parts = [(first, clip[first : first + length]) for first in clip_starts(len(clip), length)]
            clips = [self._looked_at(part, first, window.size) for first, part in parts]
            return joined(clips, len(clip), self.link_threshold, resize).of_classes()
        found = self._looked_at(clip, 0, window.size)
        covered = np.ones(found.logits.shape[:2], np.bool_)
        return VideoResults.of(found.logits, covered, found.mask_logits, resize).of_classes()


def joined(clips: Sequence[Clip], frames: int, min_affinity: float, resize: MaskResize) -> VideoResults:
    """The results of a video from those of clips that overlap.

    A track is a slot of one clip after the other; a slot that continues none begins one. Where clips overlap, logits
    are averaged, and masks are the later clip's from the middle on. A track is looked for where its clips are.

    Args:
        clips: in order, all slots of each.
        frames: of the video.
        min_affinity: of slots that are joined, see `link`.
        resize: of the masks.
    """
    slots = range(clips[0].logits.shape[0])
    masks = [clip.mask_logits(slots) for clip in clips]
    looks = [clip.looks(slots, logits > 0) for clip, logits in zip(clips, masks)]
    tracks: list[dict[int, int]] = [{0: slot} for slot in slots]
    """Of each the slot in each clip that it is in."""
    for number in range(1, len(clips)):
        going = [track for track in tracks if number - 1 in track]
        before = [looks[number - 1].row(track[number - 1]) for track in going]
        pairs = link(before, looks[number], min_affinity)
        for row, slot in pairs:
            going[row][number] = slot
        taken = {slot for _, slot in pairs}
        tracks += [{number: slot} for slot in slots if slot not in taken]

    sums = clips[0].logits.new_zeros((len(tracks), frames, clips[0].logits.shape[2]))
    counts = np.zeros((len(tracks), frames), np.int64)
    for row, track in enumerate(tracks):
        for number, slot in track.items():
            part = slice(looks[number].first, looks[number].end)
            sums[row, part] += clips[number].logits[slot]
            counts[row, part] += 1
    logits = sums / torch.from_numpy(counts).clamp(min=1)[..., None].to(sums)

    def mask_logits(row: int) -> Tensor:
        found = masks[0].new_full((frames, *masks[0].shape[2:]), -1.0)
        written = 0
        for number, slot in tracks[row].items():
            first, end = looks[number].first, looks[number].end
            begin = first + max(written - first, 0) // 2
            found[begin:end] = masks[number][slot, begin - first :]
            written = end
        return found

    return VideoResults.of(logits, counts > 0, lambda rows: map(mask_logits, rows), resize)
