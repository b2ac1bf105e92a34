"""What the command lines have in common: how they begin, and how an error ends them."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import vis_core
from vis_core.commands.terminal import output, screen, show_warning, tell_error
from vis_core.errors import VisError


def new_app(text: str) -> typer.Typer:
    """A command line of several commands, with ``--version`` and completion for shells.

    Args:
        text: what it is for, shown by ``--help``.
    """
    app = typer.Typer(
        help=text,
        epilog="COMMAND --help tells more of a command, with examples.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_general_options)
    return app


def _show_version(context: typer.Context, asked: bool) -> None:
    if asked:
        output.print(f"{context.find_root().info_name} {vis_core.__version__}")
        raise typer.Exit


def _general_options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and end.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


_PANELS = {
    "What it writes": "out overlay record save_masks save_panoptic csv mot force resume",
    "What is drawn": "draw min_score classes show",
    "System": "system weights quality score_threshold max_instances device precision threads option",
    "What it reads": "topic images fps orientation value_range reconnect start max_frames",
    "How it runs": "count jobs ray quiet help",
}
"""Of a command with many options, which stand together in its help, by their parameters' names."""

_MANY = 20


class Command(TyperCommand):
    """A command with its options in groups, if they are many, and whose ``--save-masks`` may stand alone.

    What follows ``--save-masks`` is no value of it but for one that it can have.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        paragraphs = (self.help or "").split("\n\n")
        self.help = "\n\n".join(" ".join(text.split()) for text in paragraphs)  # broken where the terminal ends
        if len(self.params) > _MANY:
            for title, names in _PANELS.items():
                for parameter in self.params:
                    if parameter.name in names.split() and hasattr(parameter, "rich_help_panel"):
                        parameter.rich_help_panel = title

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments, read."""
        kinds = ("labels", "color")
        alone = [a == "--save-masks" and b not in kinds for a, b in zip(args, [*args[1:], ""])]
        return super().parse_args(ctx, [f"{a}=labels" if is_alone else a for a, is_alone in zip(args, alone)])


def run_command_line(app: Callable[[], object]) -> None:
    """Run a command line: an error of ours is told in one message, with exit code 2, one of the system with 1."""
    # Read by the OpenMP runtime when torch is loaded: idle threads must not spin beside other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What the decoders say of damaged frames is told by name instead.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    warnings.showwarning = show_warning
    try:
        app()
    except VisError as error:
        tell_error(error)
        sys.exit(2)
    except OSError as error:
        tell_error(error)
        sys.exit(1)
    finally:
        screen.quiet = output.quiet = False
