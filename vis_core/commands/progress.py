"""How far a command is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vis_core.commands.terminal import screen, urgent

if TYPE_CHECKING:
    from vis_core.video.sources import Skipped, VideoSource

SKIPPED_SHOWN = 20
"""How many left-out frames of a video are told on the screen."""

_LINE_EVERY = 10.0  # seconds


@contextmanager
def progress_bar(sources: Sequence[VideoSource], total: int | None) -> Iterator[Callable[[], None]]:
    """Shows frames done, frames per second and time left; gives what is called after each frame.

    On a terminal it is a bar; in a pipe or a file a line every 10 seconds and at the end. Frames that are left out are
    told.
    """
    for source in sources:
        source.on_skip = _skips_told()
    with _bar(total) if screen.is_terminal else _lines(total) as on_frame:
        yield on_frame


@contextmanager
def _bar(total: int | None) -> Iterator[Callable[[], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, disable=screen.quiet) as progress:
        task = progress.add_task("frames", total=total, rate="")
        began = time.perf_counter()

        def on_frame() -> None:
            done = progress.tasks[task].completed + 1
            progress.update(task, advance=1, rate=f"{done / (time.perf_counter() - began):.1f} frames/s")

        yield on_frame


@contextmanager
def _lines(total: int | None) -> Iterator[Callable[[], None]]:
    done, told = 0, 0
    began = latest = time.perf_counter()

    def tell(now: float) -> None:
        nonlocal latest, told
        latest, told = now, done
        rate = done / (now - began)
        of = "" if total is None else f" of {total}"
        left = f", {(total - done) / rate:.0f} s left" if total is not None and done < total else ""
        screen.print(f"frame {done}{of}, {rate:.1f} frames/s{left}")

    def on_frame() -> None:
        nonlocal done
        done += 1
        if (now := time.perf_counter()) - latest >= _LINE_EVERY:
            tell(now)

    try:
        yield on_frame
    finally:
        if done > told:
            tell(time.perf_counter())


def _skips_told() -> Callable[[Skipped], None]:
    shown = 0

    def tell(skipped: Skipped) -> None:
        nonlocal shown
        shown += 1
        if shown <= SKIPPED_SHOWN:
            urgent(f"[yellow]skipped[/] {escape(skipped.name)}: {escape(skipped.reason)}")

    return tell
