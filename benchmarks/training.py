"""Seconds of a training step of visolo-lite: the settings of its recipe against the plain ones, in the same run.

    python benchmarks/training.py [--threads 2]

The variants take turns step by step on the same clips; the figure is the least of all rounds, since a neighbour's load
only ever adds. Plain: float32, the whole backbone learns, the mask of every positive cell is compared at full size.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import platform
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from conditions import Quick, tell
from rich.console import Console
from rich.table import Table

from vis_core.data.annotation_files import read_annotations
from vis_core.data.augmentation import Augmentation
from vis_core.data.sources import open_sources
from vis_core.data.synthetic import CLASS_NAMES, synthetic_video, write_youtube_vis
from vis_core.models.visolo import shipped, trainable_lite

PLAIN = {"frozen_stride": 0, "max_mask_cells": 252, "mask_stride": 1}
RECIPE = {"frozen_stride": 8}
VARIANTS: dict[str, tuple[dict[str, Any], bool]] = {
    "plain, fp32": (PLAIN, False),
    "recipe, fp32": (RECIPE, False),
    "recipe, bf16": (RECIPE, True),
}


class Step:
    """One variant's training step."""

    def __init__(self, options: dict[str, Any], bf16: bool) -> None:
        self.bf16 = bf16
        self.training = trainable_lite(CLASS_NAMES, None, torch.Generator().manual_seed(0), **options)
        parameters = [p for group in self.training.parameter_groups().values() for p in group]
        self.optimizer = torch.optim.AdamW(parameters, lr=1e-5)
        self.best = float("inf")

    def run(self, clips: list[Any]) -> None:
        """One step; keeps the least time."""
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            losses = self.training(clips, lambda x: x)
        torch.stack(list(losses.values())).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.best = min(self.best, time.perf_counter() - start)


def main(
    threads: Annotated[int, typer.Option(help="of torch")] = 2,
    rounds: Annotated[int, typer.Option(help="steps of each variant")] = 5,
    batch: Annotated[int, typer.Option(help="clips of a step")] = 8,
    frames: Annotated[int, typer.Option(help="of a clip")] = 2,
    height: Annotated[int, typer.Option(help="of the network's input")] = shipped.INPUT_SIZE[0],
    width: Annotated[int, typer.Option(help="of the network's input")] = shipped.INPUT_SIZE[1],
    quick: Quick = False,
) -> None:
    """Time a training step, variant against variant."""
    if quick:
        rounds, batch, height, width = 1, 2, 96, 160
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        videos = [synthetic_video(seed, length=8, size=(240, 320)) for seed in range(4)]
        path = write_youtube_vis(videos, Path(folder))
        (source,) = open_sources(
            [read_annotations(path, class_names=CLASS_NAMES)], frames, (height, width), Augmentation()
        )
        start = time.perf_counter()
        clips = [source.clip(i % len(source), np.random.default_rng(i)) for i in range(batch)]
        loading = (time.perf_counter() - start) / batch
    steps = {name: Step(*variant) for name, variant in VARIANTS.items()}
    for number in range(1, rounds + 1):
        for name, step in steps.items():
            step.run(clips)
            tell(f"round {number} of {rounds}: {name}: {step.best:.2f} s at best")
    baseline = steps["plain, fp32"].best
    table = Table(title=f"a training step of visolo-lite: {batch} clips of {frames} frames, {height}x{width}")
    for column in ("", "s a step", "clips/s", "of plain"):
        table.add_column(column, justify="right" if column else "left")
    for name, step in steps.items():
        table.add_row(name, f"{step.best:.2f}", f"{batch / step.best:.1f}", f"{step.best / baseline:.2f}")
    console = Console(width=100)
    console.print(table)
    console.print(f"making a clip: {1000 * loading:.0f} ms, in a process beside")
    console.print(f"{platform.machine()}, {threads} threads, torch {torch.__version__}")


if __name__ == "__main__":
    typer.run(main)
