"""What ``vis segment`` may leave behind, how it is told, and how the command ends."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from vis_core.commands.terminal import output
from vis_core.errors import InputError

if TYPE_CHECKING:
    from vis_core.commands.segment import RunOutcome

_IMAGES = {
    "masks": " (16-bit PNGs: 0 = background, else the track id)",
    "panoptic": " (RGB PNGs: red = class, green * 256 + blue = track id)",
}
"""What the images of a folder are, by its name."""

OUTPUTS = (
    *("results.json", "results.info.json", "results.json.rows.jsonl", "skipped.txt", "overlay.mp4", "overlay.avi"),
    *("overlay/*.mp4", "overlay/*.avi", "masks/*/[0-9]*.png", "panoptic/*/[0-9]*.png"),
)
"""What `segment` may write, as patterns."""


def report(outcome: RunOutcome) -> None:
    """The table of a run, and what stands where."""
    table = Table("video")
    for column in ("frames", "skipped", "tracks", "frames/s"):
        table.add_column(column, justify="right")
    for video in outcome.videos:
        rate = f"{video.frames / video.seconds:.1f}" if video.frames and video.seconds else "-"
        table.add_row(escape(video.name), str(video.frames), str(video.skipped), str(video.tracks), rate)
    if outcome.videos:
        output.print(table, soft_wrap=False)
    early = outcome.stopped or outcome.error is not None
    if outcome.written:
        output.print("Stopped early; what is done stands in" if early else "Written:")
    for path in outcome.written:
        note = _IMAGES.get(path.parent.name, "") if path.is_dir() else ""
        note = " (one JSON line a mask; results.json could not be written)" if path.suffix == ".jsonl" else note
        output.print(f"  {escape(str(path))}{note}")
    if outcome.unfinished:
        output.print("The same command with --resume goes on from the videos that were finished.")


def end(outcome: RunOutcome, received: list[int]) -> None:
    """End the command as its run ended: with the error, or the exit code of an interrupt."""
    if isinstance(outcome.error, KeyboardInterrupt) or outcome.stopped:
        raise typer.Exit(128 + (received[0] if received else signal.SIGINT))
    if outcome.error is not None:
        raise outcome.error
    if not any(video.frames for video in outcome.videos):
        raise InputError("no frame was segmented: none could be read, or none is in the range asked for")
