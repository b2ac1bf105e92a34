"""The command ``vis train``; it imports what it needs when it runs."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vis_core.commands.interrupts import interrupts
from vis_core.commands.system_checks import check_weights, find_system
from vis_core.commands.terminal import check_inputs, output
from vis_core.commands.training_display import Display
from vis_core.errors import OptionError
from vis_core.files.outputs import check_folder
from vis_core.system.option import check_given

if TYPE_CHECKING:
    from vis_core.training.config import Config

# What --print-config shows where a key has no default.
_EXAMPLE = {
    "system": "visolo-lite",
    "classes": ["person", "vehicle", "animal"],
    "data": [{"annotations": "data/train.json"}],
    "output": "runs/visolo-lite",
    "optimizer": {"groups": {"backbone": {"learning_rate": 0.1}}},
    "evaluation": {"data": [{"annotations": "data/val.json"}]},
}


def train(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="YAML; --print-config shows one.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="In place of the file's: steps=100 clip.frames=2")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Write the config with every key, default and meaning; no training.")
    ] = False,
    restart: Annotated[
        bool,
        typer.Option("--restart", "--force", help="Begin anew; the last run goes once a new state stands."),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="One step and one video of each evaluation set; nothing is kept.")
    ] = False,
) -> None:
    """Train a system on your own data.

    The same command goes on where a run was stopped or killed. Ctrl-C finishes the step and saves (exit code 130).
    Several GPUs: torchrun --nproc-per-node 4 --no-python vis train CONFIG
    """
    from vis_core.training.config_file import config_of, read_config

    if config is None:
        if not print_config:
            raise OptionError("vis train: give a config file; 'vis train --print-config' writes one to begin with")
        _print(config_of(_EXAMPLE, "example", Path.cwd()))
        return
    read = read_config(config, overrides or [])
    _check_before(read)
    if print_config:
        _print(read)
        return
    _check_places(read)
    if check:
        _check(read)
    else:
        _train(read, restart)


def _check_before(config: Config) -> None:
    """See before torch is loaded whether the system and its options can be right.

    Raises:
        OptionError: an unknown system or option, or a value out of range.
    """
    from vis_core import catalog

    system = catalog.find(config.system)
    if not system.trainable:
        able = ", ".join(name for name, entry in catalog.SYSTEMS.items() if entry.trainable)
        raise OptionError(f"system: {config.system!r} cannot be trained here; these can: {able}")
    check_given(system.training_options, config.options, "options.")
    check_given(system.options, config.evaluation.options, "evaluation.options.")


def _check_places(config: Config) -> None:
    """See before torch is loaded whether the files are there and the output can be.

    Raises:
        InputError: one is not.
    """
    weights = config.initial_weights
    if weights is not None and weights.name not in find_system(config.system).starting_weights:
        check_weights(weights)
    check_inputs(*(path for entry in config.data for path in (entry.annotations, entry.images)))
    check_inputs(*(path for entry in config.evaluation.data for path in (entry.annotations, entry.images)))
    check_folder(config.output)


def _print(config: Config) -> None:
    from vis_core.training import config_file, preparation

    system, full = preparation.find_system(config)
    comments = {name: option.description for name, option in system.training_options.items()}
    print(config_file.print_config(full, comments), end="")


def _train(config: Config, restart: bool) -> None:
    from vis_core.training.loop import BEST, LAST, train

    with interrupts("step") as received, Display() as display:
        outcome = train(config, restart, lambda: bool(received), display)
    if outcome.first:
        if outcome.step < outcome.steps:
            output.print(
                f"Stopped at step {outcome.step} of {outcome.steps}; the state is saved. The same command goes on."
            )
        else:
            output.print(f"Trained: {outcome.steps} steps")
        output.print(f"  {escape(str(config.output / LAST))}: weights for vis_core.load and --weights")
        if outcome.best is not None:
            metric = f"{config.evaluation.metric} {outcome.best:.4f}"
            output.print(f"  {escape(str(config.output / BEST))}: those of the best {metric}")
    if outcome.step < outcome.steps:
        raise typer.Exit(128 + (received[0] if received else signal.SIGINT))


def _check(config: Config) -> None:
    """A training of one step, in a folder that is removed."""
    import tempfile
    from dataclasses import replace

    from vis_core.training.loop import train

    sets = tuple(replace(entry, limit=1) for entry in config.evaluation.data)
    with (
        tempfile.TemporaryDirectory(prefix="vis-train-") as folder,
        interrupts("step") as received,
        Display() as display,
    ):
        short = replace(
            config, steps=1, output=Path(folder), log_every=1, evaluation=replace(config.evaluation, data=sets)
        )
        if train(short, stop_asked=lambda: bool(received), observer=display).first:
            output.print("Checked: a step, its files and an evaluation work.")
