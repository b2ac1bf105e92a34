"""Seconds a frame of a system as it ships and of its exported networks on a CPU, and how near their answers are.

    python benchmarks/export.py [VIDEO] [--system visolo-lite] [--calibrate train.json --images images]
        [--form onnx:fp32 --form onnx:int8] [--option convolution=winograd] [--keep exported/]

The whole step, image to tracks. All take turns in each round: convolutions as PyTorch runs them (plain), the system
as it ships (default precision), and each exported form. Answers are compared with those of PyTorch in float32 by the
same rule as in an exported file's proof. Without VIDEO frames are synthetic; without weights they are random.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from conditions import Quick, beside, cpu_name, first_frames, kept_or_temporary, take_turns, tell
from rich.console import Console
from rich.table import Table

import vis_core
from vis_core.catalog import SYSTEMS
from vis_core.commands.export import frames_of
from vis_core.commands.loading import option_value, options_given
from vis_core.data.synthetic import synthetic_video
from vis_core.export import export
from vis_core.export.proof import prove
from vis_core.nn.prepacked_convolution import PackableConv2d
from vis_core.nn.runtimes import exported_path
from vis_core.structures import Frame
from vis_core.system.segmenter import Segmenter

FORMS = ["onnx:fp32", "onnx:int8", "openvino:fp32", "openvino:bf16"]


def plain(segmenter: Segmenter) -> Segmenter:
    """With every convolution as PyTorch runs it."""
    for module in segmenter.network.modules():
        if isinstance(module, PackableConv2d):
            module._packed = None
        if getattr(module, "_widened", None):  # of EfficientNet-Lite's
            module._widened = []
    return segmenter


def main(
    video: Annotated[Path | None, typer.Argument(help="video file or folder of images; synthetic otherwise")] = None,
    system: Annotated[str, typer.Option(help="name in 'vis systems'")] = "visolo-lite",
    weights: Annotated[Path | None, typer.Option(help="default: the system's own, else random")] = None,
    form: Annotated[
        list[str] | None, typer.Option(help="FORMAT:PRECISION; default: all, int8 with --calibrate")
    ] = None,
    calibrate: Annotated[Path | None, typer.Option(help="images for int8: video, folder or JSON")] = None,
    calibration: Annotated[int, typer.Option(help="how many of them")] = 100,
    images: Annotated[Path | None, typer.Option(help="folder of the JSON's images")] = None,
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, of the system")] = None,
    keep: Annotated[
        Path | None, typer.Option(help="folder for the exported files, used again if they are there")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    count: Annotated[int, typer.Option("--frames", min=2, help="of a round")] = 16,
    size: Annotated[tuple[int, int], typer.Option(help="height and width of synthetic frames")] = (360, 640),
    threads: Annotated[int, typer.Option(min=1)] = 2,
    quick: Quick = False,
) -> None:
    forms = form or [x for x in FORMS if calibrate is not None or not x.endswith("int8")]
    if quick:
        forms, rounds, count = forms[:1], 1, 4
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    known = SYSTEMS[system].options
    options = {key: option_value(text, known[key]) for key, text in options_given(option or [])}
    synthetic = synthetic_video(0, count, size)
    frames = [synthetic.frame(i) for i in range(count)] if video is None else first_frames(video, count)
    load = partial(vis_core.load, system, device="cpu", **options)
    reference = load(weights, precision="fp32")
    fixed = {key: value for key, value in options.items() if key in reference.model.fixed_options}
    runs: dict[str, Segmenter] = {"plain": plain(load(weights, precision="fp32")), "as it ships": load(weights)}
    folder = kept_or_temporary(keep)
    for name in forms:
        target = exported_path(folder / f"{system}_{name.replace(':', '_')}", name.partition(":")[0])
        if not target.exists():
            tell(f"exporting {name}")
            shown = [] if calibrate is None else frames_of(calibrate, images, calibration)
            export(system, weights, target, *name.split(":"), shown, fixed)
        runs[name] = load(target)
    wanted = answers(reference, frames)
    seconds, found = take_turns({name: partial(answers, x, frames) for name, x in runs.items()}, rounds, count)
    table = Table(title=f"{system}, {count} frames, {threads} threads, {cpu_name()}")
    for column in (
        "",
        "s a frame",
        "of plain",
        "CPU s",
        "of plain",
        "scores",
        "IoU least",
        "IoU 5 %",
        "unmatched",
        "ids",
    ):
        table.add_column(column)
    for name in runs:
        proof = prove(wanted, found[name])
        near = [f"{proof.score_difference:.1e}", f"{proof.mask_iou:.4f}", f"{proof.mask_iou_5th_percentile:.4f}"]
        parts = f"{proof.unmatched} of {proof.instances}"
        table.add_row(name, *beside(seconds[name], seconds["plain"]), *near, parts, "equal" if proof.ids_equal else "-")
    Console(width=160).print(table)


def answers(segmenter: Segmenter, frames: list[Frame]) -> list[Any]:
    """To all frames, one after the other."""
    return list(segmenter.run(frames, prefetch=False))


if __name__ == "__main__":
    typer.run(main)
