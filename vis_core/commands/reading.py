"""How a command line says which way images are read, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from vis_core.commands.terminal import screen

if TYPE_CHECKING:
    from vis_core.video.sources import VideoSource

Orientation = Annotated[
    Literal["auto", "stored", "turned"],
    typer.Option(
        help="Images as they are stored, or turned by EXIF as viewers show them. auto: as the sizes in a JSON tell, "
        "else turned."
    ),
]
ValueRange = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="MIN,MAX|auto",
        help="Values of 16-bit images that become black and white; auto: found by the first images of a video.",
    ),
]
Reconnect = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=86400,
        metavar="SECONDS",
        help="For how long a live stream that breaks off is connected to again; 0: its video ends there. Default: 30.",
        show_default=False,
    ),
]


def open_sources(
    source: str,
    images: Path | None,
    fps: float | None,
    orientation: str,
    value_range: str | None,
    reconnect: float | None = None,
) -> list[VideoSource]:
    """The videos that are there, as `open_videos`; how their images are read is told.

    Raises:
        InputError: nothing there that can be read.
        OptionError: no such range.
    """
    from vis_core.video.opening import open_videos
    from vis_core.video.streams import RECONNECT

    reconnect = RECONNECT if reconnect is None else reconnect
    sources = open_videos(source, images, fps, orientation, value_range, reconnect)
    tell_notes(sources)
    if value_range is not None and not any("16-bit" in note for note in sources[0].notes):
        screen.print(f"[yellow]--range {escape(value_range)}[/] changes nothing: the first images have 8 bits a value")
    return sources


def tell_notes(sources: Sequence[VideoSource]) -> None:
    """What there is to say on how images are read."""
    for source in sources:
        for note in source.notes:
            screen.print(escape(note))
