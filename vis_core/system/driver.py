"""The one driver of all systems: windows of frames, each frame encoded once, identities handed over."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, Generic

import numpy as np
import numpy.typing as npt

from vis_core.errors import OptionError
from vis_core.nn.concurrency import Prefetcher, thread_count, without_gradients
from vis_core.structures import Frame, Instances
from vis_core.system.clip import ClipModel, Features, Found
from vis_core.system.segmenter import Image, Segmenter, frame_of
from vis_core.tracking.associator import Associator, Window
from vis_core.tracking.lifecycle import TrackLifecycle


class StreamSegmenter(Segmenter, Generic[Features, Found]):
    """Runs a model over the windows of a stream, and gives its instances identities.

    When frame e has come and e + 1 is a multiple of the stride, or at the end of the stream, the model is run on the
    window of the frames e - clip_length + 1 to e, as far as there are any; those of them that were not answered yet
    are. A system that looks at one frame at a time has windows of one frame.

    Args:
        model: says what is in a window.
        associator: says which of it continues which track.
        lifecycle: numbers the tracks, and ends them.
        clip_length: frames of a window; None: the whole video is one clip, answered by `flush`, and memory grows with
            it.
        stride: frames between windows.

    Raises:
        OptionError: windows would leave frames out, or share too few for the associator.
    """

    def __init__(
        self,
        model: ClipModel[Features, Found],
        associator: Associator[Found],
        lifecycle: TrackLifecycle,
        clip_length: int | None = 1,
        stride: int = 1,
    ) -> None:
        check_windows(clip_length, stride, associator)
        self.model, self.associator, self.lifecycle = model, associator, lifecycle
        self.network, self.class_names = model.network, model.class_names
        self.semantic_class_names = model.semantic_class_names
        self.clip_length, self.stride = clip_length, stride
        self.delay = sys.maxsize if clip_length is None else stride - 1
        weights = () if model.network is None else model.network.parameters()
        self._on_cpu = next((x.device.type for x in weights), "cpu") == "cpu"
        self._prefetcher: Prefetcher[Frame, Features] = Prefetcher(model.encode_ahead)
        self._owed: deque[Frame] = deque()
        """The frames without an answer, without their images."""
        self._clip: deque[Features] = deque()
        """Of the last frames, those that a window to come may hold."""
        self._count = 0
        self._size: tuple[int, int] | None = None
        self._before: Frame | None = None

    @property
    def prefetches(self) -> bool:  # type: ignore[override]
        return self._on_cpu and thread_count() > 1

    def prefetch(self, frame: Frame) -> None:
        if self.prefetches:
            self._prefetcher.begin(frame)

    @without_gradients()
    def step(self, frame: Frame | Image, bgr: bool = False) -> list[Instances]:
        frame = frame_of(frame, bgr, self._before)
        answers: list[Instances] = []
        features = self._prefetcher.take(frame)
        if self._size is not None and self._size != frame.size:
            answers = self.flush()
            self.reset()
        if features is None:
            features = self.model.encode(frame)
        self._make_room()
        self._clip.append(features)
        self._size = frame.size
        nothing = np.broadcast_to(np.zeros((), np.uint8), frame.image.shape)  # as large, in one byte
        self._before = Frame(nothing, frame.stamp, frame.index)
        self._owed.append(self._before)
        self._count += 1
        if self.clip_length is not None and self._count % self.stride == 0:
            answers += self._answer()
        return answers

    @without_gradients()
    def flush(self) -> list[Instances]:
        return self._answer() if self._owed else []

    @without_gradients()
    def another(self) -> StreamSegmenter[Features, Found]:
        network, lifecycle = self.network, self.lifecycle.another()
        shared = () if network is None else (*network.modules(), *network.parameters(), *network.buffers())
        known: dict[int, Any] = {id(x): x for x in shared}
        known[id(self.lifecycle)] = lifecycle
        model, associator = deepcopy((self.model, self.associator), known)  # together: one may hold the other
        other = StreamSegmenter(model, associator, lifecycle, self.clip_length, self.stride)
        other.options, other.shown_score = self.options, self.shown_score
        other.runs_on = self.runs_on
        other.reset()
        return other

    def semantic_map(self) -> npt.NDArray[np.uint8] | None:
        return self.model.semantic_map()

    def reset(self) -> None:
        self._owed.clear()
        self._clip.clear()
        self._prefetcher.clear()
        self.model.reset()
        self.associator.clear()
        self.lifecycle.reset()
        self._count, self._size, self._before = 0, None, None

    def state_bytes(self) -> int:
        features = sum(x.nbytes() for x in (*self._clip, *self._prefetcher.made()))
        return features + self.model.nbytes() + self.associator.nbytes() + self.lifecycle.state_bytes()

    @property
    def max_lost_seconds(self) -> float | None:
        return self.lifecycle.max_lost_seconds

    @max_lost_seconds.setter
    def max_lost_seconds(self, seconds: float | None) -> None:
        self.lifecycle.max_lost_seconds = seconds

    def apply_option(self, name: str, value: Any) -> None:
        if not hasattr(self.model, name):
            raise OptionError(f"option {name}: {type(self.model).__name__} has no such attribute to change")
        setattr(self.model, name, value)

    def _answer(self) -> list[Instances]:
        """Run the model on the window that ends with the newest frame."""
        assert self._size is not None
        clip, owed = list(self._clip), list(self._owed)
        # Before anything can fail: a window that does is not asked for again.
        self._owed.clear()
        self._make_room()
        window = Window(self._count - len(clip), len(clip), self._size)
        found = self.model.segment(clip, window)
        self.associator.forget(self.lifecycle.expire(owed[0].stamp))
        tracks = _Tracks(found, *self.associator.associate(found, window, self.lifecycle))
        answers: list[Instances] = []
        for t, frame in enumerate(owed, len(clip) - len(owed)):
            if answers:
                ended = self.lifecycle.expire(frame.stamp)
                self.associator.forget(ended)
                tracks.forget(ended)
            answers.append(replace(tracks.answer(frame, t, self.lifecycle), class_names=self.class_names))
        self.associator.remember(tracks.ids, found, window)
        return answers

    def _make_room(self) -> None:
        """Drop the frame that no window with the next frame holds."""
        if len(self._clip) == self.clip_length:
            self._clip.popleft()


def check_windows(clip_length: int | None, stride: int, associator: Associator[Any]) -> None:
    """Refuse windows that leave frames out, or that share too few for the associator.

    Raises:
        OptionError: they are such.
    """
    if clip_length is not None and stride > clip_length - associator.shared_frames:
        if not associator.shared_frames:
            raise OptionError(f"option stride: {stride} is more than the {clip_length} frames of a window")
        raise OptionError(
            f"option stride: {stride} leaves windows of {clip_length} frames without a shared one, by which tracks "
            "are handed over; choose less than clip_length"
        )


class _Tracks(Generic[Found]):
    """Who the instances of a window are.

    Args:
        found: the instances.
        rows: those of them that stay.
        continued: the track that each of these continues, None for a new one.
    """

    def __init__(self, found: Found, rows: Sequence[int], continued: Sequence[int | None]) -> None:
        self.found = found
        self.ids: list[int | None] = [None] * len(found)
        """The track of each row, as far as it was shown."""
        self._stays = np.zeros(len(found), np.bool_)
        for row, track_id in zip(rows, continued, strict=True):
            self.ids[row], self._stays[row] = track_id, True

    def forget(self, ended: Sequence[int]) -> None:
        """What would have continued tracks that have ended begins new ones."""
        for row, track_id in enumerate(self.ids):
            if track_id in ended:
                self.ids[row] = None

    def answer(self, frame: Frame, t: int, lifecycle: TrackLifecycle) -> Instances:
        """The `Instances` of frame t of the window, best first; new tracks get their ids in the order of the rows."""
        found, classes = self.found, self.found.class_scores
        scores = found.frame_scores(t, self._labels(classes, lifecycle))
        rows = np.flatnonzero(self._stays & (scores != 0)).tolist()
        masks = found.masks(t, rows)
        if not found.shows_empty_masks:
            masks, rows = [m for m in masks if m.area], [row for row, m in zip(rows, masks) if m.area]
        instances = lifecycle.update(
            frame,
            [self.ids[row] for row in rows],
            scores[rows],
            classes[rows, t] if classes.ndim == 3 else classes[rows],
            masks,
        )
        for row, track_id in zip(rows, instances.track_ids[: len(rows)].tolist()):
            self.ids[row] = track_id
        order = np.argsort(-scores[rows], kind="stable")
        if (np.diff(order) < 0).any():
            instances = instances[np.concatenate((order, np.arange(len(rows), len(instances))))]
        return instances

    def _labels(self, classes: npt.NDArray[np.float32], lifecycle: TrackLifecycle) -> npt.NDArray[np.int64]:
        """Of each row the label of its track so far, of a new one its best class."""
        of_clip = classes.mean(1) if classes.ndim == 3 else classes
        labels = of_clip.argmax(1).astype(np.int64) if classes.size else np.zeros(len(classes), np.int64)
        for row, track_id in enumerate(self.ids):
            if track_id is not None:
                labels[row] = lifecycle.class_scores(track_id).argmax()
        return labels
