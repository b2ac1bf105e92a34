"""The streaming interface that every system has: a frame in, the instances of zero, one or several frames out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vis_core.errors import OptionError
from vis_core.structures import Frame, Instances
from vis_core.system.trainable import Trainable


class Segmenter(ABC):
    """A video instance segmentation system, running on a stream.

    Attributes:
        network: the neural network, on its device.
        class_names: name of each label.
        delay: frames between a frame and its answer, at most; 0 for an online system.
        looks_ahead: whether `look_ahead` makes it quicker where it runs.
    """

    network: nn.Module
    class_names: tuple[str, ...]
    delay: int = 0
    looks_ahead: bool = False

    def look_ahead(self, frame: Frame) -> None:  # noqa: B027 not every system can
        """Begin with what of the next frame needs no other frame, beside the `step` that is at work; returns at once.

        A hint: what `step` answers does not depend on it. May be called in another thread than `step`.
        """

    @abstractmethod
    def step(self, frame: Frame) -> list[Instances]:
        """Take the next frame; return the answers that are ready, each under its own stamp, in order.

        A frame of another size than the one before is a new scene: the state is reset first.
        """

    def flush(self) -> list[Instances]:
        """The answers still owed at the end of a stream; none for an online system."""
        return []

    @abstractmethod
    def reset(self) -> None:
        """Forget the stream. Track ids go on from where they were; tracks alive are reported ENDED by the next step."""

    @abstractmethod
    def state_bytes(self) -> int:
        """Size of what lives from frame to frame, bytes."""


def looking_ahead(segmenter: Segmenter, frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames of a recording, each when the segmenter has begun with the one after it: to be stepped at once.

    Not for a camera: a frame would wait for the next one.

    Args:
        segmenter: one that does not look ahead gets the frames as they are.
        frames: what is read before an error comes before it.
    """
    if not segmenter.looks_ahead:
        yield from frames
        return
    remaining = iter(frames)
    frame = next(remaining, None)
    while frame is not None:
        try:
            following = next(remaining, None)
        except Exception:
            yield frame
            raise
        if following is not None:
            segmenter.look_ahead(following)
        yield frame
        frame = following


@dataclass(frozen=True)
class Option:
    """One option of a system: its default, meaning and range.

    Attributes:
        default: its type is the option's; of a tuple, the length and the type of the entries too.
        description: one sentence for users, with the unit.
        minimum: least value, of each entry if a tuple.
        maximum: greatest value.
        multiple_of: what each value must be a multiple of.
        choices: the texts that are allowed; empty: any.
        optional: None is allowed, and means without a bound.
        recorded: the default of ``vis segment`` on files, which wait for their answers; None: that of all else.
    """

    default: Any
    description: str
    minimum: float | None = None
    maximum: float | None = None
    multiple_of: int | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False
    recorded: Any = None

    def check(self, name: str, value: Any) -> Any:
        """The value in the option's type.

        Raises:
            OptionError: wrong type, out of range or not among the choices.
        """
        if value is None and self.optional:
            return None
        kind = type(self.default)
        if kind is tuple:
            if not isinstance(value, (tuple, list)) or len(value) != len(self.default):
                raise OptionError(f"option {name}: expected {len(self.default)} values, got {value!r}")
            return tuple(
                self._check_one(f"{name}[{i}]", v, type(d)) for i, (v, d) in enumerate(zip(value, self.default))
            )
        return self._check_one(name, value, kind)

    def _check_one(self, name: str, value: Any, kind: type[Any]) -> Any:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise OptionError(f"option {name}: expected {kind.__name__}, got {value!r}")
        if self.choices and value not in self.choices:
            raise OptionError(f"option {name}: {value!r} is none of {', '.join(self.choices)}")
        if kind in (int, float):
            low = -float("inf") if self.minimum is None else self.minimum
            high = float("inf") if self.maximum is None else self.maximum
            if not low <= value <= high:
                raise OptionError(f"option {name}: {value} is not in [{low:g}, {high:g}]")
            if self.multiple_of and value % self.multiple_of:
                raise OptionError(f"option {name}: {value} is not a multiple of {self.multiple_of}")
        return value


@dataclass(frozen=True)
class PublishedFormat:
    """How the published checkpoints of a system are recognised and converted.

    Attributes:
        recognise: from the keys of a file, whether it is one.
        convert: published tensors to ours; raises `CheckpointError` where parts contradict each other.
    """

    recognise: Callable[[Collection[str]], bool]
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class System:
    """The catalogue's entry of a system.

    Attributes:
        name: as in ``vis_core.load(name)``.
        title: the name that its paper uses.
        paper: where it was published.
        build: ``build(tensors, metadata, device, precision, **options)`` makes the segmenter; ``tensors`` in our names,
            or None for random weights; ``metadata`` of the weight file; every option present and checked.
        options: what ``build`` takes, by name.
        published: the published checkpoints; None: there are none in a form of their own.
        checkpoints_licence: licence of the published checkpoints, shown when one is loaded.
        checkpoints_source: where they are to be had.
        figures: published figures, name to value with its unit or data set.
        default_weights: the weight file that is part of the package, None if there is none.
        trainable: ``trainable(class_names, tensors, generator, **training_options)`` makes what the trainer trains;
            ``tensors`` to start from, in our names, whose heads may be of another class count, or None. None: the
            system cannot be trained here.
        training_options: what ``trainable`` takes, by name.
        starting_weights: weight files to train from that other packages bring, by the name that a config gives them.
    """

    name: str
    title: str
    paper: str
    build: Callable[..., Segmenter]
    options: Mapping[str, Option]
    published: PublishedFormat | None
    checkpoints_licence: str
    checkpoints_source: str
    figures: Mapping[str, str] = field(default_factory=dict)
    default_weights: Callable[[], Path | None] = lambda: None
    trainable: Callable[..., Trainable] | None = None
    training_options: Mapping[str, Option] = field(default_factory=dict)
    starting_weights: Mapping[str, Callable[[], Path]] = field(default_factory=dict)
