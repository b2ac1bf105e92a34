"""The command ``vis export``; it imports what it needs when it runs."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vis_core.commands.loading import OptionTexts, Weights, option_value, options_given
from vis_core.commands.system_checks import check_choice, find_system
from vis_core.commands.terminal import Force, output, say
from vis_core.errors import InputError, OptionError
from vis_core.files.outputs import check_file
from vis_core.nn.runtimes import PRECISIONS, SUFFIXES, exported_path

if TYPE_CHECKING:
    from vis_core.structures import Frame


def export(
    system: Annotated[str, typer.Argument(help="System, by its name in 'vis systems'.")],
    stem: Annotated[Path, typer.Option("--output", "-o", metavar="STEM", help="STEM.onnx or STEM_openvino_model/.")],
    weights: Weights = None,
    form: Annotated[str, typer.Option("--format", help="onnx or openvino.")] = "onnx",
    precision: Annotated[str, typer.Option(help="fp32, bf16 (openvino) or int8.")] = "fp32",
    batch: Annotated[int, typer.Option(min=1, help="Frames in a call: 1, as systems take them.")] = 1,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA", help="Video, folder of images or JSON: int8's ranges, and the proof, are of these."
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder that holds the images of a JSON.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames to calibrate on, taken evenly.")] = 100,
    option: OptionTexts = None,
    force: Force = False,
) -> None:
    """Write a system's network as a file that runs without it: ONNX or OpenVINO, proved against PyTorch.

    For example: vis export visolo-lite --format onnx --precision int8 --calibrate train.json --output lite

    What is written is taken wherever weights are: vis segment street.mp4 --weights lite.onnx
    """
    known = find_system(system).options
    options = {
        key: option_value(text, known[key]) if key in known else text for key, text in options_given(option or [])
    }
    check_choice(system, weights, "cpu", "fp32", options)
    for name, value, choices in (("--format", form, SUFFIXES), ("--precision", precision, PRECISIONS)):
        if value not in choices:
            raise OptionError(f"{name} {value}: is none of {', '.join(choices)}")
    if batch != 1:
        raise OptionError(f"--batch {batch}: a stream's frames come one by one, and graphs are of one; give 1")
    if calibrate is None and precision == "int8":
        raise OptionError("--precision int8: give real images to calibrate on: --calibrate DATA")
    target = exported_path(stem, form)
    if target.is_dir() and force and (target / "about.json").is_file():
        say(f"{target}: is written anew")
    elif target.is_dir():
        raise InputError(f"{target}: exists; --force writes an exported network anew")
    else:
        check_file(target, force, say)
    shown = [] if calibrate is None else frames_of(calibrate, images, frames)

    from vis_core.export import export as write

    proof = write(system, weights, target, form, precision, shown, options)
    size = sum(file.stat().st_size for file in (target.iterdir() if target.is_dir() else [target]))
    output.print(f"{escape(str(target))}: {size / 1e6:.1f} MB, {precision}")
    output.print(
        f"against PyTorch in float32, on {proof.frames} frames with {proof.instances} instances: scores differ by "
        f"{proof.score_difference:.1e} at most; IoU of masks {proof.mask_iou:.4f} at least, "
        f"{proof.mask_iou_5th_percentile:.4f} at the 5th percentile; {proof.unmatched} without a counterpart; "
        f"ids {'equal' if proof.ids_equal else 'not all equal'}"
    )


def frames_of(source: Path, images: Path | None, count: int) -> list[Frame]:
    """At most so many frames of all videos there, evenly."""
    from vis_core.structures import Frame
    from vis_core.video.opening import open_videos

    videos = open_videos(source, images)
    chosen = videos[:: -(-len(videos) // count)]
    each = -(-count // len(chosen))
    found = []
    for video in chosen:
        with video:
            step = max((video.length or each) // each, 1)
            found += [frame.image for frame in islice(video, 0, step * each, step)]
    if not found:
        raise InputError(f"{source}: holds no frame that can be read")
    return [Frame(image, i * 1_000_000_000, i) for i, image in enumerate(found[:count])]
