"""What a training is told: the keys of a config file, with their types, ranges and defaults.

The texts of the attributes are the comments that ``vis train --print-config`` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vis_core.data.augmentation import Augmentation
from vis_core.data.frame_draws import FrameDraw, Order

Metric = Literal["AP", "AP50", "AP75", "AR1", "AR10", "HOTA", "MOTA", "IDF1"]


def bounded(low: float, high: float, **default: Any) -> Any:
    """A field with a range; of an optional one or a tuple, of each value."""
    return field(metadata={"range": (low, high)}, **default)


@dataclass(frozen=True)
class TrainingSet:
    """Annotated images or videos to draw clips from.

    Attributes:
        annotations: COCO or YouTube-VIS JSON
        images: folder of its images; null: beside the JSON
        categories: name of a category in the file -> name of the class, where they differ
        orientation: images as they are stored, or turned by EXIF; auto: as the sizes tell
        weight: share of the draws, relative to the other sets
        balance: 0: its items are drawn alike; above: those of rare classes more often, by (1 / share)^balance
    """

    annotations: Path
    images: Path | None = None
    categories: Mapping[str, str] = field(default_factory=dict)
    orientation: Literal["auto", "stored", "turned"] = "auto"
    weight: float = bounded(0, 1e9, default=1.0)
    balance: float = bounded(0, 1, default=0.0)


@dataclass(frozen=True)
class EvaluationSet:
    """Annotated images or videos to measure on.

    Attributes:
        annotations: COCO or YouTube-VIS JSON; images are videos of one frame
        images: folder of its images; null: beside the JSON
        categories: name of a category in the file -> name of the class, where they differ
        orientation: images as they are stored, or turned by EXIF; auto: as the sizes tell
        name: in evaluation.csv; null: folder and name of the file
        limit: at most so many videos or images, evenly taken; null: all
        complete_only: leave out items of which not every visible object is labelled
    """

    annotations: Path
    images: Path | None = None
    categories: Mapping[str, str] = field(default_factory=dict)
    orientation: Literal["auto", "stored", "turned"] = "auto"
    name: str | None = None
    limit: int | None = bounded(1, 1e9, default=None)
    complete_only: bool = False


@dataclass(frozen=True)
class Clip:
    """What a clip is.

    Attributes:
        frames: of a clip
        order: shuffled (may repeat one) | distinct (shuffled, none twice) | sorted (none twice) | successive (a run,
            either way)
        reach: frames on either side of the first drawn one that the others come from; null: all; not for successive
        size: height and width, pixels
        augmentation: how clips are varied; lengths are fractions of the picture's side
    """

    frames: int = bounded(1, 128, default=3)
    order: Order = FrameDraw.order
    reach: int | None = bounded(1, 1e6, default=FrameDraw.reach)
    size: tuple[int, int] = bounded(16, 4096, default=(256, 448))
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Group:
    """What a group of parameters has of its own.

    Attributes:
        learning_rate: factor of the learning rate
        weight_decay: factor of the weight decay
    """

    learning_rate: float = bounded(0, 1e3, default=1.0)
    weight_decay: float = bounded(0, 1e3, default=1.0)


@dataclass(frozen=True)
class Optimizer:
    """AdamW.

    Attributes:
        learning_rate: before the schedule and the factor of the group
        weight_decay: decoupled, relative to the learning rate
        decay_norms: whether biases and norms (parameters of one dimension) decay too
        betas: of the running means of gradient and of its square
        clip_norm: greatest norm of the gradient of all parameters; null: no limit
        groups: factors of a group of the system's parameters, such as backbone: {learning_rate: 0.1}
    """

    learning_rate: float = bounded(0, 1e3, default=1e-4)
    weight_decay: float = bounded(0, 1e3, default=0.05)
    decay_norms: bool = False
    betas: tuple[float, float] = bounded(0, 0.999999, default=(0.9, 0.999))
    clip_norm: float | None = bounded(1e-9, 1e9, default=1.0)
    groups: Mapping[str, Group] = field(default_factory=dict)


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the steps.

    Attributes:
        kind: cosine (falls to `final`) | step (times gamma at each milestone) | constant
        warm_up: steps in which it rises from zero, linearly
        milestones: steps, of kind step
        gamma: factor at each milestone
        final: factor at the end, of kind cosine
    """

    kind: Literal["cosine", "step", "constant"] = "cosine"
    warm_up: int = bounded(0, 1e9, default=500)
    milestones: tuple[int, ...] = bounded(1, 1e9, default=())
    gamma: float = bounded(0, 1, default=0.1)
    final: float = bounded(0, 1, default=0.01)


@dataclass(frozen=True)
class Evaluation:
    """Measuring while training.

    Attributes:
        every: steps; null: at the end alone
        data: sets to measure on; none: no evaluation
        metric: whose mean over the sets decides which weights are the best
        options: of the system when it runs ('vis systems NAME')
        pictures: frames that are drawn for TensorBoard, the same every time
    """

    every: int | None = bounded(1, 1e9, default=1000)
    data: tuple[EvaluationSet, ...] = ()
    metric: Metric = "AP"
    options: Mapping[str, Any] = field(default_factory=dict)
    pictures: int = bounded(0, 64, default=6)


@dataclass(frozen=True)
class Config:
    """A training. Relative paths are relative to this file.

    Attributes:
        system: name in 'vis systems'
        classes: names; categories of the data of the same name are mapped to them, others left away
        data: what clips are drawn from
        output: folder of the run: weights, state, logs
        initial_weights: our .safetensors, a published checkpoint or a backbone's; or imagenet, shipped; null: random
        options: of the system's training
        seed: of everything that is random
        steps: of the optimizer
        batch: clips a step, over all processes
        accumulate: parts in which a batch goes through the network, to save memory
        precision: fp32 | bf16 | fp16 (GPU only), mixed
        device: auto (a GPU if there is one) | cpu | cuda
        clip: what a clip is
        optimizer: AdamW
        schedule: the learning rate over the steps
        ema: decay of the moving average of the weights, which is what is used afterwards; null: none
        evaluation: measuring while training
        save_every: steps between states, from which a run goes on after a kill
        log_every: steps between lines of the log, each a mean over them
        workers: processes that make clips, for each process that trains; 0: none
    """

    system: str
    classes: tuple[str, ...]
    data: tuple[TrainingSet, ...]
    output: Path
    initial_weights: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = bounded(0, 2**32 - 1, default=0)
    steps: int = bounded(1, 1e9, default=10000)
    batch: int = bounded(1, 1e6, default=8)
    accumulate: int = bounded(1, 1e6, default=1)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    clip: Clip = field(default_factory=Clip)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    ema: float | None = bounded(0, 0.9999999, default=0.999)
    evaluation: Evaluation = field(default_factory=Evaluation)
    save_every: int = bounded(1, 1e9, default=500)
    log_every: int = bounded(1, 1e9, default=20)
    workers: int = bounded(0, 256, default=2)
