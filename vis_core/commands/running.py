"""What the command lines have in common: how they begin, and how an error ends them."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable

import typer

from vis_core.commands.terminal import show_warning, tell_error
from vis_core.errors import VisError


def new_app(text: str) -> typer.Typer:
    """A command line of several commands.

    Args:
        text: what it is for, shown by ``--help``.
    """
    return typer.Typer(help=text, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


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
