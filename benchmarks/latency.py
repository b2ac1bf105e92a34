"""Latency of a frame, quiet and with one busy process per core, with waiting threads that spin or sleep.

    python benchmarks/latency.py

OpenMP's waiting policy is read when torch is loaded, so every measurement is a process of its own; rounds are
interleaved, and of each figure the least over the rounds is printed. VISOLO with random weights at a small input size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path

from conditions import QUICK, tell
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

POLICIES = {"default": None, "PASSIVE (ours)": "PASSIVE"}
BUSY = "while True: pass"


def measure(frames: int, threads: int, input_size: tuple[int, int]) -> dict[str, float]:
    """Median and 95th percentile of the seconds of a step, and CPU seconds a frame."""
    import numpy as np
    import torch

    import vis_core

    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the weights are random
        segmenter = vis_core.load("visolo", input_size=input_size, max_instances=5, device="cpu", precision="fp32")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8, 360, 640, 3), np.uint8)
    seconds = []
    for index in range(frames + 5):
        if index == 5:
            cpu = time.process_time()
        start = time.perf_counter()
        segmenter.step(vis_core.Frame(images[index % len(images)], index, index))
        seconds.append(time.perf_counter() - start)
    cpu = (time.process_time() - cpu) / frames
    median, high = np.percentile(seconds[5:], [50, 95])
    return {"median": float(median), "p95": float(high), "cpu": cpu}


def measure_apart(options: argparse.Namespace, policy: str | None, busy: bool) -> dict[str, float]:
    """The same in a fresh process, with a waiting policy, with or without busy neighbours."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    if policy is not None:
        environment["OMP_WAIT_POLICY"] = policy
    neighbours = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count() or 1) if busy]
    try:
        command = [sys.executable, __file__, "--child", "--frames", str(options.frames)]
        command += ["--threads", str(options.threads), "--input-size", *map(str, options.input_size)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    return json.loads(done.stdout)


def main() -> None:
    """Measure every combination in interleaved rounds, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--input-size", type=int, nargs=2, default=(128, 224), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--quick", action="store_true", help=QUICK)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.frames, options.rounds, options.threads, options.input_size = 3, 1, 1, (64, 96)
    if options.child:
        print(json.dumps(measure(options.frames, options.threads, tuple(options.input_size))))
        return
    found: dict[tuple[bool, str], list[dict[str, float]]] = defaultdict(list)
    for number in range(1, options.rounds + 1):
        for busy in (False, True):
            for name, policy in POLICIES.items():
                found[busy, name].append(measure_apart(options, policy, busy))
                quiet = "busy" if busy else "quiet"
                median = found[busy, name][-1]["median"] * 1e3
                tell(f"round {number} of {options.rounds}: {quiet}, {name}: {median:.1f} ms")
    height, width = options.input_size
    title = f"VISOLO {height}x{width}, fp32, {options.threads} threads, {os.cpu_count()} cores: ms a frame"
    table = Table("neighbours", "OMP_WAIT_POLICY", "median", "p95", "CPU time", title=title)
    for (busy, name), rounds in found.items():
        figures = [f"{min(one[key] for one in rounds) * 1e3:.1f}" for key in ("median", "p95", "cpu")]
        table.add_row("one busy process per core" if busy else "none", name, *figures)
    Console().print(table)


if __name__ == "__main__":
    main()
