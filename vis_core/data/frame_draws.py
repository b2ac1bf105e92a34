"""Which frames of a video a training clip holds, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Order = Literal["shuffled", "distinct", "sorted", "successive"]


@dataclass(frozen=True)
class FrameDraw:
    """How the frames of a clip are drawn from a video.

    All frames that the annotation file lists for the video are drawn, those too in which no object is visible.

    Attributes:
        order: shuffled: a frame and others near it, in random order; one may come several times, and the frame `reach`
            after the first is left out. distinct: a frame first, then others near it in random order, none twice.
            sorted: those of distinct in the order of time. successive: a run of neighbours that begins anywhere, in the
            order of time or, as often, against it.
        reach: frames on either side of the first drawn one among which the others are drawn; None: the whole video. A
            run of successive frames has none.
    """

    order: Order = "shuffled"
    reach: int | None = 20

    def draw(self, count: int, frames: int, random: np.random.Generator) -> list[int]:
        """Numbers of the frames of a clip.

        A video with fewer frames than the clip is walked through to and fro (0 1 2 1 0 ...); sorted, these are then put
        in order (0 0 1 1 2).

        Args:
            count: frames of the video.
            frames: of the clip.
            random: what is drawn with.
        """
        if self.order == "successive":
            start = int(random.integers(max(count - frames, 0) + 1))
            run = _to_and_fro(range(start, min(start + frames, count)), frames)
            return run[::-1] if random.random() < 0.5 else run
        first = int(random.integers(count))
        reach = count if self.reach is None else self.reach
        low, high = max(0, first - reach), min(count, first + reach)
        if self.order == "shuffled":  # recorded trainings depend on each of these draws
            chosen = [first, *(int(t) for t in random.integers(low, high, frames - 1))] if count > 1 else [0] * frames
            random.shuffle(chosen)
            return chosen
        others = [t for t in range(low, min(count, high + 1)) if t != first]
        chosen = _to_and_fro([first, *random.permutation(others)[: frames - 1].tolist()], frames)
        return sorted(chosen) if self.order == "sorted" else chosen


SHUFFLED = FrameDraw()


def _to_and_fro(chosen: Sequence[int], frames: int) -> list[int]:
    """So many frames of a walk over the chosen ones and back."""
    walk = [*chosen, *chosen[-2:0:-1]]
    return [walk[i % len(walk)] for i in range(frames)]
