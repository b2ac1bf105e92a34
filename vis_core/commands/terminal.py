"""What the commands show and ask on a terminal: progress, errors, options as texts."""

from __future__ import annotations

import errno
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vis_core.errors import OptionError

if TYPE_CHECKING:
    from vis_core.system.option import Option
    from vis_core.system.segmenter import Segmenter
    from vis_core.video.sources import Skipped, VideoSource

SKIPPED_SHOWN = 20
"""How many left-out frames of a video are told on the screen."""

screen = Console(stderr=True, highlight=False, soft_wrap=True)
output = Console(highlight=False, soft_wrap=True)


def load_segmenter(
    name: str,
    weights: Path | None,
    device: str,
    precision: str,
    threads: int | None,
    texts: list[str],
    given: dict[str, Any],
    recorded: bool = False,
) -> Segmenter:
    """A segmenter, from what stands on a command line; says so if its weights are random.

    Args:
        name: of the system.
        weights: weight file; None: the system's own, else random ones.
        device, precision: as of ``vis_core.load``.
        threads: of the network on a processor; None: as many as PyTorch chooses.
        texts: options, each ``name=value``.
        given: options already parsed; None is left out.
        recorded: the frames come from files: options that are not given take their default for files, and it is told.

    Raises:
        OptionError: an unknown system or option, or a value out of range.
        CheckpointError: the weights cannot be used.
    """
    import torch

    from vis_core import catalog

    if threads is not None:
        torch.set_num_threads(threads)
    options = {key: value for key, value in given.items() if value is not None}
    known = catalog.find(name).options
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise OptionError(f"--option {text}: write it as name=value")
        options[key] = option_value(value, known[key]) if key in known else value
    if recorded:
        options = {**_for_recordings(known, options), **options}
    with warnings.catch_warnings():
        if weights is None:
            warnings.simplefilter("ignore", UserWarning)
            warn_if_random(name, weights)
        return catalog.load(name, weights, device, precision, **options)


def _for_recordings(known: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of options on files, where they differ from those that a stream has, and are not given."""
    changed = {key: x.recorded for key, x in known.items() if x.recorded is not None and key not in given}
    for key, value in changed.items():
        usual = f"--option {key}={known[key].default}"
        screen.print(f"[dim]{escape(f'{key}={value}, since files can wait; as the node, and quicker: {usual}')}[/]")
    return changed


def weights_are_random(name: str, weights: Path | None) -> bool:
    """Whether a system would run with random weights: none are given, and it brings none of its own."""
    from vis_core import catalog

    return weights is None and catalog.find(name).default_weights() is None


def warn_if_random(name: str, weights: Path | None) -> None:
    """Say so if a system would run with random weights."""
    if weights_are_random(name, weights):
        screen.print("[bold yellow]The weights are random[/]: masks, labels and tracks mean nothing. Give --weights.")


def option_value(text: str, option: Option) -> Any:
    """What a text on the command line stands for; whether it fits is checked by the catalogue."""
    import yaml

    if option.kind is str and not option.optional:
        return text
    if text.lower() in ("none", "null"):
        return None
    if option.kind is tuple and not text.startswith("["):
        text = f"[{text}]"
    try:
        value = yaml.safe_load(text)
        return float(value) if option.kind is float and isinstance(value, str) else value
    except (yaml.YAMLError, ValueError):
        return text


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
    text = str(error)
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        text = f"{error.filename or ''}: {error.strerror or error}".removeprefix(": ")
        text = f"the disk is full: {text}" if full else text
    screen.print(f"[bold red]error:[/] {escape(text)}")


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """For ``warnings.showwarning``: the text of a warning alone."""
    screen.print(f"[yellow]warning:[/] {escape(str(message))}")
