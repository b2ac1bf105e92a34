"""Seconds a frame of visolo-lite on a CPU, against the plain forms of the same steps in the same run.

    python benchmarks/lite_speed.py VIDEO [--blocks 5] [--threads 2]

Plain: convolutions as PyTorch runs them, Pillow's resize to the bit, candidates compared at the network's size, one
branch of the network after the other. It and the system as it ships take turns, block of frames by block: each frame
when the one before is done; as on a recording or with a busy camera, the next one begun beside it; and so with two and
four views of each frame.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import time
from collections import defaultdict
from collections.abc import Iterable
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
from vis_core.nn.prepacked_convolution import PackableConv2d
from vis_core.structures import Frame
from vis_core.system.segmenter import Segmenter, looking_ahead

BLOCK = 16  # frames


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
    blocks: Annotated[int, typer.Option(min=2, help="of 16 frames, shrunk to at most 640 pixels' width")] = 5,
    threads: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Time all."""
    torch.set_num_threads(threads)
    shipped = vis_core.load("visolo-lite", device="cpu")
    systems: dict[str, tuple[Segmenter, bool]] = {"plain": (plain(), False), "as it ships": (shipped, False)}
    systems["the next begun"] = vis_core.load("visolo-lite", device="cpu"), True
    for views in (2, 4):
        systems[f"{views} views"] = vis_core.load("visolo-lite", device="cpu", views=views), True
    times: dict[str, list[float]] = defaultdict(list)
    with vis_core.open_video(video) as source:
        frames = [_shrunk(frame) for frame in islice(source, BLOCK * (blocks + 1))]
    for start in range(0, len(frames), BLOCK):
        for name, (segmenter, ahead) in systems.items():
            block: Iterable[Frame] = frames[start : start + BLOCK]
            began = time.perf_counter()
            for frame in looking_ahead(segmenter, block) if ahead else block:
                segmenter.step(frame)
            if start:  # the first block warms up
                times[name].append((time.perf_counter() - began) / len(frames[start : start + BLOCK]))
    table = Table("visolo-lite, seconds a frame", "least", "median", "ratio of medians")
    base = float(np.median(times["plain"]))
    for name, values in times.items():
        median = float(np.median(values))
        table.add_row(name, f"{min(values):.3f}", f"{median:.3f}", f"{median / base:.2f}x")
    height, width = frames[0].size
    Console(width=100).print(table, f"{threads} threads, {len(values)} blocks of {BLOCK} frames of {width}x{height}")


def _shrunk(frame: Frame) -> Frame:
    scale = min(1.0, 640 / frame.size[1])
    image = np.asarray(cv2.resize(frame.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    return Frame(image, frame.stamp, frame.index)


if __name__ == "__main__":
    typer.run(main)
