"""What ``vis train`` shows: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vis_core.commands.terminal import screen
from vis_core.training.observer import Observer


class Display(Observer):
    """Shows how far a training is."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        if screen.is_terminal:
            columns = (BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[values]}"))
            self._bar = Progress(*columns, console=screen, speed_estimate_period=600)
            self._task = self._bar.add_task("", values="")
        self._began, self._done, self._steps = time.monotonic(), 0, 0

    def __enter__(self) -> Display:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, step: int, steps: int) -> None:
        """Show the bar."""
        self._began, self._done, self._steps = time.monotonic(), step, steps
        if self._bar is not None:
            self._bar.reset(self._task, completed=step, total=steps)
            self._bar.start()

    def step(self, step: int, row: Mapping[str, float] | None) -> None:
        """Move the bar; show the numbers of the row."""
        text = _values(row) if row else None
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
            if text:
                self._bar.update(self._task, values=text)
        elif text:
            left = (time.monotonic() - self._began) / max(step - self._done, 1) * (self._steps - step)
            screen.print(f"step {step}/{self._steps}  {text}  {_duration(left)} left")

    def tell(self, text: str) -> None:
        """Write a line beside the bar."""
        screen.print(escape(text))

    def warn(self, text: str) -> None:
        """Write a line beside the bar."""
        screen.print(f"[yellow]warning:[/] {escape(text)}")


def _values(row: Mapping[str, float]) -> str:
    names = {"learning_rate": "lr", "gradient_norm": "norm", "clips_per_second": "clips/s"}
    return "  ".join(f"{names.get(name, name)} {value:.4g}" for name, value in row.items() if name != "step")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
