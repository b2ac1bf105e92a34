"""What ``vis segment`` may leave behind, how it is told, and how the command ends."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from vis_core.commands.fleet_records import tell_figures
from vis_core.commands.tables import show
from vis_core.commands.terminal import output, say
from vis_core.errors import InputError

if TYPE_CHECKING:
    from vis_core.commands.segment import RunOutcome

_IMAGES = {
    "masks": " (PNGs; labels have 16 bits: 0 = background, else the track id)",
    "panoptic": " (RGB PNGs: red = class, green * 256 + blue = track id)",
}
"""What the images of a folder are, by its name."""

OUTPUTS = (
    *("results.json", "results.info.json", "results.json.rows.jsonl", "skipped.txt", "overlay.mp4", "overlay.png"),
    *("overlay/*.mp4", "overlay/*.png", "masks/*/*.png", "panoptic/*/[0-9]*.png"),
    *("tracks.csv", "tracks/*.csv", "mot.txt", "mot/*.txt", "mot_classes.txt"),
)
"""What `segment` may write, as patterns."""

NOTHING = "no frame was segmented: none could be read, or none is in the range asked for"
_GO_ON = "The same command with --resume goes on from the videos that were finished."


def report(outcome: RunOutcome) -> None:
    """The table of a run, and what stands where."""
    tell_figures(figures(outcome))
    _show_videos([outcome])
    early = outcome.stopped or outcome.error is not None
    if outcome.written:
        output.print("Stopped early; what is done stands in" if early else "Written:")
    for path in outcome.written:
        note = _IMAGES.get(path.parent.name, "") if path.is_dir() else ""
        note = " (one JSON line a mask; results.json could not be written)" if path.suffix == ".jsonl" else note
        output.print(f"  {escape(str(path))}{note}")
    if outcome.unfinished:
        output.print(_GO_ON)


def figures(outcome: RunOutcome) -> dict[str, float]:
    """Frames, frames that could not be read, tracks and seconds of all videos of a run."""
    names = ("frames", "skipped", "tracks", "seconds")
    return {name: round(sum(getattr(video, name) for video in outcome.videos), 3) for name in names}


def report_several(outcomes: Sequence[tuple[Path, RunOutcome]]) -> None:
    """The table of several runs, and the folder of each in which something stands."""
    _show_videos([outcome for _, outcome in outcomes])
    for title, early in (("Written:", False), ("Stopped early; what is done stands in", True)):
        folders = [
            folder
            for folder, outcome in outcomes
            if outcome.written and early == (outcome.stopped or outcome.error is not None)
        ]
        if folders:
            output.print(title)
        for folder in folders:
            output.print(f"  {escape(str(folder))}")
    if any(outcome.unfinished for _, outcome in outcomes):
        output.print(_GO_ON)


def end(outcome: RunOutcome, received: list[int]) -> None:
    """End the command as its run ended: with the error, or the exit code of an interrupt."""
    _end_stopped(outcome, received)
    if outcome.error is not None:
        raise outcome.error
    if not any(video.frames for video in outcome.videos):
        raise InputError(NOTHING)


def end_several(outcomes: Sequence[RunOutcome], received: list[int], failed: int, of: int) -> None:
    """End the command as its runs ended: with the exit code of an interrupt, or 1 where some of the inputs failed."""
    for outcome in outcomes:
        _end_stopped(outcome, received)
    if failed:
        say(f"{failed} of {of} inputs failed")
        raise typer.Exit(1)


def _end_stopped(outcome: RunOutcome, received: list[int]) -> None:
    if isinstance(outcome.error, KeyboardInterrupt) or outcome.stopped:
        raise typer.Exit(128 + (received[0] if received else signal.SIGINT))


def _show_videos(outcomes: Sequence[RunOutcome]) -> None:
    table = Table("video")
    for column in ("frames", "skipped", "tracks", "frames/s"):
        table.add_column(column, justify="right")
    for video in (video for outcome in outcomes for video in outcome.videos):
        rate = f"{video.frames / video.seconds:.1f}" if video.frames and video.seconds else "-"
        table.add_row(escape(video.name), str(video.frames), str(video.skipped), str(video.tracks), rate)
    if table.rows:
        show(table)
