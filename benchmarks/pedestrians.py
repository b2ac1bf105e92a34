"""Who keeps their number on the demo's street, in runs that leave out frames at random as a busy CPU does.

    python benchmarks/pedestrians.py [vtest.avi] [--runs 24]

The walkers of the first 100 frames are marked by hand, a few points each. A run gives a walker the number of the
smallest mask around the point; a change of number between marks counts once a run. The first run has every frame, the
others leave out 10, 20, 30 or 45 % of them.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded

from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from conditions import Quick, first_frames, tell
from rich.console import Console
from rich.table import Table

import vis_core
from vis_core.structures import Frame, Instances

# x, y on the body in pixels of 640x480, the size that the demo plays, by frame number.
IN_THE_OPEN = {
    "man from the left, until he stops behind the sign": {0: (224, 220), 10: (277, 207), 18: (310, 200)},
    "man in a grey jacket": {52: (567, 251), 64: (518, 232), 80: (486, 203), 99: (500, 161)},
    "man in red and blue": {30: (540, 248), 42: (481, 229), 56: (414, 209), 70: (383, 193), 99: (418, 154)},
    "woman beside him": {30: (569, 246), 42: (506, 227), 56: (450, 207), 70: (411, 190), 99: (441, 149)},
}
HIDDEN_FOR_A_WHILE = {
    "man in black, behind three others and the sign in 24 to 58": {
        0: (554, 235),
        10: (468, 235),
        18: (400, 230),
        64: (287, 169),
        70: (256, 169),
        80: (226, 173),
        90: (253, 186),
        99: (297, 196),
    },
    "man in jeans, behind the sign in 14 to 40, then close to another": {
        0: (429, 162),
        10: (402, 173),
        42: (323, 183),
        48: (322, 180),
        56: (322, 182),
        64: (321, 186),
        70: (321, 183),
        80: (321, 183),
        90: (326, 180),
        99: (327, 180),
    },
}
LEFT_OUT = (0.1, 0.2, 0.3, 0.45)


def number_at(instances: Instances, point: tuple[int, int]) -> int | None:
    """Track id of the smallest mask that covers a third of the surroundings of a point."""
    x, y = point
    found = [
        (mask.area, track_id)
        for track_id, mask in zip(instances.track_ids.tolist(), instances.masks)
        if mask.area and mask.dense()[y - 6 : y + 7, x - 4 : x + 5].mean() > 1 / 3
    ]
    return min(found)[1] if found else None


def main(
    video: Annotated[
        Path | None, typer.Argument(help="OpenCV's vtest.avi; noise, in which nobody walks, otherwise")
    ] = None,
    runs: Annotated[int, typer.Option(min=1)] = 24,
    weights: Annotated[Path | None, typer.Option(help="of visolo-lite; default: those that ship")] = None,
    quick: Quick = False,
) -> None:
    """Play the street again and again."""
    length, runs = (11, 2) if quick else (100, runs)
    images = [frame.image for frame in first_frames(video, length, (480, 640))]
    segmenter = vis_core.load("visolo-lite", weights)
    walkers = {**IN_THE_OPEN, **HIDDEN_FOR_A_WHILE}
    changed, marks, seen, numbers = Counter[str](), Counter[str](), Counter[str](), 0
    for run in range(runs):
        random = np.random.default_rng(run)
        share = LEFT_OUT[run % len(LEFT_OUT)] if run else 0.0
        kept = [t for t in range(len(images)) if t == 0 or random.random() >= share]
        answers = dict(zip(kept, segmenter.run(Frame(images[t], t * 10**8, i) for i, t in enumerate(kept))))
        tell(f"run {run + 1} of {runs}: {len(answers)} frames")
        numbers += len({i for answer in answers.values() for i in answer.track_ids.tolist()})
        for name, points in walkers.items():
            near = {t: min(kept, key=lambda k: abs(k - t)) for t in points}
            found = [number_at(answers[near[t]], points[t]) for t in points if abs(near[t] - t) <= 1]
            ids = [i for i in found if i is not None]
            changed[name] += len(set(ids)) > 1
            marks[name] += len(found)
            seen[name] += len(ids)
    table = Table("walker", "marks with a track", "runs in which the number changes", title=f"{runs} runs")
    for title, group in (("in the open", IN_THE_OPEN), ("hidden for a while", HIDDEN_FOR_A_WHILE)):
        table.add_row(f"[bold]{title}")
        for name in group:
            table.add_row(name, f"{seen[name]} of {marks[name]}", f"{changed[name]}")
    Console(width=110).print(table, f"{numbers / runs:.1f} numbers a run")


if __name__ == "__main__":
    typer.run(main)
