"""What a benchmark runs on: frames, and a machine that others may use too."""

from __future__ import annotations

import atexit
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer

import vis_core
from vis_core.structures import Frame

QUICK = "little of everything, in a minute at most: shows that it runs, not how well"
Quick = Annotated[bool, typer.Option("--quick", help=QUICK)]


def tell(text: str) -> None:
    """How far a benchmark has come, at once."""
    print(text, file=sys.stderr, flush=True)


def kept_or_temporary(folder: Path | None) -> Path:
    """A folder, made; a temporary one, which goes with the process, if none is given."""
    if folder is None:
        folder = Path(tempfile.mkdtemp())
        atexit.register(shutil.rmtree, folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def first_frames(video: Path | None, count: int, size: tuple[int, int] | None = None) -> list[Frame]:
    """The first frames of a video; of noise without one.

    Args:
        video: file or folder of images.
        count: frames.
        size: height and width to which they are shrunk; None: as they come, noise 360 x 640.
    """
    if video is None:
        random = np.random.default_rng(0)
        noise = random.integers(0, 256, (count, *(size or (360, 640)), 3), np.uint8)
        return [Frame(image, i, i) for i, image in enumerate(noise)]
    with vis_core.open_video(video) as source:
        frames = list(islice(source, count))
    if size is None:
        return frames
    return [Frame(_shrunk(frame.image, size), frame.stamp, frame.index) for frame in frames]


def _shrunk(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def cpu_name() -> str:
    """Name of the CPU."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


Seconds = list[tuple[float, float]]
"""Of each round, wall-clock and CPU time of all threads."""


class WholeClip:
    """A system as it ships, on a whole clip, and what its model found in the last one.

    Args:
        segmenter: of one that is answered at its end.
    """

    def __init__(self, segmenter: Any) -> None:
        self.segmenter = segmenter
        self.found: Any = None
        segment = segmenter.model.segment

        def keep(*given: Any) -> Any:
            self.found = segment(*given)
            return self.found

        segmenter.model.segment = keep

    def __call__(self, frames: list[Frame]) -> None:
        self.segmenter.reset()
        for _ in self.segmenter.run(frames, prefetch=False):
            pass


def take_turns(
    runs: Mapping[str, Callable[[], Any]], rounds: int, frames: int | Mapping[str, int], quick: bool = False
) -> tuple[dict[str, Seconds], dict[str, Any]]:
    """Seconds a frame of each run, and what each gave last; all run once in each round, and once before to warm up.

    Args:
        runs: by name.
        rounds: their number.
        frames: that each works on, for all or by name.
        quick: leave the warming up out.
    """
    seconds: dict[str, Seconds] = {name: [] for name in runs}
    results = {}
    for number in range(int(quick), rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter(), time.process_time()
            results[name] = run()
            spent = time.perf_counter() - start[0], time.process_time() - start[1]
            count = frames if isinstance(frames, int) else frames[name]
            if number:
                seconds[name].append((spent[0] / count, spent[1] / count))
            turn = f"round {number} of {rounds}" if number else "warming up"
            tell(f"{turn}: {name}: {spent[0] / count:.3f} s a frame")
    return seconds, results


def beside(own: Seconds, first: Seconds) -> list[str]:
    """Cells of a table: median of the seconds and of the ratios within a round, wall-clock, then CPU time."""
    cells = []
    for these, those in zip(zip(*own), zip(*first)):
        ratio = statistics.median(a / b for a, b in zip(these, those))
        cells += [f"{statistics.median(these):.3f}", f"{ratio:.2f}x"]
    return cells


class Neighbours:
    """How many cores the other processes of a Linux machine have kept busy since this was made."""

    def __init__(self) -> None:
        self._began, self._others = time.monotonic(), _seconds_of_others()

    def cores(self) -> float:
        """Their mean number."""
        return (_seconds_of_others() - self._others) / (time.monotonic() - self._began)


def _seconds_of_others() -> float:
    user, nice, system, _idle, _waiting, *interrupts = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK") - time.process_time()
