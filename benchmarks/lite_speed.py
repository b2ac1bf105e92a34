"""Seconds a frame of visolo-lite on a CPU, against the plain forms of the same steps in the same run.

    python benchmarks/lite_speed.py [VIDEO] [--blocks 5] [--threads 2]

Plain: convolutions as PyTorch runs them, candidates compared at the network's size, one branch of the network after the
other. It and the system as it ships take turns, block of frames by block, each a stream
of its own: each frame when the one before is done; as on a recording or with a busy camera, the next one begun beside
it; and so with two and four views of each frame.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from conditions import Quick, cpu_name, first_frames, tell
from rich.console import Console
from rich.table import Table

import vis_core
from vis_core.models.visolo.lite import VISOLOLiteModel
from vis_core.models.visolo.torch_grid import TorchGrid
from vis_core.nn.backbones.efficientnet_lite import Conv
from vis_core.nn.prepacked_convolution import PackableConv2d
from vis_core.system.driver import StreamSegmenter
from vis_core.system.segmenter import Segmenter

BLOCK = 16  # frames


def plain() -> Segmenter:
    """The shipped system without what makes it quick."""
    segmenter = vis_core.load("visolo-lite", device="cpu")
    assert isinstance(segmenter, StreamSegmenter) and isinstance(segmenter.model, VISOLOLiteModel)
    segmenter.model.quick = False
    assert isinstance(segmenter.model.grid, TorchGrid)
    segmenter.model.grid._side_by_side = lambda first, second: (first(), second())  # type: ignore[assignment]
    for module in segmenter.model.grid.network.modules():
        if isinstance(module, PackableConv2d):
            module._packed = None
        if isinstance(module, Conv):
            module._widened = []
    return segmenter


def main(
    video: Annotated[Path | None, typer.Argument(help="video file or folder of images; noise otherwise")] = None,
    blocks: Annotated[int, typer.Option(min=2, help="of 16 frames of 640x480")] = 5,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    quick: Quick = False,
) -> None:
    """Time all."""
    length, blocks = (2, 1) if quick else (BLOCK, blocks)
    torch.set_num_threads(threads)
    shipped = vis_core.load("visolo-lite", device="cpu")
    systems: dict[str, tuple[Segmenter, bool]] = {"plain": (plain(), False), "as it ships": (shipped, False)}
    systems["the next begun"] = vis_core.load("visolo-lite", device="cpu"), True
    for views in (2, 4):
        systems[f"{views} views"] = vis_core.load("visolo-lite", device="cpu", views=views), True
    times: dict[str, list[float]] = defaultdict(list)
    frames = first_frames(video, length * (blocks + 1), (480, 640))
    for start in range(0, len(frames), length):
        block = frames[start : start + length]
        for name, (segmenter, prefetch) in systems.items():
            began = time.perf_counter()
            for _ in segmenter.run(block, prefetch):
                pass
            if start:  # the first block warms up
                times[name].append((time.perf_counter() - began) / len(block))
                tell(f"block {start // length} of {blocks}: {name}: {times[name][-1]:.3f} s a frame")
    table = Table("visolo-lite, seconds a frame", "least", "median", "ratio of medians")
    base = float(np.median(times["plain"]))
    for name, values in times.items():
        median = float(np.median(values))
        table.add_row(name, f"{min(values):.3f}", f"{median:.3f}", f"{median / base:.2f}x")
    Console(width=100).print(table, f"{cpu_name()}, {threads} threads, {len(values)} blocks of {length} frames")


if __name__ == "__main__":
    typer.run(main)
