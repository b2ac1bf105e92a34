"""The command ``vis``.

Commands import what they need when they run, so that ``vis --help`` is quick and ``vis evaluate`` needs no torch.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from vis_core.commands import evaluate as evaluation_commands
from vis_core.commands import inspect as data_commands
from vis_core.commands import train as training_commands
from vis_core.commands.interrupts import interrupts
from vis_core.commands.loading import Device, Precision, SystemName, Threads, load_segmenter
from vis_core.commands.running import new_app, run_command_line
from vis_core.commands.terminal import SKIPPED_SHOWN, output, progress_bar
from vis_core.errors import InputError

if TYPE_CHECKING:
    from vis_core.commands.segment import RunOutcome
    from vis_core.system.option import Option
    from vis_core.video.sources import VideoSource

_IMAGES = {
    "masks": " (16-bit PNGs: 0 = background, else the track id)",
    "panoptic": " (RGB PNGs: red = class, green * 256 + blue = track id)",
}
"""What the images of a folder are, by its name."""

app = new_app("Video instance segmentation: videos in, tracked masks out.")


def main() -> None:
    """Entry point of ``vis``: an error of ours is told in one message, with exit code 2."""
    run_command_line(lambda: app(prog_name="vis"))


@app.command()
def segment(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="Video file, folder of images, YouTube-VIS or COCO JSON, or camera (/dev/video0, camera:0).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    system: SystemName = "visolo-lite",
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Weights: .safetensors, or a published .pth or .pkl. Without: the system's own, else random."
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder that holds the images of a JSON.")] = None,
    overlay: Annotated[bool, typer.Option(help="Write a video with the tracks drawn in.")] = True,
    save_masks: Annotated[
        bool, typer.Option("--save-masks", help="Write PNGs of 16 bits: 0 = background, else the track id.")
    ] = False,
    save_panoptic: Annotated[
        bool,
        typer.Option(
            "--save-panoptic",
            help="Write PNGs of all pixels, stuff too: red is the class, green * 256 + blue the track id.",
        ),
    ] = False,
    score_threshold: Annotated[float | None, typer.Option(help="Least score of an instance.")] = None,
    max_instances: Annotated[int | None, typer.Option(help="Most instances in a frame.")] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Option of the system; 'vis systems NAME' lists them."),
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second of images.")] = None,
    start: Annotated[int, typer.Option(min=0, help="First frame, of each video.")] = 0,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Most frames, of each video.")] = None,
) -> None:
    """Segment and track the instances of videos: results.json, an overlay video and, if asked for, mask images.

    A frame that cannot be read is named and left out. Ctrl-C finishes what is done (exit code 130); so does a full disk
    (exit code 1).
    """
    from vis_core.video.opening import open_videos

    sources = open_videos(source, images, fps)
    given = {"score_threshold": score_threshold, "max_instances": max_instances}
    recorded = not any(item.live for item in sources)
    segmenter = load_segmenter(system, weights, device, precision, threads, option or [], given, recorded)

    from vis_core.commands.segment import segment_videos

    lengths = [source.length for source in sources]
    stop = None if max_frames is None else start + max_frames
    if stop is not None:
        lengths = [stop if length is None else min(length, stop) for length in lengths]
    total = None if None in lengths else sum(max((length or 0) - start, 0) for length in lengths)
    with interrupts("frame") as received, progress_bar(sources, total) as on_frame:
        outcome = segment_videos(
            segmenter,
            sources,
            out,
            overlay=overlay,
            save_masks=save_masks,
            save_panoptic=save_panoptic,
            start=start,
            stop=stop,
            stop_asked=lambda: bool(received),
            on_frame=on_frame,
        )
    _report(outcome, sources, out)
    _end(outcome, received)


@app.command()
def convert(
    system: Annotated[str, typer.Argument(help="System, by its name in 'vis systems'.")],
    source: Annotated[Path, typer.Argument(metavar="IN", help="Published checkpoint (.pth, .pkl), or .safetensors.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write (.safetensors).")],
    half: Annotated[bool, typer.Option("--half", help="Store 16 bits a value, in half the space.")] = False,
) -> None:
    """Convert a published checkpoint, or weights of ours, to .safetensors, checked against the network."""
    from vis_core import catalog

    count = catalog.convert(system, source, target, half)
    output.print(f"{escape(str(target))}: {count} tensors, {target.stat().st_size / 1e6:.1f} MB")


@app.command()
def systems(name: Annotated[str | None, typer.Argument(help="Show the options of this one.")] = None) -> None:
    """List the systems with their licences and published figures; of one, its options."""
    from vis_core import catalog

    if name is not None:
        entry = catalog.find(name)
        table = Table("option", "default", "values", "meaning", title=f"{entry.title} ({entry.paper})")
        for key, option in entry.options.items():
            default = str(option.default) + ("" if option.recorded is None else f"; files: {option.recorded}")
            table.add_row(key, escape(default), escape(_values(option)), escape(option.description))
    else:
        table = Table("name", "system", "published checkpoints", "their licence", "published figures", show_lines=True)
        for entry in catalog.SYSTEMS.values():
            figures = "\n".join(f"{key}: {value}" for key, value in entry.figures.items())
            texts = (f"{entry.title}\n{entry.paper}", entry.checkpoints_source, entry.checkpoints_licence, figures)
            table.add_row(entry.name, *map(escape, texts))
    table.columns[0].no_wrap = True
    for column in table.columns:
        column.overflow = "fold"  # no name, address or file is cut short
    output.print(table, soft_wrap=False)


def _values(option: Option) -> str:
    if option.choices:
        return " | ".join(option.choices)
    bounds = "" if option.minimum is None and option.maximum is None else f"{option.minimum} to {option.maximum}"
    if option.multiple_of:
        bounds += f", a multiple of {option.multiple_of}"
    return (bounds + ", or none").removeprefix(", ") if option.optional else bounds


def _report(outcome: RunOutcome, sources: list[VideoSource], folder: Path) -> None:
    """The table of a run, and what stands where."""
    table = Table("video")
    for column in ("frames", "skipped", "tracks", "frames/s"):
        table.add_column(column, justify="right")
    for video in outcome.videos:
        rate = f"{video.frames / video.seconds:.1f}" if video.frames else "-"
        table.add_row(escape(video.name), str(video.frames), str(video.skipped), str(video.tracks), rate)
    if outcome.videos:
        output.print(table, soft_wrap=False)
    skipped = [item for source in sources for item in source.skipped]
    if len(skipped) > SKIPPED_SHOWN:
        names = folder / "skipped.txt"
        with suppress(OSError):
            names.write_text("".join(f"{item.name}: {item.reason}\n" for item in skipped), "utf-8")
            outcome.written.append(names)
    early = outcome.stopped or outcome.error is not None
    if outcome.written:
        output.print("Stopped early; what is done stands in" if early else "Written:")
    for path in outcome.written:
        note = _IMAGES.get(path.parent.name, "") if path.is_dir() else ""
        note = " (one JSON line a mask; results.json could not be written)" if path.suffix == ".jsonl" else note
        output.print(f"  {escape(str(path))}{note}")


def _end(outcome: RunOutcome, received: list[int]) -> None:
    """End the command as its run ended: with the error, or the exit code of an interrupt."""
    if isinstance(outcome.error, KeyboardInterrupt) or outcome.stopped:
        raise typer.Exit(128 + (received[0] if received else signal.SIGINT))
    if outcome.error is not None:
        raise outcome.error
    if not any(video.frames for video in outcome.videos):
        raise InputError("no frame was segmented: none could be read, or none is in the range asked for")


# Commands that live elsewhere; their modules import nothing heavy before they run.
app.command()(evaluation_commands.evaluate)
app.command()(evaluation_commands.submit)
app.command()(training_commands.train)
app.command()(data_commands.inspect)
