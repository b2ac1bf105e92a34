"""The catalogue's entry of a system."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vis_core.system.option import Option, options_of

if TYPE_CHECKING:
    from torch import Tensor

    from vis_core.system.segmenter import Segmenter
    from vis_core.system.trainable import Trainable


def deferred(module: str, name: str) -> Callable[..., Any]:
    """A function whose module is imported when it is called: an entry is read without PyTorch."""

    def call(*arguments: Any, **named: Any) -> Any:
        return getattr(import_module(module), name)(*arguments, **named)

    return call


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
    """The catalogue's entry of a system, which names and describes it without importing PyTorch.

    Attributes:
        name: as in ``vis_core.load(name)``.
        title: the name that its paper uses.
        paper: where it was published.
        build: ``build(tensors, metadata, device, precision, **options)`` makes the segmenter; ``tensors`` in our names,
            or None for random weights; ``metadata`` of the weight file; every option present and checked. Its
            signature states the options.
        build_exported: ``build_exported(runs, class_names, **options)`` makes the segmenter of exported graphs and
            imports no PyTorch; None: `build` does, from zeros for weights.
        published: the published checkpoints; None: there are none in a form of their own.
        checkpoints_licence: licence of the published checkpoints, shown when one is loaded.
        checkpoints_source: where they are to be had.
        figures: published figures, name to value with its unit or data set.
        default_weights: the weight file that is part of the package, None if there is none.
        shown_score: with those, the least running score of a track that is drawn or published; 0: all are.
        trainable: ``trainable(class_names, tensors, generator, **training_options)`` makes what the trainer trains;
            ``tensors`` to start from, in our names, whose heads may be of another class count, or None. Its signature
            states the options. None: the system cannot be trained here.
        starting_weights: weight files to train from that other packages bring, by the name that a config gives them.
    """

    name: str
    title: str
    paper: str
    build: Callable[..., Segmenter]
    published: PublishedFormat | None
    checkpoints_licence: str
    checkpoints_source: str
    figures: Mapping[str, str] = field(default_factory=dict)
    default_weights: Callable[[], Path | None] = lambda: None
    shown_score: float = 0.0
    trainable: Callable[..., Trainable] | None = None
    starting_weights: Mapping[str, Callable[[], Path]] = field(default_factory=dict)
    build_exported: Callable[..., Segmenter] | None = None

    @cached_property
    def options(self) -> Mapping[str, Option]:
        """What `build` takes, by name."""
        return options_of(self.build)

    @cached_property
    def training_options(self) -> Mapping[str, Option]:
        """What `trainable` takes, by name."""
        return {} if self.trainable is None else options_of(self.trainable)
