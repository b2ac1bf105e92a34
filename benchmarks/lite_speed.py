"""Seconds a frame of visolo-lite on a processor, against the plain forms of the same steps in the same run.

    python benchmarks/lite_speed.py VIDEO [--frames 60] [--threads 2]

Plain: convolutions as PyTorch runs them, Pillow's resize to the bit, candidates compared at the network's size, one
branch of the network after the other. It, the system as it ships, and with two and four views of each frame take turns
frame by frame with the shipped weights.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import time
from collections import defaultdict
from itertools import islice
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

import vis_core
from vis_core.models.visolo.lite import VISOLOLite
from vis_core.nn.backbones.efficientnet_lite import Conv
from vis_core.nn.packed import PackableConv2d
from vis_core.structures import Frame


def plain() -> VISOLOLite:
    """The shipped system without what makes it quick."""
    segmenter = vis_core.load("visolo-lite", device="cpu")
    assert isinstance(segmenter, VISOLOLite)
    segmenter.quick = False
    segmenter.transform.exact = True
    segmenter._side_by_side = lambda first, second: (first(), second())  # type: ignore[assignment]
    for module in segmenter.network.modules():
        if isinstance(module, PackableConv2d):
            module._packed = None
        if isinstance(module, Conv):
            module._widened = []
    return segmenter


def main(
    video: Annotated[Path, typer.Argument(help="video file or folder of images")],
    frames: Annotated[int, typer.Option(min=5, help="of the video, shrunk to at most 640 pixels' width")] = 60,
    threads: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Time all."""
    torch.set_num_threads(threads)
    systems = {"plain": plain(), "as it ships": vis_core.load("visolo-lite", device="cpu")}
    systems |= {f"{views} views": vis_core.load("visolo-lite", device="cpu", views=views) for views in (2, 4)}
    times: dict[str, list[float]] = defaultdict(list)
    with vis_core.open_video(video) as source:
        for frame in islice(source, frames):
            scale = min(1.0, 640 / frame.size[1])
            image = np.asarray(
                cv2.resize(frame.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
            )
            for name, segmenter in systems.items():
                start = time.perf_counter()
                segmenter.step(Frame(image, frame.stamp, frame.index))
                times[name].append(time.perf_counter() - start)
    table = Table("visolo-lite, seconds a frame", "least", "median", "ratio of medians")
    base = float(np.median(times["plain"][3:]))
    for name, values in times.items():
        median = float(np.median(values[3:]))
        table.add_row(name, f"{min(values):.3f}", f"{median:.3f}", f"{median / base:.2f}x")
    Console(width=100).print(table, f"{threads} threads, {len(values)} frames of {image.shape[1]}x{image.shape[0]}")


if __name__ == "__main__":
    typer.run(main)
