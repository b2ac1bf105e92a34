"""From a config to what trains: the system with its first weights, the data, the processes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vis_core import catalog, checkpoints
from vis_core.data.annotation_files import read_annotations
from vis_core.data.frame_draws import FrameDraw
from vis_core.data.sources import balanced, open_sources
from vis_core.errors import InputError, MissingDependencyError, OptionError
from vis_core.system.entry import System
from vis_core.system.option import check_given, check_options
from vis_core.system.trainable import Trainable
from vis_core.training.config import Config
from vis_core.training.sampling import ClipDraws

_PRECISIONS: Mapping[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_PATIENCE = timedelta(hours=6)  # of processes that wait while the first one evaluates


def find_system(config: Config) -> tuple[System, Config]:
    """The system, and the config with all of its training options.

    Raises:
        OptionError: no such system, one that cannot be trained, or an option that it does not have.
    """
    system = catalog.find(config.system)
    if system.trainable is None:
        able = ", ".join(name for name, entry in catalog.SYSTEMS.items() if entry.trainable)
        raise OptionError(f"system: {config.system!r} cannot be trained here; these can: {able}")
    options = check_options(system.training_options, config.options, "options.")
    given = check_given(system.options, config.evaluation.options, "evaluation.options.")
    return system, replace(config, options=options, evaluation=replace(config.evaluation, options=given))


def make_trainable(system: System, config: Config) -> Trainable:
    """The network with its losses and first weights.

    Raises:
        CheckpointError: the initial weights cannot be used.
    """
    tensors = (
        None if config.initial_weights is None else _initial_weights(system, _named(system, config.initial_weights))
    )
    assert system.trainable is not None
    generator = torch.Generator().manual_seed(config.seed)
    return system.trainable(config.classes, tensors, generator, **config.options)


def make_draws(config: Config) -> ClipDraws:
    """The training data.

    Raises:
        InputError: an annotation file that cannot be used.
    """
    sets = [read_annotations(e.annotations, e.images, config.classes, e.categories, e.orientation) for e in config.data]
    for annotated in sets:
        if not any(item.annotations for item in annotated.items):
            raise InputError(
                f"{annotated.path}: no annotation is of a class of {list(config.classes)}; map its categories by "
                "'categories', or name its classes"
            )
    weights = [e.weight for e in config.data]
    clip = config.clip
    draw = FrameDraw(clip.order, clip.reach)
    sources = open_sources(sets, clip.frames, clip.size, clip.augmentation, weights, draw)
    items = [balanced(annotated, e.balance) if e.balance else None for annotated, e in zip(sets, config.data)]
    return ClipDraws(sources, weights, config.seed, items)


def make_fabric(config: Config) -> Any:
    """Lightning Fabric on the device: alone, or one of the processes that torchrun started.

    Raises:
        MissingDependencyError: it is not installed.
        OptionError: the device or the precision does not go here, or the batch does not divide.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError as error:
        raise MissingDependencyError("vis train needs lightning-fabric: pip install 'vis_ros[train]'") from error
    cuda = torch.cuda.is_available() if config.device == "auto" else config.device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise OptionError(f"device: 'cuda', but torch {torch.__version__} finds no GPU; use cpu or auto")
    if config.precision == "fp16" and not cuda:
        raise OptionError("precision: fp16 needs a GPU; use bf16 or fp32")
    processes = int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if config.batch % (processes * config.accumulate):
        parts = f"{processes} processes x accumulate {config.accumulate}"
        raise OptionError(f"batch: {config.batch} is not a multiple of {parts}")
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=local,
        num_nodes=processes // local,
        strategy=DDPStrategy(timeout=_PATIENCE) if processes > 1 else "auto",
        precision=_PRECISIONS[config.precision],
    )
    fabric.launch()
    return fabric


def _named(system: System, path: Path) -> Path:
    """The file of a name such as imagenet, which the system knows where to find; any other path as it is."""
    find = None if path.exists() else system.starting_weights.get(path.name)
    return path if find is None else find()


def _initial_weights(system: System, path: Path) -> Mapping[str, Tensor]:
    """Tensors to start from; published names of any system become ours, others are the system's to know."""
    tensors, metadata = checkpoints.read_tensors(path)
    if "format" not in metadata:
        for entry in (system, *catalog.SYSTEMS.values()):
            if entry.published is not None and entry.published.recognise(tensors.keys()):
                return entry.published.convert(tensors)
    return tensors
