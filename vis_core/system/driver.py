"""Clip systems on a stream: windows of frames, each frame's features computed once, identities handed over."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vis_core.errors import OptionError
from vis_core.masks import RunLengths
from vis_core.structures import Frame, Instances
from vis_core.system.segmenter import Segmenter
from vis_core.tracking.lifecycle import TrackLifecycle
from vis_core.tracking.overlap import OverlapLinker

Features = TypeVar("Features")


@dataclass(frozen=True, eq=False)
class ClipInstances:
    """What a system finds in a clip of T frames, before identity; row i of everything is the same instance.

    Attributes:
        class_scores: float32 ``[N, C]``, of the clip.
        scores: float32 ``[N, T]``, in each frame; 0: not there.
        masks: bool ``[N, T, h, w]``, at a resolution of the system's choice: what instances are linked by.
        full_masks: ``full_masks(t)`` gives the N masks of frame t at the image's size.
    """

    class_scores: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    masks: Tensor
    full_masks: Callable[[int], list[RunLengths]]

    def __len__(self) -> int:
        return len(self.class_scores)


class ClipSegmenter(Segmenter, Generic[Features]):
    """Drives a system that looks at several frames at once.

    When frame e has come and e + 1 is a multiple of the stride, or at the end of the stream, the system is run on the
    window of the frames e - clip_length + 1 to e, as far as there are any; those of them that were not answered yet
    are. An instance of a window continues the track whose masks it overlaps in the frames that both windows hold.

    A system gives `encode`, what of a frame does not depend on its clip, which is computed once and kept as long as a
    window may still hold the frame; `feature_bytes`, its size; and `segment_clip`. One that hands identities over in
    another way gives `link` and `remember` too.

    Args:
        clip_length: frames of a window; None: the whole video is one clip, answered by `flush`, and memory grows with
            it.
        stride: frames between windows, at most `clip_length`; only if it is less do windows share frames.
        least_overlap: IoU of the masks of an instance and the track that it continues, 0..1.
        max_lost_frames: as in `TrackLifecycle`; of a whole video no track ends.
        max_lost_tracks: as in `TrackLifecycle`.

    Raises:
        OptionError: windows would leave frames out.
    """

    def __init__(
        self,
        clip_length: int | None,
        stride: int = 1,
        least_overlap: float = 0.3,
        max_lost_frames: int | None = 30,
        max_lost_tracks: int | None = 100,
    ) -> None:
        whole = clip_length is None
        if clip_length is not None and stride > clip_length:
            raise OptionError(f"option stride: {stride} is more than the {clip_length} frames of a window")
        self.clip_length, self.stride = clip_length, stride
        self.delay = sys.maxsize if whole else stride - 1
        self.lifecycle = TrackLifecycle(None if whole else max_lost_frames, None if whole else max_lost_tracks)
        self.linker = OverlapLinker(least_overlap)
        self._frames: deque[Frame] = deque()
        """The frames without an answer, without their images."""
        self._clip: deque[Features] = deque()
        self._count = 0
        self._size: tuple[int, int] | None = None

    @abstractmethod
    def encode(self, frame: Frame) -> Features:
        """What is kept of a frame."""

    @abstractmethod
    def feature_bytes(self, features: Features) -> int:
        """Size of what is kept of a frame."""

    @abstractmethod
    def segment_clip(self, clip: Sequence[Features], size: tuple[int, int]) -> ClipInstances:
        """The instances of a clip.

        Args:
            clip: what `encode` gave for each of its frames.
            size: height and width of the frames.
        """

    def link(self, found: ClipInstances, first: int) -> list[int | None]:
        """Live tracks that the instances of a window continue, None for a new one.

        Args:
            found: the instances.
            first: number of the window's first frame, counted from the last reset.
        """
        return self.linker.associate(found.masks, first)

    def remember(self, track_ids: list[int | None], found: ClipInstances, first: int) -> None:
        """Keep of the instances what the next window is asked about; those whose id is None were not seen yet."""
        rows = [row for row, track_id in enumerate(track_ids) if track_id is not None]
        self.linker.remember([i for i in track_ids if i is not None], found.masks[rows], first)

    def forget(self, track_ids: tuple[int, ...]) -> None:
        """Drop what is remembered of tracks that have ended."""
        self.linker.forget(track_ids)

    @torch.inference_mode()
    def step(self, frame: Frame) -> list[Instances]:
        owed: list[Instances] = []
        if self._size is not None and self._size != frame.size:
            owed = self.flush()
            self.reset()
        self._size = frame.size
        if len(self._clip) == self.clip_length:
            self._clip.popleft()
        self._clip.append(self.encode(frame))
        nothing = np.broadcast_to(np.zeros((), np.uint8), frame.image.shape)  # as large, in one byte
        self._frames.append(Frame(nothing, frame.stamp, frame.index))
        self._count += 1
        if self.clip_length is not None and self._count % self.stride == 0:
            owed += self._answer()
        return owed

    @torch.inference_mode()
    def flush(self) -> list[Instances]:
        return self._answer() if self._frames else []

    def reset(self) -> None:
        self._frames.clear()
        self._clip.clear()
        self.linker.clear()
        self.lifecycle.reset()
        self._count, self._size = 0, None

    def state_bytes(self) -> int:
        features = sum(self.feature_bytes(x) for x in self._clip)
        return features + self.linker.nbytes() + self.lifecycle.state_bytes()

    def _answer(self) -> list[Instances]:
        """Run the system on the window that ends with the newest frame."""
        assert self._size is not None
        clip = list(self._clip)
        first = self._count - len(clip)
        found = self.segment_clip(clip, self._size)
        track_ids = self.link(found, first)
        answers = []
        while self._frames:
            frame = self._frames.popleft()
            self._expire(track_ids)
            answers.append(self._answer_frame(frame, found, len(clip) - len(self._frames) - 1, track_ids))
        self.remember(track_ids, found, first)
        return answers

    def _answer_frame(self, frame: Frame, found: ClipInstances, t: int, track_ids: list[int | None]) -> Instances:
        """The `Instances` of frame t of the window; new tracks get their ids, which are put into `track_ids`."""
        masks = found.full_masks(t)
        order = np.argsort(-found.scores[:, t], kind="stable")
        rows = [int(row) for row in order if found.scores[row, t] > 0 and masks[row].area]
        instances = self.lifecycle.update(
            frame,
            [track_ids[row] for row in rows],
            found.scores[rows, t],
            found.class_scores[rows],
            [masks[row] for row in rows],
        )
        for row, track_id in zip(rows, instances.track_ids[: len(rows)].tolist()):
            track_ids[row] = track_id
        return instances

    def _expire(self, track_ids: list[int | None]) -> None:
        """End the tracks that are too old; what would have continued them begins a new one."""
        ended = self.lifecycle.expire()
        self.forget(ended)
        for row, track_id in enumerate(track_ids):
            if track_id in ended:
                track_ids[row] = None
