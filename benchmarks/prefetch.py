"""Seconds a frame of each system with its frames prefetched and without, on a CPU.

    python benchmarks/prefetch.py VIDEO [--system visolo] [--weights visolo.safetensors] [--blocks 7] [--others 0.2]

Both ways take turns, block of frames by block, and change places from block to block. Each block is a stream of its
own; its first frames fill memory and windows, and the time is that from one frame's request to the next one's, so that
what the pipeline gains at its start and loses at its end does not count. Where no weights are known they are random.
On a machine with other users, `--others` waits until they use no more cores than that, and repeats a block in which
they did.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from conditions import Neighbours, Quick, cpu_name, first_frames, tell
from rich.console import Console
from rich.table import Table

import vis_core
from vis_core.catalog import SYSTEMS
from vis_core.structures import Frame
from vis_core.system.segmenter import Segmenter

UNCOUNTED = 5  # frames at the beginning of a block
RANDOM: dict[str, dict[str, Any]] = {"visolo": {"score_threshold": 0.9999}}  # passed by some 20 cells
console = Console(width=120)


def seconds_a_frame(segmenter: Segmenter, frames: Sequence[Frame], prefetch: bool) -> float:
    """Mean time between requests for a frame, but for the first ones."""
    requests: list[float] = []

    def requested() -> Iterator[Frame]:
        for frame in frames:
            requests.append(time.perf_counter())
            yield frame

    for _ in segmenter.run(requested(), prefetch):
        pass
    return (requests[-1] - requests[UNCOUNTED]) / (len(requests) - 1 - UNCOUNTED)


def block_of_both(
    segmenter: Segmenter, frames: Sequence[Frame], prefetch_first: bool, others: float
) -> tuple[float, float, float]:
    """Seconds a frame without and with prefetching, one right after the other, and the cores that others used."""
    while True:
        neighbours = Neighbours()
        time.sleep(0.5)
        if neighbours.cores() > others:
            continue
        neighbours = Neighbours()
        ways = (True, False) if prefetch_first else (False, True)
        seconds = {prefetch: seconds_a_frame(segmenter, frames, prefetch) for prefetch in ways}
        if (used := neighbours.cores()) <= others:
            return seconds[False], seconds[True], used


def main(
    video: Annotated[Path | None, typer.Argument(help="video file or folder of images; noise otherwise")] = None,
    system: Annotated[list[str] | None, typer.Option(help="default: all")] = None,
    weights: Annotated[Path | None, typer.Option(help="of the one system; default: its own, else random")] = None,
    blocks: Annotated[int, typer.Option(min=1, help="of each way")] = 7,
    count: Annotated[int, typer.Option("--frames", min=2, help="that count, in a block")] = 8,
    others: Annotated[float, typer.Option(help="cores that other processes may use in a block")] = 1000,
    threads: Annotated[int, typer.Option(min=2, help="of torch")] = 2,
    size: Annotated[tuple[int, int], typer.Option(help="height and width of the frames")] = (360, 640),
    quick: Quick = False,
) -> None:
    """Time each system both ways."""
    if quick:
        system, blocks, count = system or ["visolo-lite"], 1, 2
    torch.set_num_threads(threads)
    frames = first_frames(video, UNCOUNTED + count + 1, size)
    title = f"seconds a frame, {blocks} blocks of {count} frames of {size[1]}x{size[0]}"
    table = Table("", "without", "prefetched", "ratio in a block: median", "least", "most", "others", title=title)
    for name in system or SYSTEMS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the weights are random
            options = {} if weights else RANDOM.get(name, {})
            segmenter = vis_core.load(name, weights, device="cpu", precision="fp32", **options)
        for _ in segmenter.run(frames[:3]):  # warms up
            pass
        found = []
        for block in range(blocks):
            found.append(block_of_both(segmenter, frames, block % 2 == 1, others))
            tell(f"{name}: block {block + 1} of {blocks}: {found[-1][0]:.3f} s a frame, prefetched {found[-1][1]:.3f}")
        without, prefetched, used = np.array(found).T
        ratios = prefetched / without
        seconds = (f"{np.median(x):.3f}" for x in (without, prefetched))
        shares = (f"{x:.2f}" for x in (np.median(ratios), ratios.min(), ratios.max()))
        table.add_row(name, *seconds, *shares, f"{used.mean():.1f} cores")
    console.print(table)
    console.print(f"{cpu_name()}, {os.cpu_count()} cores, {threads} threads, torch {torch.__version__}, float32")
    console.print("others: what the machine's other processes used meanwhile, in the mean")


if __name__ == "__main__":
    typer.run(main)
