"""The command ``vis``.

Commands import what they need when they run, so that ``vis --help`` is quick and ``vis evaluate`` needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from vis_core.commands import evaluate as evaluation_commands
from vis_core.commands import export as export_command
from vis_core.commands import inspect as data_commands
from vis_core.commands import segment_command
from vis_core.commands import train as training_commands
from vis_core.commands import weights as weights_commands
from vis_core.commands.examples import VIS, examples
from vis_core.commands.interrupts import ended_in_order
from vis_core.commands.running import Command, new_app, run_command_line
from vis_core.commands.system_checks import check_weights, find_system
from vis_core.commands.tables import show
from vis_core.commands.terminal import Force, output, say
from vis_core.errors import OptionError
from vis_core.files.outputs import check_file
from vis_core.files.weights_folder import find_weights

if TYPE_CHECKING:
    from vis_core.system.option import Option

app = new_app("Video instance segmentation: videos in, tracked masks out.")


def main() -> None:
    """Entry point of ``vis``: an error of ours is told in one message, with exit code 2."""
    with ended_in_order():
        run_command_line(lambda: app(prog_name="vis"))


def convert(
    system: Annotated[str, typer.Argument(help="System, by its name in 'vis systems'.")],
    source: Annotated[Path, typer.Argument(metavar="IN", help="Published checkpoint (.pth, .pkl), or .safetensors.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write (.safetensors).")],
    half: Annotated[bool, typer.Option("--half", help="Store 16 bits a value, in half the space.")] = False,
    force: Force = False,
) -> None:
    """Convert a published checkpoint, or weights of ours, to .safetensors, checked against the network."""
    find_system(system)
    if target.suffix != ".safetensors":
        raise OptionError(f"{target}: weights are written as .safetensors")
    source = find_weights(source)
    check_weights(source)
    check_file(target, force, say)

    from vis_core import catalog

    count = catalog.convert(system, source, target, half)
    output.print(f"{escape(str(target))}: {count} tensors, {target.stat().st_size / 1e6:.1f} MB")


def systems(name: Annotated[str | None, typer.Argument(help="Show the options of this one.")] = None) -> None:
    """List the systems with their licences and published figures; of one, its options."""
    if name is not None:
        find_system(name)

    from vis_core import catalog

    if name is not None:
        entry = catalog.find(name)
        table = Table("option", "default", "values", "meaning", title=f"{entry.title} ({entry.paper})")
        for key, option in entry.options.items():
            default = str(option.default) + ("" if option.quality is None else f"; --quality: {option.quality}")
            table.add_row(key, escape(default), escape(_values(option)), escape(option.description))
    else:
        table = Table("name", "system", "published checkpoints", "their licence", "published figures", show_lines=True)
        for entry in catalog.SYSTEMS.values():
            figures = "\n".join(f"{key}: {value}" for key, value in entry.figures.items())
            texts = (f"{entry.title}\n{entry.paper}", entry.checkpoints_source, entry.checkpoints_licence, figures)
            table.add_row(entry.name, *map(escape, texts))
    show(table)


def _values(option: Option) -> str:
    if option.choices:
        return " | ".join(option.choices)
    bounds = "" if option.minimum is None and option.maximum is None else f"{option.minimum} to {option.maximum}"
    if option.multiple_of:
        bounds += f", a multiple of {option.multiple_of}"
    return (bounds + ", or none").removeprefix(", ") if option.optional else bounds


_FIRST: dict[str, Callable[..., None]] = {
    "segment": segment_command.segment,
    "evaluate": evaluation_commands.evaluate,
    "train": training_commands.train,
    "inspect": data_commands.inspect,
    "systems": systems,
}

# In the order of the help. Modules of commands import nothing heavy before they run.
for _name, _command in _FIRST.items():
    app.command(_name, cls=Command, epilog=examples(VIS[_name]))(_command)
app.add_typer(weights_commands.app, name="weights")
app.command("convert", epilog=examples(VIS["convert"]))(convert)
app.command()(export_command.export)
app.command("submit", epilog=examples(VIS["submit"]))(evaluation_commands.submit)
