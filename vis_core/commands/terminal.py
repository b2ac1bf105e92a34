"""What the commands show on a terminal: lines, warnings, errors; by two consoles, which every command takes."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from vis_core.errors import InputError
from vis_core.files.atomic import FULL


class _CleanConsole(Console):
    """Shows control characters of names and texts from outside written out, so that none reaches the terminal."""

    def render_str(self, text: str, **how: Any) -> Text:
        shown = (c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
        return super().render_str("".join(shown), **how)


screen = _CleanConsole(stderr=True, highlight=False, soft_wrap=True)
"""For people who watch: progress, warnings, errors."""

output = _CleanConsole(highlight=False, soft_wrap=True)
"""For what a command was asked for."""


Force = Annotated[bool, typer.Option("--force", help="Replace what an earlier run has written there.")]


def say(text: str) -> None:
    """A line for people who watch."""
    screen.print(escape(text))


def check_inputs(*paths: Path | None) -> None:
    """See before any work whether the files and folders that are named are there.

    Raises:
        InputError: one is not.
    """
    for path in paths:
        if path is not None and not path.exists():
            raise InputError(f"{path}: no such file or folder")


def be_quiet(asked: bool) -> bool:
    """From here to the end of the command only warnings and errors are shown, if that is asked for."""
    screen.quiet = output.quiet = asked or output.quiet
    return asked


Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show warnings and errors alone.", callback=be_quiet, is_eager=True)
]


def urgent(text: str) -> None:
    """A line that is shown even where all else is quiet; markup."""
    was, screen.quiet = screen.quiet, False
    try:
        screen.print(text)
    finally:
        screen.quiet = was


def tell_error(error: Exception) -> None:
    """One message for an error of ours, or of the operating system."""
    urgent(f"[bold red]error:[/] {escape(_told(error))}")


def tell_failure(name: str, error: BaseException) -> None:
    """The same of one of several inputs, where the others go on."""
    text = _told(error)
    urgent(f"[bold red]failed[/] {escape(text if name in text else f'{name}: {text}')}")


def _told(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, OSError):
        text = f"{error.filename or ''}: {error.strerror or error}".removeprefix(": ")
        if error.errno in FULL:
            text = f"{'a file may not grow so large' if error.errno == errno.EFBIG else 'the disk is full'}: {text}"
    return text


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """For ``warnings.showwarning``: the text of a warning alone."""
    urgent(f"[yellow]warning:[/] {escape(str(message))}")
