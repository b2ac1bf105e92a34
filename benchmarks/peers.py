"""Frames a second of visolo-lite beside small segmenters of others, frame by frame on the same video.

    python benchmarks/peers.py [VIDEO] [--python peers/bin/python] [--exported lite_openvino_model]

A peer has random weights and its default size, and only predicts: nothing of it is written, drawn or tracked. It runs
in a process of its own, under a Python that has it (``pip install ultralytics==8.4.190`` in an environment apart: its
licence is AGPL-3.0); one that is not installed there is left out. visolo-lite's is the whole step, from image to
tracks. All take turns, block of frames by block.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from conditions import Quick, cpu_name, first_frames, tell
from rich.console import Console
from rich.table import Table

import vis_core
from vis_core.structures import Frame

PEERS = ("yolo11n-seg", "yolo26n-seg")
SHIPPED = "visolo-lite, PyTorch"

WORKER = """
import json, os, sys, time
os.environ["YOLO_OFFLINE"] = "true"
name, video, count, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
answers, sys.stdout = sys.stdout, sys.stderr
import cv2, torch, ultralytics
torch.manual_seed(0)
capture = cv2.VideoCapture(video)
frames = [image for _, image in (capture.read() for _ in range(count)) if image is not None]
model = ultralytics.YOLO(name + ".yaml")
predict = lambda image: model.predict(image, device="cpu", verbose=False)
predict(frames[0])
torch.set_num_threads(threads)
number = 0
for line in sys.stdin:
    began = time.perf_counter(), time.process_time()
    for _ in range(int(line)):
        predict(frames[number % len(frames)])
        number += 1
    spent = time.perf_counter() - began[0], time.process_time() - began[1]
    print(json.dumps([*spent, torch.get_num_threads(), ultralytics.__version__]), file=answers, flush=True)
"""

Block = Callable[[int], tuple[float, float]]
"""Works on so many frames more; wall-clock and CPU seconds of them."""


class Peer:
    """A segmenter of others in its process.

    Args:
        python: that has it.
        name: of its network.
        arguments: of `WORKER`, but for the name.
    """

    def __init__(self, python: str, name: str, *arguments: object) -> None:
        command = [python, "-c", WORKER, name, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = ""

    def __call__(self, frames: int) -> tuple[float, float]:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(frames, file=self.process.stdin, flush=True)
        wall, cpu, _threads, self.version = json.loads(self.process.stdout.readline())
        return wall, cpu


def ours(weights: Path | None, frames: list[Frame]) -> Block:
    """visolo-lite on a stream without an end."""
    segmenter: Any = vis_core.load("visolo-lite", weights, device="cpu")
    number = 0

    def block(count: int) -> tuple[float, float]:
        nonlocal number
        chosen = [frames[(number + i) % len(frames)] for i in range(count)]
        shown = [Frame(frame.image, (number + i) * 10**8, number + i) for i, frame in enumerate(chosen)]
        number += count
        began = time.perf_counter(), time.process_time()
        for frame in shown:
            segmenter.step(frame)
        return time.perf_counter() - began[0], time.process_time() - began[1]

    return block


def main(
    video: Annotated[Path | None, typer.Argument(help="video file; without one there are no peers")] = None,
    python: Annotated[str, typer.Option(help="of the environment that has the peers")] = sys.executable,
    exported: Annotated[list[Path] | None, typer.Option(help="visolo-lite as 'vis export' wrote it")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 8,
    count: Annotated[int, typer.Option("--frames", min=1, help="of a block")] = 16,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    quick: Quick = False,
) -> None:
    """Compare frames a second."""
    if quick:
        rounds, count = 1, 4
    torch.set_num_threads(threads)
    frames = first_frames(video, 64 if video is not None else count)
    blocks: dict[str, Block] = {SHIPPED: ours(None, frames)}
    for path in exported or []:
        blocks[f"visolo-lite, {path.name}"] = ours(path, frames)
    there = subprocess.run(
        [python, "-c", "import ultralytics"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    for name in PEERS:
        if there.returncode or video is None:
            reason = "needs a video file" if video is None else f"{python} has no ultralytics"
            tell(f"{name} is left out: {reason}")
        else:
            blocks[name] = Peer(python, name, video, len(frames), threads)
    spent = turns(blocks, rounds, count)
    compared = [name for name in PEERS if name in spent]
    table = Table(title=f"{video.name if video else 'noise'}, {threads} threads, {cpu_name()}")
    for column in ("", "frames/s", "s a frame", "CPU s a frame", *(f"as quick as {name}" for name in compared)):
        table.add_column(column, justify="left" if not column else "right")
    for name, seconds in spent.items():
        wall, cpu = (statistics.median(each) / count for each in zip(*seconds))
        cells = [f"{1 / wall:.1f}", f"{wall:.3f}", f"{cpu:.3f}"]
        for other in compared:
            by_wall, by_cpu = (
                statistics.median(theirs[i] / own[i] for own, theirs in zip(seconds, spent[other])) for i in (0, 1)
            )
            cells.append(f"{by_wall:.2f}x (CPU {by_cpu:.2f}x)")
        table.add_row(name, *cells)
    Console(width=160).print(table)


def turns(blocks: dict[str, Block], rounds: int, count: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each block of frames; the first of each warms up."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in blocks}
    for number in range(rounds + 1):
        for name, block in blocks.items():
            wall, cpu = block(count)
            if number:
                spent[name].append((wall, cpu))
            tell(f"{f'round {number} of {rounds}' if number else 'warming up'}: {name}: {count / wall:.1f} frames/s")
    return spent


if __name__ == "__main__":
    typer.run(main)
