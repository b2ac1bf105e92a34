"""The streaming interface that every system has: a frame in, the instances of zero, one or several frames out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vis_core.errors import InputError, OptionError
from vis_core.structures import Frame, Instances
from vis_core.system.option import Option
from vis_core.video.sources import DEFAULT_FPS

if TYPE_CHECKING:
    from torch import nn

Image = npt.NDArray[np.uint8]
_INTERVAL = round(1e9 / DEFAULT_FPS)


def frame_of(image: Frame | Image, bgr: bool = False, before: Frame | None = None) -> Frame:
    """The frame that a bare image stands for: the one after `before`, 40 ms later, as of files without a rate.

    Args:
        image: a frame, or uint8 ``[H, W, 3]``.
        bgr: a bare image is BGR.
        before: the frame before it; None: it is the first.

    Raises:
        InputError: it is neither, or a frame is said to be BGR.
    """
    if isinstance(image, Frame):
        if bgr:
            raise InputError(f"frame {image.index}: a Frame holds RGB; bgr=True is for bare images")
        return image
    if bgr and isinstance(image, np.ndarray) and image.ndim == 3:
        image = np.ascontiguousarray(image[..., ::-1])
    return Frame(image) if before is None else Frame(image, before.stamp + _INTERVAL, before.index + 1)


class Segmenter(ABC):
    """A video instance segmentation system, running on a stream.

        for instances in segmenter.run(vis_core.open_video("street.mp4")):
            print(instances.stamp, instances.track_ids)

    Attributes:
        network: the neural network, on its device; None: it was exported, and its system runs it without PyTorch.
        class_names: name of each label.
        delay: frames between a frame and its answer, at most; 0 for an online system.
        prefetches: whether `prefetch` makes it quicker where it runs.
        max_lost_seconds: a track ends that was not seen for longer, by the stamps of frames; None: by frames alone. May
            be changed while it runs.
        shown_score: running score that a track reaches before it is drawn, or published by the node; `run` and `step`
            answer all. Measured with the weights that ship; 0 for others.
        runs_on: ``device`` and ``precision`` of an exported network; None: those of `network`'s own weights.
        options: of its system, by name, as ``vis_core.load`` leaves them; none where it was made otherwise.
    """

    network: nn.Module | None
    class_names: tuple[str, ...]
    semantic_class_names: tuple[str, ...] = ()
    delay: int = 0
    prefetches: bool = False
    shown_score: float = 0.0
    options: Mapping[str, Option] = {}
    runs_on: Mapping[str, str] | None = None

    def run(
        self, frames: Iterable[Frame | Image], prefetch: bool | None = None, bgr: bool = False
    ) -> Iterator[Instances]:
        """The answers to all frames of a stream, in order; what is owed at its end too, and then the stream is over.

        Args:
            frames: of the stream, or bare images, as of `step`. An error in them is raised after the answers to the
                frames before it.
            prefetch: begin with each frame while the one before it is at work. None: unless they come from a camera
                (``frames.live``), where each would wait for the next one.
            bgr: bare images are BGR, as OpenCV reads them.

        Raises:
            InputError: what comes is neither a frame nor an image.
        """
        if isinstance(frames, np.ndarray) and frames.ndim < 4:
            raise InputError("run: takes an iterable of images; a single one is for step(image)")
        if prefetch is None:
            prefetch = not getattr(frames, "live", False)
        failure: Exception | None = None
        remaining = iter(frames)
        before: Frame | None = None

        def following() -> Frame | None:
            nonlocal failure, before
            try:
                item = next(remaining, None)
                if isinstance(item, np.ndarray):
                    item = item.copy()  # its owner may write the next one into it, while this one is at work
                before = None if item is None else frame_of(item, bgr, before)
                return before
            except Exception as error:
                failure = error
                return None

        try:
            ahead = prefetch and self.prefetches
            frame = following()
            while frame is not None:
                after = following() if ahead else None
                if after is not None:
                    self.prefetch(after)
                yield from self.step(frame)
                frame = after if ahead else following()
            yield from self.flush()
            if failure is not None:
                raise failure
        finally:
            self.reset()

    def prefetch(self, frame: Frame) -> None:  # noqa: B027 not every system can
        """Begin with what of the next frame needs no other frame, beside the `step` that is at work; returns at once.

        A hint: what `step` answers does not depend on it. May be called in another thread than `step`.
        """

    @property
    def max_lost_seconds(self) -> float | None:
        """See the class."""
        return None

    @max_lost_seconds.setter
    def max_lost_seconds(self, seconds: float | None) -> None:
        if seconds is not None:
            raise OptionError("max_lost_seconds: this system ends tracks by frames alone")

    def another(self) -> Segmenter:
        """A stream of its own over the same network, whose weights are in memory once; of the two one steps at a time.

        It has the same options, nothing of what this one remembers, and gives no track id that this one gave or gives.

        Raises:
            OptionError: the system runs one stream over a network.
        """
        raise OptionError("this system runs one stream over a network; load it once for each stream")

    @abstractmethod
    def step(self, frame: Frame | Image, bgr: bool = False) -> list[Instances]:
        """Take the next frame; return the answers that are ready, each under its own stamp, in order.

        A frame of another size than the one before is a new scene: what is owed is answered and the state is reset.

        Args:
            frame: with its stamp and index; or the bare image, uint8 ``[H, W, 3]``, which is counted as the frame after
                the one before, 40 ms later.
            bgr: a bare image is BGR, as OpenCV reads it.

        Raises:
            InputError: it is neither.
        """

    def flush(self) -> list[Instances]:
        """The answers still owed at the end of a stream; none for an online system."""
        return []

    def semantic_map(self) -> npt.NDArray[np.uint8] | None:
        """Class of each pixel of the frame that was answered last, things and stuff, of a system that tells stuff too.

        Returns:
            uint8 ``[H, W]``: 1 + index in `semantic_class_names`, 0: no class; None: no frame yet, or no such system.
        """
        return None

    @abstractmethod
    def reset(self) -> None:
        """Forget the stream. Track ids go on from where they were; tracks alive are reported ENDED by the next step."""

    @abstractmethod
    def state_bytes(self) -> int:
        """Size of what lives from frame to frame, bytes."""

    def set_option(self, name: str, value: Any) -> None:
        """Change an option that says that it is live; it holds from the next frame on.

        Raises:
            OptionError: there is no such option, it is read only when the system is made, or the value is out of range.
        """
        option = self.options.get(name)
        if option is None or not option.live:
            live = ", ".join(key for key, one in self.options.items() if one.live) or "none"
            raise OptionError(f"option {name}: cannot be changed while the system runs; these can: {live}")
        self.apply_option(name, option.check(name, value))

    def apply_option(self, name: str, value: Any) -> None:
        """Take the new value of a live option, checked."""
        raise OptionError(f"option {name}: this system cannot change it while it runs")
