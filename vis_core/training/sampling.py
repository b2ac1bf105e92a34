"""Which clips a step takes: a function of seed, step and place in the batch, so that a loader has no state to keep."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.data.clips import ClipSource, TrainingClip
from vis_core.errors import InputError

_ATTEMPTS = 50  # draws for one place in a batch before it is given up
_MAX_BAD_SHARE = 0.1  # share of the draws that may be unreadable
_MIN_DRAWS = 100  # before that share is looked at
_GRACE = 20  # seconds that a worker lives on after a SIGTERM


@dataclass(frozen=True)
class Drawn:
    """A clip, and what had to be passed over for it."""

    clip: TrainingClip
    faults: tuple[str, ...]


class ClipDraws:
    """Clips by their place in the training.

    Args:
        sources: what clips are drawn from.
        weights: share of the draws of each source.
        seed: of all draws.
        items: of each source, the weights of its items, or None where all are drawn as often.
    """

    def __init__(
        self,
        sources: Sequence[ClipSource],
        weights: Sequence[float],
        seed: int,
        items: Sequence[npt.NDArray[np.float64] | None] = (),
    ) -> None:
        self._sources, self._seed = tuple(sources), seed
        self._shares = np.asarray(weights, np.float64) / np.sum(weights)
        self._items = [None if w is None else w / w.sum() for w in items] or [None] * len(self._sources)

    def draw(self, step: int, slot: int) -> Drawn:
        """The clip of one place in the batch of a step.

        What cannot be read is passed over for the next draw of the same generator.

        Raises:
            InputError: nothing that was drawn can be read.
        """
        random = np.random.default_rng([self._seed, step, slot])
        faults: list[str] = []
        while len(faults) < _ATTEMPTS:
            chosen = int(random.choice(len(self._sources), p=self._shares))
            source, shares = self._sources[chosen], self._items[chosen]
            item = random.integers(len(source)) if shares is None else random.choice(len(source), p=shares)
            try:
                return Drawn(source.clip(int(item), random), tuple(faults))
            except InputError as error:
                faults.append(str(error))
        raise InputError(f"none of {_ATTEMPTS} clips that were drawn can be read; the first: {faults[0]}")


class FaultCount:
    """Tells each fault once, and ends a training whose data are mostly unreadable."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told: set[str] = set()
        self.draws, self.bad = 0, 0

    def take(self, drawn: Drawn) -> TrainingClip:
        """The clip, once its faults are counted.

        Raises:
            InputError: more than a tenth of all draws were bad.
        """
        self.draws += 1 + len(drawn.faults)
        self.bad += len(drawn.faults)
        for text in drawn.faults:
            if text not in self._told:
                self._told.add(text)
                self._tell(text)
        if self.draws >= _MIN_DRAWS and self.bad > _MAX_BAD_SHARE * self.draws:
            raise InputError(
                f"{self.bad} of {self.draws} clips that were drawn cannot be read, more than {_MAX_BAD_SHARE:.0%}; "
                f"the latest fault: {sorted(self._told)[0]}"
            )
        return drawn.clip


def micro_batches(
    draws: ClipDraws, steps: range, batch: int, accumulate: int, rank: int, processes: int, workers: int
) -> Generator[list[Drawn], None, None]:
    """The clips of one process, micro-batch by micro-batch: `accumulate` of them a step.

    Args:
        draws: what clips are drawn with.
        steps: whose clips are wanted.
        batch: clips of a step in all processes, a multiple of processes times `accumulate`.
        accumulate: micro-batches of a step.
        rank: of this process.
        processes: that share a batch.
        workers: processes that make the clips; 0: this one.
    """
    from torch.utils.data import DataLoader

    places = _Places(steps, accumulate, batch // accumulate // processes, rank, processes)
    if workers == 0:
        for chosen in places:
            yield [draws.draw(*place) for place in chosen]
        return
    loader: Any = DataLoader(
        _Draws(draws),  # type: ignore[arg-type]
        batch_sampler=places,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=_begin_worker,
        prefetch_factor=2,
    )
    coming: Any = iter(loader)
    try:
        for drawn in coming:
            for item in drawn:
                if isinstance(item, InputError):
                    raise item
            yield drawn
    finally:
        # Not left to the garbage collector: the traceback of an error keeps the loader until the interpreter ends.
        coming._shutdown_workers()


class _Draws:
    """What a DataLoader takes for a data set."""

    def __init__(self, draws: ClipDraws) -> None:
        self._draws = draws

    def __getitem__(self, place: tuple[int, int]) -> Drawn | InputError:
        try:
            return self._draws.draw(*place)
        except InputError as error:  # raised here it would come with the worker's traceback in its text
            return error


@dataclass(frozen=True)
class _Places:
    """Step and place of each clip of each micro-batch of one process, made as they are asked for."""

    steps: range
    accumulate: int
    share: int
    rank: int
    processes: int

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self.steps:
            for part in range(self.accumulate):
                first = (part * self.processes + self.rank) * self.share
                yield [(step, slot) for slot in range(first, first + self.share)]


def _begin_worker(number: int) -> None:
    import cv2
    import torch

    # A signal to all processes is the training's to answer: the step that is under way still needs its clips.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: signal.alarm(_GRACE))
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
