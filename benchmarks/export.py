"""Seconds a frame of systems as they ship and of their exported networks on a CPU, and how near their answers are.

    python benchmarks/export.py [VIDEO] [--system visolo-lite] [--system visolo=visolo.pth]
        [--calibrate train.json --images images] [--form onnx:fp32 --form openvino:int8] [--keep exported/]

The whole step, image to tracks. All take turns in each round: the plain formulation (the paper's network alone, as in
network.py and mask2former.py; of visolo-lite all of it, with convolutions as PyTorch runs them), the system as it ships
(default precision), and each exported form. Compared with PyTorch in float32 are the answers, by the same rule as in an
exported file's proof, and the masks of each frame's 20 best cells or queries, whatever the thresholds. Without VIDEO
frames are synthetic; without weights they are random.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import mask2former
import network
import torch
import typer
from candidates import Candidates, agreement, candidates, fifth_percentile, has_candidates
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
from vis_core.structures import Frame, Instances
from vis_core.system.exported import read
from vis_core.system.exported_tensors import on_tensors
from vis_core.system.segmenter import Segmenter

FORMS = ["onnx:fp32", "onnx:int8", "openvino:fp32", "openvino:int8", "openvino:bf16"]
ROWS: dict[str, dict[str, Any]] = {
    "visolo-lite": {},
    "visolo": {},
    "minvis": {"max_instances": 10},
    "mask2former-vis": {"unbounded": True},
}
"""Systems that are measured where none is named, and the options that they are measured with."""


def main(
    video: Annotated[Path | None, typer.Argument(help="video file or folder of images; synthetic otherwise")] = None,
    system: Annotated[list[str] | None, typer.Option(help=f"NAME or NAME=WEIGHTS; default: {', '.join(ROWS)}")] = None,
    form: Annotated[
        list[str] | None, typer.Option(help="FORMAT:PRECISION; default: all that this CPU has, int8 with --calibrate")
    ] = None,
    calibrate: Annotated[Path | None, typer.Option(help="images for int8: video, folder or JSON")] = None,
    calibration: Annotated[int, typer.Option(help="how many of them")] = 100,
    images: Annotated[Path | None, typer.Option(help="folder of the JSON's images")] = None,
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, of the systems")] = None,
    keep: Annotated[
        Path | None, typer.Option(help="folder for the exported files, used again if they are there")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    count: Annotated[int, typer.Option("--frames", min=2, help="of a round")] = 4,
    compared: Annotated[int, typer.Option(min=2, help="frames whose candidates are compared")] = 8,
    every: Annotated[int, typer.Option(min=1, help="every how many frames of the video one is taken")] = 1,
    size: Annotated[tuple[int, int], typer.Option(help="height and width of synthetic frames")] = (360, 640),
    threads: Annotated[int, typer.Option(min=1)] = 2,
    quick: Quick = False,
) -> None:
    bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    forms = form or [x for x in FORMS if (calibrate or "int8" not in x) and (bf16 or "bf16" not in x)]
    if quick:
        system, forms, rounds, count, compared, size = system or ["visolo-lite"], forms[:1], 1, 2, 2, (96, 160)
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    taken = max(count, compared)
    synthetic = synthetic_video(0, taken, size)
    frames = (
        [synthetic.frame(i) for i in range(taken)] if video is None else first_frames(video, taken * every)[::every]
    )
    shown = [] if calibrate is None else frames_of(calibrate, images, calibration)
    folder = kept_or_temporary(keep)
    for row in system or ROWS:
        name, _, weights = row.partition("=")
        known = SYSTEMS[name].options
        options = dict(ROWS.get(name, {}))
        options |= {key: option_value(text, known[key]) for key, text in options_given(option or []) if key in known}
        load = partial(vis_core.load, name, device="cpu", **options)
        path = Path(weights) if weights else None
        reference: Any = load(path, precision="fp32")
        fixed = {key: value for key, value in options.items() if key in reference.model.fixed_options}
        runs: dict[str, Callable[[], Any]] = {
            "plain": plain(name, path, load, frames[:count]),
            "as it ships": partial(answers, load(path), frames[:count]),
        }
        targets = {}
        for each in forms:
            target = exported_path(folder / f"{name}_{each.replace(':', '_')}", each.partition(":")[0])
            if not target.exists():
                tell(f"{name}: exporting {each}")
                export(name, path, target, *each.split(":"), shown, fixed)
            targets[each] = target
            runs[each] = partial(answers, load(target), frames[:count])
        wanted = answers(reference, frames[:count])
        seconds, found = take_turns(runs, rounds, count)
        table = Table(
            title=f"{name}, {count} frames, {threads} threads, {cpu_name()}; weights: {weights or 'own, or random'}"
        )
        for column in ("", "s a frame", "of plain", "CPU s", "of plain", "scores", "IoU least", "IoU 5 %", "unmatched"):
            table.add_column(column)
        table.add_column("ids")
        table.add_column("20 best: IoU 5 %")
        best = of_candidates(reference, None, frames[:compared])
        for each in runs:
            near = ["", "", "", "", "", ""]
            if each != "plain":
                proof = prove(wanted, found[each])
                near = [
                    f"{proof.score_difference:.1e}",
                    f"{proof.mask_iou:.4f}",
                    f"{proof.mask_iou_5th_percentile:.4f}",
                ]
                near += [f"{proof.unmatched} of {proof.instances}", "equal" if proof.ids_equal else "-", ""]
            if each in targets and best:
                tell(f"{name}: candidates of {each}")
                overlaps, _ = agreement(best, of_candidates(reference, targets[each], frames[:compared]))
                near[-1] = f"{fifth_percentile(overlaps):.4f}"
            table.add_row(each, *beside(seconds[each], seconds["plain"]), *near)
        Console(width=160).print(table)


def plain(name: str, weights: Path | None, load: Callable[..., Any], frames: list[Frame]) -> Callable[[], Any]:
    """The plain formulation on all frames."""
    if name in ("minvis", "mask2former-vis"):
        model = load(weights, precision="fp32").model
        clip = mask2former.PlainClip(
            mask2former.plain_network(name, weights), model.encoder.transform.short_side, name == "mask2former-vis"
        )
        return partial(clip, frames)
    segmenter = load(weights, precision="fp32")
    if name != "visolo":
        for module in segmenter.network.modules():
            if isinstance(module, PackableConv2d):
                module._packed = None
            if getattr(module, "_widened", None):  # of EfficientNet-Lite's
                module._widened = []
        return partial(answers, segmenter, frames)
    step = network.PlainVISOLO(network.plain_network(weights))
    images, read = [], []
    for frame in frames:
        images.append(segmenter.model.grid.transform(frame.image).contiguous())
        read.append([entry.frame for entry in segmenter.model.memory.readable])
        segmenter.step(frame)

    def run() -> None:
        step.stored.clear()
        for given in zip(images, read):
            step(*given)

    return run


def answers(segmenter: Segmenter, frames: Sequence[Frame]) -> list[Instances]:
    """To all frames, one after the other, as a stream of their own."""
    segmenter.reset()
    return list(segmenter.run(frames, prefetch=False))


def of_candidates(reference: Any, target: Path | None, frames: Sequence[Frame]) -> list[Candidates]:
    """The best of each frame by an exported network, or by PyTorch in float32; none where they are of another kind."""
    graphs = reference.model.graphs()
    if not has_candidates(graphs):
        return []
    if target is None:
        return candidates(reference, {name: graph.module for name, graph in graphs.items()}, frames)
    runs = read(target, "cpu").runs
    return candidates(reference, {name: on_tensors(run) for name, run in runs.items()}, frames)


if __name__ == "__main__":
    typer.run(main)
