"""The training itself: steps, states, weights for use, evaluations."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vis_core import catalog, checkpoints
from vis_core.data.clips import TrainingClip
from vis_core.errors import VisError
from vis_core.files.atomic import atomic_write
from vis_core.files.outputs import say_nothing
from vis_core.files.results_info import Origin
from vis_core.system.trainable import Trainable
from vis_core.training.config import Config
from vis_core.training.config_file import print_config
from vis_core.training.evaluation import OpenSet, Scores, open_set, run_evaluation
from vis_core.training.logs import CsvLog, Events
from vis_core.training.observer import Observer
from vis_core.training.optimization import MovingAverage, make_optimizer, rate_factor
from vis_core.training.preparation import find_system, make_draws, make_fabric, make_trainable
from vis_core.training.run_folder import begin_anew, keep_replaced, locked, refuse_without_state
from vis_core.training.sampling import Drawn, FaultCount, micro_batches
from vis_core.training.state import check_unchanged, comparable, load_state, save_state

LAST, BEST = "last.safetensors", "best.safetensors"


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        step: that it reached.
        steps: that it was to reach.
        best: value of the metric of the best weights, None without an evaluation.
        first: whether this process is the one that writes and speaks.
    """

    step: int
    steps: int
    best: float | None
    first: bool


def train(
    config: Config,
    restart: bool = False,
    stop_asked: Callable[[], bool] = lambda: False,
    observer: Observer | None = None,
) -> Outcome:
    """Train as the config says, or go on where its output folder's state stands.

    Args:
        config: of the training.
        restart: begin anew; what an earlier run left in the folder is removed once a new state stands.
        stop_asked: asked after each step; true ends the run with its state saved.
        observer: follows the training; None: nobody does, and warnings are Python's.

    Raises:
        VisError: the config, the data or the state cannot be used, or the losses are no numbers any more.
        OSError: a file cannot be written; the state before stands.
    """
    system, config = find_system(config)
    fabric = make_fabric(config)
    first = fabric.global_rank == 0
    with ExitStack() as stack:
        if first:
            stack.enter_context(locked(config.output, observer.tell if observer else say_nothing))
            if restart:
                begin_anew(config.output)
            refuse_without_state(config.output)
        fabric.barrier()
        sets = [open_set(entry, config.classes) for entry in config.evaluation.data] if first else []
        run = _Run(config, fabric, make_trainable(system, config), sets, observer or Observer(), stop_asked)
        stack.callback(run.close)
        return run.to_the_end()


@dataclass
class _Batch:
    """A micro-batch on its way through wrappers, which must not look into it."""

    clips: Sequence[TrainingClip]
    total: Callable[[Tensor], Tensor]


class _Opaque:
    """Holds what wrappers of modules would take apart."""

    def __init__(self, content: _Batch) -> None:
        self.content = content


class _Losses(nn.Module):
    """The trainable, called with one opaque argument."""

    def __init__(self, trainable: Trainable) -> None:
        super().__init__()
        self.trainable = trainable

    def forward(self, batch: _Opaque) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.trainable(batch.content.clips, batch.content.total)
        return losses


class _Run:
    """A training under way."""

    def __init__(
        self,
        config: Config,
        fabric: Any,
        trainable: Trainable,
        sets: Sequence[OpenSet],
        observer: Observer,
        stop_asked: Callable[[], bool],
    ) -> None:
        self._config, self._fabric, self._trainable, self._sets = config, fabric, trainable, sets
        self._observer, self._stop_asked = observer, stop_asked
        self._folder, self._first = config.output, fabric.global_rank == 0
        self._draws = make_draws(config)
        self._optimizer = make_optimizer(trainable, config.optimizer)
        trainable.train()
        self._model, self._stepper = fabric.setup(_Losses(trainable), self._optimizer)
        self._average = None if config.ema is None else MovingAverage(trainable, config.ema)
        self._comparable = comparable(config)
        self._faults = FaultCount(lambda text: observer.warn(f"passed over: {text}"))
        self._step, self._evaluated = 0, 0
        self._best: dict[str, float] | None = None
        self._sums: dict[str, float] = {}  # of what the next line of the log is the mean of
        self._summed, self._seconds = 0, 0.0
        self._resume()
        fabric.barrier()
        if self._first:
            with atomic_write(self._folder / "config.yaml") as partial:
                partial.write_text(print_config(config), "utf-8")
            self._log = CsvLog(self._folder / "log.csv", self._step)
            self._scores_log = CsvLog(self._folder / "evaluation.csv", self._evaluated)
            self._events = Events(self._folder / "tensorboard", self._step, observer.tell)

    def to_the_end(self) -> Outcome:
        """Train until the last step, or until it is asked to stop."""
        config = self._config
        if self._first:
            self._observer.begin(self._step, config.steps)
        stopped = self._evaluate_if_due()
        batches = micro_batches(
            self._draws,
            range(self._step, config.steps),
            config.batch,
            config.accumulate,
            self._fabric.global_rank,
            self._fabric.world_size,
            config.workers,
        )
        with closing(batches):
            while self._step < config.steps and not stopped:
                began = time.monotonic()
                values, stopped = self._train_step(batches)
                self._seconds += time.monotonic() - began
                self._step += 1
                self._summed += 1
                self._sums = {name: self._sums.get(name, 0.0) + value for name, value in values.items()}
                row = None
                if self._summed == config.log_every or self._step == config.steps:
                    row = self._row(values)
                if self._first:
                    self._observer.step(self._step, row)
                if (
                    self._step % config.save_every == 0
                    or self._step == config.steps
                    or stopped
                    or self._evaluation_due()
                ):
                    self._save()
                stopped = stopped or self._evaluate_if_due()
        return Outcome(self._step, config.steps, self._best["value"] if self._best else None, self._first)

    def close(self) -> None:
        """Let go of what is open."""
        if self._first:
            self._events.close()

    def _train_step(self, batches: Iterator[list[Drawn]]) -> tuple[dict[str, float], bool]:
        """One step of the optimizer: the losses and the norm of the gradient; whether a process is asked to stop."""
        config, fabric = self._config, self._fabric
        seed = np.random.SeedSequence([config.seed, self._step, fabric.global_rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(seed[0]) >> 1)
        factor = rate_factor(config.schedule, self._step, config.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = group["base_rate"] * factor
        names: list[str] = []
        sums: Tensor | float = 0.0
        for part in range(config.accumulate):
            clips = [self._faults.take(drawn) for drawn in next(batches)]
            with fabric.no_backward_sync(self._model, enabled=part < config.accumulate - 1):
                losses = self._model(_Opaque(_Batch(clips, self._total)))
                loss = torch.stack(list(losses.values())).sum() / config.accumulate
                fabric.backward(loss)
            names = list(losses)
            sums = sums + torch.stack([x.detach().float() for x in losses.values()]) / config.accumulate
        assert isinstance(sums, Tensor)
        asked = sums.new_tensor([float(self._stop_asked())])
        *parts, stop = fabric.all_reduce(torch.cat((sums, asked)), reduce_op="mean").tolist()
        values = dict(zip(names, parts))
        self._refuse_no_numbers(values)
        norm = fabric.clip_gradients(
            self._model,
            self._stepper,
            max_norm=config.optimizer.clip_norm or math.inf,
            error_if_nonfinite=False,
        )
        values |= {"total": sum(parts), "gradient_norm": float(norm)}
        if config.precision != "fp16":  # whose scaler looks for the largest scale without an overflow
            self._refuse_no_numbers(values)
        self._stepper.step()
        self._stepper.zero_grad()
        if self._average is not None:
            self._average.update(self._step)
        return values, stop > 0

    def _total(self, counts: Tensor) -> Tensor:
        """Sum of counts over the processes."""
        summed: Tensor = self._fabric.all_reduce(counts, reduce_op="sum")
        return summed

    def _refuse_no_numbers(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            if not math.isfinite(value):
                raise VisError(
                    f"step {self._step + 1}: {name} is {value}: the training has diverged. Lower "
                    f"optimizer.learning_rate or lengthen schedule.warm_up; the last state is in {self._folder}"
                )

    def _row(self, values: dict[str, float]) -> dict[str, float]:
        """Write a line of the log: means since the one before."""
        rate = self._config.optimizer.learning_rate * rate_factor(
            self._config.schedule, self._step - 1, self._config.steps
        )
        means = {name: self._sums[name] / self._summed for name in values}
        clips_per_second = self._config.batch * self._summed / self._seconds
        self._sums, self._summed, self._seconds = {}, 0, 0.0
        row = {"step": self._step, "learning_rate": rate, **means, "clips_per_second": clips_per_second}
        if self._first:
            self._log.append(row)
            self._events.scalars("train", {name: value for name, value in row.items() if name != "step"}, self._step)
        return row

    def _evaluation_due(self) -> bool:
        every = self._config.evaluation.every
        if not self._config.evaluation.data or self._step <= self._evaluated:
            return False
        return self._step == self._config.steps or (every is not None and self._step % every == 0)

    def _evaluate_if_due(self) -> bool:
        """Measure the weights if it is time to; whether a process was asked to stop meanwhile."""
        if not self._evaluation_due():
            return False
        stopped = False
        if self._first:
            scores = self._evaluate()
            stopped = scores is None
            if scores is not None:
                self._take_scores(scores)
                self._save()
        return bool(self._fabric.broadcast(stopped))

    def _evaluate(self) -> Scores | None:
        config = self._config
        weights = self._write_weights(LAST)
        device = str(self._fabric.device)
        segmenter = catalog.load(config.system, weights, device, "fp32", **config.evaluation.options)
        return run_evaluation(
            segmenter,
            self._sets,
            config.evaluation.metric,
            self._folder / "evaluation",
            config.evaluation.pictures,
            self._stop_asked,
            self._observer.warn,
            Origin(config.system, weights, config.evaluation.options),
        )

    def _take_scores(self, scores: Scores) -> None:
        """Log an evaluation, and keep its weights if they are the best."""
        metric = self._config.evaluation.metric
        for row in scores.rows:
            self._scores_log.append({"step": self._step, **row})
            numbers = {name: value for name, value in row.items() if name != "set"}
            self._events.scalars(f"evaluation/{row['set']}", numbers, self._step)
        self._events.pictures(scores.pictures, self._step)
        self._evaluated = self._step
        better = self._best is None or scores.value > self._best["value"]
        if better:
            self._write_weights(BEST)
            self._best = {"step": self._step, "value": scores.value}
        self._observer.tell(
            f"evaluation at step {self._step}: {metric} {scores.value:.4f}{' (best so far)' if better else ''}"
        )

    def _write_weights(self, name: str) -> Path:
        """Write weights for use: the average, if there is one."""
        path = self._folder / name
        with self._average.applied() if self._average else nullcontext():
            metadata = {
                "format": checkpoints.FORMAT,
                "system": self._config.system,
                "class_names": json.dumps(list(self._config.classes)),
                "step": str(self._step),
            }
            checkpoints.write_tensors(path, self._trainable.weights(), metadata)
        return path

    def _save(self) -> None:
        if not self._first:
            return
        state = {
            "step": self._step,
            "evaluated": self._evaluated,
            "best": self._best,
            "config": self._comparable,
            "model": self._trainable.state_dict(),
            "average": self._average.tensors if self._average else None,
            "optimizer": self._optimizer.state_dict(),
            "precision": self._fabric.strategy.precision.state_dict(),
            "log": {"sums": self._sums, "summed": self._summed},
            "draws": {"made": self._faults.draws, "bad": self._faults.bad},
        }
        save_state(self._folder, state)
        keep_replaced(self._folder)
        self._write_weights(LAST)

    def _resume(self) -> None:
        state = load_state(self._folder)
        if state is None:
            return
        check_unchanged(state["config"], self._comparable, self._folder)
        self._trainable.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._fabric.strategy.precision.load_state_dict(state["precision"])
        if self._average is not None:
            self._average.load(state["average"])
        self._step, self._evaluated, self._best = state["step"], state["evaluated"], state["best"]
        self._sums, self._summed = dict(state["log"]["sums"]), state["log"]["summed"]
        self._faults.draws, self._faults.bad = state["draws"]["made"], state["draws"]["bad"]
        if self._first:
            self._observer.tell(f"{self._folder}: going on from step {self._step} of {self._config.steps}")
