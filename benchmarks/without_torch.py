"""What PyTorch costs a robot: a command's start, and a process's memory, with visolo-lite's weights and exported.

    python benchmarks/without_torch.py
    python benchmarks/without_torch.py --exported lite.onnx --exported lite_openvino_model --frames 500

``vis segment one.png`` from its start to its result, each time in a fresh process, in turns: with the weights that
ship, which PyTorch runs, and with an exported file, where PyTorch cannot be imported. Then the memory of a process
after a number of frames of a synthetic video.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import cv2
import typer
from conditions import Neighbours, Quick, cpu_name, tell
from rich.console import Console
from rich.table import Table

from vis_core.data.synthetic import synthetic_video

ROOT = Path(__file__).resolve().parents[1]
SIZE = (360, 640)
LENGTH = 20

BLOCK = "import sys; sys.modules['torch'] = None\n"
COMMAND = "from vis_core.commands.main import main; main()"
STREAM = """
import sys
import vis_core
from vis_core.structures import Frame

weights, folder, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
segmenter = vis_core.load("visolo-lite", weights or None, device="cpu")
with vis_core.open_video(folder) as source:
    images = [frame.image for frame in source]
forth_and_back = images + images[::-1]
frames = (Frame(forth_and_back[i % len(forth_and_back)], 40_000_000 * i, i) for i in range(count))
shown = sum(len(answer) for answer in segmenter.run(frames))
lines = open("/proc/self/status").read().splitlines()
print(shown, *(line.split()[1] for line in lines if line.startswith("VmRSS")))
"""


def run(program: str, arguments: list[str], threads: int, folder: Path) -> tuple[float, float, str]:
    """Wall-clock and CPU seconds of a program in a process of its own, and what it prints.

    Raises:
        RuntimeError: it failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-c", program, *arguments]
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - began, os.times()
    if done.returncode:
        raise RuntimeError(done.stderr + done.stdout)
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, spent, done.stdout


def export(folder: Path) -> Path:
    """visolo-lite as it ships, exported to ONNX in float32."""
    tell("exporting visolo-lite (--exported takes a file that is there)")
    run(COMMAND, ["export", "visolo-lite", "--format", "onnx", "--output", "lite"], os.cpu_count() or 1, folder)
    return folder / "lite.onnx"


def main(
    exported: Annotated[list[Path] | None, typer.Option(help="What 'vis export' made of visolo-lite.")] = None,
    rounds: Annotated[int, typer.Option(help="Starts of each.")] = 7,
    frames: Annotated[int, typer.Option(help="After which memory is read.")] = 500,
    threads: Annotated[int, typer.Option(help="CPU threads of each.")] = 2,
    quick: Quick = False,
) -> None:
    """Measure, and print a table."""
    rounds, frames = (1, 20) if quick else (rounds, frames)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "video").mkdir()
        video = synthetic_video(0, LENGTH, SIZE)
        for i in range(LENGTH):
            cv2.imwrite(str(folder / "video" / f"{i:04}.png"), video.frame(i).image[..., ::-1])
        files = [path.resolve() for path in exported or [export(folder)]]
        runs = {"PyTorch": ("", "")} | {path.name: (BLOCK, str(path)) for path in files}
        seconds: dict[str, list[tuple[float, float]]] = defaultdict(list)
        neighbours = Neighbours()
        for number in range(rounds):
            for key, (block, weights) in runs.items():
                given = ["--weights", weights] if weights else []
                image = ["video/0000.png", "--system", "visolo-lite", "--out", "out", "--force"]
                wall, spent, _ = run(block + COMMAND, ["segment", *image, *given], threads, folder)
                seconds[key].append((wall, spent))
                tell(f"start {number + 1} of {rounds}: {key}: {wall:.2f} s, CPU {spent:.2f} s")
        memory = {}
        for key, (block, weights) in runs.items():
            _, _, printed = run(block + STREAM, [weights, "video", str(frames)], threads, folder)
            memory[key] = int(printed.split()[1]) / 1024
            tell(f"{key}: {memory[key]:.0f} MiB after {frames} frames, {printed.split()[0]} instances shown")
    table = Table("", "start to result [s]", "", "CPU [s]", "", "memory [MiB]", "")
    first, *_ = runs
    for key in runs:
        cells = []
        for i in (0, 1):
            ratio = statistics.median(a[i] / b[i] for a, b in zip(seconds[key], seconds[first]))
            cells += [f"{statistics.median(x[i] for x in seconds[key]):.2f}", f"{ratio:.2f}x"]
        table.add_row(key, *cells, f"{memory[key]:.0f}", f"{memory[key] / memory[first]:.2f}x")
    table.title = f"visolo-lite on one image; memory after {frames} frames; {threads} threads of {cpu_name()}"
    table.caption = f"other processes kept {neighbours.cores():.1f} cores busy"
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
