"""The streaming interface that every system has: a frame in, the instances of zero, one or several frames out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from vis_core.errors import OptionError
from vis_core.structures import Frame, Instances
from vis_core.system.option import Option


class Segmenter(ABC):
    """A video instance segmentation system, running on a stream.

        for instances in segmenter.run(vis_core.open_video("street.mp4")):
            print(instances.stamp, instances.track_ids)

    Attributes:
        network: the neural network, on its device.
        class_names: name of each label.
        delay: frames between a frame and its answer, at most; 0 for an online system.
        prefetches: whether `prefetch` makes it quicker where it runs.
        max_lost_seconds: a track ends that was not seen for longer, by the stamps of frames; None: by frames alone. May
            be changed while it runs.
        options: of its system, by name, as ``vis_core.load`` leaves them; none where it was made otherwise.
    """

    network: nn.Module
    class_names: tuple[str, ...]
    semantic_class_names: tuple[str, ...] = ()
    delay: int = 0
    prefetches: bool = False
    options: Mapping[str, Option] = {}

    def run(self, frames: Iterable[Frame], prefetch: bool | None = None) -> Iterator[Instances]:
        """The answers to all frames of a stream, in order; what is owed at its end too, and then the stream is over.

        Args:
            frames: of the stream. An error in them is raised after the answers to the frames before it.
            prefetch: begin with each frame while the one before it is at work. None: unless they come from a camera
                (``frames.live``), where each would wait for the next one.
        """
        if prefetch is None:
            prefetch = not getattr(frames, "live", False)
        failure: Exception | None = None
        remaining = iter(frames)

        def following() -> Frame | None:
            nonlocal failure
            try:
                return next(remaining, None)
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
    def step(self, frame: Frame) -> list[Instances]:
        """Take the next frame; return the answers that are ready, each under its own stamp, in order.

        A frame of another size than the one before is a new scene: what is owed is answered and the state is reset.
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
