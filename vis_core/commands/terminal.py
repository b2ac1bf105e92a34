"""What the commands show on a terminal: progress, warnings, errors; by two consoles, which every command takes."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from vis_core.errors import InputError
from vis_core.files.atomic import FULL

if TYPE_CHECKING:
    from vis_core.video.sources import Skipped, VideoSource

SKIPPED_SHOWN = 20
"""How many left-out frames of a video are told on the screen."""


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


@contextmanager
def progress_bar(sources: Sequence[VideoSource], total: int | None) -> Iterator[Callable[[], None]]:
    """A progress bar with frames per second and time left; gives what is called after each frame."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    shown: dict[str, int] = {}
    with Progress(*columns, console=screen) as progress:
        task = progress.add_task("frames", total=total, rate="")
        began = time.perf_counter()

        def on_frame() -> None:
            done = progress.tasks[task].completed + 1
            rate = done / (time.perf_counter() - began)
            progress.update(task, advance=1, rate=f"{rate:.1f} frames/s")

        def on_skip(name: str) -> Callable[[Skipped], None]:
            def tell(skipped: Skipped) -> None:
                shown[name] = shown.get(name, 0) + 1
                if shown[name] <= SKIPPED_SHOWN:
                    screen.print(f"[yellow]skipped[/] {escape(skipped.name)}: {escape(skipped.reason)}")

            return tell

        for source in sources:
            source.on_skip = on_skip(source.name)
        yield on_frame


def tell_error(error: Exception) -> None:
    """One message for an error of ours, or of the operating system."""
    screen.print(f"[bold red]error:[/] {escape(_told(error))}")


def tell_failure(name: str, error: BaseException) -> None:
    """The same of one of several inputs, where the others go on."""
    text = _told(error)
    screen.print(f"[bold red]failed[/] {escape(text if name in text else f'{name}: {text}')}")


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
    screen.print(f"[yellow]warning:[/] {escape(str(message))}")
