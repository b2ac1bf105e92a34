"""The command ``vis``.

Commands import what they need when they run, so that ``vis --help`` is quick and ``vis evaluate`` needs no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from vis_core.commands import evaluate as evaluation_commands
from vis_core.commands import inspect as data_commands
from vis_core.commands import train as training_commands
from vis_core.commands.interrupts import ended_in_order, interrupts
from vis_core.commands.known_systems import check_weights, find_known
from vis_core.commands.loading import (
    Device,
    OptionTexts,
    Overlay,
    Precision,
    SaveMasks,
    SystemName,
    Threads,
    Weights,
    check_segmenter,
    load_segmenter,
    origin_of,
)
from vis_core.commands.outcome import OUTPUTS, end, report
from vis_core.commands.reading import Orientation, ValueRange, open_sources
from vis_core.commands.running import new_app, run_command_line
from vis_core.commands.terminal import Force, output, progress_bar, say
from vis_core.commands.unfinished import JOURNAL
from vis_core.errors import InputError, OptionError
from vis_core.files.outputs import check_file, output_folder

if TYPE_CHECKING:
    from vis_core.system.option import Option

app = new_app("Video instance segmentation: videos in, tracked masks out.")


def main() -> None:
    """Entry point of ``vis``: an error of ours is told in one message, with exit code 2."""
    with ended_in_order():
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
    weights: Weights = None,
    images: Annotated[Path | None, typer.Option(help="Folder that holds the images of a JSON.")] = None,
    overlay: Overlay = True,
    save_masks: SaveMasks = False,
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
    option: OptionTexts = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second of images.")] = None,
    orientation: Orientation = "auto",
    value_range: ValueRange = None,
    start: Annotated[int, typer.Option(min=0, help="First frame, of each video.")] = 0,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Most frames, of each video.")] = None,
    force: Force = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the videos that a run which ended early has finished.")
    ] = False,
) -> None:
    """Segment and track the instances of videos: results.json, an overlay video and, if asked for, mask images.

    A frame that cannot be read is named and left out. Ctrl-C finishes what is done (exit code 130); so does a full disk
    (exit code 1). The same command with --resume goes on from the videos that were finished.
    """
    given = {"score_threshold": score_threshold, "max_instances": max_instances}
    check_segmenter(system, weights, device, precision, option or [], given)
    sources = open_sources(source, images, fps, orientation, value_range)
    recorded = not any(item.live for item in sources)
    lengths = [source.length for source in sources]
    stop = None if max_frames is None else start + max_frames
    if stop is not None:
        lengths = [stop if length is None else min(length, stop) for length in lengths]
    total = None if None in lengths else sum(max((length or 0) - start, 0) for length in lengths)
    with output_folder(out, "segment", OUTPUTS, force=force, resume=resume, unfinished=JOURNAL, tell=say) as folder:
        _refuse_as_input(Path(source), folder.outputs)
        segmenter = load_segmenter(system, weights, device, precision, threads, option or [], given, recorded)

        from vis_core.commands.segment import segment_videos

        with interrupts("frame") as received, progress_bar(sources, total) as on_frame:
            outcome = segment_videos(
                segmenter,
                sources,
                folder,
                overlay=overlay,
                save_masks=save_masks,
                save_panoptic=save_panoptic,
                start=start,
                stop=stop,
                stop_asked=lambda: bool(received),
                on_frame=on_frame,
                origin=origin_of(system, weights, given, option or []),
                asked={"orientation": orientation, "range": value_range, "fps": fps},
                resume=resume,
            )
    report(outcome)
    end(outcome, received)


@app.command()
def convert(
    system: Annotated[str, typer.Argument(help="System, by its name in 'vis systems'.")],
    source: Annotated[Path, typer.Argument(metavar="IN", help="Published checkpoint (.pth, .pkl), or .safetensors.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write (.safetensors).")],
    half: Annotated[bool, typer.Option("--half", help="Store 16 bits a value, in half the space.")] = False,
    force: Force = False,
) -> None:
    """Convert a published checkpoint, or weights of ours, to .safetensors, checked against the network."""
    find_known(system)
    if target.suffix != ".safetensors":
        raise OptionError(f"{target}: weights are written as .safetensors")
    check_weights(source)
    check_file(target, force, say)

    from vis_core import catalog

    count = catalog.convert(system, source, target, half)
    output.print(f"{escape(str(target))}: {count} tensors, {target.stat().st_size / 1e6:.1f} MB")


@app.command()
def systems(name: Annotated[str | None, typer.Argument(help="Show the options of this one.")] = None) -> None:
    """List the systems with their licences and published figures; of one, its options."""
    if name is not None:
        find_known(name)

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


def _refuse_as_input(source: Path, outputs: list[Path]) -> None:
    """Raises `InputError` where the input is what would be replaced."""
    given = source.resolve()
    if any(given in (path.resolve(), path.resolve().parent if path.suffix == ".png" else None) for path in outputs):
        raise InputError(f"{source}: is what --force would replace; choose another --out")


# Commands that live elsewhere; their modules import nothing heavy before they run.
app.command()(evaluation_commands.evaluate)
app.command()(evaluation_commands.submit)
app.command()(training_commands.train)
app.command()(data_commands.inspect)
