"""What VisTR finds in a clip: slots, each one instance in all frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vis_core.masks import RunLengths
from vis_core.models.gmp_vis.linking import Looks
from vis_core.nn.mask_resize import MaskResize
from vis_core.system.clip import ClipInstances

LEAST_SHOWN = 0.001
"""Score in a frame below which the published results have no mask."""


@dataclass(frozen=True, eq=False)
class SlotInstances(ClipInstances):
    """N slots of a window of T frames.

    Attributes:
        class_scores: ``[N, T, C]``.
        presence_threshold: least score in a frame of what is there.
        mask_logits: ``[N, T, h, w]``.
        resize: of the masks.
        looks: by which they are linked.
    """

    class_scores: npt.NDArray[np.float32]
    presence_threshold: float
    mask_logits: Tensor
    resize: MaskResize
    looks: Looks

    def frame_scores(self, t: int, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        best: npt.NDArray[np.float32] = self.class_scores[:, t].max(1)
        return np.where(best >= np.float32(self.presence_threshold), best, np.float32(0))

    def masks(self, t: int, rows: Sequence[int]) -> list[RunLengths]:
        return self.resize(self.mask_logits[list(rows), t])


@dataclass(frozen=True, eq=False)
class VideoResults(ClipInstances):
    """The results of a whole video as published: every slot that has a pixel anywhere, whatever its scores.

    In a frame a slot's score is that of its best class. Over the frames its score is their mean, its class the one that
    is best most often, the first of these. Masks are there where the score is at least 0.001, empty ones too.

    Attributes:
        slots: numbers of those that have a pixel ``[N]``.
        scores: ``[N]``.
        channels: of the classifier, ``[N]``; 0 is no class.
        shown: score in each frame, 0 where there is no mask ``[N, L]``.
        run_lengths: of each slot and frame.
        channel_count: those that may be chosen.
    """

    slots: npt.NDArray[np.intp]
    scores: npt.NDArray[np.float32]
    channels: npt.NDArray[np.intp]
    shown: npt.NDArray[np.float32]
    run_lengths: Sequence[Sequence[RunLengths]]
    channel_count: int
    shows_empty_masks: bool = field(default=True, init=False)

    @staticmethod
    def of(
        logits: Tensor,
        covered: npt.NDArray[np.bool_],
        mask_logits: Callable[[Sequence[int]], Iterable[Tensor]],
        resize: MaskResize,
    ) -> VideoResults:
        """The results of N slots in L frames.

        Args:
            logits: of all channels, the last one "nothing" ``[N, L, C + 2]``.
            covered: whether a slot is looked for in a frame ``[N, L]``.
            mask_logits: ``mask_logits(slots)`` gives those of some slots, of each in all frames ``[L, h, w]``.
            resize: of the masks.
        """
        probabilities = logits.float().softmax(2)[..., :-1].cpu().numpy()
        best = np.where(covered, probabilities.max(2), np.float32(0))
        choice, channel_count = probabilities.argmax(2), probabilities.shape[2]
        shown = np.where(best >= np.float32(LEAST_SHOWN), best, np.float32(0))
        asked, slots, run_lengths = np.flatnonzero(shown.any(1)).tolist(), [], []  # the others have no mask anywhere
        for slot, of_frames in zip(asked, mask_logits(asked)):
            masks = resize(of_frames)
            if any(mask.area for mask, counts in zip(masks, covered[slot]) if counts):
                slots.append(slot)
                run_lengths.append(masks)
        votes = [np.bincount(choice[slot, covered[slot]], minlength=channel_count).argmax() for slot in slots]
        means = [best[slot, covered[slot]].mean() for slot in slots]
        return VideoResults(
            np.array(slots, np.intp),
            np.array(means, np.float32),
            np.array(votes, np.intp),
            shown[slots],
            run_lengths,
            channel_count,
        )

    def of_classes(self) -> VideoResults:
        """Those whose channel is a class."""
        rows = np.flatnonzero(self.channels > 0).tolist()
        parts = (self.slots[rows], self.scores[rows], self.channels[rows], self.shown[rows])
        return VideoResults(*parts, [self.run_lengths[row] for row in rows], self.channel_count)

    @cached_property
    def class_scores(self) -> npt.NDArray[np.float32]:  # type: ignore[override]
        """``[N, C]``: the score, at the chosen class."""
        scores = np.zeros((len(self.slots), self.channel_count), np.float32)
        scores[np.arange(len(scores)), self.channels] = self.scores
        return scores[:, 1:]

    def frame_scores(self, t: int, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        frame: npt.NDArray[np.float32] = self.shown[:, t]
        return frame

    def masks(self, t: int, rows: Sequence[int]) -> list[RunLengths]:
        return [self.run_lengths[row][t] for row in rows]

    def __len__(self) -> int:
        return len(self.slots)
